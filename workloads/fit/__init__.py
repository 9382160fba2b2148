"""fit: a client pool learnt from any stream, in one pass and memory that does not grow with its requests.

What is kept is what a pool plays: of each client the requests of every 600 s window, exactly, and how bursty they came
(arrivals.py), and sketches of its lengths per 6 h block (lengths.py). docs/characterize.md has the rules, and how
near a pool comes to the one whose stream it was fitted to.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from workloads import fields
from workloads.arrivals import WINDOW_S
from workloads.errors import WorkloadError
from workloads.fit.arrivals import ArrivalFits
from workloads.fit.client_places import ClientPlaces
from workloads.fit.gap_counts import OwnClocks
from workloads.fit.lengths import LengthFits
from workloads.fit.request_fields import lengths_of
from workloads.pool_data import BLOCK_WINDOWS, WINDOW_NS, PoolData
from workloads.stream import MODALITIES, NS_PER_S, Stream, check_stream

MOST_CLIENTS: Final = 100_000


def fit(stream: Stream, name: str = "fitted", max_clients: int = 10_000) -> PoolData:
    """The pool of a stream: its first `max_clients` clients each on its own, later ones as one; times as the stream's.

    Its provenance says what was told by how much, and how near the laws are to the stream. Raises WorkloadError for a stream
    without requests, or rows that are not STREAM's.
    """
    if isinstance(max_clients, bool) or not isinstance(max_clients, int) or not 1 <= max_clients <= MOST_CLIENTS:
        raise WorkloadError(f"max_clients: expected a whole number from 1 to {MOST_CLIENTS}, got {max_clients!r}")
    taken = _Pass(stream, max_clients)
    for rows in stream.windows(WINDOW_S):
        taken.add(rows)
    if not taken.clients.size:
        raise WorkloadError("the stream has no requests: there is nothing to fit")
    return taken.pool(name)


class _Pass:
    """What is known after some windows of a stream."""

    def __init__(self, stream: Stream, max_clients: int) -> None:
        self.stream, self.clients = stream, ClientPlaces(max_clients)
        self._clocks, self._arrivals = OwnClocks(), ArrivalFits()
        self._lengths = LengthFits(of_requests=set(fields.FIELDS) - {fields.tokens_of(name) for name in MODALITIES})
        self._block_requests = np.zeros(0, np.int64)
        self._windows, self._requests, self._longest = 0, 0, 1

    @property
    def _end_ns(self) -> int:
        return min(self._windows * WINDOW_NS, round(self.stream.duration_s * NS_PER_S))

    def add(self, rows: np.ndarray) -> None:
        """The rows of the next window."""
        if not self.stream.is_checked:
            check_stream(rows)
        begin_ns, self._windows = self._windows * WINDOW_NS, self._windows + 1
        place = self.clients.places(rows["client_id"])
        requests = np.bincount(place, minlength=self.clients.size)
        gaps = self._clocks.count(place, rows["arrival_ns"] - begin_ns, requests, max(self._end_ns - begin_ns, 1))
        self._arrivals.add(requests, gaps)
        self._add_lengths(rows, place)
        of_block = requests.copy()
        of_block[: len(self._block_requests)] += self._block_requests
        self._block_requests = of_block
        if self._windows % BLOCK_WINDOWS == 0:
            self._end_block()

    def pool(self, name: str) -> PoolData:
        """The pool, its clients by ascending number."""
        if self._windows % BLOCK_WINDOWS:
            self._end_block()
        numbers = self.clients.numbers()
        arrivals, told_arrivals = self._arrivals.finish()
        length_row, tables, told_lengths = self._lengths.finish(len(numbers))
        order = np.argsort(numbers)
        return PoolData(
            name=name,
            client_ids=numbers[order].astype(np.int32),
            **{key: array[order] for key, array in arrivals.items()},
            length_row=length_row[order],
            lengths=tables,
            max_output_tokens=self._longest,
            absent_ids=(),
            absent_count=np.zeros(self._windows),
            gap=np.zeros(self._windows, bool),
            provenance={
                "grades": {"arrivals": "fitted", "lengths": "fitted"},
                "requests": self._requests,
                "fit": {"arrivals": told_arrivals, "lengths": told_lengths},
                "notes": self._notes(numbers),
            },
        )

    def _add_lengths(self, rows: np.ndarray, place: np.ndarray) -> None:
        self._requests += len(rows)
        for column in ("output_tokens", "max_tokens"):
            self._longest = max(self._longest, int(rows[column].max(initial=1)))
        for name, who, values in lengths_of(rows, self.stream.items):
            self._lengths.add(name, place[who], values)

    def _end_block(self) -> None:
        self._lengths.end_block(self._block_requests)
        self._block_requests = np.zeros(len(self._block_requests), np.int64)

    def _notes(self, numbers: np.ndarray) -> list[str]:
        """What a user of the pool is to know."""
        notes = []
        if len(numbers) == 1 and numbers[0] == 0:
            notes.append("one client: the stream tells no clients apart, so all its burstiness and lengths are those of one")
        if self.clients.merged:
            notes.append(
                f"client {numbers[-1]} is {self.clients.merged} clients merged, those seen after the first {self.clients.most}"
            )
        covered = 1.0 - (self._windows * WINDOW_NS - self._end_ns) / WINDOW_NS
        if covered < 1.0:
            notes.append(
                f"the last window of {WINDOW_S:g} s has the requests of {covered:.0%} of it, and is played as a whole one"
            )
        return notes
