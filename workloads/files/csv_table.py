"""A CSV table with a header line, read in blocks of columns: at once where its text is plain, else cell by cell.

The second way also finds what is wrong, and tells it with file, line and column.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from workloads.errors import MOST_MISTAKES, WorkloadError, raise_all
from workloads.files import unpacked
from workloads.files.csv_cells import Kind, columns_of

LONGEST_LINE = 4096

Header = Callable[[Path, list[str]], Mapping[str, Kind]]


class Part(NamedTuple):
    """Some consecutive rows of a table: int64 by column, and the line of the file that each stands on."""

    columns: dict[str, np.ndarray]
    line: np.ndarray

    def place(self, row: int) -> str:
        """Where a row stands, to the user."""
        return f"line {self.line[row]}"


def read_table(source: Path, kinds_of: Header) -> Iterator[Part]:
    """The rows of a file, a block at a time; blank lines are none.

    `kinds_of` gives what each column of the header is to be read as, and raises WorkloadError for a header that is wrong;
    columns that it leaves out are passed over.
    """
    names: list[str] = []
    kinds: Mapping[str, Kind] = {}
    for data, line in unpacked.blocks(source, LONGEST_LINE):
        if line == 1:
            first, _, data = data.partition(b"\n")
            names, line = _header(source, first), 2
            kinds = kinds_of(source, names)
        if data.strip():
            part = _at_once(data, line, names, kinds) or _by_cells(source, data, line, names, kinds)
            if len(part.line):
                yield part
    if not names:
        raise WorkloadError(f"{source}: empty; expected a line of column names")


def header_of(head: bytes) -> list[str]:
    """The cells of the first line of a text, stripped; none where it is no text."""
    try:
        line = head.partition(b"\n")[0].decode("utf-8-sig")
        return [name.strip() for name in next(csv.reader([line.rstrip("\r")], strict=True), [])]
    except (UnicodeDecodeError, csv.Error):
        return []


def _header(source: Path, line: bytes) -> list[str]:
    names = header_of(line) if len(line) <= LONGEST_LINE else []
    if not names:
        raise WorkloadError(f"{source}, line 1: not readable as CSV: expected a line of column names in UTF-8")
    return names


def _at_once(data: bytes, line: int, names: list[str], kinds: Mapping[str, Kind]) -> Part | None:
    cells = columns_of(data, len(names))
    if cells is None:
        return None
    columns = {}
    for name, of_name in zip(names, cells, strict=True):
        if name in kinds:
            values = kinds[name].of_all(of_name)
            if values is None:
                return None
            columns[name] = values
    return Part(columns, np.arange(line, line + len(cells[0].start)))


def _by_cells(source: Path, data: bytes, line: int, names: list[str], kinds: Mapping[str, Kind]) -> Part:
    columns, lines = {name: array("q") for name in kinds}, array("q")
    mistakes: list[str] = []
    for number, text in enumerate(data.split(b"\n")[:-1], start=line):
        if not text.strip():
            continue
        cells, wrong = _cells(text, len(names))
        values = {name: kinds[name].of_one(cell) for name, cell in zip(names, cells) if name in kinds}
        wrong += [
            f", {name} = {cell[:40]!r}: expected {kinds[name].expected}"
            for name, cell in zip(names, cells)
            if name in kinds and values[name] is None
        ]
        mistakes += [f"{source}, line {number}{what}" for what in wrong]
        if len(mistakes) > MOST_MISTAKES:
            break
        if not wrong:
            lines.append(number)
            for name, column in columns.items():
                column.append(values[name] or 0)
    raise_all(mistakes)
    return Part({name: np.array(values, np.int64) for name, values in columns.items()}, np.array(lines, np.int64))


def _cells(text: bytes, count: int) -> tuple[list[str], list[str]]:
    """The cells of a line, and what is wrong with it as a whole."""
    if len(text) > LONGEST_LINE:
        return [], [f": longer than {LONGEST_LINE} bytes"]
    try:
        cells = next(csv.reader([text.decode("utf-8").rstrip("\r")], strict=True), [])
    except UnicodeDecodeError as error:
        return [], [f": not UTF-8 text at byte {error.start + 1}"]
    except csv.Error as error:
        return [], [f": not readable as CSV: {error}"]
    return (cells, []) if len(cells) == count else ([], [f": {len(cells)} cells, expected {count}"])
