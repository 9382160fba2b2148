"""What prompts are made of: the laws of a stream's SEGMENTS and ITEMS, and the check that a stream keeps them.

A prompt is a chain of named pieces or private text. Two prompts begin alike exactly as far as their chains of
(segment_id, token of the piece) do, so a piece has one length wherever another follows it, and a prompt may end inside
one. An answer can be part of a prompt only after its request: what arrives later, or the row itself, is refused, and with
it every circle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from workloads.errors import MOST_MISTAKES, WorkloadError, raise_all
from workloads.stream import ITEMS, MAX_SEGMENT_ID, MODALITIES, NS_PER_S, SEGMENTS, STREAM, out_request

_NOWHERE = -1  # in place of a row: no such request in the stream


def check_segments(rows: np.ndarray, segments: np.ndarray, items: np.ndarray) -> None:
    """Raises WorkloadError, with row and value, where the prompts of a whole stream cannot be; lists up to ten mistakes.

    `rows` are all the STREAM rows of a stream (themselves for `check_stream`), the other two its tables. Entries of the
    tables that no row names are not looked at. Needs memory for each (row, piece) pair, some 100 bytes.
    """
    for table, dtype, name in ((rows, STREAM, "STREAM"), (segments, SEGMENTS, "SEGMENTS"), (items, ITEMS, "ITEMS")):
        if table.dtype != dtype:
            raise WorkloadError(f"expected an array of dtype {name}, got columns {list(table.dtype.names or [])}")
    raise_all(segment_mistakes(rows, segments, items, lambda row: f"row {row}"))


def segment_mistakes(rows: np.ndarray, segments: np.ndarray, items: np.ndarray, place: Callable[[int], str]) -> list[str]:
    """A sentence for each mistake (eleven a law at most); `place` names a row to the user."""
    mistakes: list[str] = []
    for name, table in (("segments", segments), ("items", items)):
        wrong = ~_inside(rows, name, len(table))
        mistakes += [
            f"{place(row)}, {name}_start = {rows[f'{name}_start'][row]}, {name}_count = {rows[f'{name}_count'][row]}: "
            f"expected a slice of the stream's {len(table)} {name}"
            for row in _first(wrong)
        ]
    mistakes += _piece_mistakes(rows, segments, place)
    mistakes += _item_mistakes(rows, items, place)
    return mistakes


class _Pairs(NamedTuple):
    """Every (row, entry of a table) that rows name, in the order of rows; `inner`: another of the row follows."""

    row: np.ndarray
    entry: np.ndarray
    number: np.ndarray
    inner: np.ndarray


def _pairs(rows: np.ndarray, name: str, size: int) -> _Pairs:
    """The pairs of all rows whose slice is inside the table."""
    count = np.where(_inside(rows, name, size), rows[f"{name}_count"], 0).astype(np.int64)
    row = np.repeat(np.arange(len(rows)), count)
    number = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return _Pairs(row, rows[f"{name}_start"][row] + number, number, number < count[row] - 1)


def _inside(rows: np.ndarray, name: str, size: int) -> np.ndarray:
    """True where a row's slice is one of a table of `size` entries; an empty slice may begin anywhere."""
    start, count = rows[f"{name}_start"], rows[f"{name}_count"].astype(np.int64)
    return (count == 0) | ((start >= 0) & (count > 0) & (start <= size - count))


def _piece_mistakes(rows: np.ndarray, segments: np.ndarray, place: Callable[[int], str]) -> list[str]:
    pairs = _pairs(rows, "segments", len(segments))
    ids, tokens = segments["segment_id"][pairs.entry], segments["tokens"][pairs.entry].astype(np.int64)
    length = _length_elsewhere(ids, tokens, pairs.inner)
    elsewhere = "this segment has {} tokens elsewhere; only a prompt's last may be cut"
    told = [(pair, "expected at least 1 token") for pair in _first(tokens < 1)]
    told += [(pair, f"expected an id of at most {MAX_SEGMENT_ID}") for pair in _first(ids > MAX_SEGMENT_ID)]
    told += [(pair, elsewhere.format(length[pair])) for pair in _first((tokens > length) | (pairs.inner & (tokens < length)))]
    told += _answer_mistakes(rows, pairs.row, ids, tokens)
    mistakes = [
        f"{place(int(pairs.row[pair]))}, segment {pairs.number[pair]} of its prompt, {_name(ids[pair])} "
        f"of {tokens[pair]} tokens: {what}"
        for pair, what in told
    ]
    return mistakes + _sum_mistakes(rows, pairs.row, tokens, place)


def _answer_mistakes(rows: np.ndarray, row: np.ndarray, ids: np.ndarray, tokens: np.ndarray) -> Iterator[tuple[int, str]]:
    """(pair, what is wrong) for answers that a prompt cannot hold."""
    author, rank = _author(rows, ids), _rank(rows)
    answers = ids < 0
    for pair in _first(answers & (author == _NOWHERE)):
        yield pair, f"the stream has no request {out_request(int(ids[pair]))}"
    known = answers & (author != _NOWHERE)
    for pair in _first(known & (rank[author] >= rank[row])):
        by, at_s = int(author[pair]), rows["arrival_ns"][author[pair]] / NS_PER_S
        yield pair, "its own answer" if by == row[pair] else f"that request arrives later, at {at_s:.9f} s"
    for pair in _first(known & (tokens > rows["output_tokens"][author])):
        yield pair, f"that answer has {rows['output_tokens'][author[pair]]} tokens"


def _sum_mistakes(rows: np.ndarray, row: np.ndarray, tokens: np.ndarray, place: Callable[[int], str]) -> list[str]:
    """Prompts whose pieces do not add up to input_tokens."""
    total = np.zeros(len(rows), np.int64)
    np.add.at(total, row, tokens)
    named = np.zeros(len(rows), bool)
    named[row] = True
    return [
        f"{place(found)}, input_tokens = {rows['input_tokens'][found]}: its segments have {total[found]} tokens"
        for found in _first(named & (total != rows["input_tokens"]))
    ]


def _item_mistakes(rows: np.ndarray, items: np.ndarray, place: Callable[[int], str]) -> list[str]:
    pairs = _pairs(rows, "items", len(items))
    of = items[pairs.entry]
    begin, prompt = of["offset"].astype(np.int64), rows["input_tokens"][pairs.row]
    end = begin + of["tokens"]
    overlap = np.zeros(len(begin), bool)
    overlap[1:] = pairs.inner[:-1] & (begin[1:] < end[:-1])
    laws = [
        ("modality", (of["modality"] < 0) | (of["modality"] >= len(MODALITIES)), f"expected 0 to {len(MODALITIES) - 1}"),
        ("tokens", of["tokens"] < 1, "expected at least 1"),
        ("encoder_units", of["encoder_units"] < 0, "expected at least 0"),
        ("offset", (begin < 0) | (end > prompt), "expected an item inside the prompt"),
        ("offset", overlap, "overlaps the item before it; expected items in the order of the prompt"),
    ]
    return [
        f"{place(int(pairs.row[pair]))}, item {pairs.number[pair]} of its prompt, {name} = {of[name][pair]}: {expected}"
        for name, wrong, expected in laws
        for pair in _first(wrong)
    ]


def _length_elsewhere(ids: np.ndarray, tokens: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """For each pair, the tokens of its segment where another first follows it; no limit where none ever does."""
    known, first = np.unique(ids[inner], return_index=True)
    if not len(known):
        return np.full(len(ids), np.iinfo(np.int64).max)
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[at] == ids, tokens[inner][first][at], np.iinfo(np.int64).max)


def _author(rows: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """For each segment id, the row whose answer it is; _NOWHERE where that is none."""
    if not len(rows):
        return np.full(len(ids), _NOWHERE)
    order = np.argsort(rows["request_id"], kind="stable")
    wanted = out_request(ids)
    at = order[np.minimum(np.searchsorted(rows["request_id"], wanted, sorter=order), len(rows) - 1)]
    return np.where((ids < 0) & (rows["request_id"][at] == wanted), at, _NOWHERE)


def _rank(rows: np.ndarray) -> np.ndarray:
    """Each row's place by (arrival_ns, request_id)."""
    rank = np.empty(len(rows), np.int64)
    rank[np.lexsort((rows["request_id"], rows["arrival_ns"]))] = np.arange(len(rows))
    return rank


def _first(wrong: np.ndarray) -> list[int]:
    found: list[int] = np.flatnonzero(wrong)[: MOST_MISTAKES + 1].tolist()
    return found


def _name(segment_id: int) -> str:
    return f"id {segment_id}" if segment_id >= 0 else f"out:{out_request(int(segment_id))}"
