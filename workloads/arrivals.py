"""Arrivals of one client: a unit-rate renewal process in operational time, stretched by the client's cumulative rate.

The gaps have mean 1 and are fixed by (seed, client id) alone: gap k is a function of two or three uniforms with the
counter k. The clock they live on runs as fast as the client's rate, so a change of rate moves arrivals in seconds and
draws nothing anew, and a gap that a window's edge cuts goes on in the next window. The family and shape of a gap are
those of the 600 s window in which it starts; what is left of it in a window of another shape is carried over at equal
probability (excess.py).

The first gap is the equilibrium excess (uniform part of a length-biased gap; Cox 1962, Renewal Theory, ch. 5), so that
the expected number of arrivals is the cumulative rate, however small.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from workloads.excess import carried
from workloads.numerics import Purpose, gamma, log, normal_quantile, power, stream_key, uniforms

EXPONENTIAL, GAMMA, WEIBULL = 0, 1, 2
FAMILIES = ("exponential", "gamma", "weibull")  # names by code; the code is what pools store
WINDOW_S = 600.0
LONGEST_PAUSE_S = 599.0

_ATTEMPT_BITS = 6  # a gamma draw is rejected with probability below 0.05, 64 times in a row never


class Flow(NamedTuple):
    """How a client sends within one window: requests expected in it, family and shape of the gaps, and its one pause.

    During the pause, `pause_s` long and begun at `pause_at_s` in the window, nothing is sent; the rest is faster.
    """

    requests: float
    family: int
    shape: float
    pause_s: float = 0.0
    pause_at_s: float = 0.0


class Renewal:
    """The arrivals of one client in operational time, consumed from left to right."""

    def __init__(self, seed: int, client_id: int) -> None:
        """At the start nothing is drawn: the first gap takes the shape of the first window that has traffic."""
        self._draw = _Gaps(seed, client_id)
        self._next = 0
        self._wait: float | None = None
        self._gaps_are = (False, 1.0)

    def advance(self, length: float, family: int, shape: float) -> np.ndarray:
        """Arrivals in the next `length` of operational time, relative to its begin; the gap then open is carried on.

        Gaps that start here have this family and shape. The sum is sequential, so its bits do not depend on how many
        gaps are drawn at once.
        """
        if self._wait is None:
            self._wait = self._draw.first(family, shape)
        else:
            self._wait = carried(self._wait, self._gaps_are, (family == WEIBULL, shape))
        self._gaps_are = (family == WEIBULL, shape)
        pieces = [np.array([self._wait])]
        last = self._wait
        while last < length:
            rest = length - last
            gaps = self._draw.gaps(family, shape, self._next, int(rest + 4.0 * rest**0.5) + 8)
            sums = np.cumsum(np.concatenate(([last], gaps)))[1:]
            pieces.append(sums)
            self._next += len(sums)
            last = float(sums[-1])
        times = np.concatenate(pieces)
        inside = int(np.searchsorted(times, length))
        self._next -= len(times) - inside - 1
        self._wait = float(times[inside]) - length
        return times[:inside]


class _Gaps:
    """The unit-mean gaps of one client by number."""

    def __init__(self, seed: int, client_id: int) -> None:
        self._key = {purpose: stream_key(seed, client_id, purpose) for purpose in Purpose}

    def gaps(self, family: int, shape: float, first: int, count: int) -> np.ndarray:
        """Gaps number first … first + count - 1."""
        index = np.arange(first, first + count)
        if family == GAMMA:
            return self._gamma(shape, index + 1) / shape
        exponential = -log(uniforms(self._key[Purpose.GAP], index))
        return exponential if family == EXPONENTIAL else power(exponential, 1.0 / shape) / gamma(1.0 + 1.0 / shape)

    def first(self, family: int, shape: float) -> float:
        """The equilibrium excess: U × a gap chosen in proportion to its length.

        Length-biased Gamma(k) is Gamma(k + 1); length-biased Weibull(k) is G^(1/k) with G of Gamma(1 + 1/k).
        """
        part = uniforms(self._key[Purpose.EXCESS], np.zeros(1, np.int64))
        zero = np.zeros(1, np.int64)
        if family == WEIBULL:
            whole = power(self._gamma(1.0 + 1.0 / shape, zero), 1.0 / shape) / gamma(1.0 + 1.0 / shape)
        else:
            k = 1.0 if family == EXPONENTIAL else shape
            whole = self._gamma(k + 1.0, zero) / k
        return float((part * whole)[0])

    def _gamma(self, shape: float, index: np.ndarray) -> np.ndarray:
        """Gamma(shape) draws (Marsaglia and Tsang 2000); below shape 1, Gamma(shape + 1) × U^(1/shape)."""
        if shape < 1.0:
            boost = uniforms(self._key[Purpose.BOOST], index)
            return self._gamma(shape + 1.0, index) * power(boost, 1.0 / shape)
        d = shape - 1.0 / 3.0
        result = np.zeros(len(index))
        todo = np.arange(len(index))
        for attempt in range(1 << _ATTEMPT_BITS):
            value, accepted = self._attempt(d, (index[todo] << _ATTEMPT_BITS) + attempt)
            result[todo[accepted]] = value[accepted]
            todo = todo[~accepted]
            if not len(todo):
                break
        return result

    def _attempt(self, d: float, counter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """d·v and whether it is accepted: v = (1 + x/√(9d))³ for a normal x, ln U < x²/2 + d (1 - v + ln v)."""
        x = normal_quantile(uniforms(self._key[Purpose.NORMAL], counter))
        root = 1.0 + x / np.sqrt(9.0 * d)
        positive = root > 0.0
        v = np.where(positive, root * root * root, 1.0)
        bound = 0.5 * x * x + d * (1.0 - v + log(v))
        return d * v, positive & (log(uniforms(self._key[Purpose.ACCEPT], counter)) < bound)


def pause_start_s(seed: int, client_id: int, window: int, pause_s: float) -> float:
    """Where in its window a pause begins: uniform over the places it fits, hashed from (seed, client, window)."""
    place = uniforms(stream_key(seed, client_id, Purpose.PAUSE), np.array([window]))
    return float(place[0]) * (WINDOW_S - pause_s)


def to_operational(flow: Flow, offset_s: float) -> float:
    """The window's cumulative rate at `offset_s` seconds into it, in requests: flat during the pause."""
    paused = min(max(offset_s - flow.pause_at_s, 0.0), flow.pause_s)
    return flow.requests * ((offset_s - paused) / (WINDOW_S - flow.pause_s))


def to_seconds(flow: Flow, operational: np.ndarray) -> np.ndarray:
    """Seconds into the window at which the cumulative rate reaches the given values: the inverse of to_operational."""
    sending = operational * ((WINDOW_S - flow.pause_s) / flow.requests)
    return sending + np.where(sending >= flow.pause_at_s, flow.pause_s, 0.0)


def gap_cv(family: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Coefficient of variation of the gaps: Gamma 1/√k; Weibull √(Γ(1 + 2/k) / Γ(1 + 1/k)² - 1)."""
    inverse = 1.0 / np.asarray(shape, np.float64)
    weibull = np.asarray(family) == WEIBULL
    safe = np.where(weibull, inverse, 1.0)
    ratio = gamma(1.0 + 2.0 * safe) / (gamma(1.0 + safe) * gamma(1.0 + safe))
    return np.where(weibull, np.sqrt(np.maximum(ratio - 1.0, 0.0)), np.sqrt(inverse))


def weibull_shape(cv: np.ndarray) -> np.ndarray:
    """The Weibull shape whose gaps have this CV, by bisection over [0.05, 50] (CV 5e7 … 0.025)."""
    low, high = np.full(np.shape(cv), 0.05), np.full(np.shape(cv), 50.0)
    for _ in range(50):
        middle = 0.5 * (low + high)
        too_even = gap_cv(np.full(np.shape(cv), WEIBULL), middle) < cv
        low, high = np.where(too_even, low, middle), np.where(too_even, middle, high)
    return 0.5 * (low + high)


def pauses(count: np.ndarray, cv: np.ndarray, family: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Seconds of pause of each window [clients, windows], from requests, reported CV, and family and shape of the bulk."""
    result = np.zeros(count.shape)
    weibull = (count > 0) & (family == WEIBULL)
    bulk_cv = gap_cv(family[weibull], shape[weibull])
    result[weibull] = pause_for_cv(count[weibull], cv[weibull], bulk_cv)
    return result


def pause_for_cv(count: np.ndarray, cv: np.ndarray, bulk_cv: np.ndarray) -> np.ndarray:
    """Seconds of the one pause g that lifts a bulk of CV b to the reported CV among n gaps in 600 s; else 0.

    Solves ((600 - g)² (1 + b²) + n g²) / 600² = cv² + 1, a quadratic in g. Held to 599 s. A bulk within 2 % of the
    reported CV is left alone: the positive root does not vanish there, as a pause also thins the rest.
    """
    bulk, wanted, n = 1.0 + bulk_cv * bulk_cv, 1.0 + cv * cv, np.asarray(count, np.float64)
    root = np.sqrt(np.maximum(bulk * bulk + (bulk + n) * (wanted - bulk), 0.0))
    pause = WINDOW_S * (bulk + root) / (bulk + n)
    return np.where(bulk_cv < 0.98 * cv, np.minimum(pause, LONGEST_PAUSE_S), 0.0)


def held_shape(shape: np.ndarray) -> np.ndarray:
    """Shapes within the range that the gaps are made for, [0.005, 10000]."""
    return np.minimum(np.maximum(np.asarray(shape, np.float64), 0.005), 1e4)
