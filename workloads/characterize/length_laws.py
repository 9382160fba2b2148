"""Lengths and the laws that papers fit to them: a Pareto tail with a lognormal body for prompts, an exponential for answers.

Lengths are given as ascending values and how many there are of each, so the size of a stream does not matter. Whole
tokens are compared with continuous laws half-way to the next value.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

_TAIL_FROM: Final = np.linspace(0.5, 0.98, 9)  # quantiles at which the Pareto tail is tried to begin
_REFINED: Final = 8  # places tried between the best one's neighbours
_ROUNDS: Final = 200
_LEAST_SIGMA: Final = 0.02
_LARGEST_ALPHA: Final = 10.0  # a tail, not a single value


def fit_lengths(values: np.ndarray, counts: np.ndarray) -> dict[str, dict[str, Any]]:
    """By law, its parameters and its KS distance: `exponential`, `lognormal`, `pareto_lognormal`. Empty for no values."""
    kept = values > 0
    values, counts = values[kept].astype(np.float64), counts[kept].astype(np.float64)
    if not len(values):
        return {}
    weights, logs = counts / counts.sum(), np.log(values)
    mean = float((weights * values).sum())
    body = _lognormal(weights, logs)
    laws: dict[str, tuple[dict[str, float], np.ndarray]] = {
        "exponential": ({"mean": mean}, -np.expm1(-_edges(values) / mean)),
        "lognormal": (dict(zip(("mu", "sigma"), body)), _normal_cdf((np.log(_edges(values)) - body[0]) / body[1])),
        "pareto_lognormal": _mixture(values, weights),
    }
    seen = np.cumsum(weights)
    return {name: {**parameters, "ks": float(np.abs(seen - law).max())} for name, (parameters, law) in laws.items()}


def _mixture(values: np.ndarray, weights: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """The likeliest of mixtures by where their tails begin, first at some quantiles, then around the best of them."""
    index = np.searchsorted(np.cumsum(weights), _TAIL_FROM).clip(max=len(values) - 1)
    coarse = np.unique(values[index])
    at = int(np.argmax([_maximised(values, weights, start)[0] for start in coarse]))
    around = np.geomspace(coarse[max(at - 1, 0)], coarse[min(at + 1, len(coarse) - 1)], _REFINED)
    found = [_maximised(values, weights, start) for start in (coarse[at], *around)]
    _, parameters = max(found, key=lambda of: of[0])
    edges = _edges(values)
    tail = np.where(edges > parameters["x_min"], 1.0 - (parameters["x_min"] / edges) ** parameters["alpha"], 0.0)
    body = _normal_cdf((np.log(edges) - parameters["mu"]) / parameters["sigma"])
    return parameters, parameters["tail_frac"] * tail + (1.0 - parameters["tail_frac"]) * body


def _maximised(values: np.ndarray, weights: np.ndarray, start: float) -> tuple[float, dict[str, float]]:
    """Mean log likelihood and parameters of the mixture with density w α x₀^α / x^(α+1) above x₀, else lognormal."""
    logs = np.log(values)
    above = values >= start
    share, alpha, (mu, sigma) = 0.3 * float(weights[above].sum()), 1.5, _lognormal(weights, logs)
    likelihood = -np.inf
    for _ in range(_ROUNDS):
        tail = np.where(above, share * alpha * np.exp(alpha * (np.log(start) - logs) - logs), 0.0)
        body = (1.0 - share) * np.exp(-0.5 * ((logs - mu) / sigma) ** 2 - logs) / (sigma * np.sqrt(2.0 * np.pi))
        both = np.maximum(tail + body, 1e-300)
        part = weights * tail / both
        share = float(np.clip(part.sum(), 0.0, 1.0 - 1e-9))
        excess = float((part * np.maximum(logs - np.log(start), 0.0)).sum())
        alpha = min(share / excess, _LARGEST_ALPHA) if excess > 0.0 else _LARGEST_ALPHA
        mu, sigma = _lognormal(np.maximum(weights - part, 0.0) + 1e-300, logs)
        before, likelihood = likelihood, float((weights * np.log(both)).sum())
        if likelihood - before < 1e-9:
            break
    return likelihood, {"tail_frac": share, "alpha": alpha, "x_min": float(start), "mu": mu, "sigma": sigma}


def _lognormal(weights: np.ndarray, logs: np.ndarray) -> tuple[float, float]:
    total = weights.sum()
    mu = float((weights * logs).sum() / total)
    return mu, max(float(np.sqrt((weights * (logs - mu) ** 2).sum() / total)), _LEAST_SIGMA)


def _edges(values: np.ndarray) -> np.ndarray:
    """Half-way from each value to the next; values further apart than bins of lengths are have nothing between them."""
    gaps = np.diff(values, append=values[-1] + 1.0)
    return values + 0.5 * np.minimum(gaps, np.maximum(1.0, values / 128.0))


def _normal_cdf(z: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return ndtr(z)
