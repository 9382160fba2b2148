"""A `Format`: what one kind of trace file is called, how it is known, read and written, and what it has room for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from workloads.files import unpacked
from workloads.files.csv_table import header_of
from workloads.stream import Stream

# What a stream may have beside arrivals and lengths, and a format may have no place for.
FEATURES: Final = (
    "request_ids", "clients", "sessions", "models", "max_tokens", "priority", "reason_tokens", "segments", "items",
    "nanoseconds", "duration",
)  # fmt: skip


class Head(NamedTuple):
    """How a file begins: its first bytes, unpacked; the cells of its first line; the JSON object on it, if it is one."""

    data: bytes
    header: list[str]
    first: dict[str, Any]

    @classmethod
    def of(cls, source: Path) -> Head:
        """Raises WorkloadError for a file that cannot be read."""
        data = unpacked.head(source)
        line = data.lstrip().partition(b"\n")[0]
        try:
            first = json.loads(line) if line.startswith(b"{") else {}
        except (ValueError, RecursionError):
            first = {}
        return cls(data, header_of(data), first)


class Format(NamedTuple):
    """One kind of trace file.

    `looks_like` knows a file by its beginning, `looked_for` says in words by what. `read` makes a checked stream and
    raises WorkloadError with place; `write`, where we write the format, makes a new file whole or not at all. `holds` are
    the FEATURES that it has room for; `block_tokens` the grain in which it tells what prompts share. `suffixes`: names
    that ask for it when a file is written. `is_documented_only`: written from its documentation, with no data at hand.
    """

    name: str
    looked_for: str
    looks_like: Callable[[Head], bool]
    read: Callable[[Path], Stream]
    holds: frozenset[str] = frozenset()
    write: Callable[[Stream, Path], None] | None = None
    block_tokens: int | None = None
    suffixes: tuple[str, ...] = ()
    is_documented_only: bool = False
