"""The search for the least instances, on made-up results whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.bounds import check_floor, guess_instances
from experiments.errors import UserError
from experiments.scenario_file import scenario_of
from experiments.search import Search
from experiments.traffic import hour_at, stream_of
from experiments.workers import Collected, Run, Workers, cluster_of, together
from sim import RECORD, Result
from sim.request import STEP, STOP
from sim.tally import Tally
from tests.cases import rows
from tests.test_scenario import tables

SECOND = 10**9


def made_up(run: Run, need: dict[int, int]) -> Result:
    """A run whose p99 TTFT is 1 s with as many instances as its seed needs, and 9 s with fewer."""
    records = np.zeros(100, RECORD)
    records["first_token_ns"] = SECOND if run.instances >= need[run.seed] else 9 * SECOND
    records["finish_ns"] = records["first_token_ns"] + SECOND // 10
    records["output_tokens"], records["finish_reason"] = 11, STOP
    tally = Tally(10 * SECOND, run.scenario.parsed_slo())
    tally.add(records)
    return Result(tally, {}, 0, 10.0, run.instances, 4, 100, run.seed, np.empty(0, STEP))


def ask(question, need):
    """Play a question on made-up results; its answer and the runs it asked for."""
    asked, results = [], None
    while True:
        try:
            runs = next(question) if results is None else question.send(results)
        except StopIteration as stop:
            return stop.value, asked
        asked += runs
        results = [made_up(run, need) for run in runs]


def scenario(**changes):
    return scenario_of(tables(**{"plan__max_instances": 40, **changes}), "x.toml")


@given(st.integers(1, 40), st.integers(1, 60))
def test_the_least_passing_number_is_found_from_any_guess(need, guess):
    answer, asked = ask(Search(scenario(), "none", [2]).least(guess), {2: need})
    assert (answer.instances, answer.lo, answer.hi) == (need, need, need)
    assert len({run.instances for run in asked}) == len(asked), "a run was asked for twice"
    assert need == 1 or not answer.points[need - 1].holds
    assert need == 1 or answer.binding_term == "ttft.p99:5s"


@given(st.tuples(*[st.integers(1, 12)] * 3), st.integers(1, 12))
def test_the_range_is_that_of_single_seeds_and_holds_the_answer(needs, guess):
    need = dict(zip((2, 3, 4), needs))
    answer, _ = ask(Search(scenario(), "none", [2, 3, 4]).least(guess), need)
    assert (answer.lo, answer.hi) == (min(needs), max(needs))
    assert answer.lo <= answer.instances <= answer.hi


def test_an_slo_that_no_allowed_number_holds_is_the_users_mistake():
    with pytest.raises(UserError, match=r"plan\.max_instances = 40: even that many .* ttft\.p99:5s"):
        ask(Search(scenario(), "none", [2]).least(3), {2: 1000})


def test_a_limit_below_the_empty_system_is_told_before_anything_is_played():
    tight = scenario(slo="ttft.p99:100ms tpot.p99:1ms")
    stream = Collected(rows([(i * SECOND, 20_000, 10, 10) for i in range(100)]), 100.0)
    with pytest.raises(UserError) as error:
        check_floor(tight, stream, cluster_of(tight).plan())
    assert len(error.value.mistakes) == 2 and "no number of instances can hold ttft.p99:100ms" in str(error.value)
    check_floor(scenario(), stream, cluster_of(scenario()).plan())


@given(st.floats(1.0, 200.0))
def test_a_first_guess_grows_with_the_rate(rate):
    wide = scenario(plan__max_instances=500)
    stream = [Collected(rows([(0, 1000, 500, 500)] * 100), 100 / r) for r in (rate, rate * 2)]
    one, two = (guess_instances(wide, s, cluster_of(wide).plan()) for s in stream)
    assert 1 <= one <= two <= 2 * one + 1


def test_together_asks_for_all_in_one_round_and_answers_in_order():
    def question(n):
        first = yield [("a", n)]
        second = yield [("b", n), ("c", n)] if n else []
        return n, first, second

    whole, rounds = together([question(0), question(1)]), []
    results = None
    while True:
        try:
            runs = next(whole) if results is None else whole.send(results)
        except StopIteration as stop:
            answers = stop.value
            break
        rounds.append(runs)
        results = [f"{name}{n}" for name, n in runs]
    assert rounds == [[("a", 0), ("a", 1)], [("b", 1), ("c", 1)]]
    assert answers == [(0, ["a0"], []), (1, ["a1"], ["b1", "c1"])]


def small_scenario():
    changes = {"workload__rate": 2.0, "workload__duration": "2min", "cluster__model": "llama-3.1-8b", "cluster__tp": 1}
    return scenario(**changes)


def test_one_process_and_two_give_the_same_bytes():
    runs = [Run(small_scenario(), kind, seed, 2, keep_records=True) for kind in ("per_client", "poisson") for seed in (2, 3)]

    def question():
        return (yield runs)

    with Workers(1) as one, Workers(2) as two:
        first, second = one.answer(question()), two.answer(question())
    assert [r.records.tobytes() for r in first] == [r.records.tobytes() for r in second]
    assert one.played == two.played == 4
    assert len({r.records.tobytes() for r in first}) == 4


def test_hours_past_the_end_of_the_data_repeat_its_days():
    day = scenario()
    assert hour_at(day, 3600.0).workload.start == 3600.0
    assert hour_at(day, 23 * 3600.0).workload.start == 23 * 3600.0
    assert hour_at(day, 25 * 3600.0).workload.start == 3600.0
    assert hour_at(day, 25 * 3600.0).workload.duration == 3600.0
    over_the_end = hour_at(day, 47.5 * 3600.0)
    assert over_the_end.workload.start == 23.5 * 3600.0 and len(stream_of(over_the_end).collect()) > 100
