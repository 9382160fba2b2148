"""Cases of a few requests that one can do by hand. A step costs 1 ms and 1 ms for each token unless said."""

import numpy as np
import pytest

from sim import Cluster, Engine, simulate
from tests.cases import PLAIN, AffineCost, rows
from workloads import WorkloadError

MS = 1_000_000


def play(requests, cost=None, instances=1, router="round_robin", **engine):
    settings = {
        "max_num_seqs": 8,
        "max_num_batched_tokens": 10,
        "max_model_len": 64,
        "block_size": 4,
        "num_gpu_blocks_override": 40,
        **PLAIN,
    }
    settings.update(engine)
    cluster = Cluster(step_cost=cost or AffineCost(), instances=instances, router=router, engine=Engine(**settings))
    result = simulate(rows(requests), cluster)
    return np.sort(result.records, order="request_id"), result.steps


def test_one_request_prefills_then_decodes_one_token_a_step():
    records, steps = play([(0, 5, 3, 3)])
    assert steps["prefill_tokens"].tolist() == [5, 0, 0] and steps["decode_tokens"].tolist() == [0, 1, 1]
    assert records["first_token_ns"][0] == 6 * MS  # one step of 1 + 5 ms; the prefill yields the first token
    assert records["finish_ns"][0] == 10 * MS  # and two decodes of 2 ms
    assert records["itl_max_ns"][0] == 2 * MS


def test_a_long_prompt_is_cut_into_chunks_of_the_budget():
    records, steps = play([(0, 25, 1, 1)])
    assert steps["prefill_tokens"].tolist() == [10, 10, 5]
    assert records["first_token_ns"][0] == records["finish_ns"][0] == 28 * MS


def test_decodes_go_before_prefill_in_the_budget():
    _, steps = play([(0, 5, 4, 4), (MS, 20, 1, 1)])
    # While the first decodes, the second gets the nine tokens of the budget that are left.
    assert steps["prefill_tokens"].tolist() == [5, 9, 9, 2]
    assert steps["decode_tokens"].tolist() == [0, 1, 1, 1]


def test_a_second_request_waits_for_a_seat():
    records, _ = play([(0, 5, 3, 3), (0, 5, 1, 1)], max_num_seqs=1)
    assert records["scheduled_ns"].tolist() == [0, 10 * MS]


def test_admission_wants_blocks_for_the_whole_prompt():
    # Nine usable blocks; the first holds six of them, so the second, whose prompt needs four, waits for it to end.
    records, _ = play([(0, 24, 2, 2), (0, 16, 1, 1)], num_gpu_blocks_override=10, max_num_batched_tokens=32)
    assert records["scheduled_ns"][1] == records["finish_ns"][0]


def test_preempted_request_keeps_its_arrival_and_its_answer_so_far():
    # Four usable blocks of four tokens: both prompts take two each, and the fifth-token growth has room for neither.
    records, steps = play([(0, 8, 6, 6), (0, 8, 6, 6)], num_gpu_blocks_override=5, max_num_batched_tokens=16, max_model_len=16)
    assert records["preemptions"].tolist() == [0, 1]
    assert records["arrival_ns"].tolist() == [0, 0]
    assert records["scheduled_ns"][1] == 0
    # It comes back with its prompt and the one token it had, and computes these nine in one step.
    assert steps["prefill_tokens"].tolist()[-5] == 9
    assert records["output_tokens"].tolist() == [6, 6]


def test_an_arrival_at_the_end_of_a_step_joins_the_next_one():
    records, _ = play([(0, 5, 3, 3), (6 * MS, 5, 1, 1)])
    assert records["scheduled_ns"][1] == 6 * MS


def test_requests_of_one_instant_are_batched_together():
    _, steps = play([(MS, 3, 1, 1), (MS, 4, 1, 1)])
    assert steps["prefill_tokens"].tolist() == [7] and steps["start_ns"].tolist() == [MS]


def test_one_token_after_others_is_priced_as_a_decode_and_a_first_token_as_prefill():
    seen = []

    class Spy(AffineCost):
        def step_ns(self, *args):
            seen.append(args)
            return MS

    play([(0, 11, 1, 1), (50 * MS, 1, 1, 1)], cost=Spy())
    assert seen == [(10, 100, 0, 0, 0), (0, 0, 1, 11, 1), (1, 1, 0, 0, 1)]


def test_prefill_work_counts_pairs_of_new_and_past_tokens():
    seen = []

    class Spy(AffineCost):
        def step_ns(self, *args):
            seen.append(args)
            return MS

    play([(0, 15, 1, 1)], cost=Spy())
    assert [work for _, work, *_ in seen] == [10 * 10, 5 * (5 + 2 * 10)]


def test_an_idle_instance_takes_no_steps():
    _, steps = play([(0, 5, 1, 1), (1000 * MS, 5, 1, 1)])
    assert steps["start_ns"].tolist() == [0, 1000 * MS]


def test_rows_that_are_no_stream_are_refused():
    cluster = Cluster(
        step_cost=AffineCost(),
        engine=Engine(max_num_seqs=1, max_num_batched_tokens=8, max_model_len=64, num_gpu_blocks_override=9),
    )
    late, early = rows([(5 * MS, 5, 1, 1), (9 * MS, 5, 1, 1)]), rows([(MS, 5, 1, 1)])
    with pytest.raises(WorkloadError, match="arrival_ns"):
        simulate(late[::-1], cluster)
    with pytest.raises(WorkloadError, match="input_tokens"):
        simulate(rows([(0, 0, 1, 1)]), cluster)

    class Disordered:
        duration_s = 1.0

        def windows(self):
            return [late, early]

    with pytest.raises(WorkloadError, match="before the last request"):
        simulate(Disordered(), cluster)
