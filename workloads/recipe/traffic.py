"""Traffic of a recipe's clients over a day: how much each sends in each 600 s window, and in which gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from workloads.arrival_models import shape_for
from workloads.arrivals import EXPONENTIAL, FAMILIES, WINDOW_S
from workloads.numerics import exp, log, power
from workloads.pool_data import DAY_WINDOWS
from workloads.recipe.lengths import normals

_HOUR_WINDOWS: Final = DAY_WINDOWS // 24
_CV_STEP: Final = 0.01  # logarithms of CVs are whole multiples, as in a pool's file
_CVS: Final = (0.05, 40.0)


@dataclass(frozen=True)
class Traffic:
    """Arrays [clients, windows] as PoolData has them, and each client's share of all requests."""

    count: np.ndarray
    cv: np.ndarray
    family: np.ndarray
    shape: np.ndarray
    share: np.ndarray


def traffic_of(recipe: str, value: dict[str, Any]) -> Traffic:
    """A day of the clients that these values, by dotted key, speak of."""
    share = _shares(value)
    count = _counts(recipe, value, share)
    family = np.full(count.shape, FAMILIES.index(value["gaps.family"]), np.int8)
    cv = _cvs(recipe, value, count)
    shape, active = np.ones(count.shape), count > 0.0
    different, which = np.unique(cv[active], return_inverse=True)
    shape[active] = shape_for(np.full(len(different), family[0, 0]), different)[which]
    requests = np.cumsum(count, axis=1)[:, -1]
    return Traffic(count, cv, family, shape, requests / np.cumsum(requests)[-1])


def _shares(value: dict[str, Any]) -> np.ndarray:
    """Of all requests, by rank: the top shares as they are given, then 1/rank^s, for what is left."""
    top, number = np.array(value.get("clients.top_shares", []), np.float64), value["clients.number"]
    ranks = np.arange(len(top) + 1.0, number + 1.0)
    rest = power(ranks, -value["clients.zipf_exponent"])
    left = 1.0 - (np.cumsum(top)[-1] if len(top) else 0.0)
    return np.concatenate((top, rest * (left / np.cumsum(rest)[-1])))


def _counts(recipe: str, value: dict[str, Any], share: np.ndarray) -> np.ndarray:
    """Whole requests in each window. Rounding goes on from window to window, so that a client's day is right to one request."""
    number = len(share)
    hours = np.array(value["clients.daily_profile"], np.float64)
    place = (np.arange(DAY_WINDOWS) + 0.5) / _HOUR_WINDOWS - 0.5  # in hours, from the middle of the first
    before = np.floor(place).astype(np.int64)
    part = place - before
    profile = (1.0 - part) * hours[before % 24] + part * hours[(before + 1) % 24]
    ahead = np.rint(value.get("clients.clock_sd_h", 0.0) * _HOUR_WINDOWS * normals(recipe, "clocks", number)).astype(np.int64)
    rate = profile[(np.arange(DAY_WINDOWS) + ahead[:, None]) % DAY_WINDOWS] * exp(_drift(recipe, value, number))
    requests = share * value["clients.rate_rps"] * DAY_WINDOWS * WINDOW_S
    sent = np.cumsum(rate, axis=1)
    return np.diff(np.floor(sent / sent[:, -1:] * requests[:, None] + 0.5), axis=1, prepend=0.0)


def _drift(recipe: str, value: dict[str, Any], number: int) -> np.ndarray:
    """Logarithms by which rates are off their profile: from window to window a normal that remembers the one before."""
    kept, drawn = value.get("clients.drift_correlation", 0.0), normals(recipe, "drift", number, DAY_WINDOWS)
    result, at = np.empty(drawn.shape), drawn[:, 0]
    for window in range(DAY_WINDOWS):
        at = drawn[:, 0] if window == 0 else kept * at + np.sqrt(1.0 - kept * kept) * drawn[:, window]
        result[:, window] = at
    return value.get("clients.drift_log_sd", 0.0) * result


def _cvs(recipe: str, value: dict[str, Any], count: np.ndarray) -> np.ndarray:
    """Each client's own CV; where it exceeds 1, at most half of what the gaps of so few requests can have, √(n - 1)."""
    if value["gaps.family"] == FAMILIES[EXPONENTIAL]:
        return np.where(count > 0.0, 1.0, 0.0)
    spread = value.get("gaps.cv_log_sd", 0.0) * normals(recipe, "cv", len(count))
    own = np.minimum(np.maximum(value["gaps.cv"] * exp(spread), _CVS[0]), _CVS[1])[:, None]
    reachable = np.maximum(0.5 * np.sqrt(np.maximum(count - 1.0, 0.0)), 1.0)
    cv = exp(np.rint(log(np.minimum(own, reachable)) / _CV_STEP) * _CV_STEP)
    return np.where(count > 0.0, cv, 0.0)
