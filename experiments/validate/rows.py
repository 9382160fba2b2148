"""Rows of a CSV file of measurements: texts by column, read into numbers, every mistake with its line and column."""

import csv
import math
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from experiments.errors import UserError, nearest
from workloads.errors import WorkloadError
from workloads.files import unpacked

LONGEST_LINE = 1 << 20
MOST_MISTAKES = 20
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LONGEST_NUMBER = 40


class Mistakes:
    """What is wrong with a file, collected so that it is told at once."""

    def __init__(self, source: Path):
        self.source = source
        self.found: list[str] = []

    def add(self, line: int, what: str) -> None:
        """A sentence on a line of the file."""
        self.found.append(f"{self.source}, line {line}{what}")

    @property
    def are_enough(self) -> bool:
        """Whether more would only fill the screen."""
        return len(self.found) > MOST_MISTAKES

    def raise_any(self) -> None:
        """UserError with the first MOST_MISTAKES of them, unless there are none."""
        if self.found:
            more = ["further mistakes are not listed"] if self.are_enough else []
            raise UserError(self.found[:MOST_MISTAKES] + more)


class Row:
    """The cells of one line by column; columns that the file does not have are empty.

    A reader that finds a mistake adds it to `mistakes` and returns None or an empty text, with which nothing is done.
    """

    __slots__ = ("_cells", "_mistakes", "line")

    def __init__(self, cells: dict[str, str], line: int, mistakes: Mistakes):
        self._cells = cells
        self._mistakes = mistakes
        self.line = line

    def text(self, column: str, is_needed: bool = True) -> str:
        """The cell, stripped."""
        text = self._cells.get(column, "").strip()
        if is_needed and not text:
            self.wrong(column, "a text")
        return text

    def one_of(self, column: str, known: Collection[str], default: str | None = None) -> str:
        """The cell, one of the known words; `default` for an empty one."""
        text = self.text(column, default is None) or default or ""
        if text and text not in known and text != default:
            self.wrong(column, f"one of {', '.join(known)}{nearest(text, known)}")
        return text

    def number(self, column: str, least: float, most: float, is_needed: bool = True) -> float | None:
        """The cell as a finite number from least to most; None for an empty one that is not needed."""
        text = self.text(column, False)
        if not text and not is_needed:
            return None
        value = float(text) if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) else math.nan
        if not least <= value <= most:
            self.wrong(column, f"a number from {least:g} to {most:g}")
            return None
        return value

    def whole(self, column: str, least: int, most: int, is_needed: bool = True) -> int | None:
        """As `number`, for a whole one; `1024.0` is one too."""
        value = self.number(column, least, most, is_needed)
        if value is not None and not value.is_integer():
            self.wrong(column, f"a whole number from {least} to {most}")
        return None if value is None else int(value)

    def wrong(self, column: str, expected: str) -> None:
        """Add a mistake about a cell."""
        self._mistakes.add(self.line, f", {column} = {self._cells.get(column, '')[:40]!r}: expected {expected}")


def read_rows(
    mistakes: Mistakes, needed: Sequence[str], optional: Collection[str] = (), most_rows: int = 1_000_000
) -> Iterator[Row]:
    """The rows of the file that `mistakes` is about, plain or gzipped, a line each; blank lines are none.

    Columns may stand in any order; others than these are passed over, unless one has nearly the name of an optional one.
    UserError at once for a file that cannot be read, has no sound header or too many rows; a line with a wrong number of
    cells is added to the mistakes and passed over.
    """
    names: list[str] = []
    rows = 0
    for line, content in _lines(mistakes.source):
        cells = _cells(content, line, mistakes)
        if not names:
            mistakes.raise_any()
            names = [cell.strip() for cell in cells or []]
            _check_header(names, line, mistakes, needed, optional)
            continue
        rows += 1
        if rows > most_rows:
            raise UserError(f"{mistakes.source}, line {line}: more than {most_rows:,} rows")
        if cells is not None and len(cells) != len(names):
            mistakes.add(line, f": {len(cells)} cells, expected {len(names)}")
        elif cells is not None:
            yield Row(dict(zip(names, cells)), line, mistakes)
        if mistakes.are_enough:
            break
    if not names:
        raise UserError(f"{mistakes.source}: empty; expected a line of column names")


def _check_header(
    names: Sequence[str], line: int, mistakes: Mistakes, needed: Sequence[str], optional: Collection[str]
) -> None:
    unknown = [name for name in dict.fromkeys(names) if name not in needed and name not in optional]
    for name in needed:
        if name not in names:
            mistakes.add(line, f": column {name!r} is missing{nearest(name, unknown)}")
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            mistakes.add(line, f": column {name[:40]!r} occurs {names.count(name)} times")
    for name in unknown:
        if hint := nearest(name, [other for other in optional if other not in names]):
            mistakes.add(line, f": column {name[:40]!r} is not known{hint}")
    mistakes.raise_any()


def _lines(source: Path) -> Iterator[tuple[int, bytes]]:
    try:
        yield from unpacked.lines(source, LONGEST_LINE)
    except WorkloadError as error:
        raise UserError(str(error)) from None


def _cells(content: bytes, line: int, mistakes: Mistakes) -> list[str] | None:
    try:
        return next(csv.reader([content.decode("utf-8").rstrip("\r")], strict=True), [])
    except UnicodeDecodeError as error:
        mistakes.add(line, f": not UTF-8 text at byte {error.start + 1}")
    except csv.Error as error:
        mistakes.add(line, f": not readable as CSV: {error}")
    return None
