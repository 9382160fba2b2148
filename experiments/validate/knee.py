"""The knee: the highest rate of requests at which a server still holds a limit on TPOT, measured and predicted.

A closed loop of N requests whose mean time is E2E serves N / E2E requests/s (Little's law). The same loop at several
concurrencies makes a curve of rate over TPOT; where it crosses the limit is the knee, interpolated on logarithms of both. A
planner is wrong by the error of the knee, whatever the errors of single latencies are.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import exp, log
from statistics import median
from typing import Any

from experiments.validate.judgement import errors_of
from experiments.validate.request_time import RequestTime

TPOT_LIMITS_S = (0.0075, 0.010, 0.015, 0.020, 0.030, 0.050, 0.075, 0.100)
"""Limits on the mean TPOT, the same for every curve: from fluent voice (7.5 ms) to reading speed (100 ms)."""

FEWEST = 5
"""Concurrencies of a curve that is worth interpolating."""

Curve = Sequence[tuple[float, float]]
"""(TPOT in s, requests/s) by rising concurrency."""


@dataclass(frozen=True)
class Series:
    """What the points of one curve have in common, apart from their concurrency."""

    gpu: str
    model: str
    precision: str
    tp: int | None
    software: str
    isl: int | None
    osl: int | None
    cached_prompt_frac: float


@dataclass(frozen=True)
class Knee:
    """One limit on one curve. beyond: the predicted curve does not reach the limit, and predicted_rps is its end towards it,
    so that the true error is at least error_frac.
    """

    series: Series
    tpot_limit_s: float
    concurrencies: tuple[int, ...]
    measured_rps: float
    predicted_rps: float
    beyond: bool

    @property
    def error_frac(self) -> float:
        """predicted / measured - 1."""
        return self.predicted_rps / self.measured_rps - 1.0

    def plain(self) -> dict[str, Any]:
        """As an entry of the JSON file."""
        own = {name: value for name, value in asdict(self).items() if name != "series"}
        return {**asdict(self.series), **own, "error_frac": self.error_frac}


def knees_of(times: Sequence[RequestTime]) -> list[Knee]:
    """The knees of every series with at least FEWEST concurrencies, at every limit that its measured TPOTs enclose.

    Loops that queue for KV blocks or seats are left out, as in the groups.
    """
    found: dict[Series, dict[int, list[RequestTime]]] = {}
    for time in times:
        if not time.tpot.is_capped:
            found.setdefault(_series(time), {}).setdefault(int(time.setting.load or 0), []).append(time)
    return [
        knee
        for series, loops in sorted(found.items(), key=lambda item: str(item[0]))
        if len(loops) >= FEWEST
        for knee in _knees(series, loops)
    ]


def knee_groups(knees: Sequence[Knee]) -> list[dict[str, Any]]:
    """Errors by (gpu, model, precision, tp, software); beyond_n of the n are those whose error is a bound."""
    groups: dict[tuple[Any, ...], list[Knee]] = {}
    for knee in knees:
        of = knee.series
        groups.setdefault((of.gpu, of.model, of.precision, of.tp, of.software), []).append(knee)
    return [
        {
            **dict(zip(("gpu", "model", "precision", "tp", "software"), key)),
            **errors_of([knee.error_frac for knee in group]),
            "beyond_n": sum(knee.beyond for knee in group),
        }
        for key, group in groups.items()
    ]


def highest_rps(curve: Curve, limit_s: float) -> float:
    """The highest rate anywhere on the curve where TPOT is within the limit; 0 where it is nowhere.

    Between two concurrencies the curve is a straight line on logarithms.
    """
    rates = [rps for tpot_s, rps in curve if tpot_s <= limit_s]
    for (one_s, one_rps), (other_s, other_rps) in pairwise(curve):
        if min(one_s, other_s) < limit_s < max(one_s, other_s):
            share = log(limit_s / one_s) / log(other_s / one_s)
            rates.append(exp(log(one_rps) + share * log(other_rps / one_rps)))
    return max(rates, default=0.0)


def _series(time: RequestTime) -> Series:
    of = time.setting
    layout = (of.gpu, of.model, of.precision, of.tp, of.software)
    return Series(*layout, of.input_tokens, of.output_tokens, of.cached_prompt_frac)


def _knees(series: Series, loops: dict[int, list[RequestTime]]) -> list[Knee]:
    """One concurrency measured under several ids counts once, by its medians."""
    measured: list[tuple[float, float]] = []
    predicted: list[tuple[float, float]] = []
    for n in sorted(loops):
        same = loops[n]
        measured.append((median(t.tpot.measured for t in same), n / median(t.measured_s for t in same)))
        predicted.append((median(t.tpot.predicted or 0.0 for t in same), n / median(t.predicted_s for t in same)))
    least_s, most_s = (bound(tpot_s for tpot_s, _ in measured) for bound in (min, max))
    return [
        Knee(series, limit_s, tuple(sorted(loops)), highest_rps(measured, limit_s), *_predicted(predicted, limit_s))
        for limit_s in TPOT_LIMITS_S
        if least_s < limit_s < most_s
    ]


def _predicted(curve: Curve, limit_s: float) -> tuple[float, bool]:
    """The rate at the limit, or at the end of the curve nearest to it, and whether it was that."""
    least_s, rps = min(curve)
    if limit_s < least_s:
        return rps, True
    return highest_rps(curve, limit_s), limit_s > max(curve)[0]
