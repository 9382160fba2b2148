"""vLLM's timed trace, which `vllm bench serve --dataset-name timed_trace --self-timed` sends to a real server.

JSON lines with Mooncake's keys, but `timestamp` in seconds and an id for each 16 tokens: both are vLLM's defaults. The
prompt is made of the ids alone, so there are always as many as blocks; ids are unsigned 64-bit, lengths may be `512.0`.
Written from its documentation (vllm/benchmarks/datasets.py, docs/benchmarking/cli.md), no data at hand.

>>> import tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "timed.jsonl"
>>> _ = path.write_text('{"timestamp": 0.25, "input_length": 20, "output_length": 5, "hash_ids": [0, 1]}')
>>> read(path).segments.tolist()
[(0, 16), (1, 4)]
"""

from __future__ import annotations

import os
from pathlib import Path

from workloads.stream import NS_PER_S, Stream
from workloads.traces.blocks import BlockForm, read_blocks, write_blocks
from workloads.traces.format import Format, Head

FORM = BlockForm("vllm-timed", block_tokens=16, unit_ns=NS_PER_S, has_decimals=True, most_id=2**64 - 1)


def read(path: str | os.PathLike[str], max_requests: int = 5_000_000, max_blocks: int = 50_000_000) -> Stream:
    """The stream of a timed trace, its blocks as SEGMENTS. Raises WorkloadError with file and line."""
    return read_blocks(Path(path), FORM, max_requests, max_blocks)


def write(stream: Stream, path: Path) -> None:
    """Writes a stream as a timed trace; arrivals to the nanosecond."""
    write_blocks(stream, path, FORM)


def _looks_like(head: Head) -> bool:
    """Times with decimals, or blocks of 16 tokens where the first prompt tells."""
    first = head.first
    if not {"timestamp", "hash_ids"} <= set(first) or "chat_id" in first:
        return False
    length, ids = first.get("input_length"), first["hash_ids"]
    if isinstance(first["timestamp"], float):
        return True
    return isinstance(length, int) and isinstance(ids, list) and len(ids) == FORM.blocks_of(length) != -(-length // 512)


FORMATS = (
    Format(
        "vllm-timed",
        "JSON lines with timestamp (seconds, with decimals), input_length, output_length, hash_ids of 16 tokens each",
        _looks_like,
        read,
        frozenset({"segments", "nanoseconds"}),
        write,
        FORM.block_tokens,
        is_documented_only=True,
    ),
)
