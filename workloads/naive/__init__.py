"""Naive workloads: all traffic as one aggregate source, the thing to compare per-client generation with.

A naive workload is fitted on a stream of horizon H with N requests and played as one client, number 0. fit.py has the fits,
values to look at; sending.py says when requests come, drawing.py how long they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from workloads.errors import WorkloadError, is_number_in, nearest, raise_all
from workloads.naive.drawing import Fill, drawn_apart, drawn_as_pairs, drawn_of_pool, shuffled
from workloads.naive.fit import (
    FEWEST_REQUESTS,
    NO_LENGTHS,
    NaiveFit,
    fit_loadgen,
    fit_n_10min,
    fit_n_hour,
    fit_poisson,
    lengths_of,
)
from workloads.naive.sending import BURSTINESS, Sent, renewals, rescaled
from workloads.pool_data import PoolData
from workloads.stream import NS_PER_S, Stream, new_rows

__all__ = [
    "FEWEST_REQUESTS",
    "KINDS",
    "NaiveFit",
    "fit_loadgen",
    "fit_n_10min",
    "fit_n_hour",
    "fit_poisson",
    "naive",
]

Period = PoolData | Stream


def naive(stream: Stream, kind: str, seed: int = 1, *, period: Period | None = None, burstiness: float = 1.0) -> Stream:
    """The naive stand-in of a stream, over the same duration; `kind` is a key of KINDS. Raises WorkloadError.

    `period` (n_global): whose lengths are drawn, a pool in which each sketch counts as often as it has requests, or a longer
    stream; the stream itself where nothing is given. `burstiness` (loadgen): b of the gaps, CV 1/√b, inf for constant ones.
    A setting that does nothing for the kind is refused. Needs 16 bytes a request for the lengths.
    """
    raise_all(_mistakes(kind, period, burstiness))
    plan = KINDS[kind](stream, seed, _Settings(period, float(burstiness)))
    if not any(fit.n >= FEWEST_REQUESTS for fit in plan.fits):
        raise WorkloadError(f"naive {kind}: the stream has too few requests to fit, expected at least {FEWEST_REQUESTS}")
    values = [{key: value for key, value in asdict(replace(fit, lengths=NO_LENGTHS)).items() if key != "lengths"}
              for fit in plan.fits]  # fmt: skip
    description = {"source": "naive", "naive": kind, "seed": seed, **plan.said, "fit": values}
    description["fitted_on"] = stream.description
    return Stream(stream.duration_s, partial(_blocks, plan), description, is_checked=True)


class _Settings(NamedTuple):
    """What only some kinds read."""

    period: Period | None
    burstiness: float


class _Plan(NamedTuple):
    """A kind made out for a stream: its fits, a pass over the arrivals, what fills in lengths, and what is said of it."""

    fits: tuple[NaiveFit, ...]
    send: Callable[[], Iterable[Sent]]
    fill: Fill
    said: dict[str, Any]


def _blocks(plan: _Plan) -> Iterator[np.ndarray]:
    """STREAM arrays of one client, numbered in order."""
    sent = 0
    for fit, arrival_ns in plan.send():
        rows = new_rows(len(arrival_ns))
        rows["arrival_ns"] = arrival_ns
        rows["request_id"] = np.arange(sent, sent + len(rows))
        plan.fill(fit, rows)
        sent += len(rows)
        yield rows


def _poisson(stream: Stream, seed: int, settings: _Settings) -> _Plan:
    return _renewing(fit_poisson(stream), seed)


def _n_hour(stream: Stream, seed: int, settings: _Settings) -> _Plan:
    return _renewing(fit_n_hour(stream), seed)


def _n_10min(stream: Stream, seed: int, settings: _Settings) -> _Plan:
    return _renewing(fit_n_10min(stream), seed)


def _renewing(fits: tuple[NaiveFit, ...], seed: int) -> _Plan:
    return _Plan(fits, partial(renewals, fits, seed), drawn_as_pairs(seed), {})


def _n_global(stream: Stream, seed: int, settings: _Settings) -> _Plan:
    """Arrivals of n_hour; input and output of the whole period, drawn apart."""
    fits, period = fit_n_hour(stream), settings.period
    if isinstance(period, PoolData):
        fill, of = drawn_of_pool(seed, period), f"pool {period.name}, all of its data"
    elif period is None:
        fill, of = drawn_apart(seed, np.concatenate([fit.lengths for fit in fits])), "the stream itself: no period was given"
    else:
        fill, of = drawn_apart(seed, lengths_of(period)), f"a stream of {period.duration_s:g} s"
    fits = tuple(replace(fit, lengths=NO_LENGTHS) for fit in fits)
    return _Plan(fits, partial(renewals, fits, seed), fill, {"lengths_of": of})


def _loadgen(stream: Stream, seed: int, settings: _Settings) -> _Plan:
    """What `vllm bench serve --request-rate R --burstiness b` sends."""
    (fit,) = fits = fit_loadgen(stream, settings.burstiness)
    duration_ns = round(stream.duration_s * NS_PER_S)
    send = partial(rescaled, fit, seed, settings.burstiness, duration_ns)
    said = {"burstiness": settings.burstiness if math.isfinite(settings.burstiness) else "inf"}
    return _Plan(fits, send, shuffled(seed, fit.n), said)


KINDS: dict[str, Callable[[Stream, int, _Settings], _Plan]] = {
    "poisson": _poisson,
    "n_hour": _n_hour,
    "n_10min": _n_10min,
    "n_global": _n_global,
    "loadgen": _loadgen,
}
READ_BY: Final = {"period": "n_global", "burstiness": "loadgen"}  # the one kind that reads a setting


def _mistakes(kind: str, period: object, burstiness: object) -> list[str]:
    if kind not in KINDS:
        return [f"naive: unknown kind {kind!r}{nearest(kind, KINDS)}; known: {', '.join(KINDS)}"]
    given = {"period": period is not None, "burstiness": burstiness != 1.0}
    mistakes = [
        f"{name} does nothing for naive {kind}, only for {READ_BY[name]}"
        for name, is_given in given.items()
        if is_given and READ_BY[name] != kind
    ]
    if not (period is None or isinstance(period, Period)):
        mistakes.append(f"period: expected a client pool or a stream, got {type(period).__name__}")
    least, most = BURSTINESS
    if not (is_number_in(burstiness, least, most) or burstiness == math.inf):
        mistakes.append(f"burstiness: expected a number from {least} to {most:g}, or inf, got {burstiness!r}")
    return mistakes
