"""Requests counted apart, by client or by the window of time in which they arrived; memory grows with the groups alone.

Each is a sink for `simulate`. Counts and means are exact; a p99 is read from histograms (sim.histogram), within 1/256 of
its value, and counts requests that were not served as infinitely late.
"""

import numpy as np

from sim.distribution import interpolated
from sim.histogram import BINS, bins_of, value_at
from sim.latency import NO_GAP, is_done, latencies_ns, limits_of, within
from sim.slo import Slo
from sim.tally import MetricsError

METRICS = ("ttft", "tpot", "e2el")

_COUNTS = ("requests", "served", "input_tokens", "output_tokens", "good")
_SUMS = (*_COUNTS, *METRICS, *(f"{metric}_requests" for metric in METRICS))
_PIECE_ROWS = 1 << 16
_MOST_UNSORTED = 1 << 20
_LOW_BITS = (1 << 32) - 1


class Groups:
    """Sums and sparse histograms of each group's requests; with terms on each request in the SLO, good ones as well."""

    key = "group"
    """The first column of `table`."""

    def __init__(self, slo: Slo | None = None):
        self.terms = slo.request_terms if slo else ()
        self._sums: dict[int, np.ndarray] = {}  # Python integers in the order of _SUMS
        self._histograms = {metric: SparseCounts() for metric in METRICS}

    def groups_of(self, records: np.ndarray) -> np.ndarray:
        """The group of each RECORD row, an integer."""
        raise NotImplementedError

    def keys_of(self, groups: np.ndarray) -> np.ndarray:
        """What the table says for each group."""
        return groups

    def add(self, records: np.ndarray) -> None:
        """Take RECORD rows in."""
        for start in range(0, len(records), _PIECE_ROWS):
            piece = records[start : start + _PIECE_ROWS]
            groups = self.groups_of(piece).astype("i8")
            order = np.argsort(groups, kind="stable")
            self._add(piece.take(order), groups[order])

    def close(self) -> None:
        """A run has ended: nothing to be done."""

    def table(self) -> dict[str, np.ndarray]:
        """Columns with a row for each group that has requests, in order; times in seconds.

        The key, requests, served, input_tokens, output_tokens of the served, {ttft,tpot,e2el}_mean_s of the served,
        {ttft,tpot,e2el}_p99_s, and where good requests were counted slo_attainment_frac. nan where there is no request
        to speak of: none was served, or for tpot none had more than one token; inf where too many were not served.
        """
        groups = sorted(self._sums)
        sums = {name: [int(self._sums[group][i]) for group in groups] for i, name in enumerate(_SUMS)}
        out = {self.key: self.keys_of(np.array(groups, "i8"))}
        out |= {name: np.array(sums[name], "i8") for name in _COUNTS[:-1]}
        for metric in METRICS:
            pairs = zip(sums[metric], sums[f"{metric}_requests"])
            out[f"{metric}_mean_s"] = np.array([total / count / 1e9 if count else np.nan for total, count in pairs], "f8")
        for metric in METRICS:
            unserved = (out["requests"] - out["served"]).tolist()
            out[f"{metric}_p99_s"] = np.array(self._p99_s(metric, groups, unserved), "f8")
        if self.terms:
            out["slo_attainment_frac"] = np.array(sums["good"], "i8") / out["requests"]
        return out

    def _add(self, records: np.ndarray, groups: np.ndarray) -> None:
        """Rows sorted by group."""
        done = is_done(records)
        served, served_groups = records.compress(done), groups[done]
        latencies = latencies_ns(served)
        columns = np.zeros((len(_SUMS), len(records)), "i8")
        columns[0], columns[1], columns[2] = 1, done, records["input_tokens"]
        columns[3, done], columns[4, done] = served["output_tokens"], within(latencies, limits_of(self.terms))
        for i, metric in enumerate(METRICS, len(_COUNTS)):
            values = latencies[metric]
            known = values != NO_GAP
            columns[i, done], columns[i + len(METRICS), done] = values * known, known
            self._histograms[metric].add(served_groups[known] * BINS + bins_of(values[known]))
        starts = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1))
        for group, sums in zip(groups[starts].tolist(), _sums_of_slices(columns, starts)):
            self._sums[group] = self._sums.get(group, 0) + sums

    def _p99_s(self, metric: str, groups: list[int], unserved: list[int]) -> list[float]:
        keys, counts = self._histograms[metric].sorted()
        out = []
        for group, infinite in zip(groups, unserved):
            lo, hi = np.searchsorted(keys, (group * BINS, (group + 1) * BINS)).tolist()
            out.append(_p99_ns(keys[lo:hi] - group * BINS, counts[lo:hi], infinite) / 1e9)
        return out


class ByClient(Groups):
    """A group for each client."""

    key = "client_id"

    def groups_of(self, records: np.ndarray) -> np.ndarray:
        """Their clients."""
        return records["client_id"]


class ByWindow(Groups):
    """A group for each window of arrival time that has requests: window k takes [k, k + 1) times `window_s`."""

    key = "start_s"

    def __init__(self, window_s: float, slo: Slo | None = None):
        """MetricsError for windows of less than a millisecond or more than 30 years."""
        super().__init__(slo)
        if not 1e-3 <= window_s <= 1e9:
            raise MetricsError(f"window_s = {window_s}: expected 0.001 to 1e9 seconds")
        self.window_ns = round(window_s * 1e9)

    def groups_of(self, records: np.ndarray) -> np.ndarray:
        """The windows of their arrivals."""
        return records["arrival_ns"] // self.window_ns

    def keys_of(self, groups: np.ndarray) -> np.ndarray:
        """When they begin."""
        return groups * self.window_ns / 1e9


class SparseCounts:
    """How often each of many integers was added; memory grows with the different ones."""

    def __init__(self) -> None:
        self._keys = np.empty(0, "i8")
        self._counts = np.empty(0, "i8")
        self._unsorted: list[np.ndarray] = []
        self._room = _MOST_UNSORTED

    def add(self, keys: np.ndarray) -> None:
        """Count them. Sorting waits until as many are new as are known, so that it costs little for each."""
        self._unsorted.append(keys)
        self._room -= len(keys)
        if self._room < 0:
            self.sorted()

    def sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """The different integers in order, and how often each was added."""
        new, counts = np.unique(np.concatenate([self._keys[:0], *self._unsorted]), return_counts=True)
        keys, place = np.unique(np.concatenate([self._keys, new]), return_inverse=True)
        merged = np.zeros(len(keys), "i8")
        merged[place[: len(self._keys)]] = self._counts
        merged[place[len(self._keys) :]] += counts
        self._keys, self._counts, self._unsorted = keys, merged, []
        self._room = max(_MOST_UNSORTED, len(keys))
        return keys, merged


def _sums_of_slices(columns: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Of each slice of rows, from one start to the next, the sums of all columns, as Python integers that never overflow."""
    high, low = (np.add.reduceat(part, starts, axis=1).astype(object) for part in (columns >> 32, columns & _LOW_BITS))
    return ((high << 32) + low).T


def _p99_ns(bins: np.ndarray, counts: np.ndarray, infinite: int) -> float:
    known = int(counts.sum())
    if not known + infinite:
        return float("nan")
    return interpolated(lambda rank: value_at(bins, counts, rank) if rank < known else float("inf"), known + infinite, 99.0)
