"""Whatever workloads send, both engines play to the same records: items, repeated images, conversations, thinking."""

import numpy as np
import pytest

from sim import Cluster, Engine, simulate
from workloads import ClientPool, Stream, TrafficModel, compose, sessions

ENCODER = Engine(max_num_encoder_input_tokens=16_384, encoder_cache_size=16_384)


def images(repeated: float) -> Stream:
    model = TrafficModel(repeated_items=repeated)
    return compose(ClientPool.load("mm-image"), "10h", "2min", rate=2.0, seed=3, model=model)


def all_modalities() -> Stream:
    return compose(ClientPool.load("mm-omni"), "10h", "2min", rate=1.0, seed=3)


def chat() -> Stream:
    return sessions(ClientPool.load("deepseek-r1"), "20h", "3min", rate=2.0, seed=2)


STREAMS = {
    "images": (lambda: images(0.0), ENCODER),
    "repeated images": (lambda: images(0.5), ENCODER),
    "repeated images, no encoder": (lambda: images(0.5), Engine()),
    "all modalities": (all_modalities, ENCODER),
    "chat": (chat, Engine()),
}


@pytest.mark.parametrize("name", STREAMS)
def test_both_engines_play_it_alike(name: str) -> None:
    made, engine = STREAMS[name]
    stream = made()
    cluster = Cluster(gpu="h100", model="llama-3.1-8b", instances=2, router="power_of_two", engine=engine)
    fast, reference = (simulate(stream, cluster, 1, engine=which) for which in ("fast", "reference"))
    assert len(fast.records) > 50 and np.array_equal(fast.records, reference.records)
    assert np.array_equal(fast.steps, reference.steps)


def test_repeated_images_are_found_in_the_prefix_cache() -> None:
    cluster = Cluster(gpu="h100", model="llama-3.1-8b", instances=1)
    cached = [simulate(images(share), cluster, 1).records["cached_tokens"].sum() for share in (0.0, 0.5)]
    assert cached[0] == 0 < cached[1]
