"""Queueing theory, where the model reduces to it."""

import numpy as np
import pytest

from sim import Cluster, Engine, simulate
from tests.cases import PLAIN, AffineCost, rows


def one_seat_cluster(service_ns):
    """One request at a time, in order, each the same time: a queue with one server and fixed service."""
    engine = Engine(max_num_seqs=1, max_num_batched_tokens=64, max_model_len=64, num_gpu_blocks_override=16, **PLAIN)
    return Cluster(step_cost=AffineCost(service_ns, 0), engine=engine)


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_one_seat_and_fixed_work_wait_as_m_d_1(load):
    service_ns, n = 10_000_000, 30_000
    gaps = np.random.default_rng(7).exponential(service_ns / load, n)
    requests = rows([(int(t), 10, 1, 1) for t in np.cumsum(gaps)])
    records = simulate(requests, one_seat_cluster(service_ns), keep_steps=False).records
    wait = np.mean(records["scheduled_ns"] - records["arrival_ns"]) / service_ns
    # Pollaczek-Khinchine for fixed service: rho / (2 (1 - rho)), in units of the service time.
    assert wait == pytest.approx(load / (2 * (1 - load)), rel=0.05)


def test_littles_law_holds_between_records_and_the_queue_seen_in_steps():
    service_ns, n = 10_000_000, 20_000
    gaps = np.random.default_rng(8).exponential(service_ns / 0.8, n)
    requests = rows([(int(t), 10, 3, 3) for t in np.cumsum(gaps) * 3])
    result = simulate(requests, one_seat_cluster(service_ns))
    records, steps = result.records, result.steps
    queue_time_ns = float(np.sum(records["scheduled_ns"] - records["arrival_ns"]))
    # The queue as the steps saw it at their start, held over the step: each wait is missed by at most its first step.
    seen_ns = float(np.sum(steps["waiting"] * steps["duration_ns"]))
    assert seen_ns == pytest.approx(queue_time_ns, rel=0.15)
    assert queue_time_ns - n * service_ns <= seen_ns <= queue_time_ns
