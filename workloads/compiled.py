"""Composing with kernels: all clients through short pieces of time, in buffers whose size does not grow with the stream."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from workloads import kernels
from workloads.errors import WorkloadError
from workloads.lengths import PROBABILITIES
from workloads.players import BLOCK_ROWS, WINDOW_NS, Players, Window
from workloads.stream import STREAM, new_rows

# What has arrived: whose it is, by index, and its request.
EVENT = np.dtype([("request_id", "i8"), ("client", "i8")])
_DIGIT_BITS = 11
_GUIDE = np.searchsorted(PROBABILITIES, np.arange(256) / 256, side="right") - 1


def blocks(players: Players) -> Iterator[np.ndarray]:
    """STREAM arrays of some BLOCK_ROWS rows, sorted by (arrival_ns, request_id)."""
    pieces = _Pieces(players)
    for window in players.windows():
        pieces.take_up(window)
        edges = _edges(window)
        for begin_ns, until_ns in zip(edges, edges[1:]):
            yield pieces.rows(begin_ns, until_ns)
        players.renewals.state["wait"] -= window.flows["length"]


def _edges(window: Window) -> list[int]:
    """Where to cut a window so that a piece has BLOCK_ROWS requests in the mean, at most."""
    pieces = max(int(np.ceil(window.flows["length"].sum() / BLOCK_ROWS)), 1)
    span_ns = window.end_ns - window.begin_ns
    return [window.begin_ns + span_ns * piece // pieces for piece in range(pieces + 1)]


class _Pieces:
    """The buffers, the window at hand, and its sketches by client."""

    def __init__(self, players: Players) -> None:
        self._players = players
        self._times, self._spare = np.empty(2 * BLOCK_ROWS, np.int64), np.empty(2 * BLOCK_ROWS, np.int64)
        self._events = np.empty(2 * BLOCK_ROWS, EVENT)
        self._counts = np.empty(1 << _DIGIT_BITS, np.int64)
        self._blank = new_rows(1)
        self._blank["max_tokens"] = players.of.pool.max_output_tokens
        self._block = -1

    def take_up(self, window: Window) -> None:
        """Turn to the next window."""
        self._window = window
        if window.block == self._block:
            return
        of, self._block = self._players.of, window.block
        row = of.pool.length_row[of.clients, window.block]
        self._sketches = {
            name: np.column_stack((table.log_knots[row], table.tail_shape[row])) for name, table in of.pool.lengths.items()
        }

    def rows(self, begin_ns: int, until_ns: int) -> np.ndarray:
        """The STREAM rows of the piece between two times of the window; each is played once, in order."""
        count = self._play(begin_ns, until_ns)
        times, rows = self._times[:count], np.empty(count, STREAM)
        digits = -(-(until_ns - begin_ns).bit_length() // _DIGIT_BITS)
        kernels.in_time_order(times, self._spare[:count], self._counts, digits)
        kernels.fill_rows(rows, self._blank, self._window.start_ns + begin_ns, times, self._events)
        for name, keys in self._players.keys.items():
            kernels.fill_lengths(rows[name], times, self._events, keys, self._sketches[name], PROBABILITIES, _GUIDE)
        return rows

    def _play(self, begin_ns: int, until_ns: int) -> int:
        """All clients up to a time of the window: how many events. Where the room is short it doubles."""
        flows, renewals = self._window.flows, self._players.renewals.state
        done, count = kernels.play(renewals, flows, 0, begin_ns, until_ns, WINDOW_NS - 1, self._times, self._events, 0)
        while done < len(flows):
            self._grow()
            done, count = kernels.play(
                renewals, flows, done, begin_ns, until_ns, WINDOW_NS - 1, self._times, self._events, count
            )
        return count

    def _grow(self) -> None:
        room = 2 * len(self._times)
        if room > 1 << kernels.EVENT_BITS:
            raise WorkloadError(f"more than {room // 2} requests of the pool arrive almost at once")
        self._times, self._events = np.resize(self._times, room), np.resize(self._events, room)
        self._spare = np.empty(room, np.int64)
