"""Parquet form of the own file format; needs pyarrow (the extra `parquet`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from workloads.errors import MOST_MISTAKES, WorkloadError, raise_all
from workloads.files.stream_table import Table, check_header
from workloads.stream import LONGEST_S, NS_PER_S, Stream

FORMAT_VERSION = 1
_BATCH_ROWS = 1 << 16
_BUFFER_BYTES = 1 << 20  # so that a file of one huge row group is not read whole

Columns = dict[str, np.ndarray]


def header(source: Path) -> tuple[list[str], float | None]:
    """The columns of a file and the duration that it keeps. Raises WorkloadError for other columns or types, and nulls."""
    with _opened(source) as (arrow, file):
        names = list(file.schema_arrow.names)
        check_header(source, names)
        _check_types(source, arrow, file.schema_arrow)
        return names, _duration_s((file.schema_arrow.metadata or {}).get(b"servecast"))


def tables(source: Path) -> Iterator[Table]:
    """The rows of a file, a batch at a time."""
    first = 0
    for columns in _batches(source, first_names=None):
        count = len(columns["arrival_s"])
        yield Table(columns, first, _place_from(first))
        first += count


def side_columns(source: Path, dtype: np.dtype[np.void]) -> Iterator[Columns]:
    """The entries of a side table, a batch at a time."""
    return _batches(source, list(dtype.names or ()))


def write_columns(path: Path, names: list[str], parts: Iterable[Columns], about: Stream | None = None) -> None:
    """Zstandard, columns in their order; of a stream, its duration and description as metadata `servecast`."""
    arrow, parquet = _pyarrow()
    told = {} if about is None else {"duration_s": about.duration_s, "description": about.description}
    metadata = {"servecast": json.dumps({"format": FORMAT_VERSION, **told})}
    fields = [(name, arrow.float64() if name == "arrival_s" else arrow.int64()) for name in names]
    schema = arrow.schema(fields, metadata=metadata)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for columns in parts:
            values = [columns[name] / NS_PER_S if name == "arrival_s" else columns[name].astype(np.int64) for name in names]
            writer.write_table(arrow.table(values, schema=schema))


def _batches(source: Path, first_names: list[str] | None) -> Iterator[Columns]:
    """Columns of each batch; of a side table only with these names."""
    with _opened(source) as (arrow, file):
        names = list(file.schema_arrow.names)
        if first_names is not None and sorted(names) != sorted(first_names):
            raise WorkloadError(f"{source}: columns {', '.join(names)[:80]}; expected {', '.join(first_names)}")
        _check_types(source, arrow, file.schema_arrow)
        row = 0
        for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
            yield {name: _values(source, name, batch.column(k), row) for k, name in enumerate(names)}
            row += batch.num_rows


def _place_from(first: int) -> Any:
    return lambda row: f"row {first + row}"


@contextmanager
def _opened(source: Path) -> Iterator[tuple[Any, Any]]:
    """pyarrow and the opened file; whatever pyarrow finds wrong with it is the user's mistake."""
    arrow, parquet = _pyarrow()
    if not source.is_file():
        raise WorkloadError(f"{source}: no such file")
    try:
        with parquet.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            yield arrow, file
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{source}: not a Parquet file: {str(error)[:200]}") from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise WorkloadError("Parquet needs pyarrow: pip install 'servecast[parquet]', or use .csv.gz") from error
    return pyarrow, parquet


def _check_types(source: Path, arrow: Any, schema: Any) -> None:
    mistakes = []
    for field in schema:
        types = arrow.types
        if not (types.is_integer(field.type) or (field.name == "arrival_s" and types.is_floating(field.type))):
            expected = "seconds" if field.name == "arrival_s" else "whole numbers"
            mistakes.append(f"{source}, column {field.name[:40]}: {str(field.type)[:40]}, expected {expected}")
    raise_all(mistakes)


def _values(source: Path, name: str, column: Any, first: int) -> np.ndarray:
    """Whole numbers as int64; arrivals as ns. `first` is the row of the file at which the column begins."""
    if column.null_count:
        row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise WorkloadError(f"{source}, row {row}, column {name}: empty; expected a number")
    values = column.to_numpy(zero_copy_only=False)
    if name != "arrival_s":
        if values.dtype == np.uint64 and len(values) and values.max() > 2**63 - 1:
            raise WorkloadError(f"{source}, column {name}: expected at most 2^63 - 1")
        return values.astype(np.int64, copy=False)
    seconds = values.astype(np.float64, copy=False)
    wrong = np.flatnonzero(~((seconds >= 0.0) & (seconds <= LONGEST_S)))[: MOST_MISTAKES + 1]
    raise_all([f"{source}, row {first + row}, {name} = {seconds[row]}: expected 0 to {LONGEST_S} s" for row in wrong])
    return np.rint(seconds * NS_PER_S).astype(np.int64)


def _duration_s(about: bytes | None) -> float | None:
    """The duration kept in our own files; none where the metadata is absent or somebody else's."""
    try:
        value = json.loads(about or b"{}")["duration_s"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return float(value) if isinstance(value, (int, float)) and 0 < value <= LONGEST_S else None
