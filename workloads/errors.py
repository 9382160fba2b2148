"""WorkloadError: a mistake of the user, told in a sentence; and the helpers that word such sentences."""

import difflib
from collections.abc import Iterable, Sequence
from typing import TypeGuard

MOST_MISTAKES = 10


class WorkloadError(ValueError):
    """A user's mistake in a workload: a file, a setting or a table that cannot mean what it says."""


def is_number_in(value: object, least: float, most: float) -> TypeGuard[float]:
    """Whether it is a number in this range, both ends included: no truth value, and no NaN, which is in none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def nearest(name: str, known: Iterable[str]) -> str:
    """`'; nearest: deepseek-r1'`, or the empty text where nothing known resembles the name."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; nearest: {found[0]}" if found else ""


def raise_all(mistakes: Sequence[str]) -> None:
    """Raises one WorkloadError that lists the mistakes, `MOST_MISTAKES` of them at most, unless there are none."""
    if not mistakes:
        return
    shown = list(mistakes[:MOST_MISTAKES])
    if len(mistakes) > MOST_MISTAKES:
        shown.append("further mistakes are not listed")
    raise WorkloadError("\n".join(shown))
