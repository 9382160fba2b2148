"""Composing with kernels: all clients through short pieces of time, in buffers whose size does not grow with the stream."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from workloads import kernels
from workloads.errors import WorkloadError
from workloads.jit import is_plain, is_warm
from workloads.lengths import PROBABILITIES
from workloads.players import FIELD_PURPOSE, FLOW, Players, Window
from workloads.pool_data import WINDOW_NS
from workloads.renewal import RENEWAL
from workloads.stream import BLOCK_ROWS, STREAM, new_rows

# What has arrived: its request, whose it is (an index), and its lengths.
EVENT: Final = np.dtype([("request_id", "i8"), ("client", "i8"), ("input_tokens", "i4"), ("output_tokens", "i4")])
_GUIDE: Final = np.searchsorted(PROBABILITIES, np.arange(1024) / 1024, side="right") - 1


def blocks(players: Players) -> Iterator[np.ndarray]:
    """STREAM arrays of BLOCK_ROWS rows in the mean at most, sorted by (arrival_ns, request_id)."""
    buffers = _Buffers(2 * BLOCK_ROWS)
    for window in players.windows():
        sketches = _sketches(players, window.sketches)
        for begin_ns, until_ns in pairwise(_edges(window)):
            count = _played(players, window, begin_ns, until_ns, buffers)
            _fill_lengths(buffers, count, players.keys, sketches)
            yield _rows(players, window.start_ns + begin_ns, until_ns - begin_ns, buffers, count)
        players.renewals.state["wait"] -= window.flows["length"]


def kernels_warm() -> bool:
    """Whether a long stream starts at once: its kernels lie compiled in the cache, or are not to be compiled at all."""
    name = kernels.__name__
    return is_plain(name) or all(is_warm(name, f) for f in ("play", "in_time_order", "fill_lengths", "fill_rows"))


def warm_kernels() -> None:
    """Compile the kernels, or load them: some 2 CPU seconds, or a third of one."""
    buffers, rows, nobody = _Buffers(2), new_rows(1), np.empty(0, FLOW)
    kernels.play(np.empty(0, RENEWAL), nobody, 0, 0, 1, 1, buffers.times, buffers.events, 0)
    kernels.in_time_order(buffers.times[:0], buffers.spare[:0], buffers.counts, 1)
    no_sketches = {name: _Sketches(np.empty((0, len(PROBABILITIES)), np.float32), np.empty(0)) for name in FIELD_PURPOSE}
    _fill_lengths(buffers, 0, dict.fromkeys(FIELD_PURPOSE, np.empty(0, np.uint64)), no_sketches)
    kernels.fill_rows(rows[:0], rows, 0, buffers.times, buffers.events)


class _Sketches(NamedTuple):
    """Of each client: ln(tokens + 1) at the knots, float32 [clients, 97], and the exponent of the last segment."""

    log_knots: np.ndarray
    tails: np.ndarray


class _Buffers:
    """Room for the arrivals of one piece: kernels make no arrays of their own."""

    def __init__(self, room: int) -> None:
        self.times, self.spare = np.empty(room, np.int64), np.empty(room, np.int64)
        self.events = np.empty(room, EVENT)
        self.counts = np.empty(1 << kernels.DIGIT_BITS, np.int64)

    def double(self) -> None:
        """Twice the room, what is there kept."""
        if 2 * len(self.times) > 1 << kernels.EVENT_BITS:
            raise WorkloadError(f"more than {len(self.times)} requests of the pool arrive almost at once")
        self.times = np.concatenate((self.times, self.spare))
        self.events = np.concatenate((self.events, np.empty_like(self.events)))
        self.spare = np.empty_like(self.times)


def _edges(window: Window) -> Iterator[int]:
    """Where to cut a window so that a piece has BLOCK_ROWS requests in the mean, at most."""
    pieces = max(int(np.ceil(window.flows["length"].sum() / BLOCK_ROWS)), 1)
    span_ns = window.end_ns - window.begin_ns
    return (window.begin_ns + span_ns * piece // pieces for piece in range(pieces + 1))


def _played(players: Players, window: Window, begin_ns: int, until_ns: int, buffers: _Buffers) -> int:
    """How many events there are when all clients have been played up to a time of the window."""
    clients, count, renewals = 0, 0, players.renewals.state
    while True:
        clients, count = kernels.play(
            renewals, window.flows, clients, begin_ns, until_ns, WINDOW_NS - 1, buffers.times, buffers.events, count
        )
        if clients == len(renewals):
            return count
        buffers.double()


def _sketches(players: Players, rows: np.ndarray) -> dict[str, _Sketches]:
    tables = players.composition.tables()
    return {name: _Sketches(table.log_knots[rows], table.tail_shape[rows]) for name, table in tables.items()}


def _fill_lengths(buffers: _Buffers, count: int, keys: dict[str, np.ndarray], sketches: dict[str, _Sketches]) -> None:
    """Lengths of the first `count` events; each field has uniforms of its own, so input and output are independent.

    The column is of the whole buffer: numpy calls one of fewer than two rows contiguous, which numba would compile anew for.
    """
    for name, key in keys.items():
        kernels.fill_lengths(buffers.events[name], buffers.events[:count], key, *sketches[name], PROBABILITIES, _GUIDE)


def _rows(players: Players, begin_ns: int, span_ns: int, buffers: _Buffers, count: int) -> np.ndarray:
    """The STREAM rows of a piece that begins at this time of the run."""
    times, rows, blank = buffers.times[:count], np.empty(count, STREAM), new_rows(1)
    kernels.in_time_order(times, buffers.spare[:count], buffers.counts, -(-span_ns.bit_length() // kernels.DIGIT_BITS))
    blank["max_tokens"] = players.composition.pool.max_output_tokens
    kernels.fill_rows(rows, blank, begin_ns, times, buffers.events)
    return rows
