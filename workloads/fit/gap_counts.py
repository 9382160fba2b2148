"""Gaps between a client's requests, counted window by window on the client's own clock.

The own clock of a client runs as fast as its requests come: in a window with n of them it advances by n, so gaps have
mean 1 whatever the rate does, which is how a pool is played (renewal.py). A gap that crosses a window's edge has its part
of either window's clock, and belongs to the window in which it ends; a window without requests stops the clock.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from workloads.fit.gap_laws import BINS, bins_of
from workloads.numerics import Purpose, stream_key, uniforms

ALONE: Final = 2.0  # the longest gap stands alone where it is more than so many times the second
FINEST_NS: Final = 1000
FEWEST_TICKS: Final = 20  # offsets by chance all multiples of the same have become rarer than one in a million
_FEWEST_ALONE: Final = 10


class GapCounts(NamedTuple):
    """Of each client: gaps, their sum, the sum of their squares, and how many are in each bin of gap_laws: [clients, BINS].

    A longest gap that stands alone is a pause: it is in the sums, and not among the bins, for which the others are held to
    a mean of 1.
    """

    gaps: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    bins: np.ndarray

    @classmethod
    def empty(cls, clients: int) -> GapCounts:
        """Nothing counted yet."""
        return cls(np.zeros(clients, np.int64), np.zeros(clients), np.zeros(clients), np.zeros((clients, BINS), np.int64))

    def add(self, other: GapCounts) -> None:
        """Counts of the first so many clients, in place."""
        for column, more in zip(self, other, strict=True):
            column[: len(more)] += more

    def plus(self, more: GapCounts) -> GapCounts:
        """The sum of both, the other being of as many clients or more."""
        total = self
        if len(self.gaps) < len(more.gaps):
            total = GapCounts.empty(len(more.gaps))
            total.add(self)
        total.add(more)
        return total

    def of(self, clients: np.ndarray) -> GapCounts:
        """Of these clients alone."""
        return GapCounts(*(column[clients] for column in self))

    def cv(self) -> np.ndarray:
        """Sample CV of the gaps; 1 where there are fewer than two."""
        mean_square = self.gaps * self.squares / np.maximum(self.total, 1e-100) ** 2
        return np.where(self.gaps > 1, np.sqrt(np.maximum(mean_square - 1.0, 0.0)), 1.0)


class OwnClocks:
    """Counts gaps one window after the other, and remembers how far each client's clock is past its last request."""

    def __init__(self) -> None:
        self._since = np.empty(0)  # NaN: no request yet
        self._tick_ns, self._seen = 0, 0

    def count(self, client: np.ndarray, offset_ns: np.ndarray, requests: np.ndarray, length_ns: int) -> GapCounts:
        """Gaps that end in a window of this length, of requests sorted by time; `requests` are those of each client."""
        order = np.argsort(client.astype(_narrow(len(requests))), kind="stable")
        client, offset_ns = client[order], self._within_ticks(client[order], offset_ns[order], length_ns)
        since = np.full(len(requests), np.nan)
        since[: len(self._since)] = self._since
        at = offset_ns * (requests[client] / length_ns)
        first = np.flatnonzero(np.diff(client, prepend=-1))
        gaps = np.diff(at, prepend=0.0)
        gaps[first] = at[first] + since[client[first]]
        last = np.append(first[1:], len(at))[: len(first)] - 1
        since += requests
        since[client[last]] = (requests[client] - at)[last]
        self._since = since
        known = ~np.isnan(gaps)
        return _counted(client[known], gaps[known], len(requests))

    def _within_ticks(self, client: np.ndarray, offset_ns: np.ndarray, length_ns: int) -> np.ndarray:
        """Offsets, sorted by client and time; of a client with several requests at one tick of a coarse clock, anywhere in it.

        The tick is the greatest common divisor of all offsets so far; one below FINEST_NS does no harm.
        """
        self._tick_ns = 1 if self._tick_ns == 1 else int(np.gcd(self._tick_ns, np.gcd.reduce(offset_ns)))
        self._seen += len(offset_ns)
        if self._tick_ns < FINEST_NS or self._seen < FEWEST_TICKS:
            return offset_ns
        has_ties = np.zeros(int(client.max(initial=0)) + 1, bool)
        has_ties[client[1:][(np.diff(client) == 0) & (np.diff(offset_ns) == 0)]] = True
        tick_ns = np.where(has_ties[client], np.minimum(self._tick_ns, length_ns - offset_ns), 0)
        spread = uniforms(stream_key(0, 0, Purpose.GAP), self._seen + np.arange(len(client)))
        offset_ns = offset_ns + tick_ns * spread
        return offset_ns[np.lexsort((offset_ns, client))]


def _counted(client: np.ndarray, gaps: np.ndarray, clients: int) -> GapCounts:
    """The counts of gaps sorted by client."""
    number = np.bincount(client, minlength=clients)
    total = np.bincount(client, gaps, clients)
    squares = np.bincount(client, gaps * gaps, clients)
    is_pause = _standing_alone(client, gaps, number)
    paused = np.bincount(client[is_pause], gaps[is_pause], clients)
    factor = np.where(paused > 0.0, (number - 1) / np.maximum(total - paused, 1e-300), 1.0)
    cell = (client * BINS + bins_of(gaps * factor[client]))[~is_pause]
    return GapCounts(number, total, squares, np.bincount(cell, minlength=clients * BINS).reshape(clients, BINS))


def _standing_alone(client: np.ndarray, gaps: np.ndarray, number: np.ndarray) -> np.ndarray:
    """True at a client's longest gap where it is more than ALONE times its second."""
    result = np.zeros(len(gaps), bool)
    if not len(gaps):
        return result
    starts = np.flatnonzero(np.diff(client, prepend=-1))
    who = client[starts]
    longest, second = np.zeros(len(number)), np.zeros(len(number))
    longest[who] = np.maximum.reduceat(gaps, starts)
    is_longest = gaps == longest[client]
    second[who] = np.maximum.reduceat(np.where(is_longest, 0.0, gaps), starts)
    is_one = np.bincount(client[is_longest], minlength=len(number)) == 1
    is_alone = is_one & (number >= _FEWEST_ALONE) & (longest > ALONE * second)
    return is_longest & is_alone[client]


def _narrow(clients: int) -> type[np.unsignedinteger]:
    """The narrowest type for a client's number: sorting 16 bits is several times quicker."""
    return np.uint16 if clients <= 1 << 16 else np.uint32
