"""Clients: who sends how much, how bursty and how long, and how unevenly that is spread."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from workloads.characterize.numbers import plain, weighted_cdf
from workloads.fit.client_places import ClientPlaces
from workloads.fit.gap_counts import GapCounts, OwnClocks

MOST_CLIENTS: Final = 10_000
TOP: Final = (1, 5, 10)
SHOWN: Final = 4  # clients, as in the ServeGen paper's figures 6 and 12
FEWEST: Final = 10  # gaps that have a CV
_CURVE: Final = 400


class Clients:
    """Takes windows in order. Clients beyond MOST_CLIENTS are one."""

    def __init__(self) -> None:
        self._places, self._clocks = ClientPlaces(MOST_CLIENTS), OwnClocks()
        self._gaps = GapCounts.empty(0)
        self._windows: list[tuple[np.ndarray, np.ndarray]] = []
        self._tokens = np.zeros((2, 0))
        self._span_s = 0.0

    def add(self, rows: np.ndarray, offset_ns: np.ndarray, length_ns: int) -> None:
        """The next window's STREAM rows, their times in it, and how long it is."""
        place = self._places.places(rows["client_id"])
        size = self._places.size
        requests = np.bincount(place, minlength=size)
        gaps = self._clocks.count(place, offset_ns, requests, length_ns)
        self._windows.append((requests.astype(np.float32), np.where(gaps.gaps >= FEWEST, gaps.cv(), np.nan).astype(np.float32)))
        self._gaps = self._gaps.plus(gaps)
        tokens = np.zeros((2, size))
        for sums, before, name in zip(tokens, self._tokens, ("input_tokens", "output_tokens"), strict=True):
            sums[:] = np.bincount(place, rows[name], size)
            sums[: len(before)] += before
        self._tokens = tokens
        self._span_s += length_ns / 1e9

    def told(self) -> dict[str, Any]:
        """Clients by rate; distributions over clients weighted by requests; the busiest ones over time."""
        size = self._places.size
        requests = np.zeros(size)
        for column, _ in self._windows:
            requests[: len(column)] += column
        order = np.argsort(-requests, kind="stable")
        share = np.cumsum(requests[order]) / requests.sum()
        cv = np.where(self._gaps.gaps >= FEWEST, self._gaps.cv(), np.nan)
        means = self._tokens / np.maximum(requests, 1.0)
        ranks = np.unique(np.geomspace(1, size, min(size, _CURVE)).astype(np.int64))
        known = np.isfinite(cv)
        return {
            "clients": size,
            "merged": self._places.merged,
            "top_share_frac": {str(n): float(share[min(n, size) - 1]) for n in TOP},
            "clients_for_90pct": int(np.searchsorted(share, 0.9 - 1e-12)) + 1,
            "share_by_rank": {"rank": plain(ranks), "cumulative_frac": plain(share[ranks - 1])},
            "by_requests": {
                "rate_rps": weighted_cdf(requests / self._span_s, requests),
                "cv": weighted_cdf(cv[known], requests[known]) if known.any() else None,
                "input_tokens_mean": weighted_cdf(means[0], requests),
                "output_tokens_mean": weighted_cdf(means[1], requests),
            },
            "top": [self._told_one(client, requests, cv, means) for client in order[:SHOWN].tolist()],
        }

    def _told_one(self, client: int, requests: np.ndarray, cv: np.ndarray, means: np.ndarray) -> dict[str, Any]:
        """A client and its windows."""
        windows = [(n[client], of[client]) if client < len(n) else (0.0, np.nan) for n, of in self._windows]
        return {
            "client_id": int(self._places.numbers()[client]),
            "share_frac": float(requests[client] / requests.sum()),
            "cv": float(cv[client]) if np.isfinite(cv[client]) else None,
            "input_tokens_mean": float(means[0, client]),
            "output_tokens_mean": float(means[1, client]),
            "requests_by_window": [float(n) for n, _ in windows],
            "cv_by_window": plain(np.array([of for _, of in windows])),
        }
