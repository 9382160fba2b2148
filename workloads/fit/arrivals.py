"""Arrivals of many clients fitted: requests of every 600 s window, and how bursty they come, told where data insist.

The law of a client's gaps (CV, family, shape) is that of its whole period, unless a 6 h block's own gaps differ from it,
or a window's own from those of its block; so a steady client has one law known well, and a moving one many. Fewer than
FEWEST gaps say nothing of their own.

CV: that of the fitted law where the sample's own lies within three standard errors of it, as a likelihood knows a law far
better than the sample's second moment does, which falls short in a small sample; else, and where there were pauses, of
which the law knows nothing, the sample's own. Where a CV is beyond its bulk's, one pause a window makes up for it
(arrivals.pause_for_cv).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from workloads.arrival_models import weibull_gap
from workloads.arrivals import EXPONENTIAL, GAMMA, WEIBULL, gap_cv, weibull_shape
from workloads.fit.gap_counts import GapCounts
from workloads.fit.gap_laws import fit_laws, log_likelihood, shape_of, spread_of_cv
from workloads.pool_data import BLOCK_WINDOWS

FEWEST: Final = 30  # gaps that may have a law of their own: a CV known to some 15 %
FEWEST_ERRORS: Final = 3.0
LEAST_DIFFERENCE: Final = 0.03  # in a CV: what is nearer is the same
LIKELIHOOD_RATIO: Final = 12.0  # twice the logarithm: two parameters more reach it in one case of 400
CVS: Final = (0.02, 1000.0)
LEVELS: Final = ("window", "block", "period")

# How a client's gaps come: the CV of all, pauses included; CV and family of the bulk; distance to the law; of how many gaps.
LAW: Final = np.dtype([("cv", "f4"), ("bulk_cv", "f4"), ("family", "i1"), ("ks", "f4"), ("gaps", "i4")])
_PLAIN: Final = np.array((1.0, 1.0, EXPONENTIAL, 0.0, 0), LAW)


class ArrivalFits:
    """Takes the windows of a stream in order, and has the arrays of a pool in the end."""

    def __init__(self) -> None:
        self._requests: list[np.ndarray] = []
        self._in_block: list[tuple[np.ndarray, GapCounts]] = []
        self._window_laws: list[tuple[np.ndarray, np.ndarray]] = []
        self._blocks: list[tuple[np.ndarray, GapCounts, np.ndarray]] = []
        self._block, self._period = GapCounts.empty(0), GapCounts.empty(0)

    def add(self, requests: np.ndarray, counts: GapCounts) -> None:
        """The next window: requests and gaps of each client known so far."""
        self._requests.append(requests)
        self._block = self._block.plus(counts)
        several = np.flatnonzero(counts.gaps >= FEWEST)
        self._in_block.append((several, counts.of(several)))
        if len(self._requests) % BLOCK_WINDOWS == 0:
            self._end_block()

    def finish(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """`count`, `cv`, `family`, `shape` of PoolData, [clients, windows]; and how they were come by, in plain values."""
        if self._in_block:
            self._end_block()
        clients = len(self._period.gaps)
        count = np.stack([_grown(requests, clients) for requests in self._requests], axis=1).astype(np.float64)
        laws, level = self._laws(clients, count.shape[1])
        fitted = {"count": count, **_as_played(count, laws)}
        return fitted, _report(count, laws, level)

    def _end_block(self) -> None:
        """Laws of the block's clients, and of those of its windows that are not of them."""
        several = np.flatnonzero(self._block.gaps >= FEWEST)
        counts = self._block.of(several)
        laws = law_of(counts)
        place = np.full(len(self._block.gaps), -1)
        place[several] = np.arange(len(several))
        for clients, own in self._in_block:
            found = law_of(own)
            differs = _differs(own, found, laws[place[clients]])
            self._window_laws.append((clients[differs], found[differs]))
        self._blocks.append((several, counts._replace(bins=counts.bins.astype(np.int32)), laws))
        self._period = self._period.plus(self._block)
        self._block, self._in_block = GapCounts.empty(len(self._block.gaps)), []

    def _laws(self, clients: int, windows: int) -> tuple[np.ndarray, np.ndarray]:
        """The LAW of every client and window, and the index in LEVELS of what it was fitted to."""
        several = np.flatnonzero(self._period.gaps >= FEWEST)
        of_period = np.full(clients, _PLAIN, LAW)
        of_period[several] = law_of(self._period.of(several))
        laws = np.repeat(of_period[:, None], windows, axis=1)
        level = np.full((clients, windows), LEVELS.index("period"), np.int8)
        for number, (members, counts, found) in enumerate(self._blocks):
            differs = _differs(counts, found, of_period[members])
            span = slice(number * BLOCK_WINDOWS, (number + 1) * BLOCK_WINDOWS)
            laws[members[differs], span] = found[differs, None]
            level[members[differs], span] = LEVELS.index("block")
        for window, (members, found) in enumerate(self._window_laws):
            laws[members, window], level[members, window] = found, LEVELS.index("window")
        return laws, level


def law_of(counts: GapCounts) -> np.ndarray:
    """LAW rows of clients that have gaps."""
    laws, sample_cv = fit_laws(counts.bins), counts.cv()
    result = np.empty(len(counts.gaps), LAW)
    result["bulk_cv"], result["family"], result["ks"], result["gaps"] = laws.cv, laws.family, laws.ks, counts.gaps
    error = np.maximum(FEWEST_ERRORS * spread_of_cv(laws.family, laws.cv) / np.sqrt(counts.gaps), LEAST_DIFFERENCE)
    is_near = np.abs(np.log(np.maximum(sample_cv, CVS[0]) / laws.cv)) <= error
    has_pauses = counts.bins.sum(axis=1) < counts.gaps
    result["cv"] = np.clip(np.where(is_near & ~has_pauses, laws.cv, sample_cv), *CVS)
    return result


def _differs(counts: GapCounts, own: np.ndarray, wider: np.ndarray) -> np.ndarray:
    """Whether gaps are not of the wider law: by their likelihood, or by their CV."""
    gain = log_likelihood(counts.bins, own["family"], own["bulk_cv"]) - log_likelihood(
        counts.bins, wider["family"], wider["bulk_cv"]
    )
    error = np.maximum(FEWEST_ERRORS * spread_of_cv(wider["family"], wider["bulk_cv"]) / np.sqrt(counts.gaps), LEAST_DIFFERENCE)
    return (2.0 * gain > LIKELIHOOD_RATIO) | (np.abs(np.log(own["cv"] / wider["cv"])) > error)


def _as_played(count: np.ndarray, laws: np.ndarray) -> dict[str, np.ndarray]:
    """`cv`, `family` and `shape` with which the pool's player comes nearest to the laws.

    n gaps cannot have a CV above √(n - 1), and one near it would make them one burst: a window of fewer than FEWEST requests,
    which has no say of its own in its law, is held to half of that. A Gamma is played with all its CV in the gaps as far as
    the window's requests allow, a Weibull with a pause; of a CV beyond the bulk's, the one is stored that leaves the bulk
    nearest to its own.
    """
    active = count > 0
    n, law = count[active], laws[active]
    most = np.where(n < FEWEST, np.maximum(0.5 * np.sqrt(np.maximum(n - 1.0, 0.0)), 1.0), CVS[1])
    cv = np.minimum(law["cv"].astype(np.float64), most)
    bulk_cv = np.minimum(law["bulk_cv"], cv)
    family = np.where(law["family"] == WEIBULL, WEIBULL, GAMMA).astype(np.int8)
    lacks = np.flatnonzero((family == GAMMA) & (cv > bulk_cv * (1.0 + LEAST_DIFFERENCE)))
    family[lacks] = np.where(_is_better_paused(n[lacks], cv[lacks], bulk_cv[lacks]), WEIBULL, GAMMA)
    arrays: dict[str, np.ndarray] = {
        "cv": np.zeros(count.shape),
        "family": np.full(count.shape, GAMMA, np.int8),
        "shape": np.ones(count.shape),
    }
    arrays["cv"][active], arrays["family"][active] = cv, family
    arrays["shape"][active] = shape_of(family, np.where(family == WEIBULL, bulk_cv, cv))
    return arrays


def _is_better_paused(count: np.ndarray, cv: np.ndarray, bulk_cv: np.ndarray) -> np.ndarray:
    """Whether a Weibull of the bulk's CV, played, is nearer to the bulk than a Gamma of the whole CV."""
    off = []
    for family, shape in ((GAMMA, 1.0 / (cv * cv)), (WEIBULL, weibull_shape(bulk_cv))):
        bulk = weibull_gap(count, cv, np.full(len(cv), family, np.int8), shape)
        off.append(np.abs(np.log(gap_cv(bulk.family, bulk.shape) / bulk_cv)))
    return off[1] < off[0]


def _report(count: np.ndarray, laws: np.ndarray, level: np.ndarray) -> dict[str, Any]:
    """Shares of requests, and the distance of laws from the gaps that they were fitted to."""
    requests = count.sum()
    known = laws["gaps"] > 0
    order = np.argsort(laws["ks"][known])
    cumulative = np.cumsum(count[known][order])
    quantiles = {
        f"p{round(100 * p)}": float(laws["ks"][known][order][np.searchsorted(cumulative, p * cumulative[-1])])
        for p in (0.5, 0.9)
        if len(cumulative)
    }
    return {
        "gap_law_ks": quantiles,
        "law_of_frac": {name: float(count[level == number].sum() / requests) for number, name in enumerate(LEVELS)},
        "beyond_bulk_frac": float(count[laws["cv"] > 1.1 * laws["bulk_cv"]].sum() / requests),
        "no_law_frac": float(count[~known].sum() / requests),
    }


def _grown(values: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate((values, np.zeros(size - len(values), values.dtype)))
