"""When a naive workload's requests come: renewals of a rate, or so many gaps that end with the horizon."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from workloads.arrivals import EXPONENTIAL, FAMILIES, GAMMA
from workloads.naive.fit import FEWEST_REQUESTS, HOUR_S, LEAST_CV, NaiveFit
from workloads.renewal import Renewal
from workloads.stream import BLOCK_ROWS, NS_PER_S

BURSTINESS: Final = (0.005, 1e4)  # shapes that gaps are made for
Sent = tuple[NaiveFit, np.ndarray]  # a piece, and arrivals of it in ns, ascending: BLOCK_ROWS of them at most, about
_FIRST: Final = -1  # piece k is client -1 - k to the hash: a number no client has, so no draw is shared with one


def renewals(fits: tuple[NaiveFit, ...], seed: int) -> Iterator[Sent]:
    """Each piece a renewal until its end, begun in equilibrium so that R·H requests are expected."""
    for piece, fit in enumerate(fits):
        if fit.n < FEWEST_REQUESTS:
            continue
        renewal = Renewal(seed, _FIRST - piece)
        for begin_s in np.arange(0.0, fit.duration_s, HOUR_S):
            arrival_ns = _hour_ns(fit, renewal, float(begin_s))
            for begin in range(0, len(arrival_ns), BLOCK_ROWS):
                yield fit, arrival_ns[begin : begin + BLOCK_ROWS]


def rescaled(fit: NaiveFit, seed: int, burstiness: float, duration_ns: int) -> Iterator[Sent]:
    """The n partial sums of Gamma gaps of this shape, multiplied so that the last is the end of the horizon.

    An arrival at the very end counts as the last nanosecond. The sum is needed before the first, so gaps are drawn twice.
    """
    last = 1.0
    for sums in _sums(fit.n, seed, burstiness):
        last = float(sums[-1])
    for sums in _sums(fit.n, seed, burstiness):
        yield fit, np.minimum(np.floor(sums / last * duration_ns).astype(np.int64), duration_ns - 1)


def _hour_ns(fit: NaiveFit, renewal: Renewal, begin_s: float) -> np.ndarray:
    """The arrivals of (at most) the hour from `begin_s` of a piece."""
    length_s = min(HOUR_S, fit.duration_s - begin_s)
    cv = max(fit.cv, LEAST_CV)
    arrivals = renewal.advance(fit.rate_rps * length_s, FAMILIES.index(fit.family), 1.0 / (cv * cv)) / fit.rate_rps
    start_ns = round((fit.start_s + begin_s) * NS_PER_S)
    last_ns = round((fit.start_s + begin_s + length_s) * NS_PER_S) - 1
    return np.minimum(np.floor(arrivals * NS_PER_S).astype(np.int64) + start_ns, last_ns)


def _sums(n: int, seed: int, burstiness: float) -> Iterator[np.ndarray]:
    """Sums of the first 1, 2, … n gaps of mean 1, piece by piece: what follows a renewal's first arrival."""
    if burstiness == math.inf:
        yield from (np.arange(begin, min(begin + BLOCK_ROWS, n)) + 1.0 for begin in range(0, n, BLOCK_ROWS))
        return
    renewal, length = Renewal(seed, _FIRST), 0.5 * BLOCK_ROWS
    family = EXPONENTIAL if burstiness == 1.0 else GAMMA  # the same law, drawn sooner
    origin, begin, left = math.nan, 0.0, n
    while left:
        times = begin + renewal.advance(length, family, burstiness)
        if math.isnan(origin) and len(times):
            origin, times = float(times[0]), times[1:]
        times = times[:left]
        left, begin = left - len(times), begin + length
        if len(times):
            yield times - origin
