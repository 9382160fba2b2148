"""Traces: requests as other people's clusters and tools write them, one format per file; `read_trace` and `convert`.

A file here with a `FORMATS` is found by that: azure.py, burstgpt.py (a provider's log, csv_log.py), mooncake.py,
vllm_timed.py (prompts as ids of blocks, blocks.py), qwen.py, vllm_result.py and own.py, our own CSV and Parquet. format.py
says what a format is, json_lines.py reads objects line by line, loss.py tells what a format cannot hold of a stream.
"""

from __future__ import annotations

import os
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workloads.stream import Stream
    from workloads.traces.format import Format

__all__ = ["FORMATS", "convert", "read_trace"]


def read_trace(path: str | os.PathLike[str], format: str | None = None, dejitter: bool = False) -> Stream:
    """The stream of a file, checked whole. Its format is told by what is in it, unless it is named.

    `dejitter` spreads the arrivals of a coarse clock evenly over its ticks (files/coarse_clock.py). Raises WorkloadError with
    file and line, for a file that looks like no format we know, and for `dejitter` where the clock is fine.
    """
    from workloads.errors import WorkloadError
    from workloads.files.coarse_clock import spread_over_ticks

    source = Path(path)
    if not source.is_file():
        raise WorkloadError(f"{source}: no such file")
    stream = (_named(format) if format else _detected(source)).read(source)
    return spread_over_ticks(stream) if dejitter else stream


def convert(source: Stream, target: str | os.PathLike[str], format: str | None = None, overwrite: bool = False) -> list[str]:
    """Writes a stream in a format, whole or not at all; returns a sentence for each thing that the format cannot hold.

    Without a format the name's ending tells it: .csv, .csv.gz, .parquet, or .jsonl for Mooncake's. An existing file is
    refused unless `overwrite`.
    """
    from workloads.errors import WorkloadError
    from workloads.traces.loss import Watched

    path = Path(target)
    chosen = _named(format) if format else _by_suffix(path)
    if chosen.write is None:
        writable = ", ".join(name for name, known in _formats().items() if known.write)
        raise WorkloadError(f"{chosen.name} is read, not written; expected one of {writable}")
    if path.exists() and not overwrite:
        raise WorkloadError(f"{path}: exists already; give another name, or overwrite it")
    watched = Watched(source, chosen)
    chosen.write(watched.stream(), path)
    return watched.losses()


def _named(name: str) -> Format:
    from workloads.errors import WorkloadError, nearest

    formats = _formats()
    if name not in formats:
        raise WorkloadError(f"no format {name!r}{nearest(name, formats)}; known: {', '.join(formats)}")
    return formats[name]


def _detected(source: Path) -> Format:
    from workloads.errors import WorkloadError
    from workloads.traces.format import Head

    head = Head.of(source)
    for known in _formats().values():
        if known.looks_like(head):
            return known
    begin = head.data[:60].decode("utf-8", "replace").splitlines()
    looked_for = "\n".join(f"  {known.name}: {known.looked_for}" for known in _formats().values())
    raise WorkloadError(f"{source}: begins with {begin[:1]}, which is none of the formats known:\n{looked_for}")


def _by_suffix(path: Path) -> Format:
    from workloads.errors import WorkloadError

    found = {suffix: known for known in _formats().values() for suffix in known.suffixes}
    for suffix, known in found.items():
        if path.name.endswith(suffix):
            return known
    raise WorkloadError(f"{path}: expected a name that ends in one of {', '.join(found)}, or a format")


def _formats() -> dict[str, Format]:
    """All formats by name, from every file of this folder that has some."""
    found: dict[str, Format] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        for known in getattr(import_module(f"{__name__}.{module}"), "FORMATS", ()):
            found[known.name] = known
    return found


def __getattr__(name: str) -> Any:
    if name != "FORMATS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _formats()
