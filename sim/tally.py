"""The tally of a run: everything that its summary and its verdict need of the requests, in flat memory.

RECORD rows are added in batches of any size and forgotten. What is left depends on the rows alone, not on their order or
on how they were cut into batches: counts, sums and maxima are exact integers, and of every metric all values are kept
while there are at most EXACT_ROWS rows, and a histogram of them above.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from sim.distribution import Distribution
from sim.latency import NO_GAP, Limits, is_done, latencies_ns, limits_of, within
from sim.request import FINISH_REASONS
from sim.slo import Slo, Term

EXACT_ROWS = 1_000_000
"""Up to so many rows percentiles are exact; 40 bytes are kept of each."""

KEPT = ("ttft", "tpot", "ntpot", "e2el", "queue")
"""Metrics with a distribution. The gaps of itl are counted by the engine as they happen; here is its maximum alone."""

_PIECE_ROWS = 1 << 14  # so that the columns at work stay in the processor's cache


class MetricsError(ValueError):
    """A question that a run cannot answer from what it kept; the message says what to keep."""


class Tally:
    """What is known of the requests that were added.

    sums: of all of them requests, requests_stop … (FINISH_REASONS), input_tokens, cached_tokens, preemptions; and
    inside_input_tokens of those that finished within the window. largest: finish_ns, input_tokens, and itl_ns of the
    served. good: for some limits on each request, how many meet them, with the sum of their output_tokens, and both of
    those that finished within the window (inside, inside_output_tokens); no limits at all stand for "served".
    """

    def __init__(self, window_ns: int | None = None, slo: Slo | None = None):
        """window_ns: the time in which requests arrive; None where all that is served counts as finished within it.

        slo: good requests are counted by its terms on each request, and by all its terms as if they were on each.
        """
        self.window_ns = window_ns
        self.slo = slo
        self.sums: Counter[str] = Counter()
        self.largest = {"finish_ns": 0, "input_tokens": 0, "context_tokens": 0, "itl_ns": 0}
        self.distributions = {metric: Distribution() for metric in KEPT}
        wanted = [(), slo.request_terms, slo.terms] if slo else [()]
        self.good: dict[Limits, Counter[str]] = {limits_of(terms): Counter() for terms in wanted}

    def __len__(self) -> int:
        return self.sums["requests"]

    @property
    def unserved(self) -> int:
        """Requests that did not get their whole answer."""
        return len(self) - self.good_by(())["requests"]

    def good_by(self, terms: Iterable[Term]) -> Counter[str]:
        """What is known of the requests that meet these limits, each as one on a request. MetricsError if not counted."""
        limits = limits_of(terms)
        if limits not in self.good:
            told = " ".join(f"{metric}:{limit_ns / 1e6:g}ms" for metric, limit_ns in sorted(limits))
            raise MetricsError(
                f"requests within {told} were not counted: expected simulate(..., slo=...) with these limits, "
                "or keep_records=True"
            )
        return self.good[limits]

    def add(self, records: np.ndarray) -> None:
        """Take RECORD rows in."""
        self._make_room(len(records))
        for start in range(0, len(records), _PIECE_ROWS):
            self._add(records[start : start + _PIECE_ROWS])

    def close(self) -> None:
        """A run has ended: nothing to be done."""

    def merge(self, other: "Tally") -> None:
        """Take in what another tally knows of other requests; it stays as it is. Only limits that both counted are left."""
        self._make_room(len(other))
        self.sums.update(other.sums)
        self.largest = {name: max(value, other.largest[name]) for name, value in self.largest.items()}
        self.good = {limits: counts + other.good[limits] for limits, counts in self.good.items() if limits in other.good}
        for metric, distribution in self.distributions.items():
            distribution.merge(other.distributions[metric])

    def _make_room(self, rows: int) -> None:
        if len(self) + rows > EXACT_ROWS:
            for distribution in self.distributions.values():
                distribution.condense()

    def _add(self, records: np.ndarray) -> None:
        """A piece of at least one row."""
        sums, done = self.sums, is_done(records)
        sums["requests"] += len(records)
        reasons = np.ascontiguousarray(records["finish_reason"])
        for reason, name in enumerate(FINISH_REASONS):
            sums[f"requests_{name}"] += int(np.count_nonzero(reasons == reason))
        for name in ("input_tokens", "cached_tokens", "preemptions"):
            sums[name] += int(records[name].sum(dtype="i8"))
        for name in ("finish_ns", "input_tokens"):
            self.largest[name] = max(self.largest[name], int(records[name].max()))
        served = records if done.all() else records.compress(done)
        if len(served):
            self._add_served(served)

    def _add_served(self, served: np.ndarray) -> None:
        latencies = latencies_ns(served)
        for metric, distribution in self.distributions.items():
            values = latencies[metric]
            distribution.add(values[values != NO_GAP] if metric == "tpot" else values)
        self.largest["itl_ns"] = max(self.largest["itl_ns"], int(latencies["itl"].max()))
        inside = np.ones(len(served), bool) if self.window_ns is None else served["finish_ns"] <= self.window_ns
        is_all_inside = bool(inside.all())
        self.sums["inside_input_tokens"] += _of(inside, served["input_tokens"])[1]
        output_tokens = served["output_tokens"].astype("i8")
        longest = int((output_tokens + served["input_tokens"]).max())
        self.largest["context_tokens"] = max(self.largest["context_tokens"], longest)
        for limits, counts in self.good.items():
            meets = within(latencies, limits)
            requests, tokens = _of(meets, output_tokens)
            counts.update(requests=requests, output_tokens=tokens)
            requests, tokens = (requests, tokens) if is_all_inside else _of(meets & inside, output_tokens)
            counts.update(inside=requests, inside_output_tokens=tokens)


def _of(chosen: np.ndarray, tokens: np.ndarray) -> tuple[int, int]:
    """How many are chosen, and the sum of their tokens."""
    return int(np.count_nonzero(chosen)), int((tokens * chosen).sum(dtype="i8"))
