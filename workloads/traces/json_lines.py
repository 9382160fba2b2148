"""Lines of JSON, an object on each, with the checks that formats of requests share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from workloads.errors import MOST_MISTAKES, nearest, raise_all
from workloads.files import unpacked
from workloads.stream import NS_PER_S

LONGEST_LINE = 1 << 20  # bytes: the longest prompt we take has 19,532 blocks of 512 tokens
Request = dict[str, Any]
Check = Callable[[Request], list[str]]


class Number(NamedTuple):
    """What a key must hold: a number in a range, whole unless `may_be_fraction`."""

    least: int
    most: int
    may_be_fraction: bool = False

    def mistake(self, name: str, value: Any) -> str | None:
        """What is wrong with a value."""
        fits = type(value) is int or (
            isinstance(value, Decimal) and (self.may_be_fraction or value == value.to_integral_value())
        )
        if fits and self.least <= value <= self.most:
            return None
        kind = "number" if self.may_be_fraction else "whole number"
        return f", {name} = {shown(value)}: expected a {kind} from {self.least} to {self.most}"


def requests(
    source: Path, numbers: Mapping[str, Number], others: tuple[str, ...], check: Check
) -> Iterator[tuple[int, Request]]:
    """(line, object) of every line that is not blank. Raises WorkloadError for the mistakes of all lines, ten at most.

    Keys are those of `numbers` and `others`, all of them and no more; `check` looks at what the numbers do not say.
    Fractions are Decimal, exact as the file has them.
    """
    mistakes: list[str] = []
    for line, text in unpacked.lines(source, LONGEST_LINE):
        request, wrong = _parsed(text, numbers, others)
        wrong = wrong or check(request)
        if wrong:
            mistakes += [f"{source}, line {line}{what}" for what in wrong]
            if len(mistakes) > MOST_MISTAKES:
                break
        elif not mistakes:
            yield line, request
    raise_all(mistakes)


def nanoseconds(value: int | Decimal, per_unit: int = NS_PER_S) -> int:
    """A time of the file in ns, to the nearest."""
    return int((Decimal(value) * per_unit).to_integral_value())


def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's keys and values; json would keep the last of two equal keys without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def shown(value: Any) -> str:
    """A value as the file has it, cut short."""
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:40] + "…"


def _parsed(line: bytes, numbers: Mapping[str, Number], others: tuple[str, ...]) -> tuple[Request, list[str]]:
    """The request of a line, and what is wrong with it."""
    try:
        request = json.loads(line.decode("utf-8-sig"), object_pairs_hook=unrepeated, parse_float=Decimal)
    except json.JSONDecodeError as error:
        return {}, [f": not a JSON object: {error.msg}, column {error.colno}"]
    except (ValueError, ArithmeticError, RecursionError) as error:
        return {}, [f": not a JSON object: {error}"]
    keys = (*numbers, *others)
    if not isinstance(request, dict):
        return {}, [f": expected an object with {', '.join(keys)}"]
    unknown = [key[:40] for key in request if key not in keys][: MOST_MISTAKES + 1]
    wrong = [f": unknown key {key!r}{nearest(key, keys)}" for key in unknown]
    wrong += [f": key {key!r} is missing" for key in keys if key not in request]
    told = [number.mistake(name, request[name]) for name, number in numbers.items() if name in request]
    return request, wrong + [mistake for mistake in told if mistake]
