"""Sessions: a pool's requests as turns of conversations, at the pool's own rate, whose prompts hold what came before."""

import functools
import hashlib
import importlib
import math
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_workloads_golden import digest_of, odd_pool
from workloads import ITEMS, ClientPool, WorkloadError, check_segments, check_stream, compose, out_segment
from workloads.arrivals import GAMMA
from workloads.fields import REASON, REASON_PARTS
from workloads.jit import is_plain
from workloads.lengths import KNOTS, PROBABILITIES, LengthTable
from workloads.numerics import Purpose
from workloads.pool_data import PoolData
from workloads.sessions import ITT, PRESETS, ConversationModel, sessions
from workloads.sessions.model import MOST_TURNS, mooncake_tokens
from workloads.sessions.turns import Span, Turns
from workloads.sessions.waiting import Waiting
from workloads.stream import new_rows
from workloads.traffic_model import TrafficModel

NS = 10**9
HOUR_WINDOWS = 144
WEIGHTS = np.convolve(np.diff(PROBABILITIES), [0.5, 0.5])  # of knots, near what a sketch between them has in the mean


@functools.cache
def steady_pool(clients: int = 3) -> PoolData:
    """Clients 5, 8, 11 … of one rate for a day, prompts of 1 to some 100 tokens, answers of some 14, half of which think."""
    knots = np.linspace(1.0, 100.0, KNOTS) + 4.0 * np.arange(clients)[:, None]
    thinks = np.linspace(1.0, 1.0 + REASON_PARTS, KNOTS) + 0.0 * knots
    tables = {"input_tokens": knots, "output_tokens": knots / 4.0 + 1.0, REASON: thinks}
    return PoolData(
        name="steady",
        client_ids=5 + 3 * np.arange(clients),
        count=np.full((clients, HOUR_WINDOWS), 60.0),
        cv=np.ones((clients, HOUR_WINDOWS)),
        family=np.full((clients, HOUR_WINDOWS), GAMMA, np.int8),
        shape=np.ones((clients, HOUR_WINDOWS)),
        length_row=np.repeat(np.arange(clients, dtype=np.int32)[:, None], 4, axis=1),
        lengths={name: LengthTable.of(rows, (rows * WEIGHTS).sum(axis=1)) for name, rows in tables.items()},
        max_output_tokens=200,
        absent_ids=(),
        absent_count=np.zeros(HOUR_WINDOWS),
        gap=np.zeros(HOUR_WINDOWS, bool),
    )


def models(**fixed):
    growing = st.fixed_dictionaries(
        {
            "multi_turn_share": st.sampled_from([0.0, 0.1, 0.5, 1.0]),
            "itt_median_s": st.floats(0.01, 200.0),
            "itt_sigma": st.floats(0.0, 1.5),
            "keep_reasoning": st.booleans(),
            "system_tokens": st.sampled_from([0, 1, 40, 400]),
        },
        optional={
            "new_tokens": st.sampled_from(["client", "mooncake"]),
            "max_input_tokens": st.sampled_from([1, 150, 400]),
            "extra_turns": st.just(((0.5, 0.0), (0.5, 9.0))),
        },
    )
    kept = growing.map(lambda m: {k: v for k, v in m.items() if k not in ("new_tokens", "max_input_tokens")})
    either = st.one_of(growing, kept.map(lambda m: m | {"history": "marginal"}))
    return either.map(lambda m: ConversationModel(**(m | fixed)))


def prompt_of(stream, row):
    """The prompt's tokens, each as (segment_id, token of the segment)."""
    pieces = stream.segments[row["segments_start"] :][: row["segments_count"]].tolist()
    return [(segment_id, j) for segment_id, tokens in pieces for j in range(tokens)]


def spoken_segment(request_id):
    """The name of an answer without the tokens that thought."""
    return 2 * request_id + 1


def by_session(rows):
    found = defaultdict(list)
    for row in rows[np.argsort(rows["request_id"])]:
        found[int(row["session_id"])].append(row)
    return found


SPANS = {
    "start": st.floats(0.0, 90_000.0),
    "duration": st.floats(1.0, 1500.0),
    "rate": st.floats(0.01, 0.3),
    "seed": st.integers(0, 2**64),
}


@given(st.fixed_dictionaries({**SPANS, "conversation": models()}))
@settings(max_examples=30)
def test_sessions_are_a_stream_whose_prompts_can_be(asked):
    stream = sessions(steady_pool(), **asked)
    rows = stream.collect()
    check_stream(rows)
    check_segments(rows, stream.segments, stream.items)
    assert not len(rows) or rows["arrival_ns"][-1] < round(stream.duration_s * NS)
    assert np.array_equal(np.concatenate(list(stream.windows(77.0))), rows)
    assert rows.tobytes() == stream.collect().tobytes()
    assert np.array_equal(rows["request_id"], rows["session_id"] + rows["turn"] - 1)
    assert np.array_equal(rows["request_id"] >> 32, rows["client_id"]) and not np.any(rows["session_id"] % MOST_TURNS)


@given(st.fixed_dictionaries({**SPANS, "conversation": models(multi_turn_share=1.0)}))
@settings(max_examples=30)
def test_a_prompt_begins_with_the_one_before_it_and_its_answer_or_starts_again(asked):
    model, stream = asked["conversation"], sessions(steady_pool(), **asked)
    for turns in by_session(stream.collect()).values():
        for before, row in pairwise(turns):
            assert row["arrival_ns"] > before["arrival_ns"] and row["turn"] == before["turn"] + 1
            assert model.history == "growing" or row["input_tokens"] >= before["input_tokens"]
            old, new = prompt_of(stream, before), prompt_of(stream, row)
            kept = int(before["output_tokens"]) - (0 if model.keep_reasoning else int(before["reason_tokens"]))
            history = len(old) + kept
            if new[: len(old)] == old and len(new) > len(old):
                answer = out_segment if kept == before["output_tokens"] else spoken_segment
                assert new[len(old) : history] == [(answer(int(before["request_id"])), j) for j in range(kept)]
                assert len(new) > history and (model.history == "marginal" or len(new) <= model.max_input_tokens)
            else:
                shared = {name for name, _ in old} & {name for name, _ in new}
                assert len(shared) <= 1 and (not shared or model.system_tokens)
                if model.history == "growing":
                    assert history + len(new) > model.max_input_tokens
                else:
                    assert history >= len(new)


def twin(turns: Turns, start: np.void) -> list[dict[str, int]]:
    """All turns of one conversation by definition, one after the other; in the clock of the run."""
    pool, model = turns.pool, turns.model
    client = int(np.flatnonzero(pool.client_ids == start["client_id"])[0])
    window = (int(start["arrival_ns"]) + turns.span.begun_ns) // (600 * NS) % pool.period
    sketch, number = np.array([pool.length_row[client, window // 36]]), (int(start["request_id"]) & (2**32 - 1)) * 64

    def drawn(purpose, turn):
        return turns.drawn(purpose, np.array([client]), np.array([number + turn - 1]))

    def length(name, purpose, turn):
        if name == "input_tokens" and model.new_tokens == "mooncake":
            return int(mooncake_tokens(drawn(purpose, turn))[0])
        return int(pool.lengths[name].sample(sketch, drawn(purpose, turn))[0])

    u, count = float(drawn(Purpose.REQUEST, 1)[0]), 1
    while count < MOST_TURNS and u >= 1.0 - model.at_least[count]:
        count += 1
    prompts = sorted([int(start["input_tokens"]), *(length("input_tokens", Purpose.INPUT, k) for k in range(2, count + 1))])
    arrival, result = int(start["arrival_ns"]) - turns.span.lead_ns, []
    for turn in range(1, count + 1):
        if turn == 1:
            prompt = prompts[0] if model.history == "marginal" else int(start["input_tokens"])
            answer, thinks = int(start["output_tokens"]), int(start["reason_tokens"])
        else:
            kept = answer if model.keep_reasoning else answer - thinks
            new = length("input_tokens", Purpose.INPUT, turn)
            grown = prompt + kept + new
            prompt = prompts[turn - 1] if model.history == "marginal" else grown if grown <= model.max_input_tokens else new
            answer = length("output_tokens", Purpose.OUTPUT, turn)
            share = pool.lengths[REASON].sample(sketch, drawn(Purpose.REASON, turn))[0] - 1
            thinks = (answer * int(share) + 250) // 501
            arrival += int(model.itt_ns(drawn(Purpose.PAUSE, turn))[0])
        row = {"turn": turn, "arrival_ns": arrival, "input_tokens": prompt, "output_tokens": answer, "reason_tokens": thinks}
        result.append(row | {"request_id": (int(start["client_id"]) << 32) + number + turn - 1})
    return [row for row in result if 0 <= row["arrival_ns"] < turns.span.run_ns]


@given(
    models(),
    st.integers(0, 2**64),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3600), st.integers(0, 30)), max_size=12),
)
@settings(max_examples=60)
def test_turns_are_those_of_the_definition(model, seed, given_):
    pool, starts = steady_pool(), new_rows(len(given_))
    for row, (client, at_s, thinks) in zip(starts, sorted(given_, key=lambda start: start[1])):
        row["client_id"], row["arrival_ns"] = pool.client_ids[client], at_s * NS
        row["input_tokens"], row["output_tokens"], row["reason_tokens"] = 1 + 3 * at_s % 90, 30, thinks
    starts["request_id"] = (starts["client_id"].astype(np.int64) << 32) + np.arange(len(starts))
    turns = Turns(pool, model, Span(86_000 * NS, 600 * NS, 3000 * NS), seed)
    made = turns.of(starts)
    wanted = sorted((row for start in starts for row in twin(turns, start)), key=lambda row: row["request_id"])
    rows = made.rows[np.argsort(made.rows["request_id"])]
    assert [{name: int(row[name]) for name in wanted[0]} for row in rows] == wanted if wanted else not len(rows)
    check_segments(np.sort(rows, order=["arrival_ns", "request_id"]), made.segments, np.empty(0, ITEMS))


@pytest.mark.parametrize("name", PRESETS)
def test_turns_have_the_share_and_the_tail_of_the_sources(name):
    model = ConversationModel.preset(name)
    share, several = model.multi_turn_share, model.at_least[1:] / model.at_least[1]
    assert 1.0 + several.sum() == pytest.approx(3.5, abs=1e-3)
    assert several[39] == pytest.approx(0.1 * (6 / 7) ** 39, rel=1e-6)  # more than 40 turns: 14 of 57,205 conversations
    assert model.turns_per_start == pytest.approx(1.0 + model.at_least[1] * 2.5, abs=1e-3)
    turns = model.turns((np.arange(100_000) + 0.5) / 100_000)
    assert turns[turns > 1].sum() / turns.sum() == pytest.approx(share, abs=1e-3)
    assert model.turns(np.array([1e-12, 1.0 - 1e-12])).tolist() == [1, MOST_TURNS]


def test_inter_turn_times_are_lognormal():
    for median_s, sigma in ITT.values():
        model = ConversationModel(0.5, median_s, sigma)
        itt_s = model.itt_ns((np.arange(10_000) + 0.5) / 10_000) / NS
        assert np.median(itt_s) == pytest.approx(median_s, rel=1e-3) and np.log(itt_s).std() == pytest.approx(sigma, rel=1e-3)


def test_new_tokens_of_mooncake_have_its_quantiles():
    tokens = mooncake_tokens((np.arange(100_000) + 0.5) / 100_000)
    assert np.quantile(tokens, [0.25, 0.5, 0.75, 0.95]) == pytest.approx([9, 26, 384, 7238], rel=0.01)
    assert tokens.min() == 1


@pytest.mark.parametrize(("itt", "rate_rps", "seeds"), [("servegen", 30.0, 12), ("burstgpt", 6.0, 5)])
def test_a_run_has_its_rate_from_the_first_second_to_the_last(itt, rate_rps, seeds):
    """Requests of its first, middle and last ten minutes; half a percent are of conversations from before the lead-in."""
    model = ConversationModel.preset("chat", itt)
    streams = [sessions(steady_pool(), "5h", "30min", rate=rate_rps, seed=k, conversation=model) for k in range(seeds)]
    counts = np.array([[len(rows) for rows in stream.windows(600.0)] for stream in streams]) / (600 * rate_rps)
    for part in counts.T:
        assert abs(part.mean() - 1.0) < 4 * part.std() / np.sqrt(seeds) + 0.005
    assert abs(counts.mean() - 1.0) < 0.03 * np.sqrt(6.0 / rate_rps)  # more than four times what so many parts spread by


@pytest.mark.parametrize("itt", ITT)
def test_the_lead_in_misses_less_than_one_percent_of_the_requests(itt):
    """Ages of turns by other numbers than those that the lead-in was made of."""
    model, random = ConversationModel.preset("chat", itt), np.random.default_rng(3)
    age_s = np.cumsum(np.exp(np.log(model.itt_median_s) + model.itt_sigma * random.normal(size=(20_000, 63))), axis=1)
    missing = ((age_s > model.lead_in_s).mean(axis=0) * model.at_least[1:]).sum() / model.turns_per_start
    assert missing < 0.01


def test_a_start_within_the_first_day_is_one_of_the_same_hour_a_day_later():
    early, late = (sessions(steady_pool(), start, "20min", rate=1.0) for start in (0.0, 86_400.0))
    assert early.collect().tobytes() == late.collect().tobytes() and early.segments.tobytes() == late.segments.tobytes()


def test_another_client_moves_nothing_but_where_prompts_stand():
    pool, told = steady_pool(), {"start": "3h", "duration": "40min", "scale": 2.0}
    all_, two = sessions(pool, **told), sessions(pool, **told, clients=[5, 11])
    rows = all_.collect()
    rows, fewer = rows[rows["client_id"] != 8], two.collect()
    assert len(fewer) > 300 and [prompt_of(all_, row) for row in rows] == [prompt_of(two, row) for row in fewer]
    rows["segments_start"] = fewer["segments_start"]
    assert np.array_equal(rows, fewer)


def test_a_composition_that_is_played_by_kernels_gives_the_same_bytes(monkeypatch):
    if is_plain("workloads.kernels"):
        pytest.skip("kernels are not compiled: too slow for whole streams")
    streams = []
    for requests in (math.inf, 0):
        for name in ("FEW_REQUESTS", "MANY_REQUESTS"):
            monkeypatch.setattr(importlib.import_module("workloads.compose"), name, requests)
        stream = sessions(odd_pool(), 3000, 1200, scale=3.0, seed=4)
        streams.append((stream.collect().tobytes(), stream.segments.tobytes()))
    assert streams[0] == streams[1]


GOLDEN = [  # preset, what else; requests, first 16 digits of sha256 of rows and of segments
    ("servegen", {}, 18460, "7eaa978f65136d27", "7ba469ab55ee644d"),
    ("chat", {"system_tokens": 40, "new_tokens": "mooncake"}, 18519, "989455541900a386", "231b7ebedbfa3f1c"),
    ("chat", {"history": "marginal", "itt": "burstgpt"}, 19503, "fac81f4e60ed5789", "34f18fbdf2fbfcb3"),
]


@pytest.mark.parametrize(("preset", "changes", "requests", "rows_digest", "segments_digest"), GOLDEN)
def test_sessions_have_the_bytes_they_had_at_first(preset, changes, requests, rows_digest, segments_digest):
    stream = sessions(odd_pool(), 3000, 5000, seed=4, conversation=ConversationModel.preset(preset, **changes))
    rows = stream.collect()
    found = hashlib.sha256(stream.segments.tobytes()).hexdigest()[:16]
    assert (len(rows), digest_of(rows), found) == (requests, rows_digest, segments_digest)


def test_lengths_that_keep_the_marginals_are_the_clients_own():
    """KS distance of all prompts, whatever their turn, to the client's sketch; growing ones are far from it."""
    pool = steady_pool(1)
    grid = np.sort(pool.lengths["input_tokens"].sample(np.zeros(9999, int), (np.arange(9999) + 0.5) / 9999))
    distance = {}
    for history in ("marginal", "growing"):
        rows = sessions(pool, "5h", "2h", rate=4.0, conversation=ConversationModel.preset("chat", history=history)).collect()
        values = np.arange(1, 200)
        ours, theirs = (np.searchsorted(np.sort(v), values, side="right") / len(v) for v in (rows["input_tokens"], grid))
        distance[history] = np.abs(ours - theirs).max() * np.sqrt(len(rows))
    assert distance["marginal"] < 2.2 < 30 < distance["growing"]


def test_the_mean_prompt_is_foretold():
    """A sample of 2,048 conversations against some 29,000 requests; growing prompts vary a lot."""
    for model in ("servegen", ConversationModel.preset("chat", new_tokens="mooncake", max_input_tokens=20_000)):
        stream = sessions(steady_pool(), "5h", "2h", rate=4.0, conversation=model)
        rows, told = stream.collect(), stream.description
        assert rows["input_tokens"].mean() == pytest.approx(told["input_mean_tokens"], rel=0.1)
        assert told["input_mean_tokens"] > 1.1 * told["input_mean_tokens_alone"]
        alone = sessions(steady_pool(), "5h", "2h", rate=4.0, conversation=ConversationModel(0.0)).collect()["input_tokens"]
        assert alone.mean() == pytest.approx(told["input_mean_tokens_alone"], abs=5 * alone.std() / np.sqrt(len(alone)))


def test_without_conversations_the_requests_are_those_of_the_composition():
    rows = sessions(steady_pool(), "5h", "20min", rate=2.0, conversation=ConversationModel(0.0)).collect()
    plain = compose(steady_pool(), "5h", "20min", rate=2.0).collect()
    for name in ("arrival_ns", "client_id", "input_tokens", "output_tokens", "max_tokens", "segments_count", "turn"):
        assert np.array_equal(rows[name], plain[name])
    assert np.array_equal((rows["request_id"] & (2**32 - 1)) >> 6, plain["request_id"] & (2**32 - 1))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_prompts_of_a_client_begin_with_its_system_prompt(share):
    stream = sessions(steady_pool(), "5h", "20min", rate=1.0, conversation=ConversationModel(share, system_tokens=30))
    heads = defaultdict(set)
    for row in stream.collect():
        prompt = prompt_of(stream, row)
        if row["turn"] == 1 and (len(prompt) > 30 or share == 0.0):
            heads[int(row["client_id"])].add(prompt[0][0])
            assert prompt[:30] == [(prompt[0][0], j) for j in range(min(30, len(prompt)))]
            assert len(prompt) <= 30 or prompt[30][0] != prompt[0][0]
    assert len(heads) == 3 and all(len(names) == 1 for names in heads.values())
    assert len(set.union(*heads.values())) == 3


def test_what_thinks_is_not_in_the_next_prompt_unless_it_is_kept():
    pool, starts = steady_pool(), new_rows(200)
    starts["client_id"], starts["input_tokens"], starts["output_tokens"], starts["reason_tokens"] = 5, 10, 30, 20
    starts["request_id"] = (5 << 32) + np.arange(200)
    for kept in (False, True):
        made = Turns(pool, ConversationModel(1.0, keep_reasoning=kept), Span(0, 0, 2**62), 1).of(starts)
        second = made.rows[made.rows["turn"] == 2]
        answer = made.segments[second["segments_start"][:, None] + np.arange(3)][:, 1]
        assert set(answer["tokens"]) == {30 if kept else 10}
        assert (
            np.array_equal(answer["segment_id"], out_segment(second["session_id"])) == kept
            and np.all(answer["segment_id"] < 0) == kept
        )


@pytest.mark.parametrize("limit", ["pool", "client", "output", 7])
def test_later_turns_ask_for_what_the_first_ones_do(limit):
    rows = sessions(steady_pool(1), "5h", "20min", rate=1.0, model=TrafficModel(max_tokens=limit)).collect()
    wanted = {"pool": 200, "client": 32, "output": rows["output_tokens"], 7: 7}[limit]
    assert np.all(rows["max_tokens"] == wanted) and np.all(rows["output_tokens"] <= rows["max_tokens"])
    assert len(set(rows["turn"])) > 3


def test_later_turns_think_as_the_first_ones_do():
    rows = sessions(ClientPool.load("deepseek-r1"), "8h", "30min", rate=20.0).collect()
    first, later = rows[rows["turn"] == 1], rows[rows["turn"] > 1]
    shares = [part["reason_tokens"].sum() / part["output_tokens"].sum() for part in (first, later)]
    assert 0.5 < shares[0] < 0.9 and shares[1] == pytest.approx(shares[0], abs=0.03)


def test_turns_wait_until_they_are_due():
    random, waiting, found, now_s = np.random.default_rng(2), Waiting(), [], -5
    for request, until_s in enumerate((-5, 0, 7, 61, 61, 300, 1000, 1001, 4000, 4999)):
        rows = new_rows(400)
        rows["arrival_ns"] = random.integers(max(now_s, 0) * NS, 5000 * NS, 400)
        rows["request_id"] = 400 * request + np.arange(400)
        waiting.add(rows)
        found.append(waiting.due(until_s * NS))
        assert np.all(found[-1]["arrival_ns"] < until_s * NS)
        now_s = until_s
    found.append(waiting.due())
    rows = np.concatenate(found)
    assert np.array_equal(rows, np.sort(rows, order=["arrival_ns", "request_id"])) and len(set(rows["request_id"])) == 4000
    assert not len(waiting.due())


def test_the_description_says_what_was_assumed():
    told = sessions(ClientPool.load("deepseek-r1"), "8h", "5min", rate=1.0, conversation="servegen").description
    assert told["source"] == "sessions" and told["pool"] == "deepseek-r1" and told["lead_in_s"] == 3000.0
    assert told["starts_rate_rps"] == pytest.approx(1.0 / told["turns_per_start"]) and told["rate_rps"] == pytest.approx(1.0)
    assert told["conversation"]["multi_turn_share"] == 0.096 and "tokens in the mean" in told["notes"][-1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"multi_turn_share": 1.5}, "multi_turn_share: expected a number from 0 to 1"),
        ({"multi_turn_share": math.nan}, "multi_turn_share: expected a number"),
        ({"itt_median_s": 0.0}, "itt_median_s: expected a number from 0.001"),
        ({"itt_sigma": "wide"}, "itt_sigma: expected a number from 0 to 5"),
        ({"extra_turns": ((0.5, 1.0),)}, "extra_turns: expected pairs"),
        ({"extra_turns": ((1.0, -1.0),)}, "extra_turns: expected pairs"),
        ({"extra_turns": 3}, "extra_turns: expected pairs"),
        ({"history": "grown"}, "history: expected one of growing, marginal, got 'grown'; nearest: growing"),
        ({"new_tokens": "cat"}, "new_tokens: expected one of client, mooncake"),
        ({"keep_reasoning": 1}, "keep_reasoning: expected true or false"),
        ({"max_input_tokens": 0}, "max_input_tokens: expected a whole number from 1"),
        ({"system_tokens": 1.5}, "system_tokens: expected a whole number from 0"),
        ({"history": "marginal", "new_tokens": "mooncake"}, "new_tokens: does nothing with history"),
        ({"history": "marginal", "max_input_tokens": 9}, "max_input_tokens: does nothing with history"),
        ({"itt": "mooncakes"}, "itt: no preset 'mooncakes'; nearest: mooncake"),
        ({"system": 3}, "conversation: no setting 'system'; nearest: system_tokens"),
    ],
)
def test_models_that_cannot_be_are_refused(changes, told):
    with pytest.raises(WorkloadError, match=told):
        ConversationModel.preset("chat", **changes)


def test_all_mistakes_of_a_model_are_told_at_once():
    with pytest.raises(WorkloadError) as error:
        ConversationModel(2.0, -1.0, -1.0, history="no", system_tokens=-1)
    assert len(str(error.value).splitlines()) == 5


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"conversation": "chats"}, "conversation: no preset 'chats'; nearest: chat"),
        ({"conversation": 3}, "conversation: expected a ConversationModel or one of servegen, chat"),
        ({"rate": -1.0}, "rate: expected a number above 0"),
        ({"clients": [6]}, "clients: client 6 is not in pool steady"),
        ({"duration": 0}, "duration: expected more than 0 s"),
        ({"model": TrafficModel(correlation=0.5)}, "correlation = 0.5: prompts that hold a history have none"),
        ({"pool": ClientPool.load("mm-image")}, "pool mm-image: its prompts have items; expected a pool of text"),
    ],
)
def test_sessions_that_cannot_be_are_refused(asked, told):
    with pytest.raises(WorkloadError, match=told):
        sessions(**{"pool": steady_pool(), **asked})
