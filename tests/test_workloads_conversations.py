"""Conversations: each prompt is the one before it, its answer, and new text; all of it fixed by the seed."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import WorkloadError, check_segments, check_stream, conversations
from workloads.conversations import SYSTEM_SEGMENT

NS = 10**9
CHAT = {
    "n": 20, "turns": 4, "rate_rps": 2.0, "system_tokens": 30, "first_tokens": (5, 40), "turn_tokens": (1, 9),
    "output_tokens": (2, 20), "think_s": 10.0, "seed": 1,
}  # fmt: skip


def lengths():
    pair = st.tuples(st.integers(1, 9), st.integers(0, 9)).map(lambda at: (at[0], at[0] + at[1]))
    return st.integers(1, 9) | pair


CHATS = st.fixed_dictionaries(
    {
        "n": st.integers(1, 8),
        "turns": st.integers(1, 6),
        "rate_rps": st.floats(0.01, 100.0),
        "system_tokens": st.integers(0, 9),
        "first_tokens": lengths(),
        "turn_tokens": lengths(),
        "output_tokens": lengths(),
        "think_s": st.floats(0.0, 100.0),
        "seed": st.integers(0, 2**64),
    }
)


def prompt_of(stream, row):
    """The prompt's tokens, each as (segment_id, token of the segment)."""
    pieces = stream.segments[row["segments_start"] :][: row["segments_count"]].tolist()
    return [(segment_id, j) for segment_id, tokens in pieces for j in range(tokens)]


def by_request(stream):
    rows = stream.collect()
    return rows[np.argsort(rows["request_id"])]


@given(CHATS)
@settings(max_examples=200)
def test_a_prompt_begins_with_the_one_before_it_and_its_answer(chat):
    stream = conversations(**chat)
    rows = by_request(stream)
    assert len(rows) == chat["n"] * chat["turns"]
    for earlier, row in pairwise(rows):
        if row["turn"] == 1:
            continue
        answer = [(-1 - int(earlier["request_id"]), j) for j in range(earlier["output_tokens"])]
        history, prompt = prompt_of(stream, earlier) + answer, prompt_of(stream, row)
        assert prompt[: len(history)] == history and len(prompt) > len(history)
        assert row["arrival_ns"] >= earlier["arrival_ns"] and row["session_id"] == earlier["session_id"]


@given(CHATS)
@settings(max_examples=200)
def test_what_conversations_send_is_a_stream_whose_prompts_can_be(chat):
    stream = conversations(**chat)
    rows = stream.collect()
    check_stream(rows)
    check_segments(rows, stream.segments, stream.items)
    assert rows["arrival_ns"][-1] < round(stream.duration_s * NS)
    assert np.array_equal(np.concatenate(list(stream.windows(7.0))), rows)
    longest = chat["output_tokens"] if isinstance(chat["output_tokens"], int) else chat["output_tokens"][1]
    assert set(rows["max_tokens"]) == {longest} and rows["output_tokens"].max() <= longest


def test_different_conversations_share_the_system_prompt_and_no_more():
    stream = conversations(**CHAT)
    rows = by_request(stream)
    one, other = (prompt_of(stream, rows[rows["session_id"] == session][-1]) for session in (3, 4))
    alike = next(k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    assert alike == CHAT["system_tokens"] and one[0] == (SYSTEM_SEGMENT, 0)
    assert not set(one[alike:]) & set(other[alike:])


def test_one_conversation_of_three_turns_by_hand():
    stream = conversations(1, 3, 1.0, 100, 10, 20, 5, think_s=0.0)
    rows = stream.collect()
    assert stream.segments.tolist() == [(0, 100), (1, 10), (-1, 5), (2, 20), (-2, 5), (3, 20)]
    assert rows["input_tokens"].tolist() == [110, 135, 160] and rows["output_tokens"].tolist() == [5, 5, 5]
    assert rows["segments_start"].tolist() == [0, 0, 0] and rows["segments_count"].tolist() == [2, 4, 6]
    assert rows["turn"].tolist() == [1, 2, 3] and rows["request_id"].tolist() == [0, 1, 2]
    assert len(set(rows["arrival_ns"])) == 1  # no time to think
    assert conversations(1, 3, 1.0, 0, 10, 20, 5, think_s=0.0).segments.tolist() == stream.segments.tolist()[1:]


@given(CHATS, st.integers(1, 5))
def test_more_conversations_change_nothing_of_those_before(chat, more):
    few, many = conversations(**chat), conversations(**{**chat, "n": chat["n"] + more})
    assert np.array_equal(by_request(few), by_request(many)[: len(by_request(few))])
    assert np.array_equal(few.segments, many.segments[: len(few.segments)])


@given(CHATS, st.integers(1, 3))
def test_more_turns_change_nothing_of_those_before(chat, more):
    """At an equal rate of beginnings; a power of two keeps the quotient exact."""
    turns = chat["turns"] * 2**more
    short, long = conversations(**chat), conversations(**{**chat, "turns": turns, "rate_rps": chat["rate_rps"] * 2**more})
    kept = by_request(long)
    kept = kept[kept["turn"] <= chat["turns"]]
    kept["segments_start"] = by_request(short)["segments_start"]
    assert np.array_equal(kept, by_request(short))


def test_the_same_seed_gives_the_same_bytes_and_another_other_ones():
    one, again, other = (conversations(**{**CHAT, "seed": seed}) for seed in (1, 1, 2))
    assert one.collect().tobytes() == again.collect().tobytes() and one.segments.tobytes() == again.segments.tobytes()
    assert one.collect().tobytes() != other.collect().tobytes()


def test_beginnings_and_thinking_have_the_rates_asked_for():
    """Sums of exponentials: mean within five standard errors, and a CV of 1, whose sampling error is 1/√n."""
    n, turns = 20_000, 3
    at = by_request(conversations(n, turns, 6.0, 0, 1, 1, 1, think_s=40.0))["arrival_ns"].reshape(n, turns) / NS
    for gaps_s, mean_s in ((np.diff(at[:, 0]), turns / 6.0), (np.diff(at, axis=1).ravel(), 40.0)):
        assert gaps_s.mean() == pytest.approx(mean_s, rel=5 / np.sqrt(len(gaps_s)))
        assert gaps_s.std() / gaps_s.mean() == pytest.approx(1.0, abs=5 / np.sqrt(len(gaps_s)))


def test_lengths_are_drawn_evenly_from_least_to_most():
    stream = conversations(20_000, 2, 1.0, 0, (3, 7), 9, (2, 5), think_s=1.0)
    rows = stream.collect()
    first, answers = rows["input_tokens"][rows["turn"] == 1], rows["output_tokens"]
    for values, least, most in ((first, 3, 7), (answers, 2, 5)):
        counts = np.bincount(values)[least:]
        assert values.min() == least and len(counts) == most - least + 1
        assert np.all(np.abs(counts - counts.mean()) < 5 * np.sqrt(counts.mean()))


@pytest.mark.parametrize(
    ("settings_", "told"),
    [
        ({"n": 0}, "n, turns: expected whole numbers"),
        ({"turns": 1.5}, "n, turns: expected whole numbers"),
        ({"n": 10**6, "turns": 11}, "10000000 requests at most"),
        ({"rate_rps": 0.0}, "rate_rps: expected more than 0"),
        ({"rate_rps": float("nan")}, "rate_rps: expected more than 0"),
        ({"rate_rps": 1e-9}, "the last request arrives at"),
        ({"system_tokens": -1}, "system_tokens: expected a whole number from 0"),
        ({"first_tokens": 0}, "first_tokens: expected tokens from 1"),
        ({"turn_tokens": (5, 4)}, "turn_tokens: expected tokens from 1"),
        ({"turn_tokens": (5, 6, 7)}, "turn_tokens: expected tokens from 1"),
        ({"output_tokens": "many"}, "output_tokens: expected tokens from 1"),
        ({"think_s": -1.0}, "think_s: expected at least 0 s"),
        ({"think_s": float("inf")}, "think_s: expected at least 0 s"),
        ({"seed": 1.5}, "seed: expected a whole number"),
        ({"turn_tokens": 10**7}, "expected at most 10000000: fewer turns?"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings_, told):
    with pytest.raises(WorkloadError, match=told.replace("?", r"\?")):
        conversations(**{**CHAT, **settings_})


def test_all_wrong_settings_are_told_at_once():
    with pytest.raises(WorkloadError) as error:
        conversations(**{**CHAT, "n": 0, "rate_rps": -1.0, "think_s": -1.0, "first_tokens": 0, "turn_tokens": 0})
    assert len(str(error.value).splitlines()) == 5
