"""Prompts as ids of blocks: one id exactly for one beginning, and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared_data import SHARED, needs_shared
from tests.trace_cases import streams
from workloads import SEGMENTS, STREAM, read_trace
from workloads.traces import convert
from workloads.traces.blocks import BlockIds


def naive_ids(stream, block_tokens):
    """Each prompt token by token, each block by all the tokens up to its end."""
    known, ids = {}, []
    for number, row in enumerate(stream.collect()):
        pieces = stream.segments[row["segments_start"] :][: row["segments_count"]].tolist()
        tokens = [(segment, k) for segment, length in pieces for k in range(length)]
        tokens = tokens or [(-(2**40) - number, k) for k in range(row["input_tokens"])]
        ends = [*range(block_tokens, len(tokens), block_tokens), len(tokens)]
        ids.append([known.setdefault(tuple(tokens[:end]), len(known)) for end in ends])
    return ids


@given(streams(with_items=False), st.sampled_from([16, 512]))
@settings(max_examples=40)
def test_blocks_have_one_id_exactly_if_prompts_are_the_same_up_to_their_end(stream, block_tokens):
    ids = BlockIds(block_tokens)
    assert [ids.of(row, stream.segments) for row in stream.collect()] == naive_ids(stream, block_tokens)


def test_a_block_after_another_beginning_has_another_id():
    row, ids = np.zeros(1, STREAM)[0], BlockIds(16)
    segments = np.array([(1, 16), (3, 16), (2, 16), (3, 16), (1, 16), (3, 9), (1, 16), (3, 16)], SEGMENTS)
    found = []
    for start in (0, 2, 4, 6):
        row["segments_start"], row["segments_count"], row["input_tokens"] = (
            start,
            2,
            segments["tokens"][start : start + 2].sum(),
        )
        found.append(ids.of(row, segments))
    assert found == [[0, 1], [2, 3], [0, 4], [0, 1]]


@pytest.mark.parametrize(("name", "block"), [("mooncake", 512), ("vllm-timed", 16)])
@given(stream=streams(with_items=False))
@settings(max_examples=25)
def test_what_is_written_in_blocks_shares_as_many_whole_blocks_when_read(tmp_path_factory, name, block, stream):
    path = tmp_path_factory.mktemp("blocks") / "trace.jsonl"
    convert(stream, path, name)
    back = read_trace(path, name)
    rows = back.collect()
    found = [back.segments["segment_id"][row["segments_start"] :][: row["segments_count"]].tolist() for row in rows]
    assert found == naive_ids(stream, block)
    assert [len(ids) for ids in found] == [-(-tokens // block) for tokens in rows["input_tokens"]]


@needs_shared
@pytest.mark.parametrize("name", ["conversation", "synthetic"])
def test_a_published_trace_reads_and_writes_back_to_the_same_requests_and_sharing(tmp_path, name):
    stream = read_trace(SHARED / "traces" / f"mooncake_{name}_trace.jsonl")
    assert convert(stream, tmp_path / "again.jsonl") == []
    again = read_trace(tmp_path / "again.jsonl")
    assert np.array_equal(again.collect(), stream.collect())
    first_seen = {}
    renamed = [first_seen.setdefault(block, len(first_seen)) for block in stream.segments["segment_id"].tolist()]
    assert again.segments["segment_id"].tolist() == renamed
