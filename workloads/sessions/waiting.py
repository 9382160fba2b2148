"""Waiting: turns that are not due yet, in drawers of a minute, so that only a few are gone through for each block."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np

from workloads.stream import NS_PER_S, STREAM

_DRAWER_NS: Final = 60 * NS_PER_S


class Waiting:
    """STREAM rows by the minute of their arrival."""

    def __init__(self) -> None:
        self._drawers: defaultdict[int, list[np.ndarray]] = defaultdict(list)

    def add(self, rows: np.ndarray) -> None:
        """More rows, in any order."""
        rows = rows[np.argsort(rows["arrival_ns"], kind="stable")]
        drawers, begin = np.unique(rows["arrival_ns"] // _DRAWER_NS, return_index=True)
        for drawer, part in zip(drawers.tolist(), np.split(rows, begin[1:])):
            self._drawers[drawer].append(part.copy())  # a view would keep all of `rows`

    def due(self, until_ns: int | None = None) -> np.ndarray:
        """Takes out the rows that arrive before this time, all of them where it is None; by (arrival_ns, request_id)."""
        found = [np.empty(0, STREAM)]
        for drawer in [d for d in self._drawers if until_ns is None or d * _DRAWER_NS < until_ns]:
            rows = np.concatenate(self._drawers.pop(drawer))
            if until_ns is not None and (drawer + 1) * _DRAWER_NS > until_ns:
                is_due = rows["arrival_ns"] < until_ns
                self._drawers[drawer].append(rows[~is_due])
                rows = rows[is_due]
            found.append(rows)
        rows = np.concatenate(found)
        return rows[np.lexsort((rows["request_id"], rows["arrival_ns"]))]
