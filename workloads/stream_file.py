"""The own file format of a stream: one line per request, CSV (`.csv`, `.csv.gz`) or Parquet (`.parquet`).

Columns: docs/workloads.md. `arrival_s` has nine decimals, so it reads back to the same nanosecond; in Parquet it is a
double, which does so up to 23 days. A file is written beside its target and then renamed: it is there whole or not at
all. Reading takes nothing on trust and tells up to ten mistakes at once, with their line.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from workloads.errors import MOST_MISTAKES, WorkloadError, nearest, raise_all
from workloads.stream import MAX_TOKENS, NS_PER_S, STREAM, Stream, check_stream, new_rows

FORMAT_VERSION: Final = 1
REQUIRED: Final = ("arrival_s", "input_tokens", "output_tokens")
OPTIONAL: Final = ("request_id", "client_id", "session_id", "turn", "max_tokens", "priority")
COLUMNS: Final = (
    "request_id",
    "client_id",
    "session_id",
    "turn",
    "arrival_s",
    "input_tokens",
    "output_tokens",
    "max_tokens",
    "priority",
)
SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")

_MAX_ARRIVAL_S = 10_000_000  # 115 days
_SECONDS = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,18}))?")
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_MAX_LINE = 4096


def save(stream: Stream, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Writes a stream window by window. An existing file is refused unless `overwrite`. Raises WorkloadError."""
    target = Path(path)
    write = _WRITERS[_suffix(target)]
    if target.exists() and not overwrite:
        raise WorkloadError(f"{target}: exists already; give another name, or overwrite=True")
    if not target.parent.is_dir():
        raise WorkloadError(f"{target}: there is no folder {target.parent}")
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        write(stream, Path(temporary))
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load(path: str | os.PathLike[str], max_rows: int = 50_000_000, duration_s: float | None = None) -> Stream:
    """The stream of a file. Missing optional columns get: id = row number, client 0, no session, turn 1,
    max_tokens = output_tokens, priority 0. The duration, unless given or kept in the file, ends with the first whole
    second after the last arrival. Raises WorkloadError with file and line.
    """
    source = Path(path)
    suffix = _suffix(source)
    if not source.is_file():
        raise WorkloadError(f"{source}: no such file")
    rows, kept_s = _READERS[suffix](source, max_rows)
    if not len(rows):
        raise WorkloadError(f"{source}: no requests in it")
    try:
        check_stream(rows)
    except WorkloadError as error:
        first = "row" if suffix == ".parquet" else "line 2 is row 0;"
        raise WorkloadError(f"{source} ({first} counts from 0):\n{error}") from None
    last_ns = int(rows["arrival_ns"][-1])
    end_s = duration_s or kept_s or float(last_ns // NS_PER_S + 1)
    if round(end_s * NS_PER_S) <= last_ns:
        raise WorkloadError(f"{source}: duration {end_s:g} s ends before the last arrival, {last_ns / NS_PER_S:.9f} s")
    return Stream(end_s, partial(_once, rows), {"source": "trace", "file": source.name, "requests": len(rows)})
