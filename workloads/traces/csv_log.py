"""A provider's log in CSV, a line for each request: what reading Azure's and BurstGPT's has in common.

Time begins with the first line. Requests without an answer or without a prompt are left out, counted and told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workloads.errors import WorkloadError, nearest, raise_all
from workloads.files.csv_cells import WHOLE, Kind
from workloads.files.csv_table import Part, read_table
from workloads.files.rows_in_chunks import MAX_ROWS, Chunk, FileOfRows
from workloads.stream import LONGEST_S, MAX_TOKENS, NS_PER_S, Stream, new_rows

Columns = Mapping[str, np.ndarray]


class Log(NamedTuple):
    """The columns of a log that a row needs, the kind of its times, and what else is read where it is there."""

    name: str
    time: str
    time_kind: Kind
    input: str
    output: str


class Extra(NamedTuple):
    """Further columns by kind, made anew for each pass; `fill` puts them into rows, `about` is what a pass has found."""

    kinds: Mapping[str, Kind]
    fill: Callable[[np.ndarray, Columns], None]
    about: Callable[[], dict[str, Any]]


def read_log(
    source: Path, log: Log, extra: Callable[[], Extra], about_start: Callable[[int], Any], max_rows: int = MAX_ROWS
) -> Stream:
    """The stream of a log of any size. Requests are numbered by line, from 0; max_tokens is output_tokens, the client 0.

    `description` gets `start`, the time of the first line by `about_start`, and `failures`. Raises WorkloadError with file
    and line.
    """
    found: dict[str, Any] = {}
    file = FileOfRows(source, lambda: _chunks(source, log, extra(), found), max_rows)
    known = file.known()
    start, failures = about_start(found.pop("start_ns")), found.pop("failures")
    notes = found.pop("notes", [])
    if failures:
        share = failures / (failures + known.requests)
        left_out = f"{failures} lines ({share:.2%}) without {log.output} or without {log.input} are failures and left out"
        notes = [left_out, *notes]
    about = {"source": "trace", "format": log.name, "file": source.name, "start": start, "failures": failures}
    return file.stream(known, {**about, **found, "notes": notes})


def check_columns(source: Path, names: list[str], needed: tuple[str, ...]) -> None:
    """Raises WorkloadError where a needed column is missing or occurs twice, with the nearest that is there."""
    mistakes = [f"{source}, line 1: column {n!r} is missing{nearest(n, names)}" for n in needed if n not in names]
    mistakes += [f"{source}, line 1: column {n[:40]!r} occurs twice" for n in sorted({n for n in names if names.count(n) > 1})]
    raise_all(mistakes)


def _chunks(source: Path, log: Log, extra: Extra, found: dict[str, Any]) -> Iterator[Chunk]:
    def kinds(source: Path, names: list[str]) -> dict[str, Kind]:
        check_columns(source, names, (log.time, log.input, log.output))
        optional = {name: kind for name, kind in extra.kinds.items() if name in names}
        return {log.time: log.time_kind, log.input: WHOLE, log.output: WHOLE, **optional}

    start_ns, first, failures = None, 0, 0
    for part in read_table(source, kinds):
        if start_ns is None:
            start_ns = int(part.columns[log.time][0])
        rows, kept = _rows(source, part, log, start_ns, first)
        extra.fill(rows, part.columns)
        first += len(rows)
        failures += len(rows) - len(kept)
        if len(kept):
            yield Chunk(rows[kept], _places(part.line[kept]))
    found.update(start_ns=start_ns, failures=failures, **extra.about())


def _rows(source: Path, part: Part, log: Log, start_ns: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """STREAM rows of all lines, and which of them are requests that were answered."""
    tokens = {name: part.columns[name] for name in (log.input, log.output)}
    raise_all([
        f"{source}, {part.place(int(row))}, {name} = {values[row]}: expected 0 to {MAX_TOKENS}"
        for name, values in tokens.items()
        for row in np.flatnonzero((values < 0) | (values > MAX_TOKENS))[:11]
    ])  # fmt: skip
    arrival_ns = part.columns[log.time] - start_ns
    wrong = np.flatnonzero((arrival_ns < 0) | (arrival_ns > LONGEST_S * NS_PER_S))
    if len(wrong):
        seconds = arrival_ns[wrong[0]] / NS_PER_S
        raise WorkloadError(
            f"{source}, {part.place(int(wrong[0]))}, {log.time} is {seconds:.3f} s after that of the first line: "
            f"expected lines sorted by time, over at most {LONGEST_S} s"
        )
    rows = new_rows(len(part.line))
    rows["request_id"] = np.arange(first, first + len(rows))
    rows["arrival_ns"], rows["input_tokens"] = arrival_ns, tokens[log.input]
    rows["output_tokens"] = rows["max_tokens"] = tokens[log.output]
    return rows, np.flatnonzero((tokens[log.input] > 0) & (tokens[log.output] > 0))


def _places(line: np.ndarray) -> Callable[[int], str]:
    return lambda row: f"line {line[row]}"
