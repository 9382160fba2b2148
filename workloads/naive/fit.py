"""Naive fits: pieces of a stream's horizon, each with its rate, the CV of its gaps and the lengths of its requests."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from workloads.arrivals import EXPONENTIAL, FAMILIES, GAMMA
from workloads.stream import TOKEN_COLUMNS, Stream, new_rows

HOUR_S: Final = 3600.0
TEN_MINUTES_S: Final = 600.0
FEWEST_REQUESTS: Final = 3  # below it a CV of gaps means nothing, and the piece sends none
LEAST_CV: Final = 0.01  # a Gamma of shape 10⁴: in effect, constant gaps
KEPT: Final = (*TOKEN_COLUMNS, "reason_tokens")  # what is drawn of a request
NO_LENGTHS: Final = np.empty((0, len(KEPT)), np.int32)


@dataclass(frozen=True)
class NaiveFit:
    """One piece of the horizon: requests fitted on, their rate and CV of gaps, and the lengths that are drawn from.

    lengths: int32 [n, 4], the columns KEPT of its requests in order, or none of them where they are drawn from elsewhere.
    """

    start_s: float
    duration_s: float
    family: str
    n: int
    rate_rps: float
    cv: float
    lengths: np.ndarray = field(repr=False, compare=False)


def fit_poisson(stream: Stream) -> tuple[NaiveFit, ...]:
    """One piece, the whole horizon: exponential gaps of mean H/N."""
    return (_fit(lengths_of(stream), 1.0, 0.0, stream.duration_s, EXPONENTIAL),)


def fit_n_hour(stream: Stream) -> tuple[NaiveFit, ...]:
    """A piece per hour (the last may be short): Gamma gaps with the mean and CV = sd/mean of that hour's gaps."""
    return _fit_windows(stream, HOUR_S)


def fit_n_10min(stream: Stream) -> tuple[NaiveFit, ...]:
    """A piece per 600 s, as n_hour has one per hour: it follows the rate's curve. One with too few requests sends none."""
    return _fit_windows(stream, TEN_MINUTES_S)


def fit_loadgen(stream: Stream, burstiness: float) -> tuple[NaiveFit, ...]:
    """One piece, the whole horizon: N gaps of CV 1/√b."""
    return (_fit(lengths_of(stream), 1.0 / math.sqrt(burstiness), 0.0, stream.duration_s, GAMMA),)


def lengths_of(stream: Stream) -> np.ndarray:
    """The lengths of all requests of a stream, int32 [requests, 4]."""
    return np.concatenate([_lengths(rows) for rows in (new_rows(0), *stream.blocks())])


def _fit_windows(stream: Stream, window_s: float) -> tuple[NaiveFit, ...]:
    pieces = []
    for window, rows in enumerate(stream.windows(window_s)):
        start_s = window * window_s
        cv = _cv(np.diff(rows["arrival_ns"])) if len(rows) >= FEWEST_REQUESTS else 0.0
        pieces.append(_fit(_lengths(rows), cv, start_s, min(window_s, stream.duration_s - start_s), GAMMA))
    return tuple(pieces)


def _fit(lengths: np.ndarray, cv: float, start_s: float, duration_s: float, family: int) -> NaiveFit:
    return NaiveFit(start_s, duration_s, FAMILIES[family], len(lengths), len(lengths) / duration_s, cv, lengths)


def _lengths(rows: np.ndarray) -> np.ndarray:
    return np.column_stack([rows[name] for name in KEPT])


def _cv(gaps_ns: np.ndarray) -> float:
    """sd/mean of integer gaps. Sums are of exact integers or sequential, so the shape drawn from has the same bits."""
    mean = int(gaps_ns.sum()) / len(gaps_ns)
    if mean == 0.0:
        return LEAST_CV
    relative = gaps_ns / mean - 1.0
    return float(np.sqrt((relative * relative).cumsum()[-1] / len(gaps_ns)))
