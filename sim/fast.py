"""The fast engine: SimPy keeps the control times, and between them one compiled kernel plays router and instances.

It returns what the reference engine returns, bit for bit.
"""

from collections.abc import Callable, Generator, Iterable
from importlib import import_module

import numpy as np
import simpy

from sim.clock import ARRIVALS, Clock, Moment
from sim.engine import ClusterError
from sim.kernels import layout as at
from sim.plan import Plan
from sim.probes import Tables
from sim.request import REJECTED
from sim.world import Wish, more_rows, more_slots, new_world, wider_instances
from workloads.jit import plain
from workloads.stream import STREAM

Progress = Callable[[float], None]
KERNELS = "sim.kernels"
PIECE_ROWS = 1 << 14
"""Arrivals that one call of the kernel plays at most: memory does not grow with a window."""
_GROWS = {at.NEEDS_RING: at.RING_SIZE, at.NEEDS_STACK: at.STACK_SIZE, at.NEEDS_HOLES: at.HOLES_SIZE}


class FastRun:
    """One run by a family of kernels, from its first window to its last request."""

    def __init__(self, plan: Plan, wish: Wish, family: str, is_compiled: bool, tables: Tables):
        package = KERNELS if is_compiled else plain(KERNELS).__name__
        self._kernel = getattr(import_module(f"{package}.{family}"), f"play_{family}")
        self.env = Clock()
        self.plan, self.tables = plan, tables
        self.world = new_world(plan, wish)
        self._piece = np.empty(0, STREAM)
        self._cursor = 0
        self._steps: list[np.ndarray] = []  # formed, and not ended yet

    def play(self, windows: Iterable[np.ndarray], progress: Progress | None) -> None:
        """Run to the end; `windows` are checked STREAM arrays in order."""
        env = self.env
        env.process(self._feed(windows, progress))
        while env.peek() != float("inf"):
            self._play_until(int(env.peek()))
            env.step()
        self._play_until(at.NEVER)
        counts, gaps = self.world.counts, self.world.gaps
        self.tables.step_count = int(counts[at.FORMED] + counts[at.STRETCHED])
        self.tables.gaps = {int(index): int(gaps[index]) for index in np.flatnonzero(gaps)}

    def _feed(self, windows: Iterable[np.ndarray], progress: Progress | None) -> Generator[simpy.Event, None, None]:
        """Piece by piece; what arrives at the last instant of one does so after everything else of that instant."""
        for window in windows:
            for start in range(0, len(window), PIECE_ROWS):
                self._piece, self._cursor = window[start : start + PIECE_ROWS], 0
                yield Moment(self.env, int(self._piece["arrival_ns"][-1]) - self.env.now_ns, ARRIVALS)
                self._call(self._piece[self._cursor :], self.env.now_ns)
                self._piece = self._piece[:0]
            if progress is not None:
                progress(self.env.now_ns / 1e9)

    def _play_until(self, until_ns: int) -> None:
        """All that happens before the control time: arrivals before it, ends not after it."""
        if len(self._piece):
            stop = int(np.searchsorted(self._piece["arrival_ns"], until_ns))
            rows, self._cursor = self._piece[self._cursor : stop], stop
        else:
            rows = self._piece
        self._call(rows, until_ns)

    def _call(self, rows: np.ndarray, until_ns: int) -> None:
        """One call of the kernel, and as many more as it takes to make room for what it has to say."""
        self.world.counts[at.CURSOR] = 0
        with np.errstate(over="ignore"):  # the plain bodies of kernels mix bits with numpy's scalars
            while status := self._kernel(self.world, rows, until_ns):
                self._make_room(status)
        self._drain(until_ns)

    def _make_room(self, needs: int) -> None:
        world = self.world
        if needs == at.NEEDS_SLOTS:
            self.world = more_slots(world)
        elif needs == at.NEEDS_RECORDS:
            self.world = more_rows(world, "records")
        elif needs == at.NEEDS_TRACES:
            self.world = more_rows(world, "traces")
        elif needs == at.NEEDS_STEPS:
            self._take_steps()
            if len(world.steps) < PIECE_ROWS:
                self.world = more_rows(world, "steps")
        elif needs in _GROWS:
            self.world = wider_instances(world, self.plan, _GROWS[needs])
        else:
            raise ClusterError(f"the run goes on beyond {at.LATEST_TIME / 1e9:.0f} simulated seconds; expected less work")

    def _drain(self, until_ns: int) -> None:
        """Hand over who has left and what has ended, in the order in which it happened."""
        counts, world = self.world.counts, self.world
        if count := int(counts[at.RECORD_COUNT]):
            rows = world.records[:count]
            order = np.lexsort((rows["instance_id"], rows["finish_reason"] == REJECTED, rows["finish_ns"]))
            self.tables.requests_left(rows[order])
            counts[at.RECORD_COUNT] = 0
        if counts[at.STEP_COUNT] or self._steps:
            self._take_steps()
            rows = np.concatenate(self._steps)
            end_ns = rows["start_ns"] + rows["duration_ns"]
            order = np.lexsort((rows["instance_id"], end_ns))
            has_ended = end_ns[order] <= until_ns
            self.tables.steps_ended(rows[order[has_ended]])
            self._steps = [rows[order[~has_ended]]]

    def _take_steps(self) -> None:
        """Empty the kernel's table of steps."""
        self._steps.append(self.world.steps[: self.world.counts[at.STEP_COUNT]].copy())
        self.world.counts[at.STEP_COUNT] = 0
