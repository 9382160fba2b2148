"""Laws of a run, over random routers, engines and bursts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import RECORD, Cluster, Engine, simulate
from sim.request import FAILED, FINISH_REASONS, REJECT_REASONS, REJECTED
from sim.scheduler import VllmScheduler
from tests.cases import PLAIN, PLAIN_ENGINE, AffineCost, rows, shared_streams, small_clusters, small_requests
from tests.naive import one_instance

runs = given(small_requests(), small_clusters())
many = settings(max_examples=200, deadline=None)


@many
@runs
def test_every_request_leaves_exactly_once(requests, cluster):
    records = simulate(requests, cluster).records
    assert sorted(records["request_id"]) == sorted(requests["request_id"])


@many
@runs
def test_arrival_scheduled_first_token_finish_come_in_this_order(requests, cluster):
    records = simulate(requests, cluster).records
    served = records[records["finish_reason"] != REJECTED]
    assert np.all(served["arrival_ns"] <= served["scheduled_ns"])
    assert np.all(served["scheduled_ns"] < served["first_token_ns"])
    assert np.all(served["first_token_ns"] <= served["finish_ns"])
    assert np.all((served["itl_max_ns"] > 0) == (served["output_tokens"] > 1))
    gaps = served["output_tokens"] - 1
    assert np.all(served["itl_max_ns"] * gaps >= (served["finish_ns"] - served["first_token_ns"]) * (gaps > 0))


@many
@runs
def test_a_request_gets_its_answer_and_not_a_token_more(requests, cluster):
    records = simulate(requests, cluster).records
    by_id = {int(row["request_id"]): row for row in requests}
    for record in records:
        row = by_id[int(record["request_id"])]
        limit = min(row["max_tokens"], cluster.engine.max_model_len - row["input_tokens"])
        reason = FINISH_REASONS[record["finish_reason"]]
        if reason == "rejected":
            assert record["output_tokens"] == 0 and record["instance_id"] == -1
        else:
            assert record["output_tokens"] == min(row["output_tokens"], limit)
            assert reason == ("length" if record["output_tokens"] == limit else "stop")


@many
@runs
def test_only_what_can_never_fit_is_rejected(requests, cluster):
    engine = cluster.engine
    usable_tokens = (engine.num_gpu_blocks_override - 1) * engine.block_size
    records = simulate(requests, cluster).records
    rejected = {int(r["request_id"]): REJECT_REASONS[r["reject_reason"]] for r in records if r["finish_reason"] == REJECTED}
    for row in requests:
        longest = min(row["max_tokens"], engine.max_model_len - row["input_tokens"])
        fits = longest >= 1 and row["input_tokens"] + longest <= usable_tokens
        reason = rejected.get(int(row["request_id"]), "")
        assert (reason == "") == fits
        assert (reason == "max_model_len") == (longest < 1)


@many
@runs
def test_budget_seats_and_blocks_are_kept_in_every_step(requests, cluster):
    steps, engine = simulate(requests, cluster).steps, cluster.engine
    assert np.all(steps["prefill_tokens"] + steps["decode_tokens"] <= engine.max_num_batched_tokens)
    assert np.all(steps["prefill_tokens"] + steps["decode_tokens"] >= 1)
    assert np.all(steps["running"] <= engine.max_num_seqs)
    assert np.all(steps["kv_blocks_used"] <= engine.num_gpu_blocks_override - 1)
    for instance_id in range(cluster.instances):
        mine = steps[steps["instance_id"] == instance_id]
        assert np.all(mine["start_ns"][1:] >= (mine["start_ns"] + mine["duration_ns"])[:-1])


@many
@given(small_requests(), small_clusters(**PLAIN))
def test_tokens_computed_are_those_of_prompts_answers_and_recomputation(requests, cluster):
    result = simulate(requests, cluster)
    served = result.records[result.records["finish_reason"] != REJECTED]
    # The last token of an answer is never computed; a preempted request computes some of its tokens again.
    least = int(np.sum(served["input_tokens"] + served["output_tokens"] - 1))
    computed = int(np.sum(result.steps["prefill_tokens"] + result.steps["decode_tokens"]))
    preemptions = int(np.sum(served["preemptions"]))
    assert preemptions == np.sum(result.steps["preempted"])
    assert computed >= least if preemptions else computed == least
    assert sum(result.gaps.values()) == int(np.sum(served["output_tokens"] - 1))


@many
@runs
def test_same_seed_same_bytes(requests, cluster):
    first, second = (simulate(requests, cluster, seed=5) for _ in range(2))
    assert first.records.tobytes() == second.records.tobytes()
    assert first.steps.tobytes() == second.steps.tobytes()
    assert first.gaps == second.gaps


@settings(max_examples=400, deadline=None)
@given(shared_streams(), small_clusters())
def test_a_stretch_changes_nothing_but_the_speed(stream, cluster):
    short, long = (simulate(stream, cluster, use_stretches=flag) for flag in (True, False))
    assert short.records.tobytes() == long.records.tobytes()
    assert short.steps.tobytes() == long.steps.tobytes()
    assert short.gaps == long.gaps


@settings(max_examples=400, deadline=None)
@given(small_requests(), small_clusters(most_instances=1, **PLAIN_ENGINE))
def test_one_instance_equals_its_plain_twin(requests, cluster):
    records = simulate(requests, cluster).records
    columns = ("scheduled_ns", "first_token_ns", "finish_ns", "preemptions", "itl_max_ns")
    got = {int(r["request_id"]): tuple(int(r[c]) for c in columns) for r in records if r["finish_reason"] != REJECTED}
    assert got == one_instance(requests, cluster.engine, cluster.step_cost)


class Windows:
    """The same rows in windows of another length."""

    def __init__(self, requests, window_ns):
        self.requests, self.window_ns, self.duration_s = requests, window_ns, 1.0

    def windows(self):
        index = self.requests["arrival_ns"] // self.window_ns
        return [self.requests[index == i] for i in range(int(index[-1]) + 1)]


@settings(max_examples=100, deadline=None)
@given(small_requests(), small_clusters(), st.integers(500_000, 70_000_000))
def test_windows_change_nothing(requests, cluster, window_ns):
    whole = simulate(requests, cluster)
    cut = simulate(Windows(requests, window_ns), cluster)
    assert whole.records.tobytes() == cut.records.tobytes() and whole.steps.tobytes() == cut.steps.tobytes()


def test_the_random_cases_do_preempt_queue_and_reject():
    """The laws above are worth something only where these happen."""
    engine = Engine(max_num_seqs=8, max_num_batched_tokens=16, max_model_len=64, block_size=4, num_gpu_blocks_override=16)
    requests = rows([(0, 20, 18, 20)] * 6 + [(0, 80, 2, 2)])
    result = simulate(requests, Cluster(step_cost=AffineCost(), engine=engine))
    assert result.records["preemptions"].sum() > 0
    assert np.sum(result.records["finish_reason"] == REJECTED) == 1
    assert result.steps["waiting"].max() > 0
    assert result.records.dtype == RECORD


@many
@given(shared_streams(), small_clusters())
def test_a_shared_prompt_changes_what_is_computed_and_not_what_is_answered(stream, cluster):
    records = simulate(stream, cluster).records
    served = records[~np.isin(records["finish_reason"], (REJECTED, FAILED))]
    assert len(records) == len(stream.collect())
    assert np.all(served["cached_tokens"] < served["input_tokens"])
    assert np.all(served["cached_tokens"] % cluster.engine.block_size == 0)
    if not cluster.engine.enable_prefix_caching:
        assert not served["cached_tokens"].any()
    longest = np.minimum(served["max_tokens"], cluster.engine.max_model_len - served["input_tokens"])
    asked = {int(row["request_id"]): int(row["output_tokens"]) for row in stream.collect()}
    assert all(
        tokens == min(asked[int(request_id)], most)
        for request_id, tokens, most in zip(served["request_id"], served["output_tokens"], longest.tolist())
    )


@settings(max_examples=150, deadline=None)
@given(shared_streams(), small_clusters())
def test_blocks_and_cache_are_sound_after_every_call_of_the_scheduler(stream, cluster):
    receive, checks = VllmScheduler.receive, []

    def checked(self, *args):
        out = receive(self, *args)
        self.check()
        checks.append(1)
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VllmScheduler, "receive", checked)
        result = simulate(stream, cluster, use_stretches=False)
    assert len(checks) == result.step_count


class Schedules:
    """What was computed for whom in every iteration, as it ended."""

    def __init__(self):
        self.steps = []

    def step_ended(self, instance_id, start_ns, end_ns, batch):
        who = [(request.request_id, tokens) for request, tokens in zip(batch.requests, batch.tokens)]
        self.steps.append((start_ns, end_ns, who, sorted(request.request_id for request in batch.preempted)))


@many
@given(small_requests(), small_clusters(most_instances=1), st.randoms(use_true_random=False))
def test_answer_lengths_that_lie_in_the_future_change_nothing_before(requests, cluster, random):
    """Nobody can cheat: with all answers as long as allowed, other true lengths act only from the first end on."""
    requests["max_tokens"] = requests["output_tokens"].max() + 1
    other = requests.copy()
    lengths = other["output_tokens"].tolist()
    random.shuffle(lengths)
    other["output_tokens"] = lengths
    seen = []
    for stream in (requests, other):
        probe = Schedules()
        result = simulate(stream, cluster, probe=probe)
        ends = result.records["finish_ns"][result.records["finish_reason"] != REJECTED]
        seen.append((probe.steps, int(ends.min()) if len(ends) else 0))
    until = min(end for _, end in seen)
    first, second = ([step for step in steps if step[0] < until] for steps, _ in seen)
    assert first == second


def test_what_vllm_could_hang_on_ends_as_failed_or_goes_on():
    """Without the whole-prompt gate two prompts can hold each other up; nobody waits for ever."""
    engine = Engine(
        max_num_seqs=4,
        max_num_batched_tokens=64,
        max_model_len=60,
        block_size=4,
        num_gpu_blocks_override=16,
        scheduler_reserve_full_isl=False,
    )
    for is_async in (False, True):
        cluster = Cluster(step_cost=AffineCost(), engine=replace(engine, async_scheduling=is_async))
        records = simulate(rows([(0, 50, 9, 10)] * 6), cluster).records
        assert len(records) == 6 and not np.any(records["finish_reason"] == REJECTED)
