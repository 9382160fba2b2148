"""The equilibrium excess: how long a stationary client still waits for its next arrival, seen at any moment.

For unit-mean gaps with survival S, the excess has density S (Cox 1962, Renewal Theory, ch. 5). Where a window brings
gaps of another shape, the wait that is open is carried over at the same probability of the excess. The process then
stays stationary through every change of shape, so that the expected number of arrivals is the cumulative rate, exactly
in every window and at any rate; a wait carried in seconds would send too many on the way to burstier windows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from workloads.numerics import exp, gamma, log

_STEP: Final = 1.0 / 16.0
_LOG_X: Final = np.arange(-16 * 16, 16 * 16 + 1) * _STEP  # the wait in units of the mean gap, e^-16 … e^16
_X: Final = exp(_LOG_X)
_AT_ONCE: Final = 64  # tables made together: as many as stay near the processor


class Gaps(NamedTuple):
    """Whose excess it is: whether gaps are Weibull (else Gamma) and their shape, an array [clients] each."""

    is_weibull: np.ndarray
    shape: np.ndarray


class Excess:
    """Waits carried from gaps of one kind to gaps of another, for many clients; each client's last table is kept."""

    def __init__(self, clients: int) -> None:
        self._table = np.empty((clients, len(_LOG_X)))
        self._made_for = Gaps(np.zeros(clients, bool), np.full(clients, np.nan))

    def carried(self, clients: np.ndarray, wait: np.ndarray, old: Gaps, new: Gaps) -> np.ndarray:
        """The waits under `new` gaps that are as probable as `wait` under `old` ones, of the clients at these indices."""
        result = wait.copy()
        moving = np.flatnonzero(((old.is_weibull != new.is_weibull) | (old.shape != new.shape)) & (wait > 0.0))
        for some in np.split(moving, range(_AT_ONCE, len(moving), _AT_ONCE)):
            before, after = (Gaps(gaps.is_weibull[some], gaps.shape[some]) for gaps in (old, new))
            odds = _interpolated(_LOG_X, self._tables(clients[some], before), log(wait[some]))
            result[some] = exp(_interpolated(self._tables(clients[some], after), _LOG_X, odds))
        return result

    def _tables(self, clients: np.ndarray, gaps: Gaps) -> np.ndarray:
        """The log_odds of these clients' gaps."""
        made_for = Gaps(*(column[clients] for column in self._made_for))
        stale = (made_for.is_weibull != gaps.is_weibull) | (made_for.shape != gaps.shape)
        if stale.any():
            fresh = Gaps(gaps.is_weibull[stale], gaps.shape[stale])
            self._table[clients[stale]] = log_odds(fresh)
            self._made_for.is_weibull[clients[stale]], self._made_for.shape[clients[stale]] = fresh
        return self._table[clients]


def log_odds(gaps: Gaps) -> np.ndarray:
    """ln(F / (1 - F)) of the excess's distribution function F at the waits e^-16 … e^16, [clients, waits]; trapezoid rule.

    In ln x the integrand is S x, smooth and falling on both sides. Below the grid F = x, as S = 1 there, almost.
    """
    density = _survival(gaps) * _X
    pieces = _trapezoids(density)
    below = np.cumsum(np.concatenate((density[:, :1], pieces), axis=1), axis=1)
    above = _sum_from_the_right(np.concatenate((pieces, density[:, -1:]), axis=1))
    odds = log(np.maximum(below, 1e-300)) - log(np.maximum(above, 1e-300))
    # Strictly rising where the tail has run out of digits, so that it can be inverted.
    return np.maximum.accumulate(odds, axis=1) + np.arange(odds.shape[1]) * 1e-9


def _survival(gaps: Gaps) -> np.ndarray:
    result = np.empty((len(gaps.shape), len(_LOG_X)))
    result[gaps.is_weibull] = _weibull_survival(gaps.shape[gaps.is_weibull, None])
    result[~gaps.is_weibull] = _gamma_survival(gaps.shape[~gaps.is_weibull, None])
    return result


def _weibull_survival(shape: np.ndarray) -> np.ndarray:
    """exp(-(Γ(1 + 1/k) x)^k), the scale giving mean 1."""
    scale = log(gamma(1.0 + 1.0 / shape))
    return exp(-exp(shape * (_LOG_X + scale)))


def _gamma_survival(shape: np.ndarray) -> np.ndarray:
    """∫ f from x up, with f x = (k x)^k e^(-k x) / Γ(k)."""
    density = exp(shape * (_LOG_X + log(shape)) - shape * _X - _log_gamma(shape))
    pieces = np.concatenate((_trapezoids(density), np.zeros(shape.shape)), axis=1)
    return np.minimum(_sum_from_the_right(pieces), 1.0)


def _log_gamma(shape: np.ndarray) -> np.ndarray:
    """ln Γ(k): by the recurrence up to 100, above by Stirling's series (Abramowitz and Stegun 6.1.41)."""
    small = np.minimum(shape, 100.0)
    recurrence = log(gamma(small + 1.0)) - log(small)
    stirling = (shape - 0.5) * log(shape) - shape + 0.91893853320467274 + 1.0 / (12.0 * shape)
    return np.where(shape < 100.0, recurrence, stirling)


def _trapezoids(values: np.ndarray) -> np.ndarray:
    return (values[:, 1:] + values[:, :-1]) * (0.5 * _STEP)


def _sum_from_the_right(values: np.ndarray) -> np.ndarray:
    """At each place the sum of it and all to its right, added one by one from the end: cumsum's order is its own definition."""
    return np.cumsum(values[:, ::-1], axis=1)[:, ::-1]


def _interpolated(xs: np.ndarray, ys: np.ndarray, x: np.ndarray) -> np.ndarray:
    """For each client, piecewise linear through the points (xs, ys), either shared or [clients, points], at its x.

    The outer pieces go on; elementary operations in a fixed order.
    """
    xs, ys = np.broadcast_arrays(xs, ys)
    own = np.arange(len(x))
    piece = np.clip((xs < x[:, None]).sum(axis=1) - 1, 0, xs.shape[1] - 2)
    x0, y0 = xs[own, piece], ys[own, piece]
    slope = (ys[own, piece + 1] - y0) / (xs[own, piece + 1] - x0)
    return y0 + slope * (x - x0)
