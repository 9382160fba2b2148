"""Unit-rate renewals: every client's arrivals in operational time, fixed by (seed, client id) alone.

Gap k of a client is a function of two or three uniforms with the counter k; gaps have mean 1. The family and shape of a
gap are those of the window in which it starts; what is left of it in a window of another shape is carried over at equal
probability (excess.py).

The first gap is the equilibrium excess (uniform part of a length-biased gap; Cox 1962, Renewal Theory, ch. 5), so that
the expected number of arrivals is the cumulative rate, however small.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from workloads.arrivals import EXPONENTIAL, GAMMA, WEIBULL
from workloads.excess import Excess, Gaps
from workloads.numerics import Purpose, formulas, gamma, log, normal_quantile, power, stream_keys, uniforms

# One row per client: the names of its uniforms; the gaps that start now (inverse_shape 1/k; scale Γ(1 + 1/k) where they are
# Weibull, else 1); operational time until the next arrival; number of the gap that will follow it; arrivals so far.
RENEWAL: Final = np.dtype(
    [
        ("gap_key", "u8"),
        ("normal_key", "u8"),
        ("accept_key", "u8"),
        ("boost_key", "u8"),
        ("family", "i8"),
        ("shape", "f8"),
        ("inverse_shape", "f8"),
        ("scale", "f8"),
        ("wait", "f8"),
        ("next_gap", "i8"),
        ("sent", "i8"),
    ]
)
_NOT_BEGUN: Final = -1


class Renewals:
    """The renewals of many clients, each consumed from left to right; `state` holds a RENEWAL row for each."""

    def __init__(self, seed: int, client_ids: np.ndarray) -> None:
        """At the start nothing is drawn: a first gap takes the shape of the first window that has traffic."""
        self.state = np.zeros(len(client_ids), RENEWAL)
        self.state["family"] = _NOT_BEGUN
        for purpose in (Purpose.GAP, Purpose.NORMAL, Purpose.ACCEPT, Purpose.BOOST):
            self.state[f"{purpose.name.lower()}_key"] = stream_keys(seed, client_ids, purpose)
        self._excess_key = stream_keys(seed, client_ids, Purpose.EXCESS)
        self._excess = Excess(len(client_ids))

    def enter(self, clients: np.ndarray, family: np.ndarray, shape: np.ndarray) -> None:
        """Gaps of the clients at these indices are of this family and shape from here on; open waits are carried over."""
        of = self.state[clients]
        is_weibull = family == WEIBULL
        first = of["family"] == _NOT_BEGUN
        gone_on = ~first
        old = Gaps(of["family"][gone_on] == WEIBULL, of["shape"][gone_on])
        new = Gaps(is_weibull[gone_on], shape[gone_on])
        of["wait"][gone_on] = self._excess.carried(clients[gone_on], of["wait"][gone_on], old, new)
        of["wait"][first] = _first_wait(of[first], self._excess_key[clients[first]], family[first], shape[first])
        of["family"], of["shape"], of["inverse_shape"] = family, shape, 1.0 / shape
        of["scale"] = gamma(1.0 + np.where(is_weibull, of["inverse_shape"], 0.0))
        self.state[clients] = of

    def advance(self, client: int, length: float) -> np.ndarray:
        """The client's arrivals in the next `length` of operational time, relative to its begin.

        The sum of gaps is sequential, so its bits do not depend on how many gaps are drawn at once.
        """
        of = self.state[client]
        last = float(of["wait"])
        pieces = [np.array([last])]
        drawn = 0
        while last < length:
            rest = length - last
            gaps = _gaps(of, int(of["next_gap"]) + drawn, int(rest + 4.0 * rest**0.5) + 8)
            pieces.append(np.cumsum(np.concatenate(([last], gaps)))[1:])
            drawn += len(gaps)
            last = float(pieces[-1][-1])
        times = np.concatenate(pieces)
        inside = int(np.searchsorted(times, length))
        of["next_gap"] += inside
        of["sent"] += inside
        of["wait"] = float(times[inside]) - length
        return times[:inside]


class Renewal:
    """One client's renewal on its own."""

    def __init__(self, seed: int, client_id: int) -> None:
        self._renewals = Renewals(seed, np.array([client_id]))

    def advance(self, length: float, family: int, shape: float) -> np.ndarray:
        """Arrivals in the next `length` of operational time, relative to its begin; gaps that start here are as given."""
        self._renewals.enter(np.zeros(1, np.int64), np.array([family]), np.array([shape]))
        return self._renewals.advance(0, length)


def _gaps(of: Any, first: int, count: int) -> np.ndarray:
    """Gaps number first … first + count - 1 of one RENEWAL row; the formula is that of kernels/gaps.py."""
    index = np.arange(first, first + count)
    if of["family"] == GAMMA:
        boost = power(uniforms(of["boost_key"], index + 1), of["inverse_shape"]) if of["shape"] < 1.0 else 1.0
        return _gamma_draws(of, of["shape"] + (of["shape"] < 1.0), index + 1) * boost / of["shape"]
    exponential = -log(uniforms(of["gap_key"], index))
    return exponential if of["family"] == EXPONENTIAL else power(exponential, of["inverse_shape"]) / of["scale"]


def _first_wait(of: np.ndarray, excess_key: np.ndarray, family: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """The equilibrium excess of each RENEWAL row: U × a gap chosen in proportion to its length.

    Length-biased Gamma(k) is Gamma(k + 1); length-biased Weibull(k) is G^(1/k) with G of Gamma(1 + 1/k).
    """
    part = uniforms(excess_key, np.zeros(len(of), np.int64))
    is_weibull = family == WEIBULL
    k = np.where(family == EXPONENTIAL, 1.0, shape)
    drawn = _gamma_draws(of, 1.0 + np.where(is_weibull, 1.0 / k, k), np.zeros(len(of), np.int64))
    whole = drawn / k
    k = k[is_weibull]
    whole[is_weibull] = power(drawn[is_weibull], 1.0 / k) / gamma(1.0 + 1.0 / k)
    return part * whole


def _gamma_draws(of: Any, shape: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Gamma(shape) draws of shape at least 1 (Marsaglia and Tsang 2000), of one RENEWAL row or of one for each index."""
    columns = np.broadcast_arrays(index, shape - 1.0 / 3.0, of["normal_key"], of["accept_key"])
    result = np.zeros(len(index))
    todo = np.arange(len(index))
    for attempt in range(1 << formulas.ATTEMPT_BITS):
        number, d, normal_key, accept_key = (column[todo] for column in columns)
        counter = (number << formulas.ATTEMPT_BITS) + attempt
        x = normal_quantile(uniforms(normal_key, counter))
        root = formulas.proposal(x, d)
        v = np.where(root > 0.0, root * root * root, 1.0)
        accepted = (root > 0.0) & (log(uniforms(accept_key, counter)) < formulas.acceptance(x, d, v))
        result[todo[accepted]] = (d * v)[accepted]
        todo = todo[~accepted]
        if not len(todo):
            break
    return result
