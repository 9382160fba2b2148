"""Parquet form of the own file format; needs pyarrow (the extra `parquet`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from workloads.errors import WorkloadError, raise_all
from workloads.stream import NS_PER_S, Stream
from workloads.stream_table import COLUMNS, LONGEST_S, Table, check_header

FORMAT_VERSION = 1


def write_parquet(stream: Stream, path: Path) -> None:
    """Zstandard, columns in the format's order, and the stream's duration and description as metadata `servecast`."""
    arrow, parquet = _pyarrow()
    about = {"format": FORMAT_VERSION, "duration_s": stream.duration_s, "description": stream.description}
    fields = [(name, arrow.float64() if name == "arrival_s" else arrow.int64()) for name in COLUMNS]
    schema = arrow.schema(fields, metadata={"servecast": json.dumps(about)})
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in stream.windows(3600.0):
            values = [rows["arrival_ns"] / NS_PER_S if name == "arrival_s" else rows[name].astype(np.int64) for name in COLUMNS]
            writer.write_table(arrow.table(values, schema=schema))


def read_parquet(source: Path, max_rows: int) -> Table:
    """The columns of a file. Raises WorkloadError for other columns or types, nulls, and more than `max_rows` rows."""
    arrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(source) as file:
            names = list(file.schema_arrow.names)
            check_header(source, names)
            if file.metadata.num_rows > max_rows:
                raise WorkloadError(f"{source}: more than {max_rows} rows")
            content, about = file.read(), file.schema_arrow.metadata or {}
    except (arrow.ArrowException, OSError) as error:
        raise WorkloadError(f"{source}: not a Parquet file: {error}") from error
    mistakes = [m for name in names if (m := _wrong_type(arrow, name, content.column(name)))]
    raise_all([f"{source}, {mistake}" for mistake in mistakes])
    columns = {name: _values(source, name, content.column(name).to_numpy()) for name in names}
    return Table(columns, lambda row: f"row {row}", _duration_s(about.get(b"servecast")))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise WorkloadError("Parquet needs pyarrow: pip install 'servecast[parquet]', or use .csv.gz") from error
    return pyarrow, parquet


def _wrong_type(arrow: Any, name: str, column: Any) -> str | None:
    types = arrow.types
    fits = types.is_integer(column.type) or (name == "arrival_s" and types.is_floating(column.type))
    if not fits:
        return f"column {name}: {column.type}, expected {'seconds' if name == 'arrival_s' else 'whole numbers'}"
    return f"column {name}: {column.null_count} empty values" if column.null_count else None


def _values(source: Path, name: str, values: np.ndarray) -> np.ndarray:
    """Whole numbers as int64; arrivals as ns."""
    if name != "arrival_s":
        if values.dtype == np.uint64 and len(values) and values.max() > 2**63 - 1:
            raise WorkloadError(f"{source}, column {name}: expected at most 2^63 - 1")
        return values.astype(np.int64)
    seconds = values.astype(np.float64)
    wrong = np.flatnonzero(~((seconds >= 0.0) & (seconds <= LONGEST_S)))
    raise_all([f"{source}, row {row}, {name} = {seconds[row]}: expected 0 to {LONGEST_S} s" for row in wrong[:11]])
    return np.rint(seconds * NS_PER_S).astype(np.int64)


def _duration_s(about: bytes | None) -> float | None:
    """The duration kept in our own files; none where the metadata is absent or somebody else's."""
    try:
        value = json.loads(about or b"{}")["duration_s"]
    except (ValueError, KeyError, TypeError):
        return None
    return float(value) if isinstance(value, (int, float)) and 0 < value <= LONGEST_S else None
