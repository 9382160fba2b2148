"""The table of the own file format: the columns that CSV and Parquet share, and what their rows are as STREAM.

Required are arrival and lengths. Some columns are written only where they say something: thinking tokens and models where
there are any, slices and item counts where the stream has the tables they point into (side_tables.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from workloads.errors import MOST_MISTAKES, nearest, raise_all
from workloads.stream import MAX_TOKENS, MODALITIES, STREAM, TOKEN_COLUMNS, new_rows

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
RARE: Final = ("model", "reason_tokens")  # written where one of them is not 0
SEGMENT_SLICE: Final = ("segments_start", "segments_count")
ITEM_SLICE: Final = ("items_start", "items_count")
ITEM_TOKENS: Final = ("text_tokens", *(f"{name}_tokens" for name in MODALITIES))
ITEM_COLUMNS: Final = (*ITEM_TOKENS, "image_count")
KNOWN: Final = (*COLUMNS, *RARE, *ITEM_COLUMNS, *SEGMENT_SLICE, *ITEM_SLICE)
REQUIRED: Final = ("arrival_s", "input_tokens", "output_tokens")
_LONG: Final = ("arrival_s", "request_id", "session_id", "segments_start", "items_start")


class Table(NamedTuple):
    """Consecutive rows as a reader of either form hands them over: int64 by column (arrivals in ns), the number in the file
    of the first of them, and the name of a row's place."""

    columns: dict[str, np.ndarray]
    first: int
    place: Callable[[int], str]


def check_header(source: Path, names: list[str]) -> None:
    """Raises WorkloadError for columns that are unknown (with the nearest known), repeated, missing or without their pair."""
    unknown = [name for name in names if name not in KNOWN][: MOST_MISTAKES + 1]
    mistakes = [f"{source}, line 1: unknown column {name[:40]!r}{nearest(name[:40], KNOWN)}" for name in unknown]
    mistakes += [f"{source}, line 1: column {n[:40]!r} occurs twice" for n in sorted({n for n in names if names.count(n) > 1})]
    needed = [*REQUIRED, *(n for pair in (SEGMENT_SLICE, ITEM_SLICE) if set(pair) & set(names) for n in pair)]
    mistakes += [f"{source}, line 1: column {name!r} is missing" for name in needed if name not in names]
    raise_all(mistakes)


def columns_for(rare: set[str], has_segments: bool, has_items: bool) -> list[str]:
    """The columns that a stream's file gets, in their order."""
    names = [*COLUMNS, *(name for name in RARE if name in rare)]
    if has_segments:
        names += SEGMENT_SLICE
    return [*names, *ITEM_COLUMNS, *ITEM_SLICE] if has_items else names


def rows_of(source: Path, table: Table) -> np.ndarray:
    """STREAM rows of a table. Raises WorkloadError for numbers that their column cannot hold."""
    mistakes = [m for name, values in table.columns.items() for m in _too_wide(name, values, table.place)]
    raise_all([f"{source}, {mistake}" for mistake in mistakes])
    rows = new_rows(len(table.columns["arrival_s"]))
    rows["request_id"] = np.arange(table.first, table.first + len(rows))
    rows["max_tokens"] = table.columns["output_tokens"]
    for name, values in table.columns.items():
        target = "arrival_ns" if name == "arrival_s" else name
        if target in (STREAM.names or ()):
            rows[target] = values
    return rows


def check_item_columns(source: Path, table: Table, items: dict[str, np.ndarray] | None) -> None:
    """Raises WorkloadError where text, image, audio and video tokens are not together the prompt, or not what the items say.

    `items`: image_count and the tokens of each modality, of the items of each row; None where the stream has no such table.
    A modality that is no column has no tokens; text that is none, what the others leave.
    """
    named = {name: table.columns[name] for name in ITEM_COLUMNS if name in table.columns}
    if not named:
        return
    prompt = table.columns["input_tokens"]
    zero = np.zeros(len(prompt), np.int64)
    parts = [named.get(name, zero) for name in ITEM_TOKENS[1:]]
    text = named.get("text_tokens", prompt - sum(parts))
    wrong = [(name, values < 0, "expected at least 0") for name, values in named.items()]
    wrong.append(("input_tokens", text + sum(parts) != prompt, "text, image, audio and video tokens are not as many together"))
    wrong.append(("input_tokens", text < 0, "image, audio and video tokens are more"))
    for name, values in (items or {}).items():
        if name in named:
            wrong.append((name, named[name] != values, "the request's items say otherwise"))
    raise_all([
        f"{source}, {table.place(int(row))}, {name} = {table.columns[name][row]}: {expected}"
        for name, where, expected in wrong
        for row in np.flatnonzero(where)[: MOST_MISTAKES + 1]
    ])  # fmt: skip


def _too_wide(name: str, values: np.ndarray, place: Callable[[int], str]) -> list[str]:
    """Values that their column of STREAM could not hold, or that no request can have."""
    if name in _LONG:
        return []
    most = 2**15 - 1 if name == "model" else MAX_TOKENS if name in (*TOKEN_COLUMNS, *ITEM_COLUMNS) else 2**31 - 1
    wrong = np.flatnonzero((values > most) | (values < -most - 1))[: MOST_MISTAKES + 1]
    return [f"{place(int(row))}, {name} = {values[row]}: expected at most {most}" for row in wrong]
