"""Other people's traces: Mooncake's blocks become shared segments, mistakes are told with line, coarse clocks are noticed."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared_data import SHARED, needs_shared
from workloads import WorkloadError, check_segments, check_stream, read_trace
from workloads.files.coarse_clock import grid_notes, tick_ns
from workloads.traces import mooncake

MS = 10**6


def trace(folder, *lines, name="trace.jsonl"):
    (folder / name).write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return folder / name


def request(timestamp=0, input_length=700, output_length=9, hash_ids=(0, 1), **more):
    lengths = {"timestamp": timestamp, "input_length": input_length, "output_length": output_length}
    return {**lengths, "hash_ids": list(hash_ids), **more}


def refusal(path, **limits):
    with pytest.raises(WorkloadError) as error:
        mooncake.read(path, **limits)
    return str(error.value)


@st.composite
def mooncake_requests(draw):
    """Requests as a cache of chained blocks numbers them: each goes on from a prompt before it, at a block's edge."""
    requests, known, fresh = [], [[]], 0
    for _ in range(draw(st.integers(1, 8))):
        start, new = draw(st.sampled_from(known)), draw(st.integers(0, 3))
        blocks = start + list(range(fresh, fresh + new))
        fresh += new
        known.append(blocks)
        last = fresh  # the partial block at the end is nobody else's
        fresh += 1
        length = len(blocks) * 512 + draw(st.integers(1, 511))
        at = (requests[-1]["timestamp"] if requests else 0) + draw(st.integers(0, 5000))
        requests.append(request(at, length, draw(st.integers(1, 99)), [*blocks, last]))
    return requests


@given(mooncake_requests())
def test_every_request_keeps_its_time_lengths_and_blocks(tmp_path_factory, requests):
    stream = read_trace(trace(tmp_path_factory.mktemp("traces"), *requests))
    rows = stream.collect()
    check_stream(rows)
    check_segments(rows, stream.segments, stream.items)
    assert len(rows) == len(requests) and stream.duration_s == requests[-1]["timestamp"] // 1000 + 1
    for row, said in zip(rows, requests, strict=True):
        pieces = stream.segments[row["segments_start"] :][: row["segments_count"]]
        assert row["arrival_ns"] == said["timestamp"] * MS and row["input_tokens"] == said["input_length"]
        assert row["output_tokens"] == row["max_tokens"] == said["output_length"]
        assert pieces["segment_id"].tolist() == said["hash_ids"]
        assert pieces["tokens"].tolist()[:-1] == [512] * (len(pieces) - 1) and pieces["tokens"].sum() == said["input_length"]


def test_the_last_block_may_be_whole_or_a_single_token(tmp_path):
    stream = read_trace(trace(tmp_path, request(0, 1024, hash_ids=[7, 8]), request(5, 1025, hash_ids=[7, 8, 9])))
    assert stream.segments["tokens"].tolist() == [512, 512, 512, 512, 1]
    assert stream.description["requests"] == 2 and stream.description["blocks"] == 5 and stream.description["notes"] == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"timestamp": 1,}', "line 2: not a JSON object: "),
        ('{"timestamp" 1}', "line 2: not a JSON object: Expecting ':' delimiter, column 14"),
        ("[1]", "line 2: expected an object with timestamp, input_length, output_length, hash_ids"),
        ("[" * 100_000, "line 2: not a JSON object"),
        ('{"timestamp": ' + "9" * 5000 + "}", "line 2: not a JSON object"),
        ('{"timestamp": 1, "timestamp": 2}', "line 2: not a JSON object: a key occurs twice"),
        (request(time_stamp=1), "line 2: unknown key 'time_stamp'; nearest: timestamp"),
        ('{"timestamp": 1, "input_length": 1, "hash_ids": [0]}', "line 2: key 'output_length' is missing"),
        (request(timestamp=1.5), "line 2, timestamp = 1.5: expected a whole number from 0 to"),
        (request(timestamp=-1), "line 2, timestamp = -1: expected"),
        (request(timestamp=10**30), "line 2, timestamp = 1000000000000000000000000000000: expected"),
        (request(output_length=0), "line 2, output_length = 0: expected a whole number from 1 to 10000000"),
        (request(input_length=True), "line 2, input_length = true: expected"),
        (request(input_length=float("nan")), "line 2, input_length = NaN: expected"),
        (request(hash_ids=[0]), "line 2, hash_ids: 1 of them, expected 2, one for each 512 of 700 tokens"),
        (request(hash_ids=[0, -1]), "line 2, hash_ids = [0, -1]: expected a list of whole numbers from 0 to 2^62 - 1"),
        (request(hash_ids=[0, 2**62]), "line 2, hash_ids = [0, 4611686018427387904]: expected"),
        (request(hash_ids=["a", "b"]), "line 2, hash_ids = "),
        ({**request(), "hash_ids": 3}, "line 2, hash_ids = 3: expected a list"),
        ('{"timestamp": "' + "x" * 2**20 + '"}', "line 2: longer than 1048576 bytes"),
    ],
)
def test_mistakes_in_a_trace_are_told_with_file_and_line(tmp_path, line, told):
    message = refusal(trace(tmp_path, request(), line))
    assert told in message and str(tmp_path / "trace.jsonl") in message


def test_all_mistakes_of_a_trace_are_told_at_once_ten_at_most(tmp_path):
    message = refusal(trace(tmp_path, request(timestamp=-1, output_length=0), "{}", request(), "?"))
    assert [message.count(f"line {line}") for line in (1, 2, 3, 4)] == [2, 4, 0, 1]
    assert len(refusal(trace(tmp_path, *["?"] * 50)).splitlines()) == 11
    assert len(refusal(trace(tmp_path, json.dumps(dict.fromkeys(map(str, range(999)))))).splitlines()) == 11


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    path = trace(tmp_path, request(timestamp=9), "", request(timestamp=10), "  ", request(timestamp=8))
    assert "line 5, arrival_ns = 8000000: rows must be sorted by arrival" in refusal(path)


def test_traces_beyond_the_limits_are_refused(tmp_path):
    path = trace(tmp_path, request(), request())
    assert "more than 1 requests" in refusal(path, max_requests=1)
    assert "more than 3 blocks" in refusal(path, max_blocks=3)
    assert len(mooncake.read(path, max_requests=2, max_blocks=4).segments) == 4


def test_files_that_cannot_be_read_are_told(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.jsonl")
    assert "no requests in it" in refusal(trace(tmp_path))
    (tmp_path / "packed.jsonl").write_bytes(b"\x1f\x8b\xff\xff\n")
    assert "packed.jsonl: not readable" in refusal(tmp_path / "packed.jsonl")


@given(st.lists(st.binary(max_size=60) | st.builds(lambda v: json.dumps(v).encode(), st.builds(request, *[st.integers()] * 3))))
@settings(max_examples=200)
def test_no_file_does_worse_than_a_refusal(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("traces") / "any.jsonl"
    path.write_bytes(b"\n".join(lines))
    try:
        check_stream(mooncake.read(path).collect())
    except WorkloadError as error:
        assert "any.jsonl" in str(error)


@given(st.integers(10, 10_000), st.integers(0, 2**32), st.integers(12, 200))
def test_arrivals_kept_to_the_tick_of_a_coarse_clock_give_the_tick_away(tick_ms, seed, count):
    rng = np.random.default_rng(seed)
    ticks = np.sort(np.concatenate([np.arange(count), rng.integers(0, count, 3 * count)]))
    jitter = rng.integers(-1, 2, count)[ticks] if tick_ms >= 1000 else 0  # as the published one, all of a tick together
    found = tick_ns((ticks * tick_ms + jitter) * MS)
    assert found is not None and abs(found - tick_ms * MS) <= 2 * MS


@given(st.integers(0, 2**32), st.integers(2, 2000), st.integers(1, 10_000))
def test_random_arrivals_and_steady_ones_show_no_coarse_clock(seed, count, gap_ms):
    rng = np.random.default_rng(seed)
    arrivals = np.sort((rng.random(count) * count * gap_ms * MS).astype(np.int64))
    assert tick_ns(arrivals) is None and grid_notes(arrivals) == []
    assert tick_ns(arrivals // MS * MS) is None  # whole milliseconds, as the format has them, are fine
    assert tick_ns(np.arange(count) * gap_ms * MS) is None


@given(st.integers(20, 5000), st.integers(0, 2**32), st.integers(12, 60))
def test_dejitter_spreads_arrivals_over_the_tick_after_their_own(tmp_path_factory, tick_ms, seed, count):
    rng = np.random.default_rng(seed)
    ticks = np.sort(np.concatenate([np.arange(count), rng.integers(0, count, 9 * count)])) * tick_ms
    path = trace(tmp_path_factory.mktemp("traces"), *(request(int(at)) for at in ticks))
    spread = read_trace(path, dejitter=True)
    rows = spread.collect()
    check_stream(rows)
    check_segments(rows, spread.segments, spread.items)
    shift_ns = rows["arrival_ns"] - ticks[rows["request_id"]] * MS
    assert shift_ns.min() >= 0 and shift_ns.max() < tick_ms * MS and tick_ns(rows["arrival_ns"]) is None
    expected = (np.arange(len(ticks)) + 0.5) / len(ticks)  # Kolmogorov's distance, at one in a million
    assert np.max(np.abs(np.sort(shift_ns) / (tick_ms * MS) - expected)) < 2.8 / np.sqrt(len(ticks))
    assert "spread evenly over each tick" in spread.description["notes"][0] and len(spread.description["notes"]) == 1
    assert np.array_equal(read_trace(path, dejitter=True).collect(), rows)


def test_dejitter_where_the_clock_is_fine_is_refused(tmp_path):
    path = trace(tmp_path, *(request(at * at) for at in range(30)))
    with pytest.raises(WorkloadError, match="the trace's clock is not coarse; leave the option out"):
        read_trace(path, dejitter=True)


def share_seen_before(stream):
    """Of all blocks of all prompts, in the order of arrival, those that an earlier prompt had: an infinite cache."""
    seen, hits, blocks = set(), 0, 0
    for row in stream.collect():
        ids = stream.segments["segment_id"][row["segments_start"] :][: row["segments_count"]].tolist()
        hits += sum(block in seen for block in ids)
        blocks += len(ids)
        seen.update(ids)
    return hits / blocks


@needs_shared
@pytest.mark.parametrize(("name", "share"), [("conversation", 0.366), ("synthetic", 0.640)])
def test_the_published_traces_share_their_published_part_of_blocks(name, share):
    stream = read_trace(SHARED / "traces" / f"mooncake_{name}_trace.jsonl")
    assert share_seen_before(stream) == pytest.approx(share, abs=0.0005)
    check_segments(stream.collect(), stream.segments, stream.items)


@needs_shared
def test_the_published_conversations_lie_on_a_grid_of_three_seconds_and_the_synthetic_ones_on_none():
    about = read_trace(SHARED / "traces" / "mooncake_conversation_trace.jsonl").description
    assert about["requests"] == 12_031 and "every 3 s and 10.2 requests share each instant" in about["notes"][0]
    about = read_trace(SHARED / "traces" / "mooncake_synthetic_trace.jsonl").description
    assert about["requests"] == 3993 and about["notes"] == []


PUBLISHED = {  # requests; mean, p50, p99 of input and of output tokens; CV of the gaps
    "AzureLLMInferenceTrace_conv.csv": (19_366, (1155, 1020, 4142), (211, 129, 601), 1.09),
    "AzureLLMInferenceTrace_code.csv": (8819, (2048, 1469, 7436), (28, 13, 251), 13.2),
    "mooncake_conversation_trace.jsonl": (12_031, (12_035, 6909, 85_400), (343, 350, 1119), 3.03),
    "mooncake_synthetic_trace.jsonl": (3993, (15_325, 11_587, 66_456), (149, 69, 768), 1.01),
}


@needs_shared
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_traces_have_their_known_statistics(name):
    requests, *lengths, cv = PUBLISHED[name]
    stream = read_trace(SHARED / "traces" / name)
    rows = stream.collect()
    check_stream(rows)
    assert len(rows) == requests == stream.description["requests"]
    for column, known in zip(("input_tokens", "output_tokens"), lengths, strict=True):
        found = (rows[column].mean(), *np.percentile(rows[column], [50, 99]))
        assert [round(value) for value in found] == pytest.approx(known, abs=1)
    gaps = np.diff(rows["arrival_ns"])
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.005)
