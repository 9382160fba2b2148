"""Laws of gaps fitted to counts: which of exponential, Gamma and Weibull, and how bursty, by likelihood.

Gaps of mean 1 are counted in bins of half an octave, so that many clients are fitted at once and in memory that does not
grow: the likelihood of a whole grid of laws is one product of matrices, counts times logarithms of the bins'
probabilities. A bin of half an octave loses little: the standard error of a shape grows by a few per cent.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

import numpy as np

from workloads.arrivals import EXPONENTIAL, GAMMA, WEIBULL, held_shape, weibull_shape

BINS: Final = 64
PER_OCTAVE: Final = 2
LOWEST_OCTAVE: Final = -20  # a millionth of the mean; the first bin has all that is below, the last all that is above
CVS: Final = np.geomspace(0.1, 60.0, 320)
_LEAST_PROBABILITY: Final = 1e-12  # no single gap rules a law out: it costs 28 nats at most


class Laws(NamedTuple):
    """A law for each of many counts: family, CV and shape; its log likelihood and the KS distance to the counts."""

    family: np.ndarray
    cv: np.ndarray
    shape: np.ndarray
    log_likelihood: np.ndarray
    ks: np.ndarray


def bins_of(gaps: np.ndarray) -> np.ndarray:
    """The bin of each gap, in units of the mean; a gap of 0 is in the first."""
    octave = np.log2(np.maximum(gaps, 2.0**LOWEST_OCTAVE))
    return np.minimum(((octave - LOWEST_OCTAVE) * PER_OCTAVE).astype(np.int64), BINS - 1)


def fit_laws(counts: np.ndarray) -> Laws:
    """The most likely law for each row of counts [rows, BINS], which has at least one gap.

    Gamma and Weibull have a parameter more than the exponential, and win only by more than half the logarithm of the
    number of gaps (Schwarz, Annals of Statistics 6, 1978).
    """
    counts = np.asarray(counts, np.float64)
    likelihood, cv = zip(*(_best(counts @ _tables()[family]) for family in (GAMMA, WEIBULL)))
    exponential = counts @ _exponential()
    family = np.where(likelihood[1] > likelihood[0], WEIBULL, GAMMA)
    best = np.where(family == WEIBULL, likelihood[1], likelihood[0])
    is_plain = best - exponential <= 0.5 * np.log(np.maximum(counts.sum(axis=1), 2.0))
    family = np.where(is_plain, EXPONENTIAL, family).astype(np.int8)
    found = np.where(is_plain, 1.0, np.where(family == WEIBULL, cv[1], cv[0]))
    best = np.where(is_plain, exponential, best)
    return Laws(family, found, shape_of(family, found), best, distance(counts, family, found))


def log_likelihood(counts: np.ndarray, family: np.ndarray, cv: np.ndarray) -> np.ndarray:
    """Of each row of counts under a law of its own."""
    return (counts * np.log(np.maximum(_probabilities(family, cv), _LEAST_PROBABILITY))).sum(axis=1)


def distance(counts: np.ndarray, family: np.ndarray, cv: np.ndarray) -> np.ndarray:
    """The Kolmogorov-Smirnov distance between each row of counts and a law of its own, at the edges of the bins."""
    seen = np.cumsum(counts, axis=1) / np.maximum(counts.sum(axis=1), 1.0)[:, None]
    return np.abs(seen - np.cumsum(_probabilities(family, cv), axis=1)).max(axis=1)


def shape_of(family: np.ndarray, cv: np.ndarray) -> np.ndarray:
    """The shape whose gaps have this CV, by the family of each."""
    return np.where(family == WEIBULL, weibull_shape(cv), np.where(family == GAMMA, held_shape(1.0 / (cv * cv)), 1.0))


def spread_of_cv(family: np.ndarray, cv: np.ndarray) -> np.ndarray:
    """√n times the relative standard error of the sample CV of n gaps of a law, v = cv².

    By the delta method, the square is (μ4 - v²)/(4 v²) - μ3/v + v with the central moments of gaps of mean 1 (Kendall and
    Stuart, The Advanced Theory of Statistics, volume 1, chapter 10); (v + 1)/2 for Gamma.
    """
    from scipy.special import gamma

    is_weibull = family == WEIBULL
    k = np.where(is_weibull, np.maximum(weibull_shape(cv), 0.2), 1.0)  # burstier ones have no sample CV to speak of
    second, third, fourth = (gamma(1.0 + i / k) / gamma(1.0 + 1.0 / k) ** i for i in (2, 3, 4))
    v, mu3 = second - 1.0, third - 3.0 * second + 2.0
    mu4 = fourth - 4.0 * third + 6.0 * second - 3.0
    of_weibull = (mu4 - v * v) / (4.0 * v * v) - mu3 / v + v
    return np.sqrt(np.where(is_weibull, of_weibull, 0.5 * (cv * cv + 1.0)))


def cumulative(family: int, shape: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """P(gap ≤ x) of gaps of mean 1: [shapes, gaps]."""
    from scipy.special import gamma, gammainc

    shape, gaps = np.asarray(shape, np.float64)[:, None], np.asarray(gaps, np.float64)
    if family == GAMMA:
        return gammainc(shape, shape * gaps)
    k = shape if family == WEIBULL else np.ones_like(shape)
    return -np.expm1(-((gaps * gamma(1.0 + 1.0 / k)) ** k))


def _best(likelihoods: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest of each row and the CV there, a parabola laid through it and its neighbours."""
    peak = np.minimum(np.maximum(likelihoods.argmax(axis=1), 1), len(CVS) - 2)
    rows = np.arange(len(likelihoods))
    left, middle, right = (likelihoods[rows, peak + step] for step in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    shift = np.where(bend < 0.0, 0.5 * (left - right) / np.where(bend < 0.0, bend, 1.0), 0.0)
    shift = np.minimum(np.maximum(shift, -1.0), 1.0)
    return middle - 0.25 * (left - right) * shift, CVS[peak] * (CVS[1] / CVS[0]) ** shift


def _probabilities(family: np.ndarray, cv: np.ndarray) -> np.ndarray:
    """Of the bins under each law, from the nearest of the grid: [laws, BINS]."""
    step = np.log(CVS[1] / CVS[0])
    index = np.clip(np.rint(np.log(cv / CVS[0]) / step).astype(np.int64), 0, len(CVS) - 1)
    result = np.exp(np.where((family == WEIBULL)[:, None], _tables()[WEIBULL].T[index], _tables()[GAMMA].T[index]))
    result[family == EXPONENTIAL] = np.exp(_exponential())
    return result


@cache
def _tables() -> dict[int, np.ndarray]:
    """By family, the logarithm of every bin's probability under every CV of the grid: [BINS, CVs]."""
    families = {family: np.full(len(CVS), family, np.int8) for family in (GAMMA, WEIBULL)}
    return {family: _log_bins(family, shape_of(column, CVS)) for family, column in families.items()}


@cache
def _exponential() -> np.ndarray:
    return _log_bins(EXPONENTIAL, np.ones(1))[:, 0]


def _log_bins(family: int, shapes: np.ndarray) -> np.ndarray:
    edges = 2.0 ** (LOWEST_OCTAVE + np.arange(1, BINS) / PER_OCTAVE)
    below = cumulative(family, shapes, edges)
    ends = np.zeros((len(shapes), 1))
    bins = np.diff(np.concatenate((ends, below, ends + 1.0), axis=1), axis=1)
    return np.log(np.maximum(bins, _LEAST_PROBABILITY)).T
