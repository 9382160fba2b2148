"""The plain data of a client pool, and what follows from them alone: the bottom file of all that reads or plays pools.

A pool is arrays, not objects: [clients, windows] for arrivals (windows of 600 s), one sketch per client and 6 h block
for lengths. Times are seconds in the pool's own clock (0 is midnight of its first day); past the end of the data their
days come again, so that the clock has no end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from workloads.arrival_models import DEFAULT
from workloads.arrivals import WINDOW_S
from workloads.lengths import BLOCK_S, LengthTable
from workloads.stream import NS_PER_S

DAY_WINDOWS: Final = round(86_400.0 / WINDOW_S)
BLOCK_WINDOWS: Final = round(BLOCK_S / WINDOW_S)
WINDOW_NS: Final = round(WINDOW_S * NS_PER_S)


@dataclass(frozen=True)
class PoolData:
    """Clients that have both arrivals and lengths, and what is known of those that have arrivals alone.

    count, cv, shape: float64 [clients, windows]: requests, CV of the gaps between them, and the shape of the law fitted to
    those gaps; family: int8, which law, a code of arrivals.FAMILIES. A window without traffic has count 0. What gaps a
    client is given is the arrival model's to say (arrival_models.py). length_row: int32 [clients, blocks], row in each
    table of lengths or -1. lengths: tables by field, see lengths.py. absent_count: float64 [windows], requests of the
    clients left out. gap: bool [windows], no data of any client. provenance: plain values, `grades` among them: for each
    kind of parameter who says so, and `arrivals`, where the pool is meant for a certain model of them.
    """

    name: str
    client_ids: np.ndarray
    count: np.ndarray
    cv: np.ndarray
    family: np.ndarray
    shape: np.ndarray
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

    @property
    def period(self) -> int:
        """Windows after which the data come again: their whole days, or all of them where they are less than one."""
        return self.windows // DAY_WINDOWS * DAY_WINDOWS or self.windows

    @property
    def arrivals(self) -> str:
        """The arrival model that is meant for it, a key of arrival_models.MODELS."""
        return str(self.provenance.get("arrivals", DEFAULT))

    def block_requests(self) -> np.ndarray:
        """Requests of each client in each 6 h block, [clients, blocks]."""
        requests: np.ndarray = np.add.reduceat(self.count, np.arange(0, self.windows, BLOCK_WINDOWS), axis=1)
        return requests

    def row_requests(self) -> np.ndarray:
        """Requests that draw from each row of the tables of lengths; in sequence, so that bits are the same everywhere."""
        rows, tables = self.window_rows(), len(next(iter(self.lengths.values())).mean)
        has_lengths = rows >= 0
        return np.bincount(rows[has_lengths], self.count[has_lengths], tables)

    def window_rows(self) -> np.ndarray:
        """Row of each client and window in the tables of lengths, or -1: [clients, windows]."""
        return np.repeat(self.length_row, BLOCK_WINDOWS, axis=1)[:, : self.windows]

    def rows_at(self, clients: np.ndarray, clock_ns: np.ndarray) -> np.ndarray:
        """Rows in the tables of lengths of clients, by index, at times of the pool's clock, which has no end."""
        rows: np.ndarray = self.length_row[clients, clock_ns // WINDOW_NS % self.period // BLOCK_WINDOWS]
        return rows

    def rate_rps(self, start_s: float, duration_s: float, clients: np.ndarray | None = None) -> float:
        """Native mean rate over a span, of the pool or of the clients at these indices; gaps in the data count as 0."""
        count = self.count if clients is None else self.count[clients]
        return self._requests_in(count, start_s, duration_s) / duration_s

    def present_share(self, start_s: float, duration_s: float) -> float:
        """Share of the span's requests that belong to the pool's clients, the others having no lengths; 1 of none."""
        present = self._requests_in(self.count, start_s, duration_s)
        absent = self._requests_in(self.absent_count[None, :], start_s, duration_s)
        return present / (present + absent) if present + absent > 0 else 1.0

    def gaps_s(self) -> list[tuple[float, float]]:
        """Spans (start, end) in which the source holds no data of any client. They are not low load: leave them out."""
        edges = np.flatnonzero(np.diff(np.concatenate(([0], self.gap.astype(np.int8), [0]))))
        return [(float(a) * WINDOW_S, float(b) * WINDOW_S) for a, b in edges.reshape(-1, 2)]

    def gap_in_s(self, start_s: float, duration_s: float) -> float:
        """Seconds of a span that lie in gaps of the data."""
        return self._requests_in(self.gap[None, :] * WINDOW_S, start_s, duration_s)

    def _requests_in(self, count: np.ndarray, start_s: float, duration_s: float) -> float:
        """Expected requests of a span. fsum is exact before its one rounding, so order and machine do not matter."""
        share = np.zeros(self.windows)
        whole, rest_s = divmod(duration_s, self.period * WINDOW_S)
        share[: self.period] = whole
        for window, part in overlaps(start_s, rest_s):
            share[window % self.period] += part
        touched = np.flatnonzero(share)
        return math.fsum((share[touched] * count[:, touched]).ravel().tolist())


def block_of(window: int) -> int:
    """The 6 h block of lengths in which a window lies."""
    return window // BLOCK_WINDOWS


def overlaps(start_s: float, duration_s: float) -> Iterator[tuple[int, float]]:
    """(window, share of it) for each window of 600 s that a span touches, counted from time 0 on without end."""
    end_s = start_s + duration_s
    for window in range(int(start_s // WINDOW_S), math.ceil(end_s / WINDOW_S)):
        covered = min(end_s, (window + 1) * WINDOW_S) - max(start_s, window * WINDOW_S)
        if covered > 0:
            yield window, covered / WINDOW_S
