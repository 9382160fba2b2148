"""Composing with numpy: a window of one client after the other, as whole arrays; for streams too short to compile for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from workloads.numerics import formulas, uniforms
from workloads.players import Players, Window
from workloads.pool_data import WINDOW_NS
from workloads.stream import BLOCK_ROWS, CLIENT_SHIFT, new_rows


def blocks(players: Players) -> Iterator[np.ndarray]:
    """STREAM arrays of at most BLOCK_ROWS rows, sorted by (arrival_ns, request_id)."""
    for window in players.windows():
        sent = players.renewals.state["sent"].copy()
        parts = [_arrivals_ns(players, window, client) for client in range(len(sent))]
        counts = np.array([len(part) for part in parts])
        arrival_ns = np.concatenate(parts)
        client = np.repeat(np.arange(len(parts)), counts)
        sequence = np.arange(len(client)) + (sent - np.cumsum(counts) + counts)[client]
        # The parts are sorted runs in the order of client numbers: a stable sort by time keeps ties by request_id.
        order = np.argsort(arrival_ns, kind="stable")
        for begin in range(0, len(order), BLOCK_ROWS):
            rows = order[begin : begin + BLOCK_ROWS]
            yield _rows(players, window.sketches, arrival_ns[rows], client[rows], sequence[rows])


def _arrivals_ns(players: Players, window: Window, client: int) -> np.ndarray:
    """Arrivals of a client from the start of the run: the window may begin before it and end after it."""
    flow: Any = window.flows[client]
    operational = flow["before"] + players.renewals.advance(client, flow["length"])
    seconds = formulas.seconds_of(flow, operational)
    offset_ns = np.maximum(formulas.offset_ns(seconds, WINDOW_NS - 1), window.begin_ns)
    return offset_ns[: np.searchsorted(offset_ns, window.end_ns)] + window.start_ns


def _rows(
    players: Players, sketches: np.ndarray, arrival_ns: np.ndarray, client: np.ndarray, sequence: np.ndarray
) -> np.ndarray:
    """STREAM rows of these arrivals of clients, by index, and sequence numbers; each field has uniforms of its own."""
    rows = new_rows(len(arrival_ns))
    rows["arrival_ns"] = arrival_ns
    rows["client_id"] = players.client_ids[client]
    rows["request_id"] = (players.client_ids[client].astype(np.int64) << CLIENT_SHIFT) + sequence
    for name, table in players.composition.tables().items():
        rows[name] = table.sample(sketches[client], uniforms(players.keys[name][client], sequence))
    rows["max_tokens"] = players.composition.pool.max_output_tokens
    return rows
