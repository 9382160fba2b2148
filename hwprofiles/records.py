"""A record read from a profile file: a TOML or JSON table checked against a frozen dataclass, every mistake at once.

The dataclass is the schema: its fields and their types are the keys the file must have, no more and, but for those with a
default, no less. Numbers are finite, never negative and below 2^63. A record may add `problems()`: sentences about fields
that do not go together.
"""

import json
import re
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from importlib.resources import files
from typing import Any, TypeVar

T = TypeVar("T")

MAX_FILE_BYTES = 1 << 20
INT64_MAX = 2**63 - 1


class ProfileError(ValueError):
    """A user's mistake about GPUs, models or profile files; the message says what was expected."""


def profile_names(folder: str, suffix: str) -> list[str]:
    """Names of the shipped files of a folder of this package, without their suffix, sorted."""
    found = (entry.name for entry in files("hwprofiles").joinpath(folder).iterdir())
    return sorted(name.removesuffix(suffix) for name in found if name.endswith(suffix))


def load_record(record: type[T], folder: str, name: str, suffix: str) -> T:
    """The record in a shipped file; ProfileError with every mistake the file makes."""
    path = files("hwprofiles").joinpath(folder, name + suffix)
    return parse_record(record, path.read_bytes(), f"hwprofiles/{folder}/{name}{suffix}", {"id": name})


def parse_record(record: type[T], content: bytes, place: str, known: Mapping[str, Any] | None = None) -> T:
    """The record in the bytes of a TOML or JSON file named `place`; `known` are fields that are not in the file."""
    if len(content) > MAX_FILE_BYTES:
        raise ProfileError(f"{place}: {len(content)} bytes; a profile has at most {MAX_FILE_BYTES}")
    try:
        text = content.decode()
        table = tomllib.loads(text) if place.endswith(".toml") else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{place}: {error}") from error
    given = {name: value for name, value in (known or {}).items() if name in typing.get_type_hints(record)}
    mistakes = list(_mistakes(record, table, "", given))
    made = None if mistakes else _build(record, table, given)
    if made is not None and hasattr(made, "problems"):
        mistakes = list(made.problems())
    if mistakes or made is None:
        raise ProfileError("\n".join(f"{place}{_line(text, mistake)}: {mistake}" for mistake in mistakes))
    return made


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or nothing where none is near."""
    close = get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _mistakes(hint: Any, value: Any, key: str, known: Mapping[str, Any]) -> Iterator[str]:
    if is_dataclass(hint):
        yield from _table_mistakes(hint, value, key, known)
    elif typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        if isinstance(value, list):
            if inner is int and all(type(item) is int and 0 <= item <= INT64_MAX for item in value):
                return  # the many knots of a step table, all at once
            for item in value:
                yield from _mistakes(inner, item, key, {})
        else:
            yield f"{key} must be a list, not {value!r:.40}"
    elif typing.get_origin(hint) is dict:
        if isinstance(value, dict):
            for name, item in value.items():
                yield from _mistakes(typing.get_args(hint)[1], item, f"{key}.{name}", {})
        else:
            yield f"{key} must be a table, not {value!r:.40}"
    elif (expected := _wrong_scalar(hint, value)) is not None:
        yield f"{key} must be {expected}, not {value!r:.40}"


def _table_mistakes(record: Any, table: Any, key: str, known: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(table, dict):
        yield f"{key or 'the file'} must be a table, not {table!r:.40}"
        return
    prefix = f"{key}." if key else ""
    hints = {name: hint for name, hint in typing.get_type_hints(record).items() if name not in known}
    optional = {field.name for field in fields(record) if field.default is not MISSING}
    for name in table:
        if name not in hints:
            yield f"{prefix}{name} is not a key of a profile{did_you_mean(name, hints)}"
    for name, hint in hints.items():
        if name in table:
            yield from _mistakes(hint, table[name], prefix + name, {})
        elif name not in optional:
            yield f"{prefix}{name} is missing"


def _wrong_scalar(hint: type, value: Any) -> str | None:
    """What was expected, or None if the value is that."""
    if hint is str:
        return None if isinstance(value, str) and value.strip() else "a text"
    allowed = int if hint is int else (int, float)
    is_number = isinstance(value, allowed) and not isinstance(value, bool)
    if is_number and 0 <= value <= INT64_MAX:  # which neither infinity nor NaN is
        return None
    return "a whole number from 0 to 2^63 - 1" if hint is int else "a finite number from 0 up"


def _build(hint: Any, value: Any, known: Mapping[str, Any]) -> Any:
    if is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        made = {name: _build(hints[name], item, {}) for name, item in value.items()}
        return typing.cast(type, hint)(**made, **known)
    if typing.get_origin(hint) is dict:
        return {name: _build(typing.get_args(hint)[1], item, {}) for name, item in value.items()}
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(value) if inner is int else tuple(_build(inner, item, {}) for item in value)
    return float(value) if hint is float else value


def _line(text: str, mistake: str) -> str:
    """`:12` when the key that a mistake opens with stands on exactly one line of the file."""
    key = re.escape(mistake.split(" ", 1)[0].rsplit(".", 1)[-1])
    lines = [number for number, line in enumerate(text.splitlines(), 1) if re.match(rf'\s*"?{key}"?\s*[=:]', line)]
    return f":{lines[0]}" if len(lines) == 1 else ""
