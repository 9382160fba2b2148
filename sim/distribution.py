"""The distribution of one metric over a run: all its values while they are few, a histogram of them when not."""

from array import array
from collections.abc import Callable

import numpy as np

from sim.histogram import BINS, bins_of, value_at

_PIECE = 1 << 16


class Distribution:
    """Values of non-negative int64, 8 bytes each until `condense` puts a histogram of fixed size in their place.

    Count, sum and maximum are exact either way. A percentile is exact before, and after it within 1/256 of its value.
    """

    __slots__ = ("_bins", "_values", "count", "largest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.largest = 0
        self._values = array("q")
        self._bins: np.ndarray | None = None  # how many values each bin holds

    def add(self, values: np.ndarray) -> None:
        """Take values in; their order does not matter, and the array is the caller's again afterwards."""
        if not len(values):
            return
        self.count += len(values)
        largest = int(values.max())
        self.largest = max(self.largest, largest)
        self.total += int(values.sum()) if largest * len(values) < 1 << 63 else sum(values.tolist())
        if self._bins is None:
            self._values.frombytes(np.ascontiguousarray(values).view("u1").data)
        else:
            self._bins += np.bincount(bins_of(values), minlength=BINS)

    def condense(self) -> None:
        """Count what was kept in a histogram and let go of it; from now on values are only counted."""
        if self._bins is None:
            self._bins = self._counted()
            self._values = array("q")

    def merge(self, other: "Distribution") -> None:
        """Take all values of another in; it stays as it is. One that is condensed needs the other condensed too."""
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)
        if self._bins is None:
            assert other._bins is None, "values that are gone cannot be kept"
            self._values.extend(other._values)
        elif other._bins is None:
            self._bins += other._counted()
        else:
            self._bins += other._bins

    def mean(self) -> float:
        """The sum over the count; 0 for no values."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, q: float, infinite: int = 0) -> float:
        """numpy's linear percentile of the values and of so many infinite ones; 0 for none at all."""
        if not self.count + infinite:
            return 0.0
        if q == 100.0 and not infinite:
            return float(self.largest)
        at = self._order_statistic()
        return interpolated(lambda rank: at(rank) if rank < self.count else float("inf"), self.count + infinite, q)

    def _order_statistic(self) -> Callable[[int], float]:
        """The value of each rank from 0 to count - 1."""
        if self._bins is None:
            kept = self._kept()
            kept.sort()
            return lambda rank: float(kept[rank])
        bins = np.flatnonzero(self._bins)
        counts = self._bins[bins]
        return lambda rank: min(value_at(bins, counts, rank), float(self.largest))

    def _counted(self) -> np.ndarray:
        """The histogram of the values that are kept, made piece by piece to need little more memory."""
        bins, kept = np.zeros(BINS, "i8"), self._kept()
        for start in range(0, len(kept), _PIECE):
            bins += np.bincount(bins_of(kept[start : start + _PIECE]), minlength=BINS)
        return bins

    def _kept(self) -> np.ndarray:
        """A view of the values that are kept; it must be gone before more are taken in."""
        return np.frombuffer(self._values, "i8")


def interpolated(value_of: Callable[[int], float], count: int, q: float) -> float:
    """numpy's linear percentile of `count` values, of which `value_of` gives the one of a rank; they may be inf."""
    rank = (count - 1) * q / 100.0
    low = int(rank)
    share = rank - low
    below = value_of(low)
    if share == 0.0:
        return below
    above = value_of(low + 1)
    return above if above == float("inf") else below + (above - below) * share


def percentile(values: np.ndarray, q: float) -> float:
    """numpy's linear percentile, for values that may be inf; nan for none."""
    ordered = np.sort(values)
    return interpolated(lambda rank: float(ordered[rank]), len(ordered), q) if len(ordered) else float("nan")
