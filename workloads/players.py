"""The clients of a composition as they play, window by window: where each stands, and how it sends in the window at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from workloads.arrival_models import Bulk, bulk_of
from workloads.arrivals import WINDOW_S, Flow, edge_rates, pause_start_s, to_operational
from workloads.lengths import LengthTable
from workloads.numerics import Purpose, stream_keys
from workloads.pool_data import WINDOW_NS, PoolData, block_of, overlaps
from workloads.renewal import Renewals
from workloads.stream import NS_PER_S
from workloads.traffic_model import TrafficModel

FIELD_PURPOSE: Final = {"input_tokens": Purpose.INPUT, "output_tokens": Purpose.OUTPUT}

# One row per client: its number; the operational time it has to play in the window, from where the run begins in it, and what
# lies before that; how the window's operational time becomes seconds. A client that sends nothing has length 0.
FLOW: Final = np.dtype(
    [
        ("client_id", "i8"),
        ("length", "f8"),
        ("before", "f8"),
        ("seconds_per_request", "f8"),
        ("pause_at_s", "f8"),
        ("pause_s", "f8"),
        ("begin", "f8"),
        ("end", "f8"),
    ]
)


class Window(NamedTuple):
    """A 600 s window that the run touches, from `begin_ns` to `end_ns` of it.

    flows: FLOW [clients]; sketches: rows of the clients in the tables of lengths; start_ns: where it starts in the run, perhaps
    before 0.
    """

    flows: np.ndarray
    sketches: np.ndarray
    start_ns: int
    begin_ns: int
    end_ns: int


@dataclass(frozen=True)
class Composition:
    """What is to be generated: these clients of a pool, by index, at `scale` times their rates, from start_s on."""

    pool: PoolData
    clients: np.ndarray
    scale: float
    start_s: float
    duration_s: float
    seed: int
    model: TrafficModel = field(default_factory=TrafficModel)

    def flow(self, clients: np.ndarray | int, window: int) -> Flow:
        """How the clients at these places of `clients` send in a window with traffic of theirs; pauses keep their seconds."""
        pool, who, column = self.pool, self.clients[clients], window % self.pool.period
        count, at = pool.count[who, column], self._column[column]
        begin, end = np.ones_like(count), np.ones_like(count)
        if self.model.rates == "smooth":
            begin, end = edge_rates(pool.count[who, self._before(column)], count, pool.count[who, (column + 1) % pool.period])
        bulk = self._bulk
        return Flow(
            requests=self.scale * count,
            family=bulk.family[clients, at],
            shape=bulk.shape[clients, at],
            pause_s=bulk.pause_s[clients, at],
            begin=begin,
            end=end,
        )

    def sketches(self, window: int) -> np.ndarray:
        """Each client's row in the tables of lengths."""
        return self.pool.length_row[self.clients, block_of(window % self.pool.period)]

    def tables(self) -> dict[str, LengthTable]:
        """What the two lengths that every request has are drawn from; the prompt of a multimodal pool is its text at first."""
        lengths = self.pool.lengths
        return {name: lengths["text_tokens" if name not in lengths else name] for name in FIELD_PURPOSE}

    def _before(self, column: int) -> int:
        return (column - 1) % self.pool.period

    @cached_property
    def _column(self) -> dict[int, int]:
        """Of each window of the data that is played, its place among them."""
        played = {window % self.pool.period for window, _ in overlaps(self.start_s, min(self.duration_s, self._longest_s))}
        return {column: at for at, column in enumerate(sorted(played))}

    @property
    def _longest_s(self) -> float:
        return (self.pool.period + 1) * WINDOW_S

    @cached_property
    def _bulk(self) -> Bulk:
        """The arrival model of these clients in the windows played."""
        of, at = self.pool, np.ix_(self.clients, np.array(list(self._column)))
        return bulk_of(self.model.arrivals or of.arrivals, of.count[at], of.cv[at], of.family[at], of.shape[at])


class Players:
    """All clients of one pass. What one sends depends on (seed, client id), its own rates and the start alone."""

    def __init__(self, composition: Composition) -> None:
        self.composition, seed = composition, composition.seed
        self.client_ids = composition.pool.client_ids[composition.clients]
        self.renewals = Renewals(seed, self.client_ids)
        self.keys = {field: stream_keys(seed, self.client_ids, purpose) for field, purpose in FIELD_PURPOSE.items()}
        self._pause_key = stream_keys(seed, self.client_ids, Purpose.PAUSE)

    def windows(self) -> Iterator[Window]:
        """The windows of the run in order; each is to be played whole before the next."""
        of = self.composition
        run_ns, duration_ns = round(of.start_s * NS_PER_S), round(of.duration_s * NS_PER_S)
        for number, _ in overlaps(of.start_s, of.duration_s):
            start_ns = number * WINDOW_NS - run_ns
            end_ns = min(duration_ns - start_ns, WINDOW_NS)
            yield Window(self._enter(number), of.sketches(number), start_ns, max(-start_ns, 0), end_ns)

    def _enter(self, window: int) -> np.ndarray:
        """Every client takes up the window: the FLOW rows."""
        of, flows = self.composition, np.zeros(len(self.client_ids), FLOW)
        flows["client_id"] = self.client_ids
        sending = np.flatnonzero(of.scale * of.pool.count[of.clients, window % of.pool.period] > 0.0)
        flow = of.flow(sending, window)
        flow = flow._replace(pause_at_s=pause_start_s(self._pause_key[sending], window, flow.pause_s))
        before = to_operational(flow, max(of.start_s - window * WINDOW_S, 0.0))
        flows["length"][sending], flows["before"][sending] = flow.requests - before, before
        for name in ("seconds_per_request", "pause_at_s", "pause_s", "begin", "end"):
            flows[name][sending] = getattr(flow, name)
        self.renewals.enter(sending, flow.family, flow.shape)
        return flows
