"""The table of the own file format: the columns that CSV and Parquet share, and what a reader of either hands over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from workloads.errors import nearest, raise_all

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
REQUIRED: Final = ("arrival_s", "input_tokens", "output_tokens")
LONGEST_S: Final = 10_000_000  # 115 days


class Table(NamedTuple):
    """What a reader hands over: whole numbers by column (arrival in ns), the name of a row's place, the duration."""

    columns: dict[str, np.ndarray]
    place: Callable[[int], str]
    duration_s: float | None = None


def check_header(source: Path, names: list[str]) -> None:
    """Raises WorkloadError for columns that are unknown (with the nearest known), repeated or missing."""
    unknown = [name for name in names if name not in COLUMNS]
    mistakes = [f"{source}, line 1: unknown column {name[:40]!r}{nearest(name, COLUMNS)}" for name in unknown]
    mistakes += [f"{source}, line 1: column {n!r} occurs twice" for n in sorted({n for n in names if names.count(n) > 1})]
    mistakes += [f"{source}, line 1: column {name!r} is missing" for name in REQUIRED if name not in names]
    raise_all(mistakes)
