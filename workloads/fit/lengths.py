"""Lengths of many clients counted in one pass and little memory, and the sketches made of them.

A length below 256 has a bin of its own; above, bins are 1/128 of an octave's beginning, at most 0.8 %. Only bins that
hold something take memory. A client's block of fewer than FEWEST requests borrows the lengths of its whole period.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final, NamedTuple

import numpy as np

from workloads.lengths import LengthTable, sketch_knots

FEWEST: Final = 100  # of a block: its p99 is then the largest but one
EXACT: Final = 256
_BITS: Final = 7  # bins of an octave: 2^7
BINS: Final = EXACT + (24 - 8) * (1 << _BITS)  # up to 2^24, beyond any length
_PENDING: Final = 1 << 21
DEFAULT: Final = 1  # nothing at all, in a table of numbers of at least 1
_CHECKED: Final = 10  # rows of a block, those of most requests, whose sketches are compared with what they are of
_GRID: Final = 2048  # evenly spaced probabilities that stand for a sketch


def bin_of(lengths: np.ndarray) -> np.ndarray:
    """The bin of each length, a whole number from 0 to 2^24 - 1."""
    lengths = np.asarray(lengths, np.int64)
    octave = np.maximum(np.frexp(lengths.astype(np.float64))[1] - 1, 8)  # of 2^octave ≤ length, exact below 2^53
    above = EXACT + ((octave - 8) << _BITS) + (lengths >> (octave - _BITS)) - (1 << _BITS)
    return np.where(lengths < EXACT, lengths, above)


def middle_of(bins: np.ndarray) -> np.ndarray:
    """A whole number that stands for each bin: itself below 256, the bin's middle above."""
    octave, place = np.divmod(np.maximum(bins - EXACT, 0), 1 << _BITS)
    shift = octave + 8 - _BITS
    return np.where(bins < EXACT, bins, ((place + (1 << _BITS)) << shift) + (1 << shift >> 1))


class LengthCounts:
    """How many values of one field each client has had in each bin, with their exact sums and largest values."""

    def __init__(self) -> None:
        self._keys, self._counts = np.empty(0, np.int64), np.empty(0, np.int64)
        self._pending: list[np.ndarray] = []
        self.sums, self.largest = np.zeros(0), np.zeros(0, np.int64)

    def add(self, client: np.ndarray, values: np.ndarray) -> None:
        """Values, one for each entry of `client`."""
        if not len(client):
            return
        self._grow(int(client.max()) + 1)
        self._pending.append(client * BINS + bin_of(values))
        self.sums += np.bincount(client, values, len(self.sums))
        np.maximum.at(self.largest, client, values)
        if sum(map(len, self._pending)) > _PENDING:
            self._settle()

    def merge(self, other: LengthCounts) -> None:
        """What another has counted, too."""
        other._settle()
        self._settle()
        self._grow(len(other.sums))
        self._keys, self._counts = _united(
            np.concatenate((self._keys, other._keys)), np.concatenate((self._counts, other._counts))
        )
        self.sums[: len(other.sums)] += other.sums
        np.maximum(self.largest[: len(other.sums)], other.largest, out=self.largest[: len(other.sums)])

    def of(self, client: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Ascending values of a client, how many of each, and their exact sum."""
        self._settle()
        if client >= len(self.sums):
            return np.empty(0, np.int64), np.empty(0, np.int64), 0.0
        begin, end = np.searchsorted(self._keys, (client * BINS, (client + 1) * BINS))
        values = np.minimum(middle_of(self._keys[begin:end] - client * BINS), self.largest[client])
        return values, self._counts[begin:end], float(self.sums[client])

    def _settle(self) -> None:
        if self._pending:
            keys, counts = np.unique(np.concatenate(self._pending), return_counts=True)
            self._pending = []
            self._keys, self._counts = _united(np.concatenate((self._keys, keys)), np.concatenate((self._counts, counts)))

    def _grow(self, clients: int) -> None:
        more = clients - len(self.sums)
        if more > 0:
            self.sums = np.concatenate((self.sums, np.zeros(more)))
            self.largest = np.concatenate((self.largest, np.zeros(more, np.int64)))


class _Check(NamedTuple):
    """What a row's sketch is compared with: values and their cumulative probabilities; of so many requests."""

    requests: int
    row: int
    values: np.ndarray
    cumulative: np.ndarray


class LengthFits:
    """Takes the fields of a stream's requests, block by block, and has a pool's tables of lengths in the end.

    `of_requests`: fields of which every request has one value; where fewer are given, the others are DEFAULT. Other fields
    are of items, of which a request has any number.
    """

    def __init__(self, of_requests: Container[str]) -> None:
        self._of_requests = of_requests
        self._block: dict[str, LengthCounts] = {}
        self._period: dict[str, LengthCounts] = {}
        self._sketches: dict[str, list[tuple[np.ndarray, float]]] = {}
        self._checks: dict[str, list[_Check]] = {}
        self._requests: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._made = 0

    def add(self, name: str, client: np.ndarray, values: np.ndarray) -> None:
        """Values of one field, each with the client that it is of."""
        self._block.setdefault(name, LengthCounts()).add(client, values)

    def end_block(self, requests: np.ndarray) -> None:
        """The block is over; it had so many requests of each client known so far."""
        self._requests.append(requests)
        self._rows.append(self._sketched(self._block, requests, np.flatnonzero(requests >= FEWEST)))
        for name, counts in self._block.items():
            self._period.setdefault(name, LengthCounts()).merge(counts)
        self._block = {}

    def finish(self, clients: int) -> tuple[np.ndarray, dict[str, LengthTable], dict[str, Any]]:
        """`length_row` and `lengths` of PoolData, and how near the sketches are to what they are of."""
        requests = np.stack([_grown(column, clients) for column in self._requests], axis=1)
        rows = np.stack([_grown(column, clients, -1) for column in self._rows], axis=1)
        borrowing = (requests > 0) & (rows < 0)
        whole = self._sketched(self._period, requests.sum(axis=1), np.flatnonzero(borrowing.any(axis=1)))
        rows = np.where(borrowing, whole[:, None], rows).astype(np.int32)
        tables = {
            name: LengthTable.of(np.stack([knots for knots, _ in made]), np.array([mean for _, mean in made]))
            for name, made in self._sketches.items()
        }
        return rows, tables, {name: _report(checks, tables[name]) for name, checks in self._checks.items()}

    def _sketched(self, counts: dict[str, LengthCounts], requests: np.ndarray, clients: np.ndarray) -> np.ndarray:
        """Sketches of these clients in every table; each client's new row in them, or -1."""
        checked = set(clients[np.argsort(-requests[clients], kind="stable")[:_CHECKED]].tolist())
        for name in counts:
            if name not in self._sketches:  # nobody before had any
                self._sketches[name], self._checks[name] = [_sketch(*_NOTHING)] * self._made, []
        for name, made in self._sketches.items():
            for row, client in enumerate(clients.tolist(), self._made):
                values, number, total = counts[name].of(client) if name in counts else _NOTHING
                if name in self._of_requests:
                    values, number, total = _with_default(values, number, total, int(requests[client]))
                made.append(_sketch(values, number, total))
                if client in checked and len(values):
                    self._checks[name].append(_Check(int(requests[client]), row, values, np.cumsum(number) / number.sum()))
        rows = np.full(len(requests), -1, np.int64)
        rows[clients] = self._made + np.arange(len(clients))
        self._made += len(clients)
        return rows


def _with_default(values: np.ndarray, number: np.ndarray, total: float, requests: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The values of all requests, those that were not given being DEFAULT, which no other is below."""
    missing = requests - int(number.sum())
    if missing == 0:
        return values, number, total
    if len(values) and values[0] == DEFAULT:
        return values, np.concatenate(([number[0] + missing], number[1:])), total + missing * DEFAULT
    return np.concatenate(([DEFAULT], values)), np.concatenate(([missing], number)), total + missing * DEFAULT


def _sketch(values: np.ndarray, number: np.ndarray, total: float) -> tuple[np.ndarray, float]:
    """Knots and mean; of nothing, those of DEFAULT alone."""
    if not len(values):
        return sketch_knots(np.array([DEFAULT]), np.ones(1)), float(DEFAULT)
    count = int(number.sum())
    return sketch_knots(values, number / count), total / count


def _report(checks: list[_Check], table: LengthTable) -> dict[str, float]:
    """Kolmogorov-Smirnov distances of sketches from what they are of, at the median and 90th percentile of requests."""
    distances = np.array([_distance(check, table) for check in checks])
    order = np.argsort(distances)
    cumulative = np.cumsum(np.array([check.requests for check in checks])[order])
    return {
        f"ks_p{round(100 * p)}": float(distances[order][np.searchsorted(cumulative, p * cumulative[-1])]) for p in (0.5, 0.9)
    }


def _distance(check: _Check, table: LengthTable) -> float:
    grid = (np.arange(_GRID) + 0.5) / _GRID
    drawn = np.sort(bin_of(table.sample(np.full(_GRID, check.row), grid)))
    ours = np.searchsorted(drawn, bin_of(check.values), side="right") / _GRID
    return float(np.abs(ours - check.cumulative).max())


def _united(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each key once, ascending, with the sum of its counts."""
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], np.add.reduceat(counts, first) if len(first) else counts


def _grown(values: np.ndarray, size: int, empty: int = 0) -> np.ndarray:
    return np.concatenate((values, np.full(size - len(values), empty, values.dtype)))


_NOTHING: Final = (np.empty(0, np.int64), np.empty(0, np.int64), 0.0)
