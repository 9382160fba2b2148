"""Arrivals of a client within one window: how fast, in which gaps, with which pause; and the shapes that give a reported CV.

A client's arrivals are a unit-rate renewal process in operational time (renewal.py), stretched by the client's cumulative
rate: the clock they live on runs as fast as the rate, so a change of rate moves arrivals in seconds and draws nothing anew,
and a gap that a window's edge cuts goes on in the next window.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from workloads.numerics import formulas, gamma, uniforms

EXPONENTIAL, GAMMA, WEIBULL = formulas.EXPONENTIAL, formulas.GAMMA, formulas.WEIBULL  # the codes that pools store
FAMILIES = ("exponential", "gamma", "weibull")  # names by code
WINDOW_S = 600.0
LONGEST_PAUSE_S = 599.0

Number = Any  # a float, or an array [clients]


class Flow(NamedTuple):
    """How a client sends within one window: requests expected in it, family and shape of the gaps, and its one pause.

    During the pause, `pause_s` long and begun at `pause_at_s` in the window, nothing is sent; the rest is faster. Each is a
    number, or an array with one for each client.
    """

    requests: Number
    family: Number
    shape: Number
    pause_s: Number = 0.0
    pause_at_s: Number = 0.0

    @property
    def seconds_per_request(self) -> Number:
        """In the mean while sending."""
        return (WINDOW_S - self.pause_s) / self.requests


def pause_start_s(key: np.uint64 | np.ndarray, window: int, pause_s: Number) -> np.ndarray:
    """Where in its window a pause begins: uniform over the places it fits, entry `window` of the client's sequence `key`."""
    return uniforms(key, np.array([window])) * (WINDOW_S - pause_s)


def to_operational(flow: Flow, offset_s: float) -> Number:
    """The window's cumulative rate at `offset_s` seconds into it, in requests: flat during the pause."""
    paused = np.minimum(np.maximum(offset_s - flow.pause_at_s, 0.0), flow.pause_s)
    return flow.requests * ((offset_s - paused) / (WINDOW_S - flow.pause_s))


def to_seconds(flow: Flow, operational: np.ndarray) -> np.ndarray:
    """Seconds into the window at which the cumulative rate reaches the given values: the inverse of to_operational."""
    return formulas.to_seconds(operational, flow.seconds_per_request, flow.pause_at_s, flow.pause_s)


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
