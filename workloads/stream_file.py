"""The own file format of a stream: one line per request, CSV (`.csv`, `.csv.gz`) or Parquet (`.parquet`).

Columns and what lies beside the file: docs/traces.md. `arrival_s` has nine decimals, so it reads back to the same
nanosecond; in Parquet it is a double, which does so up to 23 days. Reading takes nothing on trust and tells up to ten
mistakes at once, with line; a file of any size is read in chunks (rows_in_chunks.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workloads.errors import MOST_MISTAKES, WorkloadError, raise_all
from workloads.files import stream_csv, stream_parquet, unpacked
from workloads.files.rows_in_chunks import MAX_ROWS, Chunk, FileOfRows
from workloads.files.side_tables import SIDES, Sums, side_path
from workloads.files.stream_table import (
    ITEM_COLUMNS,
    ITEM_SLICE,
    RARE,
    SEGMENT_SLICE,
    Table,
    check_item_columns,
    columns_for,
    rows_of,
)
from workloads.segments import segment_mistakes
from workloads.stream import MODALITIES, STREAM, Stream
from workloads.whole_file import written_whole

SUFFIXES = (".csv.gz", ".csv", ".parquet")
_WRITTEN_ROWS = 1 << 17  # at once: a row group of Parquet


def save(stream: Stream, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Writes a stream, and its SEGMENTS and ITEMS beside it where it has any, whole or not at all.

    Existing files are refused unless `overwrite`.
    """
    target = Path(path)
    suffix = suffix_of(target)
    tables = {"segments": stream.segments, "items": stream.items}
    sides = {name: side_path(target, suffix, name) for name in SIDES}
    used = {name: sides[name] for name in SIDES if len(tables[name])}
    for file in (target, *used.values()):
        if file.exists() and not overwrite:
            raise WorkloadError(f"{file}: exists already; give another name, or overwrite=True")
    with ExitStack() as stack:  # the last to be opened gets its name first, so a stream's file never lacks what it points into
        main = stack.enter_context(written_whole(target))
        for name, file in used.items():
            names = list(SIDES[name].names or ())
            entries = ({column: part[column] for column in names} for part in _parts([tables[name]]))
            _write(stack.enter_context(written_whole(file)), suffix, names, entries)
        _write_rows(main, suffix, stream)
    for name in set(SIDES) - set(used):
        if overwrite:
            sides[name].unlink(missing_ok=True)


def load(path: str | os.PathLike[str], max_rows: int = MAX_ROWS, duration_s: float | None = None) -> Stream:
    """The stream of a file, gone through once and checked. Raises WorkloadError with file and line.

    Columns that are absent get: request_id = row number, client_id 0, session_id -1, turn 1, max_tokens =
    output_tokens, priority, model and reason_tokens 0. The duration, unless given or kept in the file, ends with the first
    whole second after the last arrival. What text, image, audio and video tokens a file without items tells is added up in
    the description.
    """
    source = Path(path)
    form = _form(source)
    sides = {
        name: _side(source, form.suffix, name, max_rows) if slice_[0] in form.names else np.empty(0, SIDES[name])
        for name, slice_ in (("segments", SEGMENT_SLICE), ("items", ITEM_SLICE))
    }
    has_sides = bool(set(form.names) & {*SEGMENT_SLICE, *ITEM_SLICE})
    sums, totals = Sums.over(**sides) if has_sides else None, dict[str, int]()
    file = FileOfRows(source, lambda: _chunks(source, form.tables(), sums, totals), max_rows)
    known = file.known()
    if has_sides and known.held is not None:
        ids = known.held["request_id"]
        mistakes = segment_mistakes(known.held, **sides, place=lambda row: f"request {ids[row]}")
        raise_all([f"{source}, {mistake}" for mistake in mistakes])
    about = {"source": "trace", "format": form.suffix.split(".")[1], "file": source.name, **totals}
    # A larger stream's pieces are checked for their place and sum here; who plays it looks at the rest.
    is_checked = not has_sides or known.held is not None
    return file.stream(known, about, duration_s or form.duration_s, is_checked, **sides)


def suffix_of(path: Path) -> str:
    """The suffix that says which form a file has. Raises WorkloadError for a name without one."""
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise WorkloadError(f"{path}: expected a name that ends in .csv, .csv.gz or .parquet")


def is_parquet(head: bytes) -> bool:
    """Whether a file that begins like this is Parquet, as it says of itself."""
    return head.startswith(b"PAR1")


class _Form(NamedTuple):
    """What a file says of itself: its form by suffix, its columns, how to go through its rows, the duration it keeps."""

    suffix: str
    names: list[str]
    tables: Callable[[], Iterator[Table]]
    duration_s: float | None


def _form(source: Path) -> _Form:
    suffix = next((suffix for suffix in SUFFIXES if source.name.endswith(suffix)), ".csv")
    if suffix == ".parquet" or is_parquet(unpacked.head(source, 4)):
        names, duration_s = stream_parquet.header(source)
        return _Form(".parquet", names, partial(stream_parquet.tables, source), duration_s)
    return _Form(suffix, stream_csv.header(source), partial(stream_csv.tables, source), None)


class _RareColumns(Exception):
    """Columns that only now turn out to be needed."""


def _write_rows(part: Path, suffix: str, stream: Stream) -> None:
    """Writes the rows; from the start once more where a rare column is met, as the columns stand in front."""
    sums = Sums.over(stream.segments, stream.items)
    rare: set[str] = set()
    while True:
        names = columns_for(rare, len(stream.segments) > 0, len(stream.items) > 0)
        try:
            return _write(part, suffix, names, (_columns(rows, names, sums) for rows in _parts(stream.blocks())), stream)
        except _RareColumns as found:
            rare |= set(found.args)


def _write(part: Path, suffix: str, names: list[str], columns: Iterable[Any], about: Stream | None = None) -> None:
    if suffix == ".parquet":
        stream_parquet.write_columns(part, names, columns, about)
    else:
        stream_csv.write_columns(part, names, columns, packed=about is None or suffix == ".csv.gz")


def _parts(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The rows of blocks, `_WRITTEN_ROWS` at a time however they came: the same stream, the same bytes."""
    kept, count = list[np.ndarray](), 0
    for block in blocks:
        kept.append(block)
        count += len(block)
        while count >= _WRITTEN_ROWS:
            rows = np.concatenate(kept)
            yield rows[:_WRITTEN_ROWS]
            kept, count = [rows[_WRITTEN_ROWS:]], count - _WRITTEN_ROWS
    if count:
        yield np.concatenate(kept)


def _columns(rows: np.ndarray, names: list[str], sums: Sums) -> dict[str, np.ndarray]:
    """The columns of a file; arrivals are still ns."""
    if found := [name for name in RARE if name not in names and rows[name].any()]:
        raise _RareColumns(*found)
    columns = {name: rows[name] for name in names if name in (STREAM.names or ())}
    columns["arrival_s"] = rows["arrival_ns"]
    if ITEM_COLUMNS[0] in names:
        columns |= sums.of_items(rows)
        columns["text_tokens"] = rows["input_tokens"] - sum(columns[f"{name}_tokens"] for name in MODALITIES)
    return columns


def _chunks(source: Path, read: Iterator[Table], sums: Sums | None, totals: dict[str, int]) -> Iterator[Chunk]:
    """STREAM rows; at the end of a pass `totals` has the sums of columns for which STREAM has none."""
    found = dict[str, int]()
    for table in read:
        rows = rows_of(source, table)
        if sums is not None:
            raise_all([
                f"{source}, {table.place(int(row))}, {name} = {rows[name][row]}: {expected}"
                for name, wrong, expected in sums.misfits(rows)
                for row in np.flatnonzero(wrong)[: MOST_MISTAKES + 1]
            ])  # fmt: skip
        has_items = sums is not None and ITEM_SLICE[0] in table.columns
        check_item_columns(source, table, sums.of_items(rows) if has_items and sums else None)
        for name in ITEM_COLUMNS:
            if name in table.columns:
                found[name] = found.get(name, 0) + int(table.columns[name].sum())
        yield Chunk(rows, table.place)
    totals.update(found)


def _side(source: Path, suffix: str, name: str, max_rows: int) -> np.ndarray:
    """A table beside the file, whole. Raises WorkloadError where it is absent, too long, or holds what its columns cannot."""
    path, dtype = side_path(source, suffix, name), SIDES[name]
    if not path.is_file():
        raise WorkloadError(f"{source}: its {name} are in {path.name}, which is not beside it")
    parts, count = [np.empty(0, dtype)], 0
    reader = stream_parquet.side_columns if suffix == ".parquet" else stream_csv.side_columns
    for columns in reader(path, dtype):
        part = np.empty(len(columns["tokens"]), dtype)
        for column, values in columns.items():
            range_ = np.iinfo(dtype[column])
            wrong = np.flatnonzero((values < range_.min) | (values > range_.max))
            if len(wrong):
                row = count + int(wrong[0])
                raise WorkloadError(f"{path}, row {row}, {column} = {values[wrong[0]]}: expected at most {range_.max}")
            part[column] = values
        count += len(part)
        if count > max_rows:
            raise WorkloadError(f"{path}: more than {max_rows} rows")
        parts.append(part)
    return np.concatenate(parts)
