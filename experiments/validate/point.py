"""A point: one figure measured on a real server, and the setting that it was measured in.

The columns are those of docs/validation.md. A file is read whole or refused with every mistake in it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from experiments.validate.rows import Mistakes, Row, read_rows
from workloads.stream import MAX_TOKENS

NEEDED = (
    "id",
    "gpu",
    "model",
    "precision",
    "tp",
    "software",
    "isl",
    "osl",
    "load_kind",
    "load_value",
    "metric",
    "measured",
)
OPTIONAL = ("source", "licence", "pp", "n_gpus", "mode", "cached_prompt_frac", "arrivals", "suspect", "notes")
LOAD_KINDS = ("closed_concurrency", "poisson_rate", "saturated", "static_batch", "single")
LOAD_WORDS = {"poisson_rate": "max", "saturated": "inf"}
"""What stands in load_value where it is no number: the highest rate that meets a goal; no limit at all."""

MOST_POINTS = 200_000
MOST_GPUS = 4096
MOST_IN_FLIGHT = 65_536  # vLLM's seats are some hundreds
MOST_REQUESTS = 1_000_000
MOST_RPS = 1e6
MOST_MEASURED = 1e9
LONGEST_S = 1e5  # a day: a latency beyond it is in another unit

_LATENCY = re.compile(r"(ttft|tpot|itl|e2e)_\w+")


@dataclass(frozen=True)
class Setting:
    """What was run, on what, under which load. None and empty texts: not recorded."""

    gpu: str
    model: str
    precision: str
    tp: int | None
    software: str
    input_tokens: int | None  # None: lengths of a data set
    output_tokens: int | None
    load_kind: str
    load: float | None  # requests in flight, requests/s or the batch; None for a word of LOAD_WORDS
    pp: int | None = None
    gpus: int | None = None
    mode: str = "agg"
    cached_prompt_frac: float = 0.0
    arrivals: str = "poisson"
    requests: int | None = None  # sent in all
    warmup_requests: int = 0  # the first so many are not counted
    source: str = ""
    traits: frozenset[str] = field(default_factory=frozenset)  # what the notes say that decides whether and how it is played


@dataclass(frozen=True)
class Point:
    """One row: an id, a figure, and where in the file it stands. suspect: why it may be wrong, empty where nothing says so."""

    id: str
    metric: str
    measured: float
    setting: Setting
    suspect: str
    line: int


def read_points(path: Path) -> list[Point]:
    """The rows of a file in its order. UserError with every mistake; one id must name one configuration."""
    mistakes = Mistakes(path)
    points = [_point(row) for row in read_rows(mistakes, NEEDED, OPTIONAL, MOST_POINTS)]
    if not mistakes.found:
        _check_ids(points, mistakes)
    mistakes.raise_any()
    return points


def _point(row: Row) -> Point:
    notes = _notes(row.text("notes", False))
    metric = row.text("metric")
    is_suspect = row.one_of("suspect", ("0", "1", "0.0", "1.0"), "") in ("1", "1.0")
    suspect = notes.get("SUSPECT") or "it breaks a physical bound" if is_suspect or "SUSPECT" in notes else ""
    return Point(row.text("id"), metric, _measured(row, metric), _setting(row, notes), suspect, row.line)


def _measured(row: Row, metric: str) -> float:
    is_latency = _LATENCY.fullmatch(metric) is not None
    if is_latency and not metric.endswith("_s"):
        row.wrong("metric", f"a latency in seconds, such as {metric.split('_')[0]}_mean_s")
    value = row.number("measured", 0.0, LONGEST_S if is_latency else MOST_MEASURED)
    if value == 0.0:
        row.wrong("measured", "more than 0")
    return value or 0.0


def _setting(row: Row, notes: Mapping[str, str]) -> Setting:
    load_kind = row.one_of("load_kind", LOAD_KINDS)
    return Setting(
        gpu=row.text("gpu"),
        model=row.text("model"),
        precision=row.text("precision"),
        tp=row.whole("tp", 1, MOST_GPUS, False),
        software=row.text("software"),
        input_tokens=row.whole("isl", 1, MAX_TOKENS, False),
        output_tokens=row.whole("osl", 1, MAX_TOKENS, False),
        load_kind=load_kind,
        load=_load(row, load_kind),
        pp=row.whole("pp", 1, MOST_GPUS, False),
        gpus=row.whole("n_gpus", 1, MOST_GPUS, False),
        mode=row.text("mode", False) or "agg",
        cached_prompt_frac=row.number("cached_prompt_frac", 0.0, 1.0, False) or 0.0,
        arrivals=row.one_of("arrivals", ("poisson", "constant"), "poisson"),
        requests=_count(row, notes, "requests", 1),
        warmup_requests=_count(row, notes, "warmup_requests", 0) or 0,
        source=row.text("source", False),
        traits=frozenset(name for name in notes if _decides(name, notes[name])),
    )


def _load(row: Row, load_kind: str) -> float | None:
    if load_kind == "single" and not row.text("load_value", False):
        return 1.0
    if row.text("load_value", False) == LOAD_WORDS.get(load_kind):
        return None
    if load_kind == "saturated":
        row.wrong("load_value", "inf")
        return None
    if load_kind == "poisson_rate":
        rate = row.number("load_value", 0.0, MOST_RPS)
        if rate == 0.0:
            row.wrong("load_value", "more than 0 requests/s, or max")
        return rate
    return row.whole("load_value", 1, 1 if load_kind == "single" else MOST_IN_FLIGHT)


def _notes(text: str) -> dict[str, str]:
    """`a=1; b; C: why` as {"a": "1", "b": "", "C": "why"}."""
    parts = (re.split(r"\s*[=:]\s*", part.strip(), maxsplit=1) for part in text.split(";") if part.strip())
    return {part[0]: part[1] if len(part) > 1 else "" for part in parts}


def _decides(name: str, value: str) -> bool:
    """Whether a note is on something that a simulation has to know."""
    if name in ("attention_dp", "moe_ep"):
        return value != "1"
    return name in ("multimodal", "power-capped", "time of a run with one output token")


def _count(row: Row, notes: Mapping[str, str], name: str, least: int) -> int | None:
    text = notes.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not least <= int(text) <= MOST_REQUESTS:
        row.wrong("notes", f"{name}= a whole number from {least} to {MOST_REQUESTS}")
        return None
    return int(text)


def _check_ids(points: list[Point], mistakes: Mistakes) -> None:
    """One id on rows of another GPU, model, length or kind of load is two configurations under one name."""
    first: dict[str, Point] = {}
    for point in points:
        other = first.setdefault(point.id, point)
        for name in ("gpu", "model", "precision", "tp", "software", "input_tokens", "output_tokens", "load_kind"):
            here, there = getattr(point.setting, name), getattr(other.setting, name)
            if here != there:
                mistakes.add(point.line, f", id = {point.id[:40]!r}: {name} {here}, but {there} on line {other.line}")
