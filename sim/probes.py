"""Probes watch a run and change nothing: here the one that keeps the tables RECORD and STEP and counts the token gaps."""

from typing import Any, Protocol

import numpy as np

from sim.request import RECORD, STEP

_CHUNK_ROWS = 1 << 16


class Rows:
    """Tuples gathered into one array of a dtype, packed in chunks so that a long run does not hold Python objects."""

    __slots__ = ("_chunks", "_pending", "append", "dtype")

    def __init__(self, dtype: np.dtype):
        self.dtype = dtype
        self._chunks: list[np.ndarray] = []
        self._pending: list[tuple] = []
        self.append = self._pending.append

    def pack(self) -> None:
        """Turn the pending tuples into an array once there are enough of them."""
        if len(self._pending) >= _CHUNK_ROWS:
            self._chunks.append(np.array(self._pending, self.dtype))
            self._pending.clear()

    def array(self) -> np.ndarray:
        """All rows so far, in the order in which they came."""
        return np.concatenate([*self._chunks, np.array(self._pending, self.dtype)])


class Probe(Protocol):
    """What a user's own observer looks like."""

    def step_ended(self, instance_id: int, start_ns: int, end_ns: int, batch: Any) -> None:
        """An iteration ended; `batch` is a `sim.scheduler.Batch`."""
        ...


class Tables:
    """The tables of one run. `gaps` counts token gaps by histogram bin; `keep_steps` decides whether STEP rows are kept."""

    def __init__(self, keep_steps: bool):
        self.records = Rows(RECORD)
        self.steps = Rows(STEP)
        self.keep_steps = keep_steps
        self.gaps: dict[int, int] = {}
        self.step_count = 0

    def request_left(self, row: tuple) -> None:
        """A request finished or was rejected."""
        self.records.append(row)
        self.records.pack()

    def step_ended(self, row: tuple) -> None:
        """An iteration ended."""
        self.steps.append(row)
        self.steps.pack()
