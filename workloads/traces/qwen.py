"""Qwen-Bailian's JSONL: requests with their conversation tree and the hashes of their 16-token blocks.

    {"chat_id": 159, "parent_chat_id": 55, "timestamp": 61.114, "input_length": 521, "output_length": 132,
     "type": "text", "turn": 2, "hash_ids": [1089, 1090, 1091, …]}

timestamp is in s from the start; parent_chat_id is -1 for a first turn. Each block becomes a segment of its id; where a
prompt's last, partial block has none, it is private. A request's session is the chat at the root of its tree, or the
oldest ancestor that the file names. `type` is counted in the description. Source: alibaba-edu/qwen-bailian-usagetraces-anon,
README.md; written from its documentation, no data at hand.

>>> import tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "qwen.jsonl"
>>> _ = path.write_text('''{"chat_id": 3, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 20, "output_length": 4,
... "type": "text", "turn": 1, "hash_ids": [7, 8]}'''.replace(chr(10), " "))
>>> stream = read(path)
>>> stream.segments.tolist(), stream.collect()[["arrival_ns", "session_id", "turn"]].tolist()
([(7, 16), (8, 4)], [(500000000, 3, 1)])
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from workloads.errors import WorkloadError, raise_all
from workloads.files.coarse_clock import grid_notes
from workloads.stream import LONGEST_S, MAX_TOKENS, NS_PER_S, SEGMENTS, Stream, new_rows, stream_mistakes
from workloads.traces.format import Format, Head
from workloads.traces.json_lines import Number, Request, nanoseconds, requests, shown

BLOCK_TOKENS = 16
_MOST_ID = 2**61 - 1  # above are the private ends of prompts
_NUMBERS = {
    "chat_id": Number(0, _MOST_ID),
    "parent_chat_id": Number(-1, _MOST_ID),
    "timestamp": Number(0, LONGEST_S, may_be_fraction=True),
    "input_length": Number(1, MAX_TOKENS),
    "output_length": Number(1, MAX_TOKENS),
    "turn": Number(1, 2**31 - 1),
}
_OTHERS = ("type", "hash_ids")
_MOST_TYPES = 100
_COLUMNS = ("line", "arrival_ns", "input_length", "output_length", "turn", "session", "blocks")


def read(path: str | os.PathLike[str], max_requests: int = 5_000_000, max_blocks: int = 100_000_000) -> Stream:
    """The stream of a Qwen-Bailian trace. Raises WorkloadError with file and line."""
    source = Path(path)
    columns = {name: array("q") for name in _COLUMNS}
    ids, roots, types = array("q"), dict[int, int](), Counter[str]()
    for line, request in requests(source, _NUMBERS, _OTHERS, _wrong_rest):
        chat, parent = int(request["chat_id"]), int(request["parent_chat_id"])
        if chat in roots:
            raise WorkloadError(f"{source}, line {line}, chat_id = {chat}: used by an earlier line")
        roots[chat] = chat if parent < 0 else roots.get(parent, parent)
        values = (line, nanoseconds(request["timestamp"]), int(request["input_length"]), int(request["output_length"]),
                  int(request["turn"]), roots[chat], len(request["hash_ids"]))  # fmt: skip
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
        ids.extend(request["hash_ids"])
        types[request["type"]] += 1
        if len(roots) > max_requests or len(ids) > max_blocks or len(types) > _MOST_TYPES:
            raise WorkloadError(
                f"{source}: more than {max_requests} requests, {max_blocks} blocks or {_MOST_TYPES} values of type"
            )
    if not roots:
        raise WorkloadError(f"{source}: no requests in it")
    return _stream(source, {name: np.array(values) for name, values in columns.items()}, np.array(ids), types)


def _stream(source: Path, columns: dict[str, np.ndarray], ids: np.ndarray, types: Counter[str]) -> Stream:
    rows = new_rows(len(columns["line"]))
    rows["request_id"] = np.arange(len(rows))
    rows["arrival_ns"], rows["session_id"], rows["turn"] = columns["arrival_ns"], columns["session"], columns["turn"]
    rows["input_tokens"], rows["output_tokens"] = columns["input_length"], columns["output_length"]
    rows["max_tokens"] = rows["output_tokens"]
    segments, rows["segments_start"], rows["segments_count"] = _segments(columns["input_length"], columns["blocks"], ids)
    raise_all([f"{source}, {m}" for m in stream_mistakes(rows, lambda row: f"line {columns['line'][row]}")])
    about: dict[str, Any] = {"source": "trace", "format": "qwen", "file": source.name, "requests": len(rows)}
    about |= {"blocks": len(ids), "types": dict(sorted(types.items())), "notes": grid_notes(rows["arrival_ns"])}
    return Stream(float(int(rows["arrival_ns"][-1]) // NS_PER_S + 1), lambda: (rows,), about, segments, is_checked=True)


def _segments(length: np.ndarray, blocks: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """SEGMENTS of all prompts, and each prompt's slice: its blocks, and a private end where it has one without an id."""
    count = -(-length // BLOCK_TOKENS)
    start = np.cumsum(count) - count
    segments = np.empty(int(count.sum()), SEGMENTS)
    segments["tokens"] = BLOCK_TOKENS
    segments["tokens"][start + count - 1] = length - (count - 1) * BLOCK_TOKENS
    has_private_end = np.flatnonzero(blocks < count)
    end = (start + count - 1)[has_private_end]
    named = np.ones(len(segments), bool)
    named[end] = False
    segments["segment_id"][named] = ids
    segments["segment_id"][end] = _MOST_ID + 1 + has_private_end
    return segments, start, count


def _wrong_rest(request: Request) -> list[str]:
    ids, length = request["hash_ids"], int(request["input_length"])
    wrong = []
    if not (isinstance(request["type"], str) and len(request["type"]) <= 40):
        wrong.append(f", type = {shown(request['type'])}: expected a text such as text, search, image or file")
    if not (isinstance(ids, list) and all(type(block) is int and 0 <= block <= _MOST_ID for block in ids)):
        return [*wrong, f", hash_ids = {shown(ids)}: expected a list of whole numbers from 0 to 2^61 - 1"]
    whole, all_blocks = length // BLOCK_TOKENS, -(-length // BLOCK_TOKENS)
    if len(ids) not in (whole, all_blocks):
        wrong.append(f", hash_ids: {len(ids)} of them, expected {all_blocks}, one for each {BLOCK_TOKENS} of {length} tokens")
    return wrong


def _looks_like(head: Head) -> bool:
    return "chat_id" in head.first and "hash_ids" in head.first


FORMATS = (
    Format(
        "qwen",
        "JSON lines with chat_id, parent_chat_id, timestamp (s), hash_ids of 16 tokens each",
        _looks_like,
        read,
        is_documented_only=True,
    ),
)
