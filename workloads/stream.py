"""A stream: requests by arrival, in time windows. STREAM is the treaty between workloads and everything downstream.

Time is int64 nanoseconds from the start of the run. A stream may be far larger than memory: it is produced in blocks
and consumed in windows, and can be gone through any number of times.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from workloads.errors import MOST_MISTAKES, WorkloadError, raise_all

__all__ = [
    "ITEMS",
    "MAX_SEGMENT_ID",
    "MODALITIES",
    "SEGMENTS",
    "STREAM",
    "Stream",
    "WorkloadError",
    "check_stream",
    "new_rows",
    "out_request",
    "out_segment",
]

_PIECE_ROWS = 1 << 12

Ids = TypeVar("Ids", int, np.ndarray)

NS_PER_S = 1_000_000_000
MAX_TOKENS = 10_000_000  # larger than any context window by two orders: beyond it a length is a mistake
LONGEST_S = 10_000_000  # 115 days: no arrival is later, and no run longer
BLOCK_ROWS = 1 << 16  # rows of a block, about, at most: 5 MB
CLIENT_SHIFT = 32  # request_id = client number << 32 | sequence within the client

# One row per request. output_tokens is the true answer length and is the simulator's alone; max_tokens is what the
# client asked for; reason_tokens are those of the answer that think, before it speaks. The two slices point into the
# stream's SEGMENTS and ITEMS and may overlap those of other rows; a row with segments_count 0 has a prompt that is its own
# alone, one with items_count 0 has no items.
STREAM = np.dtype(
    [
        ("arrival_ns", "i8"),
        ("request_id", "i8"),
        ("client_id", "i4"),
        ("session_id", "i8"),
        ("turn", "i4"),
        ("model", "i2"),
        ("input_tokens", "i4"),
        ("output_tokens", "i4"),
        ("max_tokens", "i4"),
        ("priority", "i4"),
        ("segments_start", "i8"),
        ("segments_count", "i4"),
        ("items_start", "i8"),
        ("items_count", "i4"),
        ("reason_tokens", "i4"),
    ]
)
# One row per named piece of a prompt. Equal ids at equal positions are equal tokens: token j of a piece is
# (segment_id, j). An id from 0 to MAX_SEGMENT_ID is a name, those above are the consumer's for text that nobody shares;
# a negative one is the answer of a request, `out_segment`.
SEGMENTS = np.dtype([("segment_id", "i8"), ("tokens", "i4")])
# One row per multimodal item: index into MODALITIES; the token of the prompt at which it begins, counted from 0, and how
# many tokens of the prompt it takes; encoder units (patches, frames); its identity (a hash) for the encoder cache.
ITEMS = np.dtype([("modality", "i1"), ("offset", "i4"), ("tokens", "i4"), ("encoder_units", "i4"), ("item_id", "i8")])
MAX_SEGMENT_ID = 2**62 - 1
MODALITIES = ("image", "audio", "video")

TOKEN_COLUMNS = ("input_tokens", "output_tokens", "max_tokens")
_LEAST = {
    "arrival_ns": 0,
    "request_id": 0,
    "client_id": 0,
    "session_id": -1,
    "turn": 1,
    "model": 0,
    "input_tokens": 1,
    "output_tokens": 1,
    "max_tokens": 1,
    "segments_start": 0,
    "segments_count": 0,
    "items_start": 0,
    "items_count": 0,
    "reason_tokens": 0,
}


class Stream:
    """Requests by arrival over `duration_s`. `blocks()` starts a new pass over consecutive, sorted STREAM arrays.

    `description` holds plain values (numbers, texts, lists) that the files of a run can quote. `segments` and `items`
    are the SEGMENTS and ITEMS of the whole stream, into which every row's slices point; both are empty where no prompt
    shares anything, or no source says what. Either may be given as a function, called when the table is first asked for.
    `is_checked`: its rows pass `check_stream` wherever they are cut, and their segments and items `check_segments`, as those
    of this package's own sources do, so that who plays them need not look again.
    """

    def __init__(
        self,
        duration_s: float,
        blocks: Callable[[], Iterable[np.ndarray]],
        description: dict[str, Any] | None = None,
        segments: np.ndarray | Callable[[], np.ndarray] | None = None,
        items: np.ndarray | Callable[[], np.ndarray] | None = None,
        is_checked: bool = False,
    ) -> None:
        self.duration_s, self.blocks, self.is_checked = duration_s, blocks, is_checked
        self.description = {} if description is None else description
        self._segments = np.empty(0, SEGMENTS) if segments is None else segments
        self._items = np.empty(0, ITEMS) if items is None else items

    def __repr__(self) -> str:
        return f"Stream(duration_s={self.duration_s!r}, description={self.description!r})"

    @cached_property
    def segments(self) -> np.ndarray:
        """SEGMENTS of the whole stream."""
        return self._segments() if callable(self._segments) else self._segments

    @cached_property
    def items(self) -> np.ndarray:
        """ITEMS of the whole stream."""
        return self._items() if callable(self._items) else self._items

    def held(self) -> Stream:
        """The same stream with its rows in memory, for who goes through it again and again."""
        rows = self.collect()
        return Stream(self.duration_s, lambda: (rows,), self.description, self._segments, self._items, self.is_checked)

    def windows(self, window_s: float = 60.0) -> Iterator[np.ndarray]:
        """STREAM arrays sorted by (arrival_ns, request_id), the k-th with the arrivals in [k·window_s, (k+1)·window_s).

        Windows cover the whole duration: the last may be short, and a window without arrivals is yielded empty. They may be
        views of the source's own rows: not to be written to.
        """
        window_ns, duration_ns = round(window_s * NS_PER_S), round(self.duration_s * NS_PER_S)
        if window_ns < 1:
            raise WorkloadError(f"window_s: expected at least a nanosecond, got {window_s!r}")
        return _cut(self.blocks(), window_ns, duration_ns)

    def collect(self) -> np.ndarray:
        """The whole stream as one STREAM array."""
        blocks = list(self.blocks())
        return np.concatenate(blocks) if blocks else np.empty(0, STREAM)


def new_rows(count: int) -> np.ndarray:
    """`count` STREAM rows at time 0 with no session, first turn, and no segments or items; lengths are still 0."""
    rows = np.zeros(count, STREAM)
    rows["session_id"] = -1
    rows["turn"] = 1
    return rows


def out_segment(request_id: Ids) -> Ids:
    """The id of a request's answer as a piece of later prompts: -1 - request_id. Its token j is answer token j.

    One number, or an int64 array of them.
    """
    return -1 - request_id


def out_request(segment_id: Ids) -> Ids:
    """The request whose answer a negative segment id is: the inverse of `out_segment`."""
    return -1 - segment_id


def check_stream(rows: np.ndarray, max_tokens: int = MAX_TOKENS) -> None:
    """Raises WorkloadError with row, column and value where a STREAM array is not one; lists up to ten mistakes."""
    if rows.dtype != STREAM:
        raise WorkloadError(f"expected an array of dtype STREAM, got columns {list(rows.dtype.names or [])}")
    if not _is_sound(rows, max_tokens):
        raise_all(stream_mistakes(rows, lambda row: f"row {row}", max_tokens))


def stream_mistakes(rows: np.ndarray, place: Callable[[int], str], max_tokens: int = MAX_TOKENS) -> list[str]:
    """A sentence for each mistake of a STREAM array (eleven a column at most); `place` names a row to the user."""
    found = [(name, rows[name] < least, f"expected at least {least}") for name, least in _LEAST.items()]
    found += [(name, rows[name] > max_tokens, f"expected at most {max_tokens}") for name in TOKEN_COLUMNS]
    found.append(("reason_tokens", rows["reason_tokens"] > rows["output_tokens"], "expected at most output_tokens"))
    found.append(("arrival_ns", _out_of_order(rows), "rows must be sorted by arrival, then request_id"))
    found.append(("request_id", _repeated(rows["request_id"]), "used by an earlier row"))
    return [
        f"{place(int(row))}, {name} = {rows[name][row]}: {expected}"
        for name, wrong, expected in found
        for row in np.flatnonzero(wrong)[: MOST_MISTAKES + 1]
    ]


def _is_sound(rows: np.ndarray, max_tokens: int) -> bool:
    """Whether `stream_mistakes` would find nothing, much sooner: piece by piece, so that columns stay in the cache."""
    for start in range(0, len(rows), _PIECE_ROWS):
        piece = rows[max(start - 1, 0) : start + _PIECE_ROWS]
        if any(piece[name].min() < least for name, least in _LEAST.items()) or _out_of_order(piece).any():
            return False
        if any(piece[name].max() > max_tokens for name in TOKEN_COLUMNS) or np.any(
            piece["reason_tokens"] > piece["output_tokens"]
        ):
            return False
    ids = np.sort(rows["request_id"])
    return not np.any(ids[1:] == ids[:-1])


def _cut(blocks: Iterable[np.ndarray], window_ns: int, duration_ns: int) -> Iterator[np.ndarray]:
    """Consecutive windows of consecutive blocks; a piece of a block waits until a later one ends its window."""
    pieces: list[np.ndarray] = []
    end_ns = min(window_ns, duration_ns)
    for block in blocks:
        rows = block
        while len(rows) and rows["arrival_ns"][-1] >= end_ns and end_ns < duration_ns:
            split = bisect_left(rows["arrival_ns"], end_ns)  # numpy's own search would copy the column
            yield _joined([*pieces, rows[:split]])
            pieces, rows = [], rows[split:]
            end_ns = min(end_ns + window_ns, duration_ns)
        pieces.append(rows)
    while True:
        yield _joined(pieces)
        if end_ns >= duration_ns:
            return
        pieces, end_ns = [], min(end_ns + window_ns, duration_ns)


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    """One array of the pieces; where one has all the rows, itself."""
    filled = [rows for rows in pieces if len(rows)]
    if len(filled) == 1:
        return filled[0]
    return np.concatenate(filled) if filled else np.empty(0, STREAM)


def _out_of_order(rows: np.ndarray) -> np.ndarray:
    """True at every row that belongs before its predecessor."""
    wrong = np.zeros(len(rows), bool)
    arrival, request = rows["arrival_ns"], rows["request_id"]
    wrong[1:] = (arrival[1:] < arrival[:-1]) | ((arrival[1:] == arrival[:-1]) & (request[1:] < request[:-1]))
    return wrong


def _repeated(ids: np.ndarray) -> np.ndarray:
    """True at every row whose id has occurred in an earlier row."""
    order = np.argsort(ids, kind="stable")
    wrong = np.zeros(len(ids), bool)
    wrong[order[1:]] = ids[order[1:]] == ids[order[:-1]]
    return wrong
