"""Turns: how many requests a conversation has, and how far apart they are."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from workloads.characterize.hashed_sample import HashedSample
from workloads.characterize.numbers import plain, quantiles
from workloads.stream import NS_PER_S

_POINTS: Final = 200


class Turns:
    """Takes STREAM rows; judges a sample of whole sessions."""

    def __init__(self) -> None:
        self._sample, self._requests, self._in_sessions = HashedSample(), 0, 0

    def add(self, rows: np.ndarray) -> None:
        """Further requests."""
        inside = rows[rows["session_id"] >= 0]
        self._requests += len(rows)
        self._in_sessions += len(inside)
        if len(inside):
            self._sample.add(inside["session_id"], np.stack([inside["session_id"], inside["arrival_ns"]], axis=1))

    def told(self) -> dict[str, Any] | None:
        """Turns of a conversation, requests in those of several, times from turn to turn; None without sessions."""
        if not self._in_sessions:
            return None
        session, arrival_ns = self._sample.rows().reshape(-1, 2).T
        order = np.lexsort((arrival_ns, session))
        session, arrival_ns = session[order], arrival_ns[order]
        _, turns = np.unique(session, return_counts=True)
        between_s = (np.diff(arrival_ns) / NS_PER_S)[np.diff(session) == 0]
        several = turns[turns > 1]
        numbers, counts = np.unique(turns, return_counts=True)
        part = self._in_sessions / self._requests / max(len(session), 1)
        return {
            "sampled_sessions": len(turns),
            "mean": float(turns.mean()) if len(turns) else None,
            "multi_turn_mean": float(several.mean()) if len(several) else None,
            "multi_turn_requests_frac": float(several.sum()) * part,
            "turns": {"value": plain(numbers), "cumulative_frac": plain(np.cumsum(counts) / max(len(turns), 1))},
            "between_s": _distribution(np.sort(between_s)),
        }


def _distribution(values: np.ndarray) -> dict[str, Any] | None:
    """Quantiles of ascending values, and a curve of some points."""
    if not len(values):
        return None
    kept = np.unique(np.linspace(0, len(values) - 1, _POINTS).astype(np.int64))
    cumulative = (np.arange(len(values)) + 1) / len(values)
    return {
        "mean": float(values.mean()),
        **quantiles(values, cumulative),
        "value": plain(values[kept]),
        "cumulative_frac": plain(cumulative[kept]),
    }
