"""Gaps between requests and the three laws that papers fit to them: exponential, Gamma and Weibull, by likelihood.

Each is judged by the Kolmogorov-Smirnov distance between the gaps and the law with its fitted parameters; gaps are a
float array in seconds. See gap_laws.py for the many clients of a pool at once.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from workloads.arrivals import EXPONENTIAL, FAMILIES, GAMMA, WEIBULL
from workloads.fit.gap_laws import cumulative

FEWEST: Final = 10
_SHAPES: Final = (1e-3, 1e4)
_SHORTEST: Final = 1e-3  # of the mean, on a clock that is coarser still


def fit_gaps(gaps_s: np.ndarray) -> dict[str, Any]:
    """Mean, CV, and by family `shape`, `scale_s` and `ks`; `best` is the family of the least distance.

    Fewer than ten gaps, or gaps that are all alike, have no fit: `laws` is empty and `best` None. Gaps of nothing have no CV.
    """
    gaps_s = np.sort(np.asarray(gaps_s, np.float64))
    told: dict[str, Any] = {"count": len(gaps_s), "mean_s": None, "cv": None, "laws": {}, "best": None}
    mean_s = float(gaps_s.mean()) if len(gaps_s) else 0.0
    if mean_s <= 0.0:
        return told
    told["mean_s"], told["cv"] = mean_s, float(gaps_s.std() / mean_s)
    if len(gaps_s) < FEWEST or told["cv"] < 1e-6:
        return told
    x = gaps_s / mean_s
    shapes = {EXPONENTIAL: 1.0, GAMMA: _gamma_shape(x), WEIBULL: _weibull_shape(x)}
    told["laws"] = {FAMILIES[family]: _judged(family, shape, x, mean_s) for family, shape in shapes.items()}
    told["best"] = min(told["laws"], key=lambda name: told["laws"][name]["ks"])
    return told


def ks_of(sorted_values: np.ndarray, law: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of ascending values from a continuous law, whose cumulative probabilities there are given."""
    last = np.flatnonzero(np.append(np.diff(sorted_values) > 0.0, True))  # of equal values
    above = (last + 1) / len(sorted_values)
    below = np.concatenate(([0.0], above[:-1]))
    return float(np.maximum(np.abs(above - law[last]), np.abs(law[last] - below)).max())


def _judged(family: int, shape: float, x: np.ndarray, mean_s: float) -> dict[str, float]:
    """`x` are the gaps over their mean. A Weibull's fitted mean is not the sample's: its scale is a likelihood's, too."""
    from scipy.special import gamma

    scale = _weibull_scale(x, shape) if family == WEIBULL else 1.0 / shape
    unit = scale * gamma(1.0 + 1.0 / shape) if family == WEIBULL else 1.0  # the law's mean over the sample's
    return {"shape": shape, "scale_s": scale * mean_s, "ks": ks_of(x, cumulative(family, np.array([shape]), x / unit)[0])}


def _gamma_shape(x: np.ndarray) -> float:
    """The k with ln k - ψ(k) = ln(mean) - mean(ln): the likelihood's only equation once the mean is right."""
    from scipy.optimize import brentq
    from scipy.special import digamma

    wanted = -float(np.log(_positive(x)).mean())
    lowest, highest = (np.log(k) - digamma(k) for k in _SHAPES)
    if not highest < wanted < lowest:
        return _SHAPES[0] if wanted >= lowest else _SHAPES[1]
    return float(brentq(lambda k: np.log(k) - digamma(k) - wanted, *_SHAPES))


def _weibull_shape(x: np.ndarray) -> float:
    """The k with Σ x^k ln x / Σ x^k - 1/k = mean(ln x)."""
    from scipy.optimize import brentq

    logs = np.log(_positive(x))
    mean, top = float(logs.mean()), float(logs.max())

    def off(k: float) -> float:
        weights = np.exp(k * (logs - top))
        return float((weights * logs).sum() / weights.sum()) - 1.0 / k - mean

    low, high = 0.01, 200.0
    return float(brentq(off, low, high)) if off(low) < 0.0 < off(high) else high


def _weibull_scale(x: np.ndarray, shape: float) -> float:
    """The mean of x^k to the power of 1/k, taken of logarithms so that it does not overflow."""
    logs = np.log(_positive(x))
    return float(np.exp(logs.max() + np.log(np.mean(np.exp(shape * (logs - logs.max())))) / shape))


def _positive(x: np.ndarray) -> np.ndarray:
    """Gaps of nothing, which have no logarithm, are half of the least that the source's clock tells apart, or less."""
    return np.maximum(x, min(0.5 * float(x[x > 0.0].min()), _SHORTEST))
