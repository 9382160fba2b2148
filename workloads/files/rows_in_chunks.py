"""A stream whose rows stay in a file of any size: checked whole in a first pass, then read anew, chunk by chunk.

The first pass keeps of each row its id alone, 8 bytes, to find one that occurs twice. A file of up to `HELD_ROWS` requests
is kept as it is read and not opened again.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workloads.errors import WorkloadError, raise_all
from workloads.files.coarse_clock import grid_notes
from workloads.stream import NS_PER_S, Stream, check_stream, stream_mistakes

HELD_ROWS = 1 << 19  # 46 MB
MAX_ROWS = 50_000_000


class Chunk(NamedTuple):
    """Consecutive STREAM rows as a file has them, unchecked, and the name of a row's place in it."""

    rows: np.ndarray
    place: Callable[[int], str]


class Known(NamedTuple):
    """What one pass over all rows has shown. `held` has the rows themselves where they are few; `notes` tells a coarse clock,
    by the first `HELD_ROWS` arrivals."""

    requests: int
    last_ns: int
    notes: list[str]
    held: np.ndarray | None


class FileOfRows:
    """A file, and how to read it in chunks: `chunks` begins a new pass over sorted STREAM rows."""

    def __init__(self, source: Path, chunks: Callable[[], Iterator[Chunk]], max_rows: int = MAX_ROWS) -> None:
        self.source, self.chunks, self.max_rows = source, chunks, max_rows
        self._version = _version(source)

    def known(self) -> Known:
        """Goes over all rows. Raises WorkloadError, with file and line, for what is no stream: values out of range, rows
        out of order, ids that occur twice, more rows than `max_rows`, none at all."""
        ids, held = _Ids(), _First(HELD_ROWS)
        count, last = 0, (-1, -1)
        for rows, place in self.chunks():
            self._check(rows, place, last)
            count += len(rows)
            if count > self.max_rows:
                raise WorkloadError(f"{self.source}: more than {self.max_rows} rows")
            last = (int(rows["arrival_ns"][-1]), int(rows["request_id"][-1]))
            ids.add(rows["request_id"])
            held.add(rows)
        if not count:
            raise WorkloadError(f"{self.source}: no requests in it")
        self._refuse_repeated(ids.repeated())
        notes = grid_notes(np.concatenate([rows["arrival_ns"] for rows in held.pieces]))
        return Known(count, last[0], notes, np.concatenate(held.pieces) if held.has_all else None)

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows, read anew. Raises WorkloadError where the file is no longer the one that was checked."""
        for chunk in self.chunks():
            if _version(self.source) != self._version:
                raise WorkloadError(f"{self.source}: changed while it was read")
            yield chunk.rows

    def stream(
        self, known: Known, about: dict[str, Any], duration_s: float | None = None, is_checked: bool = True, **tables: Any
    ) -> Stream:
        """The stream of the file after its first pass; `about` is its description, to which `requests` and `notes` are added.

        Without a duration it ends with the first whole second after the last arrival. `tables`: its segments and items.
        """
        end_s = duration_s or float(known.last_ns // NS_PER_S + 1)
        if round(end_s * NS_PER_S) <= known.last_ns:
            raise WorkloadError(
                f"{self.source}: a duration of {end_s:g} s ends before the last arrival, {known.last_ns / NS_PER_S} s"
            )
        notes = [*about.get("notes", []), *known.notes]
        about = {**about, "requests": known.requests, "notes": notes}
        rows = known.held
        blocks: Callable[[], Any] = self.blocks if rows is None else lambda: (rows,)
        return Stream(end_s, blocks, about, is_checked=is_checked, **tables)

    def _check(self, rows: np.ndarray, place: Callable[[int], str], last: tuple[int, int]) -> None:
        try:
            check_stream(rows)
        except WorkloadError:
            raise_all([f"{self.source}, {mistake}" for mistake in stream_mistakes(rows, place)])
        if (int(rows["arrival_ns"][0]), int(rows["request_id"][0])) < last:
            raise WorkloadError(
                f"{self.source}, {place(0)}, arrival_ns = {rows['arrival_ns'][0]}: rows must be sorted by arrival, then "
                f"request_id; the row before has {last[0]}"
            )

    def _refuse_repeated(self, repeated: int | None) -> None:
        """Raises WorkloadError at the second row with this id."""
        if repeated is None:
            return
        seen = 0
        for rows, place in self.chunks():
            for row in np.flatnonzero(rows["request_id"] == repeated):
                seen += 1
                if seen == 2:
                    raise WorkloadError(f"{self.source}, {place(int(row))}, request_id = {repeated}: used by an earlier row")


class _Ids:
    """The ids of all rows."""

    def __init__(self) -> None:
        self._kept, self._last, self._rise = array("q"), -1, True

    def add(self, ids: np.ndarray) -> None:
        self._rise = self._rise and int(ids[0]) > self._last and bool(np.all(ids[1:] > ids[:-1]))
        self._last = int(ids[-1])
        self._kept.frombytes(np.ascontiguousarray(ids).tobytes())

    def repeated(self) -> int | None:
        """An id that occurs twice."""
        if self._rise:
            return None
        ids = np.frombuffer(self._kept, np.int64)
        ids.sort()
        again = np.flatnonzero(ids[1:] == ids[:-1])
        return int(ids[again[0]]) if len(again) else None


class _First:
    """The first pieces of an array, some `most` rows; `has_all` of them while there were no more."""

    def __init__(self, most: int) -> None:
        self._room, self.pieces, self.has_all = most, list[np.ndarray](), True

    def add(self, piece: np.ndarray) -> None:
        if self.has_all:
            self._room -= len(piece)
            self.has_all = self._room >= 0
            self.pieces.append(piece.copy())


def _version(source: Path) -> tuple[int, int]:
    if not source.is_file():
        raise WorkloadError(f"{source}: no such file")
    told = os.stat(source)
    return told.st_size, told.st_mtime_ns
