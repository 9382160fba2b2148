"""Upsampling: the same requests in less time, with the times between turns divided or kept."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_workloads_sessions import steady_pool
from workloads import Stream, WorkloadError, check_segments, check_stream, conversations
from workloads.sessions import ConversationModel, sessions
from workloads.stream import ITEMS, SEGMENTS, new_rows, out_segment
from workloads.upsample import METHODS, upsample

NS = 10**9


@st.composite
def streams(draw):
    """Requests of a few sessions and of none, numbered without order, some at one instant."""
    count = draw(st.integers(0, 30))
    rows = new_rows(count)
    rows["arrival_ns"] = sorted(draw(st.lists(st.integers(0, 300), min_size=count, max_size=count)))
    rows["arrival_ns"] *= draw(st.sampled_from([1, 7, NS]))
    rows["session_id"] = draw(st.lists(st.integers(-1, 4), min_size=count, max_size=count))
    rows["request_id"] = draw(st.permutations(range(count)))
    for name in ("input_tokens", "output_tokens", "max_tokens"):
        rows[name] = 1 + rows["request_id"]
    rows = np.sort(rows, order=["arrival_ns", "request_id"])
    return Stream(301.0, lambda: (rows,))


FACTORS = st.floats(0.1, 50.0) | st.sampled_from([0.5, 1, 2, 10])


@given(streams(), FACTORS, st.sampled_from(sorted(METHODS)))
def test_what_is_upsampled_is_a_stream_of_the_same_requests(stream, factor, method):
    made = upsample(stream, factor, method)
    rows, told = made.collect(), made.description
    check_stream(rows)
    assert made.duration_s == 301.0 / factor and not np.any(rows["arrival_ns"] >= round(made.duration_s * NS))
    assert told["requests"] == len(rows) and told["requests"] + told["cut_requests"] == len(stream.collect())
    assert bool(told["notes"]) == bool(told["cut_requests"])
    before = {int(row["request_id"]): row for row in stream.collect()}
    for row in rows:
        was = before[int(row["request_id"])].copy()
        was["arrival_ns"] = row["arrival_ns"]
        assert was == row


@given(streams(), FACTORS)
def test_compressing_divides_all_times_and_keeps_the_order(stream, factor):
    """To the nanosecond, but for requests that come at one and the same."""
    before, rows = stream.collect(), upsample(stream, factor, "compress").collect()
    assert rows["request_id"].tolist() == before["request_id"][: len(rows)].tolist()
    late = rows["arrival_ns"] - np.floor(before["arrival_ns"][: len(rows)] / factor)
    assert np.all(late >= 0) and np.all(late <= len(rows)) and not np.any(late[:1])


@given(streams(), FACTORS)
def test_keeping_turns_divides_beginnings_and_nothing_else(stream, factor):
    before, rows = stream.collect(), upsample(stream, factor, "keep_turns").collect()
    now = dict(zip(rows["request_id"].tolist(), rows["arrival_ns"].tolist()))
    for session in set(before["session_id"].tolist()):
        turns = before[before["session_id"] == session]
        for group in [[row] for row in turns] if session == -1 else [turns]:
            begin = math.floor(int(group[0]["arrival_ns"]) / factor)
            wanted = [begin + int(row["arrival_ns"] - group[0]["arrival_ns"]) for row in group]
            end = round(301.0 / factor * NS)
            assert [now.get(int(row["request_id"])) for row in group] == [at if at < end else None for at in wanted]


@pytest.mark.parametrize("method", METHODS)
def test_prompts_ride_along(method):
    stream = conversations(40, 4, 2.0, 30, (5, 40), (1, 9), (2, 20), think_s=5.0)
    made = upsample(stream, 3.0, method)
    rows = made.collect()
    assert 0 < len(rows) <= 160 and (len(rows) < 160) == (method == "keep_turns")
    check_segments(rows, made.segments, made.items)
    assert made.segments is stream.segments and made.is_checked


@pytest.mark.parametrize("method", METHODS)
def test_inter_turn_times_are_kept_or_divided(method):
    rows = sessions(steady_pool(), "5h", "1h", rate=1.0).held()
    itt_ns = {}
    for name, stream in (("was", rows), ("is", upsample(rows, 4.0, method))):
        ordered = np.sort(stream.collect(), order=["request_id"])
        itt_ns[name] = {int(b["request_id"]): int(b["arrival_ns"] - a["arrival_ns"])
                        for a, b in pairwise(ordered) if a["session_id"] == b["session_id"]}  # fmt: skip
    share = 1.0 if method == "keep_turns" else 0.25
    assert len(itt_ns["is"]) > 100
    assert all(abs(gap - share * itt_ns["was"][request]) <= 2 for request, gap in itt_ns["is"].items())


def test_compressed_conversations_are_burstier_than_kept_ones():
    """Index of dispersion of counts in 10 s, away from the beginning and the end: near 1 for kept turns, whose conversations
    last for minutes; on the way to E[turns²]/E[turns] = 5.9 for compressed ones."""
    model = ConversationModel(1.0, itt_median_s=30.0, itt_sigma=0.8)
    stream = sessions(steady_pool(), "5h", "6h", rate=1.0, conversation=model).held()
    dispersion = {}
    for method in METHODS:
        rows = upsample(stream, 20.0, method).collect()
        counts = np.bincount(rows["arrival_ns"] // (10 * NS), minlength=108)[30:100]
        assert counts.mean() == pytest.approx(200.0, rel=0.15)
        dispersion[method] = counts.var() / counts.mean()
    assert 1.5 * dispersion["keep_turns"] < dispersion["compress"]


def test_answers_that_would_come_later_are_refused():
    """Request 1, of another session, holds the answer of request 0, a late turn of a session that began at once."""
    rows = new_rows(3)
    rows["arrival_ns"], rows["session_id"] = [0, 100 * NS, 101 * NS], [7, 7, 8]
    rows["request_id"], rows["input_tokens"], rows["output_tokens"], rows["max_tokens"] = [2, 0, 1], 5, 5, 5
    rows["segments_count"][2] = 1
    segments = np.array([(out_segment(0), 5)], SEGMENTS)
    check_segments(rows, segments, np.empty(0, ITEMS))
    stream = Stream(200.0, lambda: (rows,), None, segments)
    assert len(upsample(stream, 10.0, "compress").collect()) == 3
    with pytest.raises(WorkloadError, match="upsample keep_turns: prompts hold answers of other sessions"):
        upsample(stream, 10.0, "keep_turns")


@pytest.mark.parametrize(
    ("factor", "method", "told"),
    [
        (0, "compress", "factor: expected a number above 0, got 0"),
        (math.nan, "compress", "factor: expected a number above 0"),
        ("2", "compress", "factor: expected a number above 0"),
        (1e-9, "compress", "expected at most 10000000 s"),
        (2.0, "keep_turn", "method: unknown 'keep_turn'; nearest: keep_turns"),
        (2.0, None, "method: unknown None"),
    ],
)
def test_upsampling_that_cannot_be_is_refused(factor, method, told):
    with pytest.raises(WorkloadError, match=told):
        upsample(Stream(100.0, lambda: ()), factor, method)
