"""Arrival models: in which gaps and with which pause a client sends within a window, from what is known of the window.

Known are the requests n, the CV of their gaps, and the family and shape that were fitted to them. The published fits and
CVs contradict each other, so the model is the user's choice; an entry of MODELS is a function of four arrays, one entry
for each window with traffic, that gives a Bulk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from workloads.arrivals import EXPONENTIAL, GAMMA, WEIBULL, gap_cv, held_shape, pause_for_cv, weibull_shape
from workloads.errors import WorkloadError, nearest
from workloads.numerics import exp, gamma, log

DEFAULT: Final = "weibull_gap"
WEIBULL_SHAPES: Final = (0.05, 50.0)
PLAIN_CV: Final = 1.2  # a bulk this even is never made more even for the sake of its sample's CV
CV_SPREAD: Final = 0.04  # standard deviation, over the mean, that the sample CV of a window may have


class Bulk(NamedTuple):
    """How a window's traffic comes: family and shape of the gaps, and seconds of the one pause, an array each."""

    family: np.ndarray
    shape: np.ndarray
    pause_s: np.ndarray


Model = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Bulk]


def weibull_gap(count: np.ndarray, cv: np.ndarray, family: np.ndarray, shape: np.ndarray) -> Bulk:
    """Gaps as fitted; what their CV lacks of the reported one is one pause.

    Bulk: Gamma of shape 1/cv², Weibull of the published shape, exponential; never burstier than the reported CV. A bulk of
    CV b among few requests gives sample CVs all over the place, while a pause gives the same each time; so b is held to
    what keeps the spread of the sample CV at CV_SPREAD, yet not below PLAIN_CV.
    """
    bulk_cv = np.where(family == GAMMA, cv, gap_cv(family, _fitted_shape(family, cv, shape)))
    bulk_cv = _steady_cv(count, cv, np.minimum(bulk_cv, cv), family == WEIBULL)
    kept = np.where(family == EXPONENTIAL, GAMMA, family)  # an exponential that is to be more even is a Gamma
    kept = np.where((family == EXPONENTIAL) & (bulk_cv >= 1.0), EXPONENTIAL, kept).astype(np.int8)
    return Bulk(kept, shape_for(kept, bulk_cv), pause_for_cv(count, cv, bulk_cv))


def gap(count: np.ndarray, cv: np.ndarray, family: np.ndarray, shape: np.ndarray) -> Bulk:
    """All burstiness is a pause: Gamma gaps of CV min(cv, 1.2), and one pause."""
    bulk_cv = np.minimum(cv, PLAIN_CV)
    kept = np.full(len(cv), GAMMA, np.int8)
    return Bulk(kept, shape_for(kept, bulk_cv), pause_for_cv(count, cv, bulk_cv))


def published(count: np.ndarray, cv: np.ndarray, family: np.ndarray, shape: np.ndarray) -> Bulk:
    """The published family and shape, as they are; no pause, and a CV that is not the reported one."""
    fitted = _fitted_shape(family, cv, shape)
    return Bulk(family.astype(np.int8), np.where(family == GAMMA, held_shape(shape), fitted), np.zeros(len(cv)))


def gamma_renewal(count: np.ndarray, cv: np.ndarray, family: np.ndarray, shape: np.ndarray) -> Bulk:
    """Gamma gaps with the reported CV."""
    return _renewal(GAMMA, cv)


def weibull_renewal(count: np.ndarray, cv: np.ndarray, family: np.ndarray, shape: np.ndarray) -> Bulk:
    """Weibull gaps with the reported CV."""
    return _renewal(WEIBULL, cv)


def exponential_renewal(count: np.ndarray, cv: np.ndarray, family: np.ndarray, shape: np.ndarray) -> Bulk:
    """Exponential gaps: each client is Poisson at its own rate."""
    return Bulk(np.full(len(cv), EXPONENTIAL, np.int8), np.ones(len(cv)), np.zeros(len(cv)))


MODELS: dict[str, Model] = {
    "weibull_gap": weibull_gap,
    "gap": gap,
    "published": published,
    "gamma": gamma_renewal,
    "weibull": weibull_renewal,
    "exponential": exponential_renewal,
}


def bulk_of(model: str, count: np.ndarray, cv: np.ndarray, family: np.ndarray, shape: np.ndarray) -> Bulk:
    """The model's Bulk for arrays of any one shape; a window without traffic gets shape 1 and no pause. WorkloadError."""
    if model not in MODELS:
        raise WorkloadError(f"arrivals: unknown model {model!r}{nearest(model, MODELS)}; known: {', '.join(MODELS)}")
    active = count > 0
    bulk = Bulk(np.full(count.shape, GAMMA, np.int8), np.ones(count.shape), np.zeros(count.shape))
    made = MODELS[model](count[active], cv[active], family[active], shape[active])
    for column, values in zip(bulk, made, strict=True):
        column[active] = values
    return bulk


def shape_for(family: np.ndarray, cv: np.ndarray) -> np.ndarray:
    """The shape whose gaps have this CV, within the range that gaps are made for."""
    result = np.where(family == EXPONENTIAL, 1.0, held_shape(1.0 / (cv * cv)))
    weibull = family == WEIBULL
    result[weibull] = weibull_shape(cv[weibull])
    return result


def _renewal(family: int, cv: np.ndarray) -> Bulk:
    kept = np.full(len(cv), family, np.int8)
    return Bulk(kept, shape_for(kept, cv), np.zeros(len(cv)))


def _fitted_shape(family: np.ndarray, cv: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Shapes as fitted; of a Gamma, whose fit is of moments, that of the CV."""
    weibull = np.minimum(np.maximum(shape, WEIBULL_SHAPES[0]), WEIBULL_SHAPES[1])
    gamma_shape = held_shape(1.0 / (cv * cv))
    return np.where(family == WEIBULL, weibull, np.where(family == GAMMA, gamma_shape, 1.0))


def _steady_cv(count: np.ndarray, cv: np.ndarray, bulk_cv: np.ndarray, is_weibull: np.ndarray) -> np.ndarray:
    """The largest CV of the bulk up to `bulk_cv` at which the window's sample CV spreads by CV_SPREAD at most.

    By bisection of its logarithm down to PLAIN_CV. The sample's cv² is the bulk's part, b²/cv², and the pause's: the first
    spreads as a sample CV does, the second as n does, whose relative deviation is b/√n.
    """
    result = bulk_cv.copy()
    todo = np.flatnonzero((bulk_cv > PLAIN_CV) & (_spread(count, cv, bulk_cv, is_weibull) > CV_SPREAD))
    n, wanted, weibull = count[todo], cv[todo], is_weibull[todo]
    low, high = np.full(len(todo), log(PLAIN_CV)), log(bulk_cv[todo])
    for _ in range(12):
        middle = 0.5 * (low + high)
        too_wide = _spread(n, wanted, exp(middle), weibull) > CV_SPREAD
        low, high = np.where(too_wide, low, middle), np.where(too_wide, middle, high)
    result[todo] = exp(low)
    return result


def _spread(count: np.ndarray, cv: np.ndarray, bulk_cv: np.ndarray, is_weibull: np.ndarray) -> np.ndarray:
    share = np.minimum(bulk_cv * bulk_cv / (cv * cv), 1.0)
    of_bulk = share * np.sqrt(_sample_cv_variance(bulk_cv, is_weibull) / count)
    of_pause = (1.0 - share) * 0.5 * bulk_cv / np.sqrt(count)
    return np.sqrt(of_bulk * of_bulk + of_pause * of_pause)


def _sample_cv_variance(cv: np.ndarray, is_weibull: np.ndarray) -> np.ndarray:
    """n times the squared relative standard error of the sample CV of n gaps of mean 1 and variance v = cv².

    By the delta method (μ4 - v²)/(4 v²) - μ3/v + v, with the central moments μ3 and μ4 (Kendall and Stuart, The Advanced
    Theory of Statistics, volume 1, chapter 10): for Gamma gaps (v + 1)/2.
    """
    result = 0.5 * (cv * cv + 1.0)
    k = weibull_shape(cv[is_weibull])
    first = gamma(1.0 + 1.0 / k)
    second, third, fourth = (gamma(1.0 + i / k) / _whole_power(first, i) for i in (2, 3, 4))
    v = second - 1.0
    mu3 = third - 3.0 * second + 2.0
    mu4 = fourth - 4.0 * third + 6.0 * second - 3.0
    result[is_weibull] = (mu4 - v * v) / (4.0 * v * v) - mu3 / v + v
    return result


def _whole_power(x: np.ndarray, exponent: int) -> np.ndarray:
    result = x
    for _ in range(exponent - 1):
        result = result * x
    return result
