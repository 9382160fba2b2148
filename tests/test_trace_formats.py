"""Formats of traces: told by their content, read as documented, written whole, with a word on what is lost."""

import doctest
import json
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from experiments.convert import convert as convert_file
from experiments.errors import UserError
from tests.trace_cases import ALL_FORMATS, TEXT_FORMATS, packed, sample, streams
from workloads import Stream, WorkloadError, check_segments, check_stream, read_trace
from workloads.stream import new_rows
from workloads.stream_file import load, save
from workloads.traces import FORMATS, convert, mooncake
from workloads.traces.format import FEATURES

TRACES = Path(mooncake.__file__).parent
DOCS = Path(__file__).parents[1] / "docs" / "traces.md"


def written(folder, name, data):
    (folder / name).write_bytes(data)
    return folder / name


def sample_file(folder, format_name):
    if format_name == "parquet":
        pytest.importorskip("pyarrow")
    return written(folder, *sample(format_name))


def refusal(path, **options):
    with pytest.raises(WorkloadError) as error:
        read_trace(path, **options)
    return str(error.value)


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_every_format_is_told_by_its_content_and_gives_a_sound_stream(tmp_path, name):
    path = sample_file(tmp_path, name)
    stream = read_trace(path.rename(tmp_path / "no_name_that_helps"))
    assert stream.description["format"] == name
    assert stream.description["requests"] == len(stream.collect()) == (2 if name in ("burstgpt", "vllm-result") else 3)
    check_stream(stream.collect())
    check_segments(stream.collect(), stream.segments, stream.items)
    assert stream.is_checked and stream.duration_s > stream.collect()["arrival_ns"][-1] / 1e9


@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_a_packed_text_reads_as_the_text_itself(tmp_path, name):
    plain = sample_file(tmp_path, name)
    same = written(tmp_path, "packed.gz", packed(plain.read_bytes()))
    assert np.array_equal(read_trace(same).collect(), read_trace(plain).collect())


@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_a_byte_order_mark_and_a_missing_or_doubled_last_line_end_change_nothing(tmp_path, name):
    plain = sample_file(tmp_path, name)
    expected, text = read_trace(plain).collect(), plain.read_bytes().rstrip()
    for k, variant in enumerate((b"\xef\xbb\xbf" + text, text, text + b"\n", text + b"\n\n")):
        assert np.array_equal(read_trace(written(tmp_path, f"{k}", variant)).collect(), expected)


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_only_one_format_takes_a_file_for_its_own(tmp_path, name):
    from workloads.traces.format import Head

    head = Head.of(sample_file(tmp_path, name))
    assert [known.name for known in FORMATS.values() if known.looks_like(head)] == [name]


def test_blocks_of_16_tokens_are_known_without_decimals_in_the_time(tmp_path):
    line = {"timestamp": 3, "input_length": 700, "output_length": 5, "hash_ids": list(range(44))}
    assert read_trace(written(tmp_path, "a.jsonl", json.dumps(line).encode())).description["format"] == "vllm-timed"
    line = {**line, "hash_ids": [0, 1]}
    assert read_trace(written(tmp_path, "a.jsonl", json.dumps(line).encode())).description["format"] == "mooncake"


def test_a_file_of_no_known_format_is_told_what_was_looked_for(tmp_path):
    message = refusal(written(tmp_path, "x.csv", b"when,how_long\n1,2\n"))
    assert "begins with ['when,how_long']" in message and all(f"  {name}: " in message for name in FORMATS)
    assert "no format 'moncake'; nearest: mooncake; known: azure" in refusal(tmp_path / "x.csv", format="moncake")
    assert "no such file" in refusal(tmp_path / "none")
    assert "nearest: arrival_s" in refusal(written(tmp_path, "x.csv", b"arival_s,input_tokens,output_tokens\n1,1,1\n"))


@pytest.mark.parametrize("module", sorted(path.stem for path in TRACES.glob("*.py") if "FORMATS = (" in path.read_text()))
def test_what_a_formats_docstring_shows_is_so(module):
    found = import_module(f"workloads.traces.{module}")
    assert doctest.testmod(found).failed == 0 and ">>>" in (found.__doc__ or "")
    for known in found.FORMATS:
        assert known.is_documented_only == ("no data at hand" in found.__doc__) or module == "azure"
        assert known.holds <= set(FEATURES)


def test_the_page_lists_every_format_and_whether_it_is_read_and_written():
    rows = re.findall(r"^\| `([\w-]+)` \| (.*?) \| yes \| (yes|) ?\|", DOCS.read_text(), re.MULTILINE)
    assert {name: (bool(write), "from documentation" in about) for name, about, write in rows} == {
        name: (known.write is not None, known.is_documented_only or name == "azure") for name, known in FORMATS.items()
    }


# Readers, by example


def test_azure_counts_from_its_first_line_to_the_100_ns_that_it_has(tmp_path):
    stream = read_trace(sample_file(tmp_path, "azure"))
    assert stream.collect()["arrival_ns"].tolist() == [0, 4_314_579_000, 4_541_877_000]
    assert stream.description["start"] == "2023-11-16T18:15:46.680590000"


def test_azure_takes_the_zone_of_2024_and_counts_the_images_of_2025(tmp_path):
    text = b"""TIMESTAMP,NumImages,ContextTokens,GeneratedTokens
2024-10-15 00:00:00.5+00:00,2,300,5
2024-10-15 00:00:01+00:00,0,20,0
2024-10-16 00:00:00.000000001+00:00,1,40,6
"""
    stream = read_trace(written(tmp_path, "lmm.csv", text))
    assert stream.collect()["arrival_ns"].tolist() == [0, 86_399_500_000_001] and len(stream.items) == 0
    assert stream.description["images"] == 3 and stream.description["failures"] == 1
    assert "1 lines (33.33%) without GeneratedTokens" in stream.description["notes"][0]
    assert "2 requests have 3 images, whose tokens the trace does not tell" in stream.description["notes"][1]


def test_burstgpt_is_read_by_the_names_of_its_columns(tmp_path):
    stream = read_trace(sample_file(tmp_path, "burstgpt"))
    rows = stream.collect()
    assert rows[["request_id", "session_id", "turn", "model"]].tolist() == [(0, 7, 1, 0), (2, 7, 2, 1)]
    assert stream.description["models"] == ["ChatGPT", "GPT-4"] and stream.description["failures"] == 1
    old = b"Model,Response tokens,Request tokens,Timestamp\nGPT-4,3,10,100.25\n GPT-4 ,4,11,100.5\n"
    stream = read_trace(written(tmp_path, "old.csv", old))
    assert stream.collect()[["arrival_ns", "session_id", "model"]].tolist() == [(0, -1, 0), (250_000_000, -1, 0)]
    assert stream.description["start"] == 100.25 and stream.description["models"] == ["GPT-4"]


def test_burstgpt_sessions_may_be_numbers_floats_nothing_or_text(tmp_path):
    text = "Timestamp,Session ID,Request tokens,Response tokens\n" + "".join(
        f"1,{s},1,1\n" for s in ("4", "4.0", "", "nan", "ab", "ab")
    )
    rows = read_trace(written(tmp_path, "s.csv", text.encode())).collect()
    assert rows["session_id"][:4].tolist() == [4, 4, -1, -1] and rows["turn"].tolist() == [1, 2, 1, 1, 1, 2]
    assert rows["session_id"][4] == rows["session_id"][5] > 0


def test_qwen_sessions_are_the_roots_of_their_trees(tmp_path):
    stream = read_trace(sample_file(tmp_path, "qwen"))
    assert stream.collect()["session_id"].tolist() == [3, 3, 3] and stream.description["types"] == {"text": 3}
    orphan = json.loads(sample("qwen")[1].splitlines()[0]) | {"parent_chat_id": 77, "hash_ids": [1, 2]}
    stream = read_trace(written(tmp_path, "cut.jsonl", json.dumps(orphan).encode()))
    assert stream.collect()["session_id"].tolist() == [77]
    assert stream.segments["tokens"].tolist() == [16, 16, 8] and stream.segments["segment_id"][2] > 2**60  # no id: private


def test_a_vllm_result_is_what_was_sent_when_it_first_wanted_to_be(tmp_path):
    stream = read_trace(sample_file(tmp_path, "vllm-result"))
    assert stream.collect()[["arrival_ns", "input_tokens"]].tolist() == [(0, 200), (500_000_000, 100)]  # queued for 2 s
    notes = " ".join(stream.description["notes"])
    assert "1 requests of the benchmark failed" in notes and "have been sorted" in notes


def test_a_vllm_result_without_what_is_needed_says_what_to_do(tmp_path):
    result = json.loads(sample("vllm-result")[1])

    def told(**changes):
        changed = {k: v for k, v in (result | changes).items() if v is not None}
        return refusal(written(tmp_path, "r.json", json.dumps(changed).encode()), format="vllm-result")

    assert "no start_times" in told(start_times=None) and "--save-detailed" in told(start_times=None)
    assert "no input_lens; run vllm bench serve with --save-result --save-detailed" in told(input_lens=None)
    assert "lists of different lengths (input_lens 3, output_lens 2" in told(output_lens=[1, 2])
    assert "input_lens[1] = -4: expected a whole number" in told(input_lens=[1, -4, 3])
    assert "start_times[0] = NaN: expected seconds" in told(start_times=[float("nan"), 1, 2])
    assert "no requests in it that were answered" in told(output_lens=[0, 0, 0])
    two = written(tmp_path, "r.json", b'{"input_lens": []}\n{"input_lens": []}')
    assert "line 2, column 1: not a JSON object: Extra data; one result a file" in refusal(two)


def test_a_timed_trace_may_have_float_lengths_and_any_64_bit_ids(tmp_path):
    line = {"timestamp": 1.5, "input_length": 32.0, "output_length": 4.0, "hash_ids": [2**64 - 1, 5]}
    stream = read_trace(written(tmp_path, "t.jsonl", json.dumps(line).encode()))
    assert stream.segments.tolist() == [(1, 16), (0, 16)] and stream.collect()["arrival_ns"].tolist() == [1_500_000_000]
    short = json.dumps(line | {"hash_ids": [1]}).encode()
    assert "1 of them, expected 2, one for each 16 of 32 tokens" in refusal(written(tmp_path, "t.jsonl", short))


@pytest.mark.parametrize("name", ["azure", "burstgpt", "csv", "mooncake", "parquet", "qwen", "vllm-timed"])
def test_rows_out_of_order_are_refused_with_their_line(tmp_path, name):
    path = sample_file(tmp_path, name)
    if name == "parquet":
        import pyarrow
        from pyarrow import parquet

        table = {"arrival_s": [0.0, 2.0, 1.0], "input_tokens": [1, 1, 1], "output_tokens": [1, 1, 1]}
        parquet.write_table(pyarrow.table(table), path)
        expected = "row 2"
    else:
        lines = path.read_bytes().splitlines()
        lines[-3:] = reversed(lines[-3:])
        path.write_bytes(b"\n".join(lines))
        expected = f"line {len(lines) - 1}"
    message = refusal(path)
    assert expected in message and "sorted" in message


# Writing


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
@given(stream=streams())
@settings(max_examples=25)
def test_the_own_format_holds_the_whole_of_a_stream(tmp_path_factory, name, stream):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("own") / name
    assert convert(stream, path) == []
    back = load(path)
    assert np.array_equal(back.collect(), stream.collect())
    assert np.array_equal(back.segments, stream.segments) and np.array_equal(back.items, stream.items)
    assert back.duration_s == stream.duration_s and back.is_checked


@pytest.mark.parametrize("name", sorted(name for name, known in FORMATS.items() if known.write))
@given(stream=streams())
@settings(max_examples=15)
def test_every_format_keeps_arrivals_and_lengths_or_says_so(tmp_path_factory, name, stream):
    if name == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("any") / f"file{(FORMATS[name].suffixes or ('.jsonl',))[0]}"
    lost = convert(stream, path, name)
    rows, back = stream.collect(), read_trace(path).collect()
    assert all(np.array_equal(back[column], rows[column]) for column in ("input_tokens", "output_tokens"))
    unit = 1 if not any("fractions of a millisecond" in sentence for sentence in lost) else 10**6
    assert np.all(2 * np.abs(back["arrival_ns"] - rows["arrival_ns"]) <= unit * (unit > 1))
    words = {"client_id": "clients", "session_id": "sessions", "model": "models", "max_tokens": "max_tokens",
             "priority": "priorities", "reason_tokens": "thinking", "request_id": "request ids"}  # fmt: skip
    for column, word in words.items():
        assert np.array_equal(back[column], rows[column]) or any(word in sentence for sentence in lost), column


def test_converting_says_each_thing_that_is_lost_and_nothing_else(tmp_path):
    rows = new_rows(2)
    rows["request_id"], rows["arrival_ns"] = [0, 1], [0, 2_000_000]
    rows["input_tokens"] = rows["output_tokens"] = rows["max_tokens"] = 600
    assert convert(Stream(1.0, lambda: (rows,)), tmp_path / "a.jsonl") == []
    rows["client_id"], rows["max_tokens"] = 7, 900
    assert convert(Stream(1.0, lambda: (rows,)), tmp_path / "b.jsonl") == [
        "mooncake has no place for clients: all requests are of one client",
        "mooncake has no place for max_tokens: it reads back as the true answer length",
    ]
    assert "duration" in convert(Stream(9.0, lambda: (rows,)), tmp_path / "a.csv")[0]


def test_an_existing_file_stays_unless_it_may_go(tmp_path):
    stream = read_trace(sample_file(tmp_path, "mooncake"))
    kept = written(tmp_path, "kept.csv", b"precious")
    for format_name in ("csv", "mooncake", "vllm-timed"):
        with pytest.raises(WorkloadError, match="exists already"):
            convert(stream, kept, format_name)
    assert kept.read_bytes() == b"precious"
    convert(stream, kept, overwrite=True)
    assert (tmp_path / "kept.segments.csv.gz").exists() and len(load(kept).segments) == len(stream.segments)
    save(read_trace(sample_file(tmp_path, "csv")), kept, overwrite=True)
    assert not (tmp_path / "kept.segments.csv.gz").exists()
    written(tmp_path, "new.items.csv.gz", b"precious")
    with_items = Stream(1.0, stream.blocks, segments=stream.segments, items=np.zeros(1, stream.items.dtype))
    with pytest.raises(WorkloadError, match=r"new\.items\.csv\.gz: exists already"):
        convert(with_items, tmp_path / "new.csv")
    assert not (tmp_path / "new.csv").exists() and not (tmp_path / "new.segments.csv.gz").exists()


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_a_stream_that_breaks_leaves_no_file(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    stream = read_trace(sample_file(tmp_path, "mooncake"))
    before = sorted(tmp_path.iterdir())

    def broken():
        yield from stream.blocks()
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError):
        convert(Stream(9.0, broken, segments=stream.segments), tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before


def test_formats_that_are_only_read_and_names_that_say_nothing_are_refused(tmp_path):
    stream = read_trace(sample_file(tmp_path, "mooncake"))
    with pytest.raises(WorkloadError, match="azure is read, not written; expected one of mooncake, csv, parquet, vllm-timed"):
        convert(stream, tmp_path / "a.csv", "azure")
    with pytest.raises(WorkloadError, match=r"ends in one of \.jsonl, \.csv, \.csv\.gz, \.parquet"):
        convert(stream, tmp_path / "a.xlsx")


def test_the_command_prints_notes_and_losses(tmp_path, capsys):
    source = sample_file(tmp_path, "burstgpt")
    convert_file(str(source), tmp_path / "out.jsonl")
    printed = capsys.readouterr().out
    assert "note: 1 lines (33.33%) without Response tokens" in printed
    assert "lost: mooncake has no place for sessions" in printed and "out.jsonl: 2 requests over 114 s" in printed
    with pytest.raises(UserError, match="--force replaces it"):
        convert_file(str(source), tmp_path / "out.jsonl")
    with pytest.raises(UserError, match="is the source itself"):
        convert_file(str(source), source, "csv", force=True)


# Parts of prompts without the items that they are of


def test_token_columns_without_items_must_add_up_and_are_told(tmp_path):
    head = "arrival_s,input_tokens,output_tokens,text_tokens,image_tokens,image_count\n"
    stream = read_trace(written(tmp_path, "a.csv", (head + "1,100,5,40,60,2\n2,10,5,10,0,0\n").encode()))
    assert stream.description["image_tokens"] == 60 and stream.description["image_count"] == 2 and not len(stream.items)
    for line, told in (("1,100,5,40,61,1", "line 2, input_tokens = 100"), ("1,100,5,160,-60,1", "line 2, image_tokens = -60")):
        assert told in refusal(written(tmp_path, "a.csv", (head + line + "\n").encode()))


def test_token_columns_beside_items_must_be_what_the_items_say(tmp_path):
    rows = new_rows(1)
    rows["input_tokens"], rows["output_tokens"], rows["max_tokens"], rows["items_count"] = 50, 5, 5, 1
    stream = Stream(1.0, lambda: (rows,), items=np.array([(0, 3, 20, 9, 4)], new_items()))
    save(stream, tmp_path / "a.csv")
    text = (tmp_path / "a.csv").read_text()
    assert text.splitlines()[1].endswith(",30,20,0,0,1,0,1")
    (tmp_path / "a.csv").write_text(text.replace(",30,20,0,0,1,", ",25,25,0,0,1,"))
    assert "image_tokens = 25: the request's items say otherwise" in refusal(tmp_path / "a.csv")
    (tmp_path / "a.items.csv.gz").unlink()
    assert "its items are in a.items.csv.gz, which is not beside it" in refusal(tmp_path / "a.csv")


def new_items():
    from workloads import ITEMS

    return ITEMS


def test_slices_that_lead_nowhere_are_refused(tmp_path):
    stream = read_trace(sample_file(tmp_path, "mooncake"))
    save(stream, tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    for start, count, told in (
        (99, 1, "segments_start = 99: expected a slice of the 6 segments"),
        (0, 2, "input_tokens = 20: its segments have"),
        (-1, 1, "segments_start = -1"),
        (5, 2, "segments_start = 5: expected a slice"),
    ):
        broken = [lines[0], ",".join([*lines[1].split(",")[:-2], str(start), str(count)]), *lines[2:]]
        (tmp_path / "a.csv").write_text("\n".join(broken))
        assert told in refusal(tmp_path / "a.csv")
