"""A cluster looked up: what its names and its engine come to."""

from dataclasses import replace

import pytest

from hwprofiles import ProfileError, known_gpus, list_profiles, load_step_cost
from hwprofiles.memory import KV_CACHE_PRECISION
from sim import Cluster, ClusterError, Engine
from tests.cases import AffineCost

PROFILES = [(row.gpu, row.model, row.precision, row.tp) for row in list_profiles()]
HAS_FP8 = [profile for profile in PROFILES if "fp8" in load_step_cost(*profile).attention]


def blocks(cluster, kv_cache_dtype):
    return replace(cluster, engine=Engine(kv_cache_dtype=kv_cache_dtype)).plan().num_blocks


@pytest.mark.parametrize(("gpu", "model", "precision", "tp"), HAS_FP8)
def test_kv_elements_of_half_the_size_make_twice_the_blocks(gpu, model, precision, tp):
    cluster = Cluster(gpu=gpu, model=model, precision=precision, tp=tp)
    wide, small = blocks(cluster, "bfloat16"), blocks(cluster, "fp8")
    assert small in (2 * wide, 2 * wide + 1)  # the remainder of a block may hold one of half the size
    assert blocks(cluster, "auto") == wide == cluster.plan().num_blocks


def test_a_type_of_kv_cache_that_was_not_measured_on_a_gpu_is_refused_with_those_that_were():
    gpu, model, precision, tp = next(profile for profile in PROFILES if profile not in HAS_FP8)
    cluster = Cluster(gpu=gpu, model=model, precision=precision, tp=tp, engine=Engine(kv_cache_dtype="fp8"))
    with pytest.raises(ProfileError, match="kv_cache_dtype 'fp8'; there is attention with KV in bf16"):
        cluster.plan()


def test_an_unknown_type_of_kv_cache_is_refused_with_the_nearest():
    limits = {"max_num_seqs": 4, "max_num_batched_tokens": 64, "max_model_len": 64, "num_gpu_blocks_override": 64}
    own = Cluster(step_cost=AffineCost(), engine=Engine(**limits, kv_cache_dtype="pf8"))
    measured = Cluster(gpu=known_gpus()[0], model="llama-3.1-8b", engine=Engine(kv_cache_dtype="pf8"))
    for cluster in (own, measured):
        with pytest.raises(ClusterError, match="did you mean 'fp8'.*known: " + ", ".join(KV_CACHE_PRECISION)):
            cluster.plan()
