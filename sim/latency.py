"""The latencies of requests in whole nanoseconds, as functions of their RECORD rows.

The metrics are those of docs/glossary.md: ttft, tpot, itl (of a request: its worst gap), ntpot, e2el, queue. TPOT and
NTPOT are quotients and rounded once, to the nearest nanosecond, halves up. What the API server adds stands once in TTFT
and once in E2E, and so in NTPOT; queue, TPOT and gaps are the engine's.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from sim.request import LENGTH, STOP
from sim.slo import Term

NO_GAP = -1
"""TPOT and ITL of a one-token answer: it has no gap, and so passes any limit on one."""

Limits = frozenset[tuple[str, int]]
"""Metrics with the most nanoseconds that each may take."""


def is_done(records: np.ndarray) -> np.ndarray:
    """Which requests got their whole answer: those that were served."""
    reason = np.ascontiguousarray(records["finish_reason"])
    return (reason == STOP) | (reason == LENGTH)


def latencies_ns(served: np.ndarray) -> dict[str, np.ndarray]:
    """int64 nanoseconds per request, for RECORD rows of served requests; NO_GAP where a metric is not defined."""
    names = ("arrival_ns", "scheduled_ns", "first_token_ns", "finish_ns", "api_ns")
    arrival, scheduled, first, last, api = (np.ascontiguousarray(served[name]) for name in names)
    tokens = np.maximum(served["output_tokens"].astype("i8"), 1)
    e2el = last - arrival + api
    tpot = _rounded(last - first, np.maximum(tokens - 1, 1))
    itl = served["itl_max_ns"].copy()
    if (one := tokens == 1).any():
        tpot[one] = itl[one] = NO_GAP
    return {
        "ttft": first - arrival + api,
        "tpot": tpot,
        "itl": itl,
        "ntpot": _rounded(e2el, tokens),
        "e2el": e2el,
        "queue": scheduled - arrival,
    }


def latencies_s(records: np.ndarray) -> dict[str, np.ndarray]:
    """Seconds per request, of any RECORD rows: inf for one that was not served, nan where a one-token answer has no gap."""
    done = is_done(records)
    out = {}
    for metric, values in latencies_ns(records.compress(done)).items():
        out[metric] = np.full(len(records), np.inf)
        out[metric][done] = np.where(values == NO_GAP, np.nan, values / 1e9)
    return out


def limits_of(terms: Iterable[Term]) -> Limits:
    """The limits of the terms, whatever statistic they are on, as limits on each request."""
    return frozenset((term.metric, term.limit_ns) for term in terms)


def within(latencies: Mapping[str, np.ndarray], limits: Limits) -> np.ndarray:
    """Which of the served requests with these latencies meet every limit; limits are inclusive."""
    good = np.ones(len(latencies["e2el"]), bool)
    for metric, limit_ns in limits:
        good &= latencies[metric] <= limit_ns
    return good


def good_requests(records: np.ndarray, terms: Iterable[Term]) -> np.ndarray:
    """Which of any RECORD rows meet every limit as one on each request; only served ones can."""
    good = is_done(records)
    good[good] = within(latencies_ns(records.compress(good)), limits_of(terms))
    return good


def _rounded(dividend: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    return (dividend + (divisor >> 1)) // divisor
