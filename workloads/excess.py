"""The equilibrium excess: how long a stationary client still waits for its next arrival, seen at any moment.

For unit-mean gaps with survival S, the excess has density S (Cox 1962, Renewal Theory, ch. 5). Where a window brings
gaps of another shape, the wait that is open is carried over at the same probability of the excess. The process then
stays stationary through every change of shape, so that the expected number of arrivals is the cumulative rate, exactly
in every window and at any rate; a wait carried in seconds would send too many on the way to burstier windows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from workloads.numerics import exp, gamma, log

_STEP: Final = 1.0 / 16.0
_LOG_X: Final = np.arange(-16 * 16, 16 * 16 + 1) * _STEP  # the wait in units of the mean gap, e^-16 … e^16
_X: Final = exp(_LOG_X)


def carried(wait: float, old: tuple[bool, float], new: tuple[bool, float]) -> float:
    """The wait under `new` gaps that is as probable as `wait` under `old` ones; gaps are (is Weibull, shape)."""
    if old == new or wait <= 0.0:
        return wait
    odds = _interpolated(_LOG_X, log_odds(*old), float(log(wait)))
    return float(exp(_interpolated(log_odds(*new), _LOG_X, odds)))


@lru_cache(maxsize=4096)
def log_odds(is_weibull: bool, shape: float) -> np.ndarray:
    """ln(F / (1 - F)) of the excess's distribution function F at the fixed waits e^-16 … e^16, by the trapezoid rule.

    In ln x the integrand is S x, smooth and falling on both sides. Below the grid F = x, as S = 1 there, almost.
    """
    survival = _weibull_survival(shape) if is_weibull else _gamma_survival(shape)
    pieces = _trapezoids(survival * _X)
    below = np.cumsum(np.concatenate(([_X[0] * survival[0]], pieces)))
    above = np.cumsum(np.concatenate((pieces, [_X[-1] * survival[-1]]))[::-1])[::-1]
    odds = log(np.maximum(below, 1e-300)) - log(np.maximum(above, 1e-300))
    # Strictly rising where the tail has run out of digits, so that it can be inverted.
    return np.maximum.accumulate(odds) + np.arange(len(odds)) * 1e-9


def _weibull_survival(shape: float) -> np.ndarray:
    """exp(-(Γ(1 + 1/k) x)^k), the scale giving mean 1."""
    scale = log(gamma(1.0 + 1.0 / shape))
    return exp(-exp(shape * (_LOG_X + scale)))


def _gamma_survival(shape: float) -> np.ndarray:
    """∫ f from x up, with f x = (k x)^k e^(-k x) / Γ(k)."""
    density = exp(shape * (_LOG_X + log(shape)) - shape * _X - _log_gamma(shape))
    return np.minimum(np.cumsum(np.concatenate((_trapezoids(density), [0.0]))[::-1])[::-1], 1.0)


def _log_gamma(shape: float) -> float:
    """ln Γ(k): by the recurrence up to 100, above by Stirling's series (Abramowitz and Stegun 6.1.41)."""
    if shape < 100.0:
        return float(log(gamma(shape + 1.0)) - log(shape))
    return float((shape - 0.5) * log(shape)) - shape + 0.91893853320467274 + 1.0 / (12.0 * shape)


def _trapezoids(values: np.ndarray) -> np.ndarray:
    return (values[1:] + values[:-1]) * (0.5 * _STEP)


def _interpolated(xs: np.ndarray, ys: np.ndarray, x: float) -> float:
    """Piecewise linear through the points, the outer pieces going on; elementary operations in a fixed order."""
    piece = min(max(int(np.searchsorted(xs, x)) - 1, 0), len(xs) - 2)
    slope = (ys[piece + 1] - ys[piece]) / (xs[piece + 1] - xs[piece])
    return float(ys[piece] + slope * (x - xs[piece]))
