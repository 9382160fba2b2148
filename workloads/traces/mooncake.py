"""Mooncake's JSONL: one request per line, its prompt as the chained ids of its 512-token blocks (blocks.py).

timestamp is in whole ms from the start; source: kvcache-ai/Mooncake, FAST25-release/README.md.

>>> import tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "trace.jsonl"
>>> line = '{"timestamp": 27, "input_length": 700, "output_length": 52, "hash_ids": [46, 47]}'
>>> _ = path.write_text(line)
>>> read(path).segments.tolist()
[(46, 512), (47, 188)]
"""

from __future__ import annotations

import os
from pathlib import Path

from workloads.stream import Stream
from workloads.traces.blocks import BlockForm, read_blocks, write_blocks
from workloads.traces.format import Format, Head

FORM = BlockForm("mooncake", block_tokens=512, unit_ns=1_000_000, has_decimals=False)
KEYS = ("timestamp", "input_length", "output_length", "hash_ids")


def read(path: str | os.PathLike[str], max_requests: int = 5_000_000, max_blocks: int = 20_000_000) -> Stream:
    """The stream of a Mooncake trace, its blocks as SEGMENTS. Raises WorkloadError with file and line."""
    return read_blocks(Path(path), FORM, max_requests, max_blocks)


def write(stream: Stream, path: Path) -> None:
    """Writes a stream as a Mooncake trace; arrivals to the nearest millisecond."""
    write_blocks(stream, path, FORM)


def _looks_like(head: Head) -> bool:
    """Whole milliseconds, and blocks of 512 tokens where the first prompt tells."""
    first = head.first
    if not {"timestamp", "hash_ids"} <= set(first) or "chat_id" in first or isinstance(first["timestamp"], float):
        return False
    length, ids = first.get("input_length"), first["hash_ids"]
    is_in_16 = type(length) is int and isinstance(ids, list) and len(ids) == -(-length // 16) != FORM.blocks_of(length)
    return not is_in_16


FORMATS = (
    Format(
        "mooncake",
        f"JSON lines with {', '.join(KEYS)}, timestamps in whole ms",
        _looks_like,
        read,
        frozenset({"segments"}),
        write,
        FORM.block_tokens,
        (".jsonl",),
    ),
)
