"""The distribution of one metric over a run: all its values while they are few, a histogram of them when not."""

import mmap
from collections.abc import Callable

import numpy as np

from sim.histogram import BINS, bins_of, value_at

# All pages at once, where Linux can.
_FLAGS = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE} if hasattr(mmap, "MAP_POPULATE") else {}
_FIRST_BLOCK, _LARGEST_BLOCK = 1 << 13, 1 << 14


class Distribution:
    """Values of non-negative int64, 8 bytes each until `condense` puts a histogram of fixed size in their place.

    Count, sum and maximum are exact either way. A percentile is exact before, and after it within 1/256 of its value.
    """

    __slots__ = ("_bins", "_blocks", "_fill", "count", "largest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.largest = 0
        self._blocks: list[np.ndarray] = []  # the values, in no order
        self._fill = 0  # how many of the last block are in use; those before it are full
        self._bins: np.ndarray | None = None  # how many values each bin holds

    def add(self, values: np.ndarray) -> None:
        """Take values in; the array is the caller's again afterwards."""
        if not len(values):
            return
        self.count += len(values)
        largest = int(values.max())
        self.largest = max(self.largest, largest)
        self.total += int(values.sum()) if largest * len(values) < 1 << 63 else sum(values.tolist())
        if self._bins is None:
            self._keep(values)
        else:
            self._bins += np.bincount(bins_of(values), minlength=BINS)

    def condense(self) -> None:
        """Count what was kept in a histogram and let go of it; from now on values are only counted."""
        if self._bins is None:
            self._bins = self._counted()
            self._blocks = []

    def merge(self, other: "Distribution") -> None:
        """Take all values of another in; it stays as it is. A condensed one can only be merged into a condensed one."""
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)
        if self._bins is not None:
            self._bins += other._counted()
            return
        assert other._bins is None, "values that are gone cannot be kept"
        for block in other._kept():
            self._keep(block)

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
            ordered = np.sort(np.concatenate(self._kept())) if self.count else np.empty(0, "i8")
            self._blocks, self._fill = [ordered], len(ordered)
            return lambda rank: float(ordered[rank])
        bins = np.flatnonzero(self._bins)
        counts = self._bins[bins]
        return lambda rank: min(value_at(bins, counts, rank), float(self.largest))

    def _keep(self, values: np.ndarray) -> None:
        while len(values):
            if not self._blocks or self._fill == len(self._blocks[-1]):
                self._blocks.append(_new_block(min(_FIRST_BLOCK << len(self._blocks), _LARGEST_BLOCK)))
                self._fill = 0
            block = self._blocks[-1]
            taken = values[: len(block) - self._fill]
            block[self._fill : self._fill + len(taken)] = taken
            self._fill += len(taken)
            values = values[len(taken) :]

    def _kept(self) -> list[np.ndarray]:
        """The values that are kept, as arrays."""
        return [*self._blocks[:-1], self._blocks[-1][: self._fill]] if self._blocks else []

    def _counted(self) -> np.ndarray:
        """The histogram of all values."""
        if self._bins is not None:
            return self._bins
        bins = np.zeros(BINS, "i8")
        for block in self._kept():
            bins += np.bincount(bins_of(block), minlength=BINS)
        return bins


def _new_block(values: int) -> np.ndarray:
    """Room in memory of its own, so that a long run gets it back once its values are condensed: malloc might keep it."""
    return np.frombuffer(mmap.mmap(-1, 8 * values, **_FLAGS), "i8")


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
