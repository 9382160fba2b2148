"""Arrivals of a client within one window: how fast, in which gaps, with which pause; and the shapes that give a reported CV.

A client's arrivals are a unit-rate renewal process in operational time (renewal.py), stretched by the client's cumulative
rate: the clock they live on runs as fast as the rate, so a change of rate moves arrivals in seconds and draws nothing anew,
and a gap that a window's edge cuts goes on in the next window.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from workloads.numerics import exp, formulas, gamma, log, uniforms

EXPONENTIAL, GAMMA, WEIBULL = formulas.EXPONENTIAL, formulas.GAMMA, formulas.WEIBULL  # the codes that pools store
FAMILIES = ("exponential", "gamma", "weibull")  # names by code
WINDOW_S = 600.0
LONGEST_PAUSE_S = 599.0
_LOG_SHAPES = np.linspace(-2.995732273553991, 3.912023005428146, 1024)  # ln 0.05 to ln 50

Number = Any  # a float, or an array [clients]


class Flow(NamedTuple):
    """How a client sends within one window: requests expected in it, family and shape of the gaps, and its one pause.

    During the pause, `pause_s` long and begun at `pause_at_s` in the window, nothing is sent; the rest is faster. `begin`
    and `end` are the rates at the window's edges over the mean while sending, see `curved` in kernels/play.py: 1 and 1 where
    the rate is the same throughout. Each is a number, or an array with one for each client.
    """

    requests: Number
    family: Number
    shape: Number
    pause_s: Number = 0.0
    pause_at_s: Number = 0.0
    begin: Number = 1.0
    end: Number = 1.0

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
    share = (offset_s - paused) / (WINDOW_S - flow.pause_s)
    is_steady = (np.asarray(flow.begin) == 1.0) & (np.asarray(flow.end) == 1.0)
    return flow.requests * np.where(is_steady, share, _area(share, flow.begin, flow.end))


def edge_rates(before: np.ndarray, count: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rates at a window's two edges over its mean, for rates that change without a step; of windows with traffic.

    At an edge the mean of both sides, but at most twice either, so that the rate in the middle, which keeps the window's
    requests as they are, is not negative; nothing where a side is idle.
    """
    begin, end = (np.minimum(0.5 * (side + count), 2.0 * np.minimum(side, count)) / count for side in (before, after))
    return begin, end


def _area(share: Number, begin: Number, end: Number) -> Number:
    """Requests, of 1 in the window, in the first `share` of its sending time: two straight pieces that meet in the middle."""
    middle = 2.0 - 0.5 * (begin + end)
    is_first = share <= 0.5
    edge = np.where(is_first, begin, end)
    part = np.where(is_first, share, 1.0 - share)
    area = edge * part + (middle - edge) * part * part
    return np.where(is_first, area, 1.0 - area)


def to_seconds(flow: Flow, operational: np.ndarray) -> np.ndarray:
    """Seconds into the window at which the cumulative rate reaches the given values: the inverse of to_operational."""
    if flow.begin == 1.0 and flow.end == 1.0:
        return formulas.to_seconds(operational, flow.seconds_per_request, flow.pause_at_s, flow.pause_s)
    return formulas.to_curved_seconds(
        operational, flow.seconds_per_request, flow.pause_at_s, flow.pause_s, flow.begin, flow.end
    )


def gap_cv(family: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Coefficient of variation of the gaps: Gamma 1/√k; Weibull √(Γ(1 + 2/k) / Γ(1 + 1/k)² - 1)."""
    inverse = 1.0 / np.asarray(shape, np.float64)
    weibull = np.asarray(family) == WEIBULL
    safe = np.where(weibull, inverse, 1.0)
    ratio = gamma(1.0 + 2.0 * safe) / (gamma(1.0 + safe) * gamma(1.0 + safe))
    return np.where(weibull, np.sqrt(np.maximum(ratio - 1.0, 0.0)), np.sqrt(inverse))


def weibull_shape(cv: np.ndarray) -> np.ndarray:
    """The Weibull shape whose gaps have this CV, held to [0.05, 50] (CV 2e10 … 0.025).

    From a table of ln CV over ln k by linear interpolation, and two of Newton's steps with the table's slope.
    """
    log_cv, table = log(cv), _weibull_table()
    piece = np.minimum(np.maximum(np.searchsorted(-table, -log_cv) - 1, 0), len(table) - 2)
    slope = (table[piece + 1] - table[piece]) / (_LOG_SHAPES[piece + 1] - _LOG_SHAPES[piece])
    log_shape = _LOG_SHAPES[piece] + (log_cv - table[piece]) / slope
    for _ in range(2):
        log_shape = np.minimum(np.maximum(log_shape, _LOG_SHAPES[0]), _LOG_SHAPES[-1])
        log_shape = log_shape - (_log_weibull_cv(log_shape) - log_cv) / slope
    return exp(np.minimum(np.maximum(log_shape, _LOG_SHAPES[0]), _LOG_SHAPES[-1]))


@cache
def _weibull_table() -> np.ndarray:
    """ln CV at _LOG_SHAPES, falling."""
    return _log_weibull_cv(_LOG_SHAPES)


def _log_weibull_cv(log_shape: np.ndarray) -> np.ndarray:
    return log(np.maximum(gap_cv(np.full(np.shape(log_shape), WEIBULL), exp(log_shape)), 1e-300))


def pause_for_cv(count: np.ndarray, cv: np.ndarray, bulk_cv: np.ndarray) -> np.ndarray:
    """Seconds of the one pause g that lifts a bulk of CV b to the reported CV among n gaps in T = 600 s; else 0.

    The pause falls into a gap x, which moments of the bulk pick in proportion to its length, so that its mean is
    (1 + b²)(T - g)/n; the squares of all gaps sum to (T - g)² (1 + b²)/n + g² + 2 g x = T² (1 + cv²)/n, and so
    g = T √((cv² - b²)/(n - 1 - b²)). Held to 599 s, also where n gaps cannot have that CV.
    """
    missing = np.maximum(cv * cv - bulk_cv * bulk_cv, 0.0)
    root = np.sqrt(missing / np.maximum(count - 1.0 - bulk_cv * bulk_cv, 1e-9))
    return np.minimum(WINDOW_S * root, LONGEST_PAUSE_S)


def held_shape(shape: np.ndarray) -> np.ndarray:
    """Shapes within the range that the gaps are made for, [0.005, 10000]."""
    return np.minimum(np.maximum(np.asarray(shape, np.float64), 0.005), 1e4)
