"""The plain data of a client pool, and what follows from them alone: the bottom file of all that reads or plays pools.

A pool is arrays, not objects: [clients, windows] for arrivals (windows of 600 s), one sketch per client and 6 h block
for lengths. Times are seconds in the pool's own clock (0 is midnight of its first day).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workloads.arrivals import WINDOW_S, Flow
from workloads.lengths import BLOCK_S, LengthTable


@dataclass(frozen=True)
class PoolData:
    """Clients that have both arrivals and lengths, and what is known of those that have arrivals alone.

    count, cv, shape, pause_s: float64 [clients, windows]: requests, reported CV of the gaps, shape of the bulk's gaps
    and seconds of the window's one pause; family: int8, a code of arrivals.FAMILIES. A window without traffic has
    count 0. length_row: int32 [clients, blocks], row in each table of lengths or -1. absent_count: float64 [windows],
    requests of the clients left out. gap: bool [windows], no data of any client.
    """

    name: str
    client_ids: np.ndarray
    count: np.ndarray
    cv: np.ndarray
    family: np.ndarray
    shape: np.ndarray
    pause_s: np.ndarray
    length_row: np.ndarray
    lengths: dict[str, LengthTable]
    max_output_tokens: int
    absent_ids: tuple[int, ...]
    absent_count: np.ndarray
    gap: np.ndarray
    imputed_ids: tuple[int, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def windows(self) -> int:
        """Number of 600 s windows."""
        return self.count.shape[1]

    @property
    def duration_s(self) -> float:
        """Length of the data."""
        return self.windows * WINDOW_S

    def rate_rps(self, start_s: float, duration_s: float, clients: np.ndarray | None = None) -> float:
        """Native mean rate over a span, of the pool or of the clients at these indices; gaps in the data count as 0."""
        count = self.count if clients is None else self.count[clients]
        return _requests_in(count, start_s, duration_s) / duration_s

    def present_share(self, start_s: float, duration_s: float) -> float:
        """Share of the span's requests that belong to the pool's clients, the others having no lengths; 1 of none."""
        present = _requests_in(self.count, start_s, duration_s)
        absent = _requests_in(self.absent_count[None, :], start_s, duration_s)
        return present / (present + absent) if present + absent > 0 else 1.0

    def gaps_s(self) -> list[tuple[float, float]]:
        """Spans (start, end) in which the source holds no data of any client. They are not low load: leave them out."""
        edges = np.flatnonzero(np.diff(np.concatenate(([0], self.gap.astype(np.int8), [0]))))
        return [(float(a) * WINDOW_S, float(b) * WINDOW_S) for a, b in edges.reshape(-1, 2)]

    def flow(self, clients: np.ndarray | int, window: int, scale: float = 1.0) -> Flow:
        """How the client (or clients) at this index sends in a window, at `scale` times its rate; a pause keeps its seconds."""
        return Flow(
            requests=scale * self.count[clients, window],
            family=self.family[clients, window],
            shape=self.shape[clients, window],
            pause_s=self.pause_s[clients, window],
        )


def block_of(window: int) -> int:
    """The 6 h block of lengths in which a window lies."""
    return int(window * WINDOW_S // BLOCK_S)


def overlaps(start_s: float, duration_s: float, windows: int) -> Iterator[tuple[int, float]]:
    """(window, share of it) for each window that a span touches."""
    end_s = start_s + duration_s
    for window in range(int(start_s // WINDOW_S), min(math.ceil(end_s / WINDOW_S), windows)):
        covered = min(end_s, (window + 1) * WINDOW_S) - max(start_s, window * WINDOW_S)
        if covered > 0:
            yield window, covered / WINDOW_S


def _requests_in(count: np.ndarray, start_s: float, duration_s: float) -> float:
    """Expected requests of a span. fsum is exact before its one rounding, so order and machine do not matter."""
    return math.fsum(
        share * requests
        for window, share in overlaps(start_s, duration_s, count.shape[1])
        for requests in count[:, window].tolist()
    )
