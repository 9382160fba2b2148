"""What the parts of a character share: counting histograms, quantiles of them, ranks, and plain lists."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

QUANTILES: Final = {"p1": 0.01, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


class Histogram:
    """How often each whole number of at least 0 has come."""

    def __init__(self) -> None:
        self.counts = np.zeros(0, np.int64)

    def add_bins(self, numbers: np.ndarray) -> None:
        """Further numbers."""
        more = np.bincount(numbers, minlength=len(self.counts))
        more[: len(self.counts)] += self.counts
        self.counts = more

    def cumulative(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers that have come, ascending, and the share of all that is not above each."""
        numbers = np.flatnonzero(self.counts)
        return numbers, np.cumsum(self.counts[numbers]) / max(int(self.counts.sum()), 1)


def quantiles(values: np.ndarray, cumulative: np.ndarray) -> dict[str, float]:
    """The values at QUANTILES of a distribution given by its ascending values and their cumulative shares."""
    index = np.minimum(np.searchsorted(cumulative, np.array(list(QUANTILES.values())) - 1e-12), len(values) - 1)
    return dict(zip(QUANTILES, np.asarray(values, np.float64)[index].tolist(), strict=True))


def spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    """Rank correlation, equal values sharing their mean rank; None where either is the same throughout."""
    ranks = [_ranks(values) for values in (x, y)]
    spread = [float(rank.std()) for rank in ranks]
    if not len(x) or min(spread) == 0.0:
        return None
    return float(np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())) / (spread[0] * spread[1]))


def weighted_cdf(values: np.ndarray, weights: np.ndarray, points: int = 200) -> dict[str, list[Any]]:
    """`value` and `cumulative_frac` of a weighted distribution, ascending, thinned to some points."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order]) / weights.sum()
    kept = np.unique(np.linspace(0, len(order) - 1, min(points, len(order))).astype(np.int64))
    return {"value": plain(values[order][kept]), "cumulative_frac": plain(cumulative[kept])}


def plain(values: np.ndarray) -> list[Any]:
    """A list as JSON keeps it: None where there is no number."""
    values = np.asarray(values)
    if values.dtype.kind != "f":
        return values.tolist()
    return [value if is_known else None for value, is_known in zip(values.tolist(), np.isfinite(values).tolist(), strict=True)]


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - 0.5 * (counts - 1))[inverse]
