"""Traces that tell a prompt as the ids of its equal blocks: reading them as SEGMENTS, and making such ids of any stream.

    {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48, 49, 50, 51, …]}

Ids are chained: equal ids are equal prompts up to and including that block. The last block holds what is left of the
prompt and has an id like any other. So each block becomes a segment of its id. A later prompt that fills up a partial
block gives it another id: the few tokens that the two share are lost.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workloads.errors import WorkloadError, raise_all
from workloads.files.coarse_clock import grid_notes
from workloads.stream import LONGEST_S, MAX_SEGMENT_ID, MAX_TOKENS, NS_PER_S, SEGMENTS, Stream, new_rows, stream_mistakes
from workloads.traces.json_lines import Number, Request, nanoseconds, requests, shown
from workloads.whole_file import written_whole


class BlockForm(NamedTuple):
    """A format of this family: tokens of a block, length of the timestamp's unit, whether it has decimals, largest id."""

    name: str
    block_tokens: int
    unit_ns: int
    has_decimals: bool
    most_id: int = MAX_SEGMENT_ID

    def numbers(self) -> dict[str, Number]:
        """The keys with numbers."""
        length = Number(1, MAX_TOKENS)
        time = Number(0, LONGEST_S * NS_PER_S // self.unit_ns, self.has_decimals)
        return {"timestamp": time, "input_length": length, "output_length": length}

    def blocks_of(self, input_tokens: Any) -> Any:
        """How many blocks a prompt has: one number or an array."""
        return -(-input_tokens // self.block_tokens)


def read_blocks(source: Path, form: BlockForm, max_requests: int, max_blocks: int) -> Stream:
    """The stream of such a file. Raises WorkloadError with file and line.

    Requests are numbered from 0 in the order of lines; max_tokens is output_tokens. The stream ends with the first whole
    second after the last arrival.
    """
    trace = _Trace(form)
    for line, request in requests(source, form.numbers(), ("hash_ids",), partial(_wrong_ids, form)):
        if len(trace.line) == max_requests:
            raise WorkloadError(f"{source}: more than {max_requests} requests")
        trace.add(line, request)
        if len(trace.block) > max_blocks:
            raise WorkloadError(f"{source}: more than {max_blocks} blocks")
    if not trace.line:
        raise WorkloadError(f"{source}: no requests in it")
    rows, segments = trace.rows(), trace.segments()
    # Equal blocks, the last one shorter, keep every law of SEGMENTS by themselves.
    raise_all([f"{source}, {mistake}" for mistake in stream_mistakes(rows, trace.place)])
    about = {"source": "trace", "format": form.name, "file": source.name, "requests": len(rows), "blocks": len(segments)}
    duration_s = float(int(rows["arrival_ns"][-1]) // NS_PER_S + 1)
    return Stream(duration_s, lambda: (rows,), about | {"notes": grid_notes(rows["arrival_ns"])}, segments, is_checked=True)


def write_blocks(stream: Stream, target: Path, form: BlockForm) -> None:
    """Writes a stream in such a format, whole or not at all; an existing file is replaced."""
    ids = BlockIds(form.block_tokens)
    with written_whole(target) as part, part.open("w", encoding="utf-8", newline="\n") as text:
        for rows in stream.blocks():
            text.writelines(_line(row, ids.of(row, stream.segments), form) for row in rows)


class BlockIds:
    """Ids for the blocks of prompts, from 0 in the order in which blocks are first seen.

    Two blocks have one id exactly if their prompts are the same up to and including them. Prompts without segments are
    nobody else's, so each of their blocks is new; of all others the chain so far is remembered, some 300 bytes a block.
    """

    def __init__(self, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self._known: dict[tuple[int, tuple[tuple[int, int, int], ...]], int] = {}
        self._next = 0

    def of(self, row: np.void, segments: np.ndarray) -> list[int]:
        """The ids of a STREAM row's prompt, whose pieces are in SEGMENTS."""
        if not row["segments_count"]:
            first = self._next
            self._next += -(-int(row["input_tokens"]) // self.block_tokens)
            return list(range(first, self._next))
        pieces = segments[row["segments_start"] :][: row["segments_count"]].tolist()
        found: list[int] = []
        for runs in self._blocks(pieces):
            found.append(self._id((found[-1] if found else -1, runs)))
        return found

    def _blocks(self, pieces: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int, int], ...]]:
        """What each block is made of: (segment_id, its first token, tokens) of the runs in it."""
        runs: list[tuple[int, int, int]] = []
        room = self.block_tokens
        for segment_id, tokens in pieces:
            start = 0
            while start < tokens:
                taken = min(room, tokens - start)
                runs.append((segment_id, start, taken))
                start, room = start + taken, room - taken
                if not room:
                    yield tuple(runs)
                    runs, room = [], self.block_tokens
        if runs:
            yield tuple(runs)

    def _id(self, key: tuple[int, tuple[tuple[int, int, int], ...]]) -> int:
        known = self._known.setdefault(key, self._next)
        self._next += known == self._next
        return known


def _line(row: np.void, ids: list[int], form: BlockForm) -> str:
    units, rest = divmod(int(row["arrival_ns"]), form.unit_ns)
    digits = len(str(form.unit_ns)) - 1
    time = f"{units}.{rest:0{digits}d}" if form.has_decimals else str(units + (2 * rest >= form.unit_ns))
    return (
        f'{{"timestamp": {time}, "input_length": {row["input_tokens"]}, "output_length": {row["output_tokens"]}, '
        f'"hash_ids": {json.dumps(ids)}}}\n'
    )


def _wrong_ids(form: BlockForm, request: Request) -> list[str]:
    ids = request["hash_ids"]
    if not (isinstance(ids, list) and all(type(block) is int and 0 <= block <= form.most_id for block in ids)):
        return [f", hash_ids = {shown(ids)}: expected a list of whole numbers from 0 to 2^{form.most_id.bit_length()} - 1"]
    length = int(request["input_length"])
    expected = form.blocks_of(length)
    if len(ids) != expected:
        return [f", hash_ids: {len(ids)} of them, expected {expected}, one for each {form.block_tokens} of {length} tokens"]
    return []


def _numbers() -> array[int]:
    return array("q")


def _ids() -> array[int]:
    return array("Q")


@dataclass
class _Trace:
    """What the lines say, in columns; `line` is where each request stood, `block` the ids of all of them."""

    form: BlockForm
    line: array[int] = field(default_factory=_numbers)
    arrival_ns: array[int] = field(default_factory=_numbers)
    input_length: array[int] = field(default_factory=_numbers)
    output_length: array[int] = field(default_factory=_numbers)
    block: array[int] = field(default_factory=_ids)

    def add(self, line: int, request: Request) -> None:
        self.line.append(line)
        self.arrival_ns.append(nanoseconds(request["timestamp"], self.form.unit_ns))
        self.input_length.append(int(request["input_length"]))
        self.output_length.append(int(request["output_length"]))
        self.block.extend(request["hash_ids"])

    def place(self, row: int) -> str:
        return f"line {self.line[row]}"

    def rows(self) -> np.ndarray:
        rows = new_rows(len(self.line))
        rows["request_id"] = np.arange(len(rows))
        rows["arrival_ns"], rows["input_tokens"] = self.arrival_ns, self.input_length
        rows["output_tokens"] = rows["max_tokens"] = self.output_length
        count = self._blocks()
        rows["segments_start"], rows["segments_count"] = np.cumsum(count) - count, count
        return rows

    def segments(self) -> np.ndarray:
        segments = np.empty(len(self.block), SEGMENTS)
        ids = np.array(self.block, np.uint64)
        if len(ids) and ids.max() > MAX_SEGMENT_ID:  # names of blocks, whatever they are: numbered anew
            ids = np.unique(ids, return_inverse=True)[1].astype(np.uint64)
        segments["segment_id"], segments["tokens"] = ids, self.form.block_tokens
        count, length = self._blocks(), np.array(self.input_length)
        segments["tokens"][np.cumsum(count) - 1] = length - (count - 1) * self.form.block_tokens
        return segments

    def _blocks(self) -> np.ndarray:
        blocks: np.ndarray = self.form.blocks_of(np.array(self.input_length))
        return blocks
