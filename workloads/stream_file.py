"""The own file format of a stream: one line per request, CSV (`.csv`, `.csv.gz`) or Parquet (`.parquet`).

Columns: docs/workloads.md; what prompts share has no place in them. `arrival_s` has nine decimals, so it reads back to
the same nanosecond; in Parquet it is a double, which does so up to 23 days. Reading takes nothing on trust and tells up
to ten mistakes at once, with line.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import numpy as np

from workloads.errors import MOST_MISTAKES, WorkloadError, raise_all
from workloads.stream import MAX_TOKENS, NS_PER_S, TOKEN_COLUMNS, Stream, new_rows, stream_mistakes
from workloads.stream_parquet import read_parquet, write_parquet
from workloads.stream_table import COLUMNS, LONGEST_S, Table, check_header
from workloads.whole_file import written_whole

_MAX_LINE = 4096


def save(stream: Stream, path: str | os.PathLike[str], overwrite: bool = False, drop_segments: bool = False) -> None:
    """Writes a stream window by window, whole or not at all. An existing file is refused unless `overwrite`.

    A stream with segments or items is refused, as the file cannot hold them, unless `drop_segments`: then every prompt
    reads back as private text of the same length.
    """
    target = Path(path)
    suffix = _suffix(target)
    if (len(stream.segments) or len(stream.items)) and not drop_segments:
        raise WorkloadError(
            f"{target}: {len(stream.segments)} segments and {len(stream.items)} items of the stream's prompts have no place in "
            f"a {suffix} file; drop_segments=True writes the rest, its prompts then share nothing"
        )
    if target.exists() and not overwrite:
        raise WorkloadError(f"{target}: exists already; give another name, or overwrite=True")
    with written_whole(target) as part:
        if suffix == ".parquet":
            write_parquet(stream, part)
        else:
            _write_csv(stream, part, packed=suffix == ".csv.gz")


def load(path: str | os.PathLike[str], max_rows: int = 50_000_000, duration_s: float | None = None) -> Stream:
    """The stream of a file. Raises WorkloadError with file and line.

    Columns that are absent get: request_id = row number, client_id 0, session_id -1, turn 1, max_tokens =
    output_tokens, priority 0. The duration, unless given or kept in the file, ends with the first whole second after
    the last arrival.
    """
    source = Path(path)
    suffix = _suffix(source)
    if not source.is_file():
        raise WorkloadError(f"{source}: no such file")
    if suffix == ".parquet":
        table = read_parquet(source, max_rows)
    else:
        table = _read_csv(source, max_rows)
    rows = _rows(source, table)
    last_ns = int(rows["arrival_ns"][-1])
    end_s = duration_s or table.duration_s or float(last_ns // NS_PER_S + 1)
    if round(end_s * NS_PER_S) <= last_ns:
        raise WorkloadError(f"{source}: a duration of {end_s:g} s ends before the last arrival, {last_ns / NS_PER_S} s")
    return Stream(end_s, partial(_once, rows), {"source": "trace", "file": source.name, "requests": len(rows)}, is_checked=True)


def _rows(source: Path, table: Table) -> np.ndarray:
    """STREAM rows of a table, checked."""
    count = len(table.columns["arrival_s"])
    if not count:
        raise WorkloadError(f"{source}: no requests in it")
    mistakes = [m for name, values in table.columns.items() for m in _too_wide(name, values, table.place)]
    raise_all([f"{source}, {mistake}" for mistake in mistakes])
    rows = new_rows(count)
    rows["request_id"] = np.arange(count)
    rows["max_tokens"] = table.columns["output_tokens"]
    for name, values in table.columns.items():
        rows["arrival_ns" if name == "arrival_s" else name] = values
    raise_all([f"{source}, {mistake}" for mistake in stream_mistakes(rows, table.place)])
    return rows


def _too_wide(name: str, values: np.ndarray, place: Callable[[int], str]) -> list[str]:
    """Values that their column of STREAM could not hold, or that no request can have."""
    if name in ("arrival_s", "request_id", "session_id"):
        return []
    most = MAX_TOKENS if name in TOKEN_COLUMNS else 2**31 - 1
    wrong = np.flatnonzero((values > most) | (values < -(2**31)))[: MOST_MISTAKES + 1]
    return [f"{place(int(row))}, {name} = {values[row]}: expected at most {most}" for row in wrong]


def _suffix(path: Path) -> str:
    for suffix in (".csv.gz", ".csv", ".parquet"):
        if path.name.endswith(suffix):
            return suffix
    raise WorkloadError(f"{path}: expected a name that ends in .csv, .csv.gz or .parquet")


def _once(rows: np.ndarray) -> Iterator[np.ndarray]:
    yield rows


def _write_csv(stream: Stream, path: Path, packed: bool) -> None:
    with path.open("wb") as raw:
        # No file name and no clock in the gzip header: same stream, same bytes.
        binary = gzip.GzipFile("", "wb", 6, raw, mtime=0) if packed else raw
        with io.TextIOWrapper(binary, "utf-8", newline="") as text:
            text.write(",".join(COLUMNS) + "\n")
            for rows in stream.windows(600.0):
                text.writelines(_csv_lines(rows))


def _csv_lines(rows: np.ndarray) -> Iterator[str]:
    names = ["arrival_ns" if name == "arrival_s" else name for name in COLUMNS]
    for request, client, session, turn, ns, *rest in zip(*(rows[name].tolist() for name in names), strict=True):
        seconds = f"{ns // NS_PER_S}.{ns % NS_PER_S:09d}"
        yield ",".join(map(str, (request, client, session, turn, seconds, *rest))) + "\n"


def _read_csv(source: Path, max_rows: int) -> Table:
    try:
        with _opened(source) as text:
            return _read_csv_text(source, csv.reader(_bounded_lines(source, text)), max_rows)
    except (gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError, csv.Error, OSError) as error:
        raise WorkloadError(f"{source}: not readable as CSV: {error}") from error


@contextmanager
def _opened(source: Path) -> Iterator[TextIO]:
    """The text of a plain or gzipped file; a byte order mark, as spreadsheets write it, is no part of it."""
    with source.open("rb") as raw:
        binary = gzip.GzipFile(fileobj=raw) if source.suffix == ".gz" else raw
        yield io.TextIOWrapper(cast(BinaryIO, binary), "utf-8-sig", newline="")


def _bounded_lines(source: Path, text: TextIO) -> Iterator[str]:
    number = 0
    while line := text.readline(_MAX_LINE + 1):
        number += 1
        if len(line) > _MAX_LINE:
            raise WorkloadError(f"{source}, line {number}: longer than {_MAX_LINE} characters")
        yield line


def _read_csv_text(source: Path, reader: Iterator[list[str]], max_rows: int) -> Table:
    names = [name.strip() for name in next(reader, [])]
    if not names:
        raise WorkloadError(f"{source}: empty; expected a line of column names: {', '.join(COLUMNS)}")
    check_header(source, names)
    columns = {name: array("q") for name in names}
    mistakes: list[str] = []
    for line, cells in enumerate(reader, start=2):
        if line - 1 > max_rows:
            raise WorkloadError(f"{source}: more than {max_rows} rows")
        mistakes += _store_row(columns, cells, f"{source}, line {line}")
        if len(mistakes) > MOST_MISTAKES:
            break
    raise_all(mistakes)
    whole = {name: np.frombuffer(values, np.int64) if values else np.empty(0, np.int64) for name, values in columns.items()}
    return Table(whole, lambda row: f"line {row + 2}")


def _store_row(columns: dict[str, array[int]], cells: list[str], place: str) -> list[str]:
    """Appends one line's numbers to the columns; returns its mistakes."""
    if len(cells) != len(columns):
        return [f"{place}: {len(cells)} cells, expected {len(columns)}"]
    mistakes = []
    for (name, values), cell in zip(columns.items(), cells, strict=True):
        number = _nanoseconds(cell) if name == "arrival_s" else _whole_number(cell)
        if number is None:
            kind = f"seconds from 0 to {LONGEST_S}" if name == "arrival_s" else "a whole number"
            mistakes.append(f"{place}, {name} = {cell[:40]!r}: expected {kind}")
        else:
            values.append(number)
    return mistakes


def _nanoseconds(cell: str) -> int | None:
    """Decimal seconds as ns, to the nearest. None where the text is not such a number, or out of range."""
    try:
        seconds = Decimal(cell.strip()) if len(cell) <= 40 and "_" not in cell else None
    except InvalidOperation:
        return None
    if seconds is None or not seconds.is_finite() or not 0 <= seconds <= LONGEST_S or seconds.is_signed():
        return None
    return int((seconds * NS_PER_S).to_integral_value())


def _whole_number(cell: str) -> int | None:
    text = cell.strip()
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        return None
    return int(text)
