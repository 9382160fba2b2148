"""Broken files of every format: a refusal that names the file and the place, in bounded memory, and never a traceback."""

import gzip
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared_data import SHARED, needs_shared
from tests.trace_cases import ALL_FORMATS, TEXT_FORMATS, packed, sample
from workloads import WorkloadError, check_segments, check_stream, read_trace
from workloads.files import unpacked
from workloads.stream_file import save
from workloads.traces import FORMATS

NUMBERS = [b"NaN", b"-1", b"1e999", b"-0.0", b"9" * 30, b"2147483648", b"9223372036854775808", b"18446744073709551616", b"0x10"]
JUNK = [
    *NUMBERS,
    b"",
    b"\xff\xfe",
    b"\x00",
    b'"',
    b"{",
    b"]]]",
    b",,",
    b"null",
    b"true",
    b"\n",
    b"\r",
    "٣".encode(),
    b"\\ud800",
]
VALUES = [None, True, -1, 0, 1.5, 1e300, 2**31, 2**63, 2**64, 10**400, "1", "", [], [[]], {}, float("nan"), float("-inf")]


@st.composite
def broken(draw, data):
    """A file with some of its bytes cut, doubled, moved or replaced."""
    for _ in range(draw(st.integers(1, 3))):
        start, end = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
        end = min(end, start + draw(st.integers(0, 40)))
        data = draw(st.sampled_from([
            data[:start] + draw(st.sampled_from(JUNK)) + data[end:],
            data[:start] + data[start:end] * 2 + data[end:],
            data[:start] + draw(st.binary(max_size=5)) + data[end:],
            data[:end],
        ]))  # fmt: skip
    return data


def is_told(path, **options):
    """Whether the file is refused in words that name it; a stream that is not must be sound."""
    try:
        stream = read_trace(path, **options)
    except WorkloadError as error:
        assert path.name in str(error) and len(str(error)) < 5000
        return True
    rows = stream.collect()
    check_stream(rows)
    check_segments(rows, stream.segments, stream.items)
    assert len(rows) and stream.duration_s * 1e9 > rows["arrival_ns"][-1]
    return False


def file_of(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


def sample_of(name):
    if name == "parquet":
        pytest.importorskip("pyarrow")
    return sample(name)


@pytest.mark.parametrize("name", ALL_FORMATS)
@given(data=st.data())
@settings(max_examples=150)
def test_a_broken_file_does_no_worse_than_a_refusal(tmp_path_factory, name, data):
    file_name, whole = sample_of(name)
    path = file_of(tmp_path_factory.getbasetemp(), file_name, data.draw(broken(whole)))
    is_told(path, format=data.draw(st.sampled_from([None, name])))


@pytest.mark.parametrize("name", TEXT_FORMATS)
@given(data=st.data())
@settings(max_examples=40)
def test_a_broken_packed_file_does_no_worse_than_a_refusal(tmp_path_factory, name, data):
    path = file_of(tmp_path_factory.getbasetemp(), "packed.gz", data.draw(broken(packed(sample(name)[1]))))
    is_told(path, format=name)


@pytest.mark.parametrize("name", ALL_FORMATS)
@given(data=st.data())
@settings(max_examples=25)
def test_a_file_of_another_format_does_no_worse_than_a_refusal(tmp_path_factory, name, data):
    other = data.draw(st.sampled_from(ALL_FORMATS))
    is_told(file_of(tmp_path_factory.getbasetemp(), "other", sample_of(other)[1]), format=name)


@pytest.mark.parametrize("name", ["mooncake", "qwen", "vllm-timed", "vllm-result"])
@given(data=st.data())
@settings(max_examples=100)
def test_json_with_any_value_anywhere_does_no_worse_than_a_refusal(tmp_path_factory, name, data):
    first, *rest = sample(name)[1].splitlines()
    request = json.loads(first)
    key = data.draw(st.sampled_from(sorted(request)))
    value = data.draw(st.sampled_from(VALUES))
    if isinstance(request[key], list) and request[key] and data.draw(st.booleans()):
        request[key][data.draw(st.integers(0, len(request[key]) - 1))] = value
    else:
        request[key] = value
    path = file_of(tmp_path_factory.getbasetemp(), "value", b"\n".join([json.dumps(request).encode(), *rest]))
    is_told(path, format=name)


@pytest.mark.parametrize("name", TEXT_FORMATS)
@pytest.mark.parametrize("depth", [10_000, 900_000])
def test_deep_json_is_refused(tmp_path, name, depth):
    assert is_told(file_of(tmp_path, "deep", b'{"timestamp": ' + b"[" * depth), format=name)
    assert is_told(file_of(tmp_path, "deep", b'{"a":' * (depth // 6)))


@pytest.mark.parametrize("name", TEXT_FORMATS)
@pytest.mark.parametrize("bomb", [b"0", b"\n", b"[", b"1\n", b"{}\n"])
def test_a_gzip_bomb_ends_early_and_takes_little_memory(tmp_path, name, bomb, monkeypatch):
    monkeypatch.setattr(unpacked, "_FREE_BYTES", 2 << 20)
    head = sample(name)[1].splitlines()[0] + b"\n" if name != "vllm-result" else b""
    content = head + bomb * ((12 << 20) // len(bomb))
    path = file_of(tmp_path, "bomb.gz", gzip.compress(content, mtime=0))
    assert path.stat().st_size < len(content) / 200
    tracemalloc.start()
    assert is_told(path, format=name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120 << 20


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_nothing_a_folder_and_emptiness_are_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none", tmp_path / "folder", file_of(tmp_path, "empty", b""), file_of(tmp_path, "blank", b" \n\n")):
        assert is_told(path, format=name) and is_told(path)
        with pytest.raises(WorkloadError, match=path.name):
            FORMATS[name].read(path)


def test_a_first_line_of_half_a_megabyte_is_still_known(tmp_path):
    line = {"timestamp": 0.5, "input_length": 16 * 60_000, "output_length": 5, "hash_ids": list(range(10**6, 10**6 + 60_000))}
    path = file_of(tmp_path, "long.jsonl", json.dumps(line).encode())
    assert path.stat().st_size > 500_000 and read_trace(path).description["format"] == "vllm-timed"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@given(data=st.data())
@settings(max_examples=40)
def test_broken_tables_beside_a_file_do_no_worse_than_a_refusal(tmp_path_factory, suffix, data):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("sides")
    stream = read_trace(file_of(folder, *sample("mooncake")))
    save(stream, folder / f"a.{suffix}")
    side = next(folder.glob("a.segments.*"))
    whole = side.read_bytes()
    text = gzip.decompress(whole) if suffix == "csv" else whole
    side.write_bytes(data.draw(st.one_of(broken(whole), broken(text).map(gzip.compress) if suffix == "csv" else broken(whole))))
    try:
        back = read_trace(folder / f"a.{suffix}")
    except WorkloadError as error:
        assert "a.segments" in str(error) or f"a.{suffix}" in str(error)
    else:
        check_segments(back.collect(), back.segments, back.items)


@needs_shared
@pytest.mark.parametrize("name", ["AzureLLMInferenceTrace_conv.csv", "mooncake_synthetic_trace.jsonl"])
def test_a_published_file_with_one_line_broken_is_refused_at_that_line(tmp_path, name):
    lines = (SHARED / "traces" / name).read_bytes().splitlines()
    for at in (1, 1500, len(lines) - 1):
        broken_lines = [*lines[:at], lines[at][: len(lines[at]) // 2], *lines[at + 1 :]]
        with pytest.raises(WorkloadError, match=rf"{name}, line {at + 1}\b"):
            read_trace(file_of(tmp_path, name, b"\n".join(broken_lines)), format="azure" if "Azure" in name else "mooncake")


def test_numbers_at_the_edge_of_their_columns_are_refused_not_wrapped(tmp_path):
    for column, value in (
        ("model", 2**15),
        ("turn", 2**31),
        ("client_id", 2**31),
        ("priority", -(2**31) - 1),
        ("segments_start", -1),
    ):
        more = ",segments_count" * (column == "segments_start")
        text = f"arrival_s,input_tokens,output_tokens,{column}{more}\n1,1,1,{value}{',1' * bool(more)}\n"
        with pytest.raises(WorkloadError):
            read_trace(file_of(tmp_path, "a.csv", text.encode()))
    assert np.iinfo(np.int16).max == 2**15 - 1
