"""Mooncake's JSONL: one request per line, its prompt as the ids of its 512-token blocks.

    {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48, 49, 50, 51, …]}

timestamp is in whole ms from the start. Ids are chained: equal ids are equal prompts up to and including that block. The
last block holds what is left of the prompt and has an id like any other (kvcache-ai/Mooncake, FAST25-release/README.md).
So each block becomes a segment of its id. A later prompt that fills up a partial block gives it another id: the few
tokens that the two share are lost.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from workloads.errors import MOST_MISTAKES, WorkloadError, nearest, raise_all
from workloads.stream import MAX_SEGMENT_ID, MAX_TOKENS, NS_PER_S, SEGMENTS, Stream, new_rows, stream_mistakes
from workloads.stream_table import LONGEST_S
from workloads.traces.grid import grid_notes

BLOCK_TOKENS = 512
_NS_PER_MS = 1_000_000
_MOST = {"timestamp": LONGEST_S * 1000, "input_length": MAX_TOKENS, "output_length": MAX_TOKENS}
_LEAST = {"timestamp": 0, "input_length": 1, "output_length": 1}
_KEYS = (*_MOST, "hash_ids")
_MAX_LINE = 1 << 20  # bytes: the longest prompt we take has 19,532 blocks


def read(path: str | os.PathLike[str], max_requests: int = 5_000_000, max_blocks: int = 20_000_000) -> Stream:
    """The stream of a Mooncake trace, its blocks as SEGMENTS. Raises WorkloadError with file and line.

    Requests are numbered from 0 in the order of lines; max_tokens is output_tokens. The stream ends with the first whole
    second after the last arrival. Where timestamps lie on a coarse grid, `description["notes"]` says so.
    """
    source = Path(path)
    if not source.is_file():
        raise WorkloadError(f"{source}: no such file")
    trace = _Trace()
    try:
        with source.open("rb") as file:
            _read_lines(source, iter(partial(file.readline, _MAX_LINE + 1), b""), trace, max_requests, max_blocks)
    except OSError as error:
        raise WorkloadError(f"{source}: not readable: {error}") from error
    if not trace.line:
        raise WorkloadError(f"{source}: no requests in it")
    rows, segments = trace.rows(), trace.segments()
    # Blocks of 512 tokens, the last one shorter, keep every law of SEGMENTS by themselves.
    raise_all([f"{source}, {mistake}" for mistake in stream_mistakes(rows, trace.place)])
    about = {"source": "trace", "format": "mooncake", "file": source.name, "requests": len(rows), "blocks": len(segments)}
    duration_s = float(int(rows["arrival_ns"][-1]) // NS_PER_S + 1)
    return Stream(duration_s, partial(iter, (rows,)), about | {"notes": grid_notes(rows["arrival_ns"])}, segments)


def _numbers() -> array[int]:
    return array("q")


@dataclass
class _Trace:
    """What the lines say, in columns; `line` is where each request stood, `block` the ids of all of them."""

    line: array[int] = field(default_factory=_numbers)
    timestamp: array[int] = field(default_factory=_numbers)
    input_length: array[int] = field(default_factory=_numbers)
    output_length: array[int] = field(default_factory=_numbers)
    block: array[int] = field(default_factory=_numbers)

    def add(self, line: int, request: dict[str, Any]) -> None:
        self.line.append(line)
        for name in _MOST:
            getattr(self, name).append(request[name])
        self.block.extend(request["hash_ids"])

    def place(self, row: int) -> str:
        return f"line {self.line[row]}"

    def rows(self) -> np.ndarray:
        rows = new_rows(len(self.line))
        rows["request_id"] = np.arange(len(rows))
        rows["arrival_ns"] = np.array(self.timestamp) * _NS_PER_MS
        rows["input_tokens"] = self.input_length
        rows["output_tokens"] = rows["max_tokens"] = self.output_length
        count = self._blocks()
        rows["segments_start"], rows["segments_count"] = np.cumsum(count) - count, count
        return rows

    def segments(self) -> np.ndarray:
        segments = np.empty(len(self.block), SEGMENTS)
        segments["segment_id"], segments["tokens"] = self.block, BLOCK_TOKENS
        count, length = self._blocks(), np.array(self.input_length)
        segments["tokens"][np.cumsum(count) - 1] = length - (count - 1) * BLOCK_TOKENS
        return segments

    def _blocks(self) -> np.ndarray:
        return -(-np.array(self.input_length) // BLOCK_TOKENS)


def _read_lines(source: Path, lines: Iterator[bytes], trace: _Trace, max_requests: int, max_blocks: int) -> None:
    """Adds every request to the trace; empty lines are none. Raises WorkloadError for the mistakes of all lines."""
    mistakes: list[str] = []
    for number, line in enumerate(lines, start=1):
        place = f"{source}, line {number}"
        if len(line) > _MAX_LINE:
            raise_all([*mistakes, f"{place}: longer than {_MAX_LINE} bytes"])
        if not line.strip():
            continue
        request, wrong = _parsed(line)
        if wrong:
            mistakes += [f"{place}{what}" for what in wrong]
            if len(mistakes) > MOST_MISTAKES:
                break
            continue
        if len(trace.line) == max_requests:
            raise_all([*mistakes, f"{source}: more than {max_requests} requests"])
        trace.add(number, request)
        if len(trace.block) > max_blocks:
            raise_all([*mistakes, f"{source}: more than {max_blocks} blocks"])
    raise_all(mistakes)


def _parsed(line: bytes) -> tuple[dict[str, Any], list[str]]:
    """The request of a line, and what is wrong with it."""
    try:
        request = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_unrepeated)
    except json.JSONDecodeError as error:
        return {}, [f": not a JSON object: {error.msg}, column {error.colno}"]
    except (ValueError, RecursionError) as error:
        return {}, [f": not a JSON object: {error}"]
    if not isinstance(request, dict):
        return {}, [f": expected an object with {', '.join(_KEYS)}"]
    unknown = [key[:40] for key in request if key not in _KEYS][: MOST_MISTAKES + 1]
    wrong = [f": unknown key {key!r}{nearest(key, _KEYS)}" for key in unknown]
    wrong += [f": key {key!r} is missing" for key in _KEYS if key not in request]
    for name, most in _MOST.items():
        value = request.get(name, most)
        if not (type(value) is int and _LEAST[name] <= value <= most):
            wrong.append(f", {name} = {_shown(value)}: expected a whole number from {_LEAST[name]} to {most}")
    return request, wrong or _wrong_blocks(request["hash_ids"], request["input_length"])


def _wrong_blocks(blocks: Any, input_length: int) -> list[str]:
    if not (isinstance(blocks, list) and all(type(block) is int and 0 <= block <= MAX_SEGMENT_ID for block in blocks)):
        return [f", hash_ids = {_shown(blocks)}: expected a list of whole numbers from 0 to 2^62 - 1"]
    expected = -(-input_length // BLOCK_TOKENS)
    if len(blocks) != expected:
        return [f", hash_ids: {len(blocks)} of them, expected {expected}, one for each {BLOCK_TOKENS} of {input_length} tokens"]
    return []


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a line; json would keep the last of two equal keys without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _shown(value: Any) -> str:
    """A value as the file has it, cut short."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:40] + "…"
