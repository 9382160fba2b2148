"""Curves of fitted laws, as `workloads.characterize` names them: cumulative probabilities to draw beside what was seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import gammainc, ndtr


def gap_law(law: str, told: Mapping[str, float], gaps_s: np.ndarray) -> np.ndarray:
    """P(gap ≤ x) under an exponential, Gamma or Weibull law of `shape` and `scale_s`."""
    x = gaps_s / told["scale_s"]
    return gammainc(told["shape"], x) if law == "gamma" else -np.expm1(-(x ** told["shape"]))


def length_law(law: str, told: Mapping[str, float], tokens: np.ndarray) -> np.ndarray:
    """P(length ≤ x) under an exponential, a lognormal, or a lognormal with a Pareto tail."""
    if law == "exponential":
        return -np.expm1(-tokens / told["mean"])
    body = ndtr((np.log(tokens) - told["mu"]) / told["sigma"])
    if law == "lognormal":
        return body
    tail = np.where(tokens > told["x_min"], 1.0 - (told["x_min"] / tokens) ** told["alpha"], 0.0)
    return told["tail_frac"] * tail + (1.0 - told["tail_frac"]) * body
