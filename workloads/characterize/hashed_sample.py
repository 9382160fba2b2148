"""A random part of a stream, of a size that is known beforehand: the rows whose names hash lowest.

Which rows these are depends on their names alone, not on windows, blocks or order, so the same stream gives the same
sample; and whole sessions are sampled by hashing their number in place of the request's.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from workloads.numerics import Purpose, stream_key, uniforms

MOST_ROWS: Final = 200_000


class HashedSample:
    """Rows by the least hashes of their names, MOST_ROWS of them at most; rows of one name stay together.

    share: the part of all names that is in the sample, 1 where nothing was left out.
    """

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        self.most_rows, self.share = most_rows, 1.0
        self._key = stream_key(0, 0, Purpose.REQUEST)
        self._pieces: list[np.ndarray] = []
        self._hashes: list[np.ndarray] = []
        self._held = 0

    def add(self, names: np.ndarray, rows: np.ndarray) -> None:
        """Further rows, a name of at least 0 for each."""
        hashes = uniforms(self._key, names)
        kept = np.flatnonzero(hashes < self.share)
        self._pieces.append(rows[kept])
        self._hashes.append(hashes[kept])
        self._held += len(kept)
        if self._held > 2 * self.most_rows:
            self._cut()

    def rows(self) -> np.ndarray:
        """The sample, in the order in which it came; empty where nothing was added."""
        if self._held > self.most_rows:
            self._cut()
        return np.concatenate(self._pieces) if self._pieces else np.empty(0)

    def _cut(self) -> None:
        """Down to the most rows, or a little below: those of the highest name are left out with it."""
        hashes, rows = np.concatenate(self._hashes), np.concatenate(self._pieces)
        self.share = float(np.partition(hashes, self.most_rows)[self.most_rows])
        kept = hashes < self.share
        self._pieces, self._hashes, self._held = [rows[kept]], [hashes[kept]], int(kept.sum())
