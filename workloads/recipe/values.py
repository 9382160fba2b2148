"""Values of a recipe as they are read: each reader gives what a TOML value means, or writes down what was expected instead.

A reader is a function of (value, place, mistakes): the place is the dotted path of the key, mistakes are appended to, and
what is given back for a value that cannot be is None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from workloads.errors import is_number_in, nearest

Reader = Callable[[Any, str, list[str]], Any]
_LONGEST_SHOWN: Final = 60
_MOST_BITS: Final = 200


def number(low: float, high: float) -> Reader:
    """A finite number within a range, both ends included."""

    def read(value: Any, place: str, mistakes: list[str]) -> float | None:
        if is_number_in(value, low, high):
            return float(value)
        return wrong(f"a number from {low:g} to {high:g}", value, place, mistakes)

    return read


def whole(low: int, high: int) -> Reader:
    """A whole number within a range."""

    def read(value: Any, place: str, mistakes: list[str]) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        return wrong(f"a whole number from {low} to {high}", value, place, mistakes)

    return read


def text(longest: int) -> Reader:
    """A text that is not empty."""

    def read(value: Any, place: str, mistakes: list[str]) -> str | None:
        if isinstance(value, str) and len(value.strip()) > 0 and len(value) <= longest:
            return value
        return wrong(f"a text of 1 to {longest} characters", value, place, mistakes)

    return read


def one_of(names: tuple[str, ...]) -> Reader:
    """One of some words."""

    def read(value: Any, place: str, mistakes: list[str]) -> str | None:
        if isinstance(value, str) and value in names:
            return value
        near = nearest(value, names) if isinstance(value, str) else ""
        return wrong(f"one of {', '.join(names)}", value, place, mistakes, near)

    return read


def list_of(item: Reader, least: int, most: int) -> Reader:
    """A list of so many values, each of a kind."""

    def read(value: Any, place: str, mistakes: list[str]) -> list[Any] | None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            so_many = f"{least}" if least == most else f"{least} to {most}"
            return wrong(f"a list of {so_many} values", value, place, mistakes)
        return [item(one, f"{place}[{index}]", mistakes) for index, one in enumerate(value)]

    return read


def table(required: Mapping[str, Reader], optional: Mapping[str, Reader] | None = None) -> Reader:
    """A table of these keys; gives a dict of those that are there, or None where it is no table."""
    optional = optional or {}
    known = {**required, **optional}

    def read(value: Any, place: str, mistakes: list[str]) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            return wrong(f"a table with {', '.join(known)}", value, place, mistakes)
        inside = f"{place}." if place else ""
        for key in value:
            if key not in known:
                mistakes.append(f"{inside}{key[:_LONGEST_SHOWN]}: no such key{nearest(key[:_LONGEST_SHOWN], known)}")
        for key in required:
            if key not in value:
                mistakes.append(f"{inside}{key}: missing")
        return {key: reader(value[key], f"{inside}{key}", mistakes) for key, reader in known.items() if key in value}

    return read


def wrong(expected: str, value: Any, place: str, mistakes: list[str], near: str = "") -> Any:
    """Writes down what was expected at a place; gives None, for readers to give back."""
    mistakes.append(f"{place}: expected {expected}, got {shown(value)}{near}")
    return None


def shown(value: Any) -> str:
    """A value as a mistake shows it, short whatever it is."""
    if isinstance(value, (dict, list)):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"a whole number of {value.bit_length()} bits"
    return repr(value[:_LONGEST_SHOWN] if isinstance(value, str) else value)
