"""Token lengths: one quantile sketch per client, 6 h block and field, and sampling from it.

A sketch ("tail-97") holds the values at 97 probabilities Φ(z), z = -3 … 3 evenly, the outer two moved to 0 and 1, so
that the knots are dense in both tails. Between knots log(tokens + 1) is linear in the probability. The exact mean
is kept: in the last segment (the top 0.135 %) the fraction f of the segment is replaced by f^a, with a such that the
mean of the whole is the stored one. Against plain quantile grids this keeps mean and p99, to which a KS distance is
nearly blind. A coarse sketch is one of every third knot, the others lying between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from workloads.numerics import exp, formulas, log, normal_cdf, power

BLOCK_S: Final = 21_600.0
TAIL_SHAPES: Final = (2.0**-9, 2.0**9)

KNOTS: Final = 97
COARSE_STEP: Final = 3
_LOWER: Final = normal_cdf(np.arange(-48, 0) / 16.0)
PROBABILITIES: Final = np.concatenate(([0.0], _LOWER[1:], [0.5], 1.0 - _LOWER[:0:-1], [1.0]))
PER_TOKEN: Final = 64  # knots are whole multiples of 1/64 token, coarser where the numbers are large
_STEPS: Final = ((16.0, 64.0), (128.0, 16.0), (np.inf, 8.0))  # below so many tokens, so many steps a token
_WIDTHS: Final = np.diff(PROBABILITIES)
_LAST: Final = KNOTS - 2

# Gauss-Legendre nodes and weights on [-1, 1], Abramowitz and Stegun table 25.4, n = 8, positive half.
_NODES: Final = (0.183434642495649805, 0.525532409916328986, 0.796666477413626740, 0.960289856497536232)
_WEIGHTS: Final = (0.362683783378361983, 0.313706645877887287, 0.222381034453374471, 0.101228536290376259)
_PANELS: Final = 16


@dataclass(frozen=True)
class LengthTable:
    """Sketches of one field, one row each: knots in tokens [rows, 97], exact means, shapes of the last segment.

    log_knots: ln(tokens + 1), float32.
    """

    knots: np.ndarray
    mean: np.ndarray
    tail_shape: np.ndarray
    log_knots: np.ndarray

    @classmethod
    def of(cls, knots: np.ndarray, mean: np.ndarray, tail_shape: np.ndarray | None = None) -> LengthTable:
        """A table of rows of ascending knots and their means; shapes of the last segment are solved unless given."""
        # In half the memory, as compiled code reads them: 2,000 clients then fit into a cache near the processor.
        logs = log(np.asarray(knots, np.float64) + 1.0).astype(np.float32)
        mean = np.asarray(mean, np.float64)
        shape = solve_tail_shape(logs.astype(np.float64), mean) if tail_shape is None else np.asarray(tail_shape, np.float64)
        return cls(np.asarray(knots, np.float64), mean, shape, logs)

    def sample(self, rows: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Tokens (int32, at least 1) at the probabilities `uniforms`, each from the sketch in its row of the table."""
        segment = np.searchsorted(PROBABILITIES, uniforms, side="right") - 1
        fraction = formulas.fraction_of(uniforms, PROBABILITIES[segment], PROBABILITIES[segment + 1])
        last = np.flatnonzero(segment == _LAST)
        fraction[last] = power(fraction[last], self.tail_shape[rows[last]])
        return formulas.tokens(self.log_knots[rows, segment], self.log_knots[rows, segment + 1], fraction).astype(np.int32)

    def model_mean(self) -> np.ndarray:
        """Mean of what each row describes, before rounding to whole tokens: the stored one, where that is in reach."""
        logs = self.log_knots.astype(np.float64)
        return _bulk_mean(logs) + _WIDTHS[_LAST] * _tail_mean(logs, self.tail_shape)


def sketch_knots(values: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The 97 knots of a distribution over ascending whole numbers, in steps of 1/64 token for the smallest.

    Each value v is spread evenly over [v - 1/2, v + 1/2], so that rounding a draw gives back the value's own share.
    """
    cumulative = np.cumsum(probabilities)
    wanted = PROBABILITIES * cumulative[-1]
    index = np.minimum(np.searchsorted(cumulative, wanted, side="left"), len(values) - 1)
    above = (cumulative[index] - wanted) / probabilities[index]
    position = values[index] + 0.5 - np.minimum(np.maximum(above, 0.0), 1.0)
    position[0], position[-1] = values[0] - 0.5, values[-1] + 0.5
    position = np.minimum(np.maximum(position, values[0] - 0.375), values[-1] + 0.375)  # rounding stays inside
    steps = np.select([position < below for below, _ in _STEPS], [steps for _, steps in _STEPS])
    return np.rint(position * steps) / steps


def filled_in(coarse: np.ndarray) -> np.ndarray:
    """The 97 knots [rows, 97] of coarse sketches [rows, 33]: those between lie on the curve that the sketch means."""
    logs = log(coarse + 1.0)
    left, right = logs[:, :-1], logs[:, 1:]
    result = np.empty((len(coarse), KNOTS))
    result[:, ::COARSE_STEP] = coarse
    for step in range(1, COARSE_STEP):
        low, high = PROBABILITIES[:-1:COARSE_STEP], PROBABILITIES[COARSE_STEP::COARSE_STEP]
        fraction = (PROBABILITIES[step::COARSE_STEP] - low) / (high - low)
        result[:, step::COARSE_STEP] = exp(left + fraction * (right - left)) - 1.0
    return result


def solve_tail_shape(log_knots: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The exponent a of the last segment for which a row's mean is as given, by bisection; held to [1/512, 512].

    A mean out of reach (the other segments alone miss it) gets the nearest end of that range.
    """
    wanted = (mean - _bulk_mean(log_knots)) / _WIDTHS[_LAST]
    low, high = np.full(len(mean), log(TAIL_SHAPES[0])), np.full(len(mean), log(TAIL_SHAPES[1]))
    for _ in range(40):
        middle = 0.5 * (low + high)
        too_large = _tail_mean(log_knots, exp(middle)) > wanted
        low, high = np.where(too_large, middle, low), np.where(too_large, high, middle)
    return exp(0.5 * (low + high))


def _bulk_mean(log_knots: np.ndarray) -> np.ndarray:
    """What all segments but the last contribute: ∫ e^(linear) over a segment is (e^b - e^a) / (b - a), less one."""
    low, high = log_knots[:, :_LAST], log_knots[:, 1 : _LAST + 1]
    rise = high - low
    flat = rise <= 0.0
    values = np.where(flat, exp(low), (exp(high) - exp(low)) / np.where(flat, 1.0, rise)) - 1.0
    return np.cumsum(values * _WIDTHS[:_LAST], axis=1)[:, -1]


def _tail_mean(log_knots: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """∫₀¹ e^(low + d f^a) df - 1 with d = high - low, by 8-point Gauss-Legendre on 16 panels graded towards 0 and 1."""
    low, rise = log_knots[:, _LAST, None], log_knots[:, _LAST + 1, None] - log_knots[:, _LAST, None]
    fractions, weights = _QUADRATURE
    values = weights * exp(low + rise * exp(shape[:, None] * log(fractions)))
    return np.cumsum(values, axis=1)[:, -1] - 1.0  # cumsum adds in sequence, sum in an order of its own


def _graded_quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on (0, 1); panel edges are smoothstep-spaced, as f^a is steep at 0 or at 1."""
    x = np.arange(_PANELS + 1) / _PANELS
    edges = x * x * x * (x * (x * 6.0 - 15.0) + 10.0)
    centre, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * np.diff(edges)
    nodes = np.array([-n for n in _NODES] + list(_NODES))
    weights = np.array(_WEIGHTS * 2)
    return (centre[:, None] + half[:, None] * nodes).ravel(), (half[:, None] * weights).ravel()


_QUADRATURE: Final = _graded_quadrature()
