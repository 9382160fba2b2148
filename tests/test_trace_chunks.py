"""Files that are read in chunks: the same stream however they are cut, all of it checked, memory bounded."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trace_cases import sample, streams
from workloads import Stream, WorkloadError, read_trace
from workloads.files import rows_in_chunks, stream_parquet, unpacked
from workloads.stream import new_rows
from workloads.stream_file import load, save

NS = 10**9
CHUNKED = ["a.csv", "a.csv.gz", "a.parquet"]


@pytest.fixture
def small_chunks(monkeypatch):
    """Blocks of a few lines, and nothing held."""
    monkeypatch.setattr(unpacked, "BLOCK_BYTES", 200)
    monkeypatch.setattr(stream_parquet, "_BATCH_ROWS", 3)
    monkeypatch.setattr(rows_in_chunks, "HELD_ROWS", 0)


def plain(count, name="a.csv"):
    rows = new_rows(count)
    rows["request_id"] = np.arange(count)
    rows["arrival_ns"] = np.arange(count) * 1_234_567
    rows["input_tokens"] = rows["output_tokens"] = rows["max_tokens"] = 9
    return rows


def saved(folder, name, rows, overwrite=False):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    save(Stream(float(rows["arrival_ns"][-1] // NS + 1), lambda: (rows,)), folder / name, overwrite)
    return folder / name


@pytest.mark.parametrize("name", CHUNKED)
@given(stream=streams())
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_read_in_chunks_is_the_file_read_whole(tmp_path_factory, small_chunks, name, stream):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("files") / name
    save(stream, path)
    back = load(path)
    for _ in range(2):
        assert np.array_equal(np.concatenate(list(back.blocks())), stream.collect())
    assert np.array_equal(back.segments, stream.segments) and np.array_equal(back.items, stream.items)
    assert back.is_checked == (not len(stream.segments) and not len(stream.items))


@pytest.mark.parametrize("name", ["azure", "burstgpt"])
def test_a_log_read_in_chunks_is_the_log_read_whole(tmp_path, monkeypatch, name):
    file_name, data = sample(name)
    head, *lines = data.split(b"\r\n")
    (tmp_path / file_name).write_bytes(b"\n".join([head, *(line for line in lines for _ in range(50))]))
    whole = read_trace(tmp_path / file_name)
    monkeypatch.setattr(unpacked, "BLOCK_BYTES", 64)
    monkeypatch.setattr(rows_in_chunks, "HELD_ROWS", 0)
    cut = read_trace(tmp_path / file_name)
    for _ in range(2):
        blocks = list(cut.blocks())
        assert len(blocks) > 1 and np.array_equal(np.concatenate(blocks), whole.collect())
    assert {**cut.description, "notes": 0} == {**whole.description, "notes": 0}


@pytest.mark.parametrize("name", CHUNKED)
@given(data=st.data())
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mistake_is_told_with_its_place_in_the_file_whichever_chunk_it_is_in(tmp_path, small_chunks, name, data):
    rows = plain(40)
    at = data.draw(st.integers(1, 39))
    column = data.draw(st.sampled_from(["arrival_ns", "input_tokens", "request_id"]))
    rows["arrival_ns"] += NS
    rows[column][at] = rows[column][at] - 2_000_000 if column == "arrival_ns" else 0
    told = f"{column} = {rows[column][at]}"
    path = saved(tmp_path, name, rows, overwrite=True)
    with pytest.raises(WorkloadError) as error:
        load(path)
    place = f"row {at}" if name.endswith("parquet") else f"line {at + 2}"
    assert place in str(error.value) and told in str(error.value)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 9))
def test_ids_occur_twice_exactly_if_they_are_told_to(ids, cut):
    found = rows_in_chunks._Ids()
    for start in range(0, len(ids), cut):
        found.add(np.array(ids[start : start + cut]))
    repeated = found.repeated()
    assert (repeated is None) == (len(set(ids)) == len(ids))
    assert repeated is None or ids.count(repeated) > 1


@pytest.mark.parametrize("name", CHUNKED)
def test_a_file_that_changes_between_passes_is_told(tmp_path, small_chunks, name):
    stream = load(saved(tmp_path, name, plain(40)))
    saved(tmp_path, name, plain(41), overwrite=True)
    with pytest.raises(WorkloadError, match="changed while it was read"):
        list(stream.blocks())


def test_a_large_file_takes_no_more_memory_than_a_small_one(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_in_chunks, "HELD_ROWS", 0)
    monkeypatch.setattr(unpacked, "BLOCK_BYTES", 1 << 14)
    peaks = []
    for count in (20_000, 100_000):
        path = saved(tmp_path, f"{count}.csv", plain(count))
        tracemalloc.start()
        stream = load(path)
        requests = sum(len(rows) for rows in stream.blocks())
        peaks.append(tracemalloc.get_traced_memory()[1] - 8 * count)
        tracemalloc.stop()
        assert requests == count
    assert peaks[1] < 1.5 * peaks[0]


def test_limits_on_rows_hold(tmp_path):
    path = saved(tmp_path, "a.csv", plain(40))
    assert len(load(path, max_rows=40).collect()) == 40
    with pytest.raises(WorkloadError, match="more than 39 rows"):
        load(path, max_rows=39)


def test_a_row_group_is_as_long_however_the_stream_comes(tmp_path):
    pytest.importorskip("pyarrow")
    rows = plain(500)
    for k, cut in enumerate((1, 7)):
        save(Stream(1.0, lambda cut=cut: np.array_split(rows, cut)), tmp_path / f"{k}.parquet")
    assert (tmp_path / "0.parquet").read_bytes() == (tmp_path / "1.parquet").read_bytes()


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_columns_that_are_rarely_needed_are_written_when_they_are(tmp_path, name, monkeypatch):
    monkeypatch.setattr("workloads.stream_file._WRITTEN_ROWS", 10)
    rows = plain(40)
    path = saved(tmp_path, name, rows)
    rows["reason_tokens"][-1] = 3
    late = saved(tmp_path, f"late_{name}", rows)
    assert np.array_equal(load(late).collect(), rows)
    assert b"reason_tokens" in late.read_bytes() and b"reason_tokens" not in path.read_bytes()
