"""The fast engine is the reference engine, to the byte."""

import random

import pytest

from tests.engines import COMPILED, Windows, assert_same, kernels_for, play, tiny_case

KINDS = {"text": {}, "shared": {"shares": True}, "images": {"shows": True}, "both": {"shares": True, "shows": True}}


@pytest.mark.parametrize("is_compiled", COMPILED, ids=lambda flag: "compiled" if flag else "plain")
@pytest.mark.parametrize("kind", KINDS)
def test_engines_are_equal_on_tiny_clusters(kind, is_compiled):
    """Where mistakes show: a few blocks, a few seats, bursts and exact ties; whole and in windows."""
    preemptions = hits = 0
    for seed in range(700 if is_compiled else 100):
        stream, cluster = tiny_case((kind, seed).__repr__(), **KINDS[kind])
        reference = play(stream, cluster, seed=seed)
        preemptions += int(reference.records["preemptions"].sum())
        hits += int(reference.records["cached_tokens"].sum())
        rnd = random.Random(seed)
        asked = Windows(stream, rnd.randint(500_000, 50_000_000)) if rnd.random() < 0.5 else stream
        for kernels in kernels_for(cluster, stream, is_compiled):
            found = play(asked, cluster, kernels, seed=seed)
            assert found.records.tobytes() == reference.records.tobytes(), (kind, seed, kernels)
            if asked is stream:
                assert_same(found, reference)
    assert preemptions > 50  # or the cases are not what they are meant to be
    assert (hits > 0) == (kind in ("shared", "both"))
