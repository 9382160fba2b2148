"""Keys of a recipe: which there are, what each may hold, and what they have to be together.

Every parameter is a table of `value`, `grade` (published, fitted or assumed) and `from`, the source or the reasoning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from workloads.arrivals import FAMILIES
from workloads.fields import FIELDS, REASON, TEXT, count_of, is_shifted, tokens_of
from workloads.recipe.laws import SIZE, Law, read_law
from workloads.recipe.values import Reader, list_of, number, one_of, table, text, whole
from workloads.stream import MAX_TOKENS, MODALITIES

GRADES: Final = ("published", "fitted", "assumed")
MOST_CLIENTS: Final = 100
_SHARES_SLACK: Final = 1e-3
_MOST_OF_A_KIND: Final = 1000  # items of one modality in a prompt


class Parameter(NamedTuple):
    """A value, whose word it is, and where it is from."""

    value: Any
    grade: str
    source: str


def _parameter(value: Reader) -> Reader:
    inside = table({"value": value, "grade": one_of(GRADES), "from": text(800)})

    def read(given: Any, place: str, mistakes: list[str]) -> Parameter | None:
        before = len(mistakes)
        found = inside(given, place, mistakes)
        return None if found is None or len(mistakes) > before else Parameter(found["value"], found["grade"], found["from"])

    return read


# Of each table of parameters the keys it must have, and those it may have.
TABLES: Final[dict[str, tuple[dict[str, Reader], dict[str, Reader]]]] = {
    "clients": (
        {
            "number": whole(1, MOST_CLIENTS),
            "zipf_exponent": number(0.0, 4.0),
            "rate_rps": number(1e-3, 1e5),
            "daily_profile": list_of(number(0.0, 1e6), 24, 24),
        },
        {
            "top_shares": list_of(number(1e-6, 1.0), 1, MOST_CLIENTS),
            "clock_sd_h": number(0.0, 12.0),
            "drift_log_sd": number(0.0, 2.0),
            "drift_correlation": number(0.0, 0.999),
        },
    ),
    "gaps": ({"family": one_of(FAMILIES)}, {"cv": number(0.1, 30.0), "cv_log_sd": number(0.0, 1.5)}),
    "lengths.FIELD": (
        {"laws": list_of(read_law, 1, 8), "limits": list_of(SIZE, 2, 2)},
        {"mean": number(1e-3, MAX_TOKENS), "size_log_sd": number(0.0, 3.0), "share_log_sd": number(0.0, 5.0)},
    ),
    "items": ({"share_of_input": number(0.01, 0.99)}, {}),
    "sessions": (
        {
            "multi_turn_share": number(0.0, 1.0),
            "extra_turns": list_of(list_of(number(0.0, 62.0), 2, 2), 1, 8),
            "itt_median_s": number(0.1, 1e6),
            "itt_sigma": number(0.0, 5.0),
        },
        {},
    ),
    "failures": ({"share": number(0.0, 0.99)}, {}),
}


def _table(name: str) -> Reader:
    required, optional = ({key: _parameter(reader) for key, reader in part.items()} for part in TABLES[name])
    return table(required, optional)


RECIPE: Final = table(
    {
        "name": text(60),
        "about": text(800),
        "max_output_tokens": _parameter(whole(1, MAX_TOKENS)),
        "clients": _table("clients"),
        "gaps": _table("gaps"),
        "lengths": table({}, dict.fromkeys(FIELDS, _table("lengths.FIELD"))),
    },
    {name: _table(name) for name in ("items", "sessions", "failures")},
)


def flat(given: dict[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and parameters of what RECIPE has read."""
    for key, value in given.items():
        if isinstance(value, dict):
            yield from flat(value, f"{place}{key}.")
        else:
            yield place + key, value


def joint_mistakes(of: dict[str, Parameter]) -> Iterator[str]:
    """What is wrong with parameters, by dotted key, that are each as expected."""
    value = {key: parameter.value for key, parameter in of.items()}
    fields = list(dict.fromkeys(key.split(".")[1] for key in value if key.startswith("lengths.")))
    yield from _of_clients(value)
    yield from _of_gaps(value)
    yield from _of_fields(fields, value)
    for field in fields:
        yield from _of_field(field, value)


def _of_clients(value: dict[str, Any]) -> Iterator[str]:
    if not sum(value["clients.daily_profile"]) > 0.0:
        yield "clients.daily_profile.value: expected at least one hour above 0"
    shares = value.get("clients.top_shares", [])
    if shares and (len(shares) >= value["clients.number"] or sum(shares) >= 1.0):
        yield "clients.top_shares.value: expected fewer shares than clients, less than 1 in all: the rest is the other clients'"
    if "clients.drift_correlation" in value and not value.get("clients.drift_log_sd"):
        yield "clients.drift_correlation: does nothing without clients.drift_log_sd"


def _of_gaps(value: dict[str, Any]) -> Iterator[str]:
    is_exponential = value["gaps.family"] == "exponential"
    if is_exponential and ("gaps.cv" in value or "gaps.cv_log_sd" in value):
        yield "gaps.cv: exponential gaps have a CV of 1; leave out cv and cv_log_sd"
    if not is_exponential and "gaps.cv" not in value:
        yield f"gaps.cv: missing; {value['gaps.family']} gaps have one"


def _of_fields(fields: list[str], value: dict[str, Any]) -> Iterator[str]:
    """Which fields there are, and how long the longest prompt is."""
    if "output_tokens" not in fields:
        yield "lengths.output_tokens: missing"
    elif value["lengths.output_tokens.limits"][1] > value["max_output_tokens"]:
        yield "lengths.output_tokens.limits.value: longer than max_output_tokens"
    kinds = [kind for kind in MODALITIES if count_of(kind) in fields or tokens_of(kind) in fields]
    for kind in kinds:
        for name in (count_of(kind), tokens_of(kind)):
            if name not in fields:
                yield f"lengths.{name}: missing; a pool with {kind} has both {count_of(kind)} and {tokens_of(kind)}"
    wanted, other = (TEXT, "input_tokens") if kinds else ("input_tokens", TEXT)
    if wanted not in fields:
        yield f"lengths.{wanted}: missing"
    if other in fields:
        yield f"lengths.{other}: a pool {'with' if kinds else 'without'} items has {wanted} instead"
    if "items.share_of_input" in value and not kinds:
        yield "items.share_of_input: does nothing without items"
    if "items.share_of_input" in value and f"lengths.{TEXT}.mean" in value:
        yield f"lengths.{TEXT}.mean: follows from items.share_of_input; leave one of them out"
    most = {name: value[f"lengths.{name}.limits"][1] for name in fields}
    longest = most.get(TEXT, 0.0) + sum(most.get(count_of(kind), 0.0) * most.get(tokens_of(kind), 0.0) for kind in kinds)
    if longest > MAX_TOKENS:
        yield f"lengths: the longest prompt has {longest:.0f} tokens by the limits, expected at most {MAX_TOKENS}"


def _of_field(name: str, value: dict[str, Any]) -> Iterator[str]:
    place = f"lengths.{name}"
    laws: list[Law] = value[f"{place}.laws"]
    low, high = value[f"{place}.limits"]
    least, most = (0.0, 1.0 if name == REASON else _MOST_OF_A_KIND) if is_shifted(name) else (1.0, MAX_TOKENS)
    if not least <= low < high <= most:
        yield f"{place}.limits.value: expected two numbers from {least:g} to {most:g}, the lesser first"
    if abs(sum(law.share for law in laws) - 1.0) > _SHARES_SLACK:
        yield f"{place}.laws.value: shares sum to {sum(law.share for law in laws):g}, expected 1"
    for index, law in enumerate(laws):
        if any(not low <= size <= high for size in law.sizes):
            yield f"{place}.laws.value[{index}]: a size of the {law.name} lies outside limits, {low:g} to {high:g}"
    if f"{place}.mean" in value and not low < value[f"{place}.mean"] < high:
        yield f"{place}.mean.value: expected within limits, {low:g} to {high:g}"
    for key in ("mean", "size_log_sd"):
        if f"{place}.{key}" in value and not any(law.is_stretched for law in laws):
            yield f"{place}.{key}: does nothing, as none of the laws can be stretched"
    if f"{place}.share_log_sd" in value and len(laws) == 1:
        yield f"{place}.share_log_sd: does nothing, as there is one law alone"
