"""Our own CSV and Parquet (workloads/stream_file.py), as two formats among the others.

>>> from workloads.traces import FORMATS
>>> FORMATS["csv"].looked_for
'columns arrival_s, input_tokens, output_tokens'
"""

from __future__ import annotations

from pathlib import Path

from workloads.files.stream_table import KNOWN, REQUIRED
from workloads.stream import Stream
from workloads.stream_file import is_parquet, load, save
from workloads.traces.format import FEATURES, Format, Head


def _is_csv(head: Head) -> bool:
    return any(name in KNOWN for name in head.header)


def _is_parquet(head: Head) -> bool:
    return is_parquet(head.data)


def _write(stream: Stream, path: Path) -> None:
    save(stream, path, overwrite=path.exists())  # who calls has asked about the file itself, nobody about what lies beside


_HOLDS = frozenset(FEATURES)
FORMATS = (
    Format(
        "csv",
        f"columns {', '.join(REQUIRED)}",
        _is_csv,
        load,
        _HOLDS - {"duration"},
        _write,
        suffixes=(".csv", ".csv.gz"),
    ),
    Format("parquet", "a Parquet file with these columns", _is_parquet, load, _HOLDS, _write, suffixes=(".parquet",)),
)
