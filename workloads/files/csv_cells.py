"""Cells of CSV text as int64 arrays: thousands of lines at once by numpy, or one cell where its text is unusual.

A `Kind` is what a column holds. Its two readers agree wherever the first one answers: `of_all` takes the common form
alone, digits without spaces or quotes, and gives None for anything else; `of_one` takes whatever means the same.
No float is made on the way, so times are exact to the nanosecond over any span.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

import numpy as np

from workloads.stream import LONGEST_S, NS_PER_S

_MOST_DIGITS: Final = 19  # of an int64
_COMMA, _NEWLINE, _RETURN, _MINUS, _DOT, _ZERO = (ord(sign) for sign in ",\n\r-.0")
_DATE_TIME: Final = len("2023-11-16 18:15:46")
_ZONE: Final = b"+00:00"


class Cells(NamedTuple):
    """Cells of one column: cell i is the text of `data`, uint8, from `start[i]` up to `end[i]`."""

    data: np.ndarray
    start: np.ndarray
    end: np.ndarray


class Kind(NamedTuple):
    """What a column holds: readers of all its cells and of one, each None where they cannot; and what was expected."""

    of_all: Callable[[Cells], np.ndarray | None]
    of_one: Callable[[str], int | None]
    expected: str


def columns_of(text: bytes, count: int) -> list[Cells] | None:
    """The cells of whole lines, column by column; None unless every line has `count` of them and no quotes."""
    data = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero((data == _COMMA) | (data == _NEWLINE))
    if len(ends) % count or b'"' in text:
        return None
    table = ends.reshape(-1, count).T.copy()
    if np.any(data[table[-1]] != _NEWLINE) or np.any(data[table[:-1]] != _COMMA):
        return None
    starts = np.concatenate(([0], ends[:-1] + 1)).reshape(-1, count).T.copy()
    table[-1] -= data[table[-1] - 1] == _RETURN
    return [Cells(data, start, end) for start, end in zip(starts, table, strict=True)]


def texts(cells: Cells, longest: int = 64) -> np.ndarray | None:
    """The cells as bytes; None where one is longer than `longest`."""
    width = int((cells.end - cells.start).max())
    if width > longest:
        return None
    at = cells.start[:, None] + np.arange(max(width, 1))
    inside = at < cells.end[:, None]
    return np.where(inside, cells.data[np.where(inside, at, 0)], 0).astype(np.uint8).view(f"S{max(width, 1)}")[:, 0]


def _whole_numbers(cells: Cells) -> np.ndarray | None:
    negative = (cells.data[cells.start] == _MINUS) & (cells.end > cells.start)
    value = _digits(cells.data, cells.start + negative, cells.end)
    return None if value is None else np.where(negative, -value, value)


def _digits(data: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray | None:
    """Cells of 1 to 19 digits and nothing else; None, too, where one leaves int64."""
    length = end - start
    shortest, longest = int(length.min()), int(length.max())
    if shortest < 1 or longest > _MOST_DIGITS:
        return None
    value = np.zeros(len(length), np.int64)
    for place in range(longest):
        digit = data[np.maximum(end - 1 - place, 0)] - np.uint8(_ZERO)
        if place >= shortest:
            digit = np.where(place < length, digit, 0)
        if digit.max() > 9:
            return None
        value += digit.astype(np.int64) * 10**place
    return None if longest == _MOST_DIGITS and value.min() < 0 else value  # 19 digits can wrap once, not twice


def _whole_number(text: str) -> int | None:
    text = text.strip()
    digits = text.removeprefix("-")
    is_whole = digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS and int(digits) < 2**63
    return int(text) if is_whole else None


def _nanoseconds_of_all(cells: Cells) -> np.ndarray | None:
    length = cells.end - cells.start
    if int(length.min()) < 1:
        return None
    dot = np.full(len(length), -1)
    for place in range(min(int(length.max()), 10)):  # at most nine decimals
        at = cells.end - 1 - place
        dot = np.where((place < length) & (cells.data[np.maximum(at, 0)] == _DOT), at, dot)
    whole_end = np.where(dot < 0, cells.end, dot)
    whole = _digits(cells.data, cells.start, whole_end)
    if whole is None or int(whole.max()) > LONGEST_S:
        return None
    fraction = _fraction_ns(cells.data, np.minimum(whole_end + 1, cells.end), cells.end)
    if fraction is None or np.any((dot >= 0) & (dot == cells.end - 1)):
        return None
    total = whole * NS_PER_S + fraction
    return None if int(total.max()) > LONGEST_S * NS_PER_S else total


def _fraction_ns(data: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray | None:
    """Up to nine digits after a decimal point as nanoseconds; 0 where there are none."""
    length = end - start
    if int(length.max()) > 9:
        return None
    value = np.zeros(len(length), np.int64)
    for place in range(int(length.max())):
        digit = np.where(place < length, data[np.minimum(start + place, len(data) - 1)], _ZERO) - np.uint8(_ZERO)
        if digit.max() > 9:
            return None
        value += digit.astype(np.int64) * 10 ** (8 - place)
    return value


def _nanoseconds(text: str) -> int | None:
    try:
        seconds = Decimal(text.strip()) if len(text) <= 40 and "_" not in text and text.isascii() else None
    except InvalidOperation:
        return None
    if seconds is None or not seconds.is_finite() or not 0 <= seconds <= LONGEST_S or seconds.is_signed():
        return None
    return int((seconds * NS_PER_S).to_integral_value())


def _instants(cells: Cells) -> np.ndarray | None:
    """Date and time with up to nine decimals, without zone or in UTC, all cells alike, as ns since 1970."""
    length = cells.end - cells.start
    if int(length.min()) < _DATE_TIME:
        return None
    end = cells.end
    zone = cells.data[(end - len(_ZONE))[:, None] + np.arange(len(_ZONE))]
    if np.all(zone == np.frombuffer(_ZONE, np.uint8)):
        end = end - len(_ZONE)
        if int((end - cells.start).min()) < _DATE_TIME:
            return None
    clock = np.ascontiguousarray(cells.data[cells.start[:, None] + np.arange(_DATE_TIME)])
    if not np.all(np.where(_is_digit(clock), np.uint8(_ZERO), clock) == np.frombuffer(b"0000-00-00 00:00:00", np.uint8)):
        return None
    try:
        seconds = clock.view(f"S{_DATE_TIME}")[:, 0].astype("datetime64[s]").astype(np.int64)
    except ValueError:
        return None
    point = cells.start + _DATE_TIME
    if np.any((point < end) & ((cells.data[np.minimum(point, end - 1)] != _DOT) | (point == end - 1))):
        return None
    fraction = _fraction_ns(cells.data, np.minimum(point + 1, end), end)
    is_near = np.all(np.abs(seconds) < 2**33)  # the years up to 2242, far from the ends of int64
    return None if fraction is None or not is_near else seconds * NS_PER_S + fraction


def _is_digit(signs: np.ndarray) -> np.ndarray:
    return (signs - np.uint8(_ZERO)) <= 9


def _instant(text: str) -> int | None:
    text = text.strip().replace("Z", "+00:00")
    clock, _, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if not text.isascii() or len(text) > 40 or len(digits) > 9 or ("." in text and not digits):
        return None
    try:
        moment = datetime.fromisoformat(clock + rest.removeprefix(digits))
    except ValueError:
        return None
    if len(clock) < _DATE_TIME:
        return None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    seconds = round((zoned - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    return seconds * NS_PER_S + int(digits.ljust(9, "0")) if abs(seconds) < 2**33 else None


WHOLE = Kind(_whole_numbers, _whole_number, "a whole number")
SECONDS = Kind(_nanoseconds_of_all, _nanoseconds, f"seconds from 0 to {LONGEST_S}")
INSTANT = Kind(_instants, _instant, "a time such as 2023-11-16 18:15:46.6805900")
