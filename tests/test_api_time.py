"""API time: once in TTFT and once in E2E of each request, in nothing else, and felt by the clients of a closed loop."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprofiles import ProfileError, load_software
from sim import Cluster, Engine, simulate
from sim.latency import is_done, latencies_ns
from tests.cases import AffineCost, ServedCluster, rows, shared_streams, small_clusters
from workloads.closed import concurrency

API_NS = 4_400_000
FOUR_SEATS = Engine(max_num_seqs=4, max_num_batched_tokens=64, max_model_len=64, num_gpu_blocks_override=64)


@settings(max_examples=100, deadline=None)
@given(shared_streams(), small_clusters(), st.integers(0, 10**9))
def test_in_an_open_loop_it_is_added_once_to_ttft_and_e2e_and_moves_nothing_else(stream, cluster, api_ns):
    without, with_it = (simulate(stream, replace(cluster, api_ns=each)) for each in (0, api_ns))
    assert without.steps.tobytes() == with_it.steps.tobytes() and without.gaps == with_it.gaps
    for name in without.records.dtype.names:
        if name != "api_ns":
            assert np.array_equal(without.records[name], with_it.records[name]), name
    before, after = (latencies_ns(run.records[is_done(run.records)]) for run in (without, with_it))
    for metric in ("ttft", "e2el"):
        assert np.array_equal(after[metric], before[metric] + api_ns)
    for metric in ("tpot", "itl", "queue"):
        assert np.array_equal(after[metric], before[metric])


@settings(max_examples=60, deadline=None)
@given(small_clusters(), st.integers(0, 10**9), st.integers(1, 6), st.integers(1, 15), st.integers(1, 20))
def test_the_next_request_of_a_slot_comes_when_its_client_has_the_answer(cluster, api_ns, slots, prompt, answer):
    records = simulate(concurrency(slots, prompt, answer, requests=5 * slots), replace(cluster, api_ns=api_ns)).records
    for slot in range(slots):
        mine = np.sort(records[(records["client_id"] == slot) & is_done(records)], order="request_id")
        assert np.array_equal(mine["arrival_ns"][1:], (mine["finish_ns"] + mine["api_ns"])[:-1])


@pytest.mark.parametrize("slots", [1, 3, 9])
def test_littles_law_holds_for_what_the_clients_see(slots):
    """Requests in flight at the clients are throughput x E2E; the end, where slots stop one by one, is an answer long."""
    cluster = ServedCluster(step_cost=AffineCost(), engine=FOUR_SEATS, api_ns=20_000_000)
    result = simulate(concurrency(slots, 7, 5, requests=200 * slots), cluster)
    e2el_s, span_s = result.latencies_s()["e2el"], result.duration_s
    in_flight = len(e2el_s) / span_s * e2el_s.mean()
    assert slots - slots * e2el_s.max() / span_s <= in_flight <= slots + 1e-9
    assert result.summary()["mean_concurrency"] == pytest.approx(in_flight)


def test_a_measured_cluster_has_that_of_its_software_and_an_own_step_cost_has_none():
    measured = Cluster(gpu="h100", model="llama-3.1-8b")
    assert measured.plan().api_ns == round(load_software(measured.software).api_ms * 1e6) == API_NS
    assert Cluster(step_cost=AffineCost(), engine=FOUR_SEATS).plan().api_ns == 0
    result = simulate(rows([(0, 100, 3, 3)]), measured)
    assert result.records["api_ns"].tolist() == [API_NS]
    assert result.summary()["api_s"] == API_NS / 1e9


def test_an_unknown_software_is_refused_with_the_nearest():
    for cluster in (Cluster(gpu="h100", model="llama-3.1-8b"), Cluster(step_cost=AffineCost(), engine=FOUR_SEATS)):
        with pytest.raises(ProfileError, match="no software profile 'vllm-2062'; did you mean 'vllm-2026'"):
            replace(cluster, software="vllm-2062").plan()
