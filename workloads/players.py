"""The clients of a composition as they play, window by window: where each stands, and how it sends in the window at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from workloads.arrivals import WINDOW_S, pause_start_s, to_operational
from workloads.numerics import Purpose, stream_keys
from workloads.pool_data import PoolData, block_of, overlaps
from workloads.renewal import Renewals
from workloads.stream import NS_PER_S

WINDOW_NS: Final = round(WINDOW_S * NS_PER_S)
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
    ]
)


class Window(NamedTuple):
    """A 600 s window that the run touches, from `begin_ns` to `end_ns` of it.

    flows: FLOW [clients]; block: the 6 h block of its lengths; start_ns: where it starts in the run, perhaps before 0.
    """

    flows: np.ndarray
    block: int
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
        for number, _ in overlaps(of.start_s, of.duration_s, of.pool.windows):
            start_ns = number * WINDOW_NS - run_ns
            end_ns = min(duration_ns - start_ns, WINDOW_NS)
            yield Window(self._enter(number), block_of(number), start_ns, max(-start_ns, 0), end_ns)

    def _enter(self, window: int) -> np.ndarray:
        """Every client takes up the window: the FLOW rows."""
        of, flows = self.composition, np.zeros(len(self.client_ids), FLOW)
        flows["client_id"] = self.client_ids
        sending = np.flatnonzero(of.scale * of.pool.count[of.clients, window] > 0.0)
        flow = of.pool.flow(of.clients[sending], window, of.scale)
        flow = flow._replace(pause_at_s=pause_start_s(self._pause_key[sending], window, flow.pause_s))
        before = to_operational(flow, max(of.start_s - window * WINDOW_S, 0.0))
        flows["length"][sending], flows["before"][sending] = flow.requests - before, before
        flows["seconds_per_request"][sending] = flow.seconds_per_request
        flows["pause_at_s"][sending], flows["pause_s"][sending] = flow.pause_at_s, flow.pause_s
        self.renewals.enter(sending, flow.family, flow.shape)
        return flows
