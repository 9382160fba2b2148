"""Traces of other people's clusters, one reader per format; `read_trace` picks it by the file's name.

mooncake.py reads prompts as chained blocks. Our own CSV and Parquet belong to workloads/stream_file.py. grid.py tells
whether a trace's clock is too coarse for its latencies to mean anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workloads.stream import Stream

__all__ = ["READERS", "read_trace"]


def read_trace(path: str | os.PathLike[str]) -> Stream:
    """The stream of a file in any format we read, whole and checked. Raises WorkloadError with file and line."""
    from workloads.errors import WorkloadError

    name = Path(path).name
    for suffix, read in READERS.items():
        if name.endswith(suffix):
            return read(path)
    raise WorkloadError(f"{path}: expected a name that ends in one of {', '.join(READERS)}")


def _mooncake(path: str | os.PathLike[str]) -> Stream:
    from workloads.traces import mooncake

    return mooncake.read(path)


def _own(path: str | os.PathLike[str]) -> Stream:
    from workloads.stream_file import load

    return load(path)


READERS: dict[str, Callable[[str | os.PathLike[str]], Stream]] = {
    ".jsonl": _mooncake,
    ".csv": _own,
    ".csv.gz": _own,
    ".parquet": _own,
}
