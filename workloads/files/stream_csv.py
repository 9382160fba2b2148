"""CSV form of the own file format: `.csv` or `.csv.gz`, a header line, `arrival_s` with nine decimals."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from workloads.errors import WorkloadError
from workloads.files import unpacked
from workloads.files.csv_cells import SECONDS, WHOLE, Kind
from workloads.files.csv_table import header_of, read_table
from workloads.files.stream_table import COLUMNS, Table, check_header
from workloads.stream import NS_PER_S

Columns = dict[str, np.ndarray]


def header(source: Path) -> list[str]:
    """The columns of a file. Raises WorkloadError for others than the format has."""
    names = header_of(unpacked.head(source))
    if not names:
        raise WorkloadError(f"{source}: empty, or not readable as CSV; expected a line of column names: {', '.join(COLUMNS)}")
    check_header(source, names)
    return names


def tables(source: Path) -> Iterator[Table]:
    """The rows of a file, a block at a time."""
    first = 0
    for part in read_table(source, _kinds):
        yield Table(part.columns, first, part.place)
        first += len(part.line)


def side_columns(source: Path, dtype: np.dtype[np.void]) -> Iterator[Columns]:
    """The entries of a side table, a block at a time."""
    wanted = list(dtype.names or ())

    def kinds(source: Path, names: list[str]) -> dict[str, Kind]:
        if sorted(names) != sorted(wanted):
            raise WorkloadError(f"{source}, line 1: columns {', '.join(names)[:80]}; expected {', '.join(wanted)}")
        return dict.fromkeys(names, WHOLE)

    return (part.columns for part in read_table(source, kinds))


def write_columns(path: Path, names: list[str], parts: Iterable[Columns], packed: bool) -> None:
    """Writes whole numbers by column; those of `arrival_s`, which are nanoseconds, as seconds."""
    line = ",".join("%d.%09d" if name == "arrival_s" else "%d" for name in names) + "\n"
    with _created(path, packed) as text:
        text.write(",".join(names) + "\n")
        for columns in parts:
            text.writelines(map(line.__mod__, zip(*_numbers(columns, names), strict=True)))


def _kinds(source: Path, names: list[str]) -> dict[str, Kind]:
    check_header(source, names)
    return {name: SECONDS if name == "arrival_s" else WHOLE for name in names}


def _numbers(columns: Columns, names: list[str]) -> Iterator[list[int]]:
    """The numbers that the cells of each line are made of, column by column."""
    for name in names:
        if name == "arrival_s":
            yield (columns[name] // NS_PER_S).tolist()
            yield (columns[name] % NS_PER_S).tolist()
        else:
            yield columns[name].tolist()


@contextmanager
def _created(path: Path, packed: bool) -> Iterator[TextIO]:
    with path.open("wb") as raw:
        # No file name and no clock in the gzip header: same stream, same bytes.
        binary = gzip.GzipFile("", "wb", 6, raw, mtime=0) if packed else raw
        with io.TextIOWrapper(binary, "utf-8", newline="") as text:
            yield text
