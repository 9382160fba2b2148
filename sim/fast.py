"""The fast engine: SimPy keeps the control times, and between them one compiled kernel plays router and instances.

It returns what the reference engine returns, bit for bit.
"""

import logging
from bisect import bisect_left
from collections.abc import Generator, Iterable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import simpy

from sim.choice import KERNELS, Kernels
from sim.clock import ARRIVALS, CONTROL, Clock, Moment
from sim.engine import ClusterError
from sim.kernels import layout as at
from sim.plan import Job, Plan
from sim.probes import Looks, Tables, Watch
from sim.prompts import Prompts
from sim.request import FAILED, FINISH_REASONS, REJECTED, head_of
from sim.router import InstanceView, checked_choice, new_router
from sim.traces import Traces
from sim.wide_world import more_columns, widened
from sim.world import Wish, more_rows, more_slots, new_world, wider_instances
from workloads.jit import is_warm, plain
from workloads.stream import STREAM

log = logging.getLogger("servecast")
PIECE_ROWS = 1 << 14
"""Arrivals that one call of the kernel plays at most: memory does not grow with a window."""
_RANKS = np.zeros(len(FINISH_REASONS), np.int8)
"""Of those who leave at one instant: ends first, then who is turned away, then who is given up, as the run is over."""
_RANKS[REJECTED], _RANKS[FAILED] = 1, 2
_GROWS = {at.NEEDS_RING: at.RING_SIZE, at.NEEDS_STACK: at.STACK_SIZE, at.NEEDS_HOLES: at.HOLES_SIZE}


class FastRun:
    """One run by a family of kernels, from its first window to its last request."""

    def __init__(self, plan: Plan, job: Job, prompts: Prompts, tables: Tables, kernels: Kernels):
        if kernels.is_compiled and not is_warm(KERNELS, f"play_{kernels.family}"):
            _tell_of_compiler(kernels.family)
        package = KERNELS if kernels.is_compiled else plain(KERNELS).__name__
        self._kernels = import_module(f"{package}.{kernels.family}")
        self._play = getattr(self._kernels, f"play_{kernels.family}")
        self.env = Clock()
        self.plan, self.tables, self.seed = plan, tables, job.seed
        self._python_router = None if job.router in at.ROUTERS else new_router(job.router)
        code = at.GIVEN if self._python_router is not None else at.ROUTERS.index(job.router)
        self._family = kernels.family
        self._is_wide = kernels.family != "aggregate"
        self._traces = Traces(job.probe) if job.probe is not None else None
        keeps = tables.keep_steps, self._traces is not None
        self.world = new_world(plan, Wish(job.instances, code, job.seed, *keeps, self._is_wide, *map(_own, prompts.tables)))
        if self._is_wide:
            self.world = widened(self.world, plan)
            self._kernels.open_instances(self.world)
        self.views = WorldViews(self)
        self._steps: list[np.ndarray] = []  # formed, and not ended yet

    def play(self, windows: Iterable[np.ndarray], watch: Watch | None) -> None:
        """Run to the end; `windows` are checked STREAM arrays in order. The watch looks for as long as requests arrive."""
        self.env.process(self._feed(windows, watch))
        self.env.run()
        self._arrive(np.empty(0, STREAM), at.NEVER)
        if hasattr(self._kernels, "give_up"):  # by the rules of the others everybody comes to an end
            self._end_stuck()
        self._drain(at.NEVER)
        counts, gaps = self.world.counts, self.world.gaps
        self.tables.paths = {self._family: int(counts[at.FORMED]), "stretch": int(counts[at.STRETCHED])}
        self.tables.step_count = sum(self.tables.paths.values())
        self.tables.gaps = {int(index): int(gaps[index]) for index in np.flatnonzero(gaps)}

    def _feed(self, windows: Iterable[np.ndarray], watch: Watch | None) -> Generator[simpy.Event, None, None]:
        """Piece by piece, up to each control time and to the piece's last arrival: what is before it, then what is at it."""
        env, looks = self.env, Looks(watch)
        for window in windows:
            rows = _own(window)
            for start in range(0, len(rows), PIECE_ROWS):
                piece, cursor = rows[start : start + PIECE_ROWS], 0
                if self._is_wide:
                    self.world = more_columns(self.world, self.plan, piece)
                for look_ns in looks.until(int(piece["arrival_ns"][-1])):
                    yield Moment(env, look_ns - env.now_ns, CONTROL)
                    stop = bisect_left(piece["arrival_ns"], look_ns)
                    self._arrive(piece[cursor:stop], look_ns)
                    cursor = stop
                    looks.look(look_ns, self.views)
                yield Moment(env, int(piece["arrival_ns"][-1]) - env.now_ns, ARRIVALS)
                self._arrive(piece[cursor:], env.now_ns)
                self._drain(env.now_ns)

    def _arrive(self, rows: np.ndarray, until_ns: int) -> None:
        """Rows arrive, and everything is played up to `until_ns`; a router in Python is asked for each."""
        if self._python_router is None or not len(rows):
            self._call(rows, until_ns)
            return
        counts, served = self.world.counts, ~self._are_rejected(rows)
        self._call(rows[:0], int(rows["arrival_ns"][0]))
        next_ns = [*rows["arrival_ns"][1:].tolist(), until_ns]
        for i, row in enumerate(rows.tolist()):
            if served[i]:
                counts[at.TURN] = checked_choice(self._python_router, head_of(row, self.seed), self.views)
            self._call(rows[i : i + 1], next_ns[i])

    def _are_rejected(self, rows: np.ndarray) -> np.ndarray:
        """Which rows no instance can serve: the router is not asked for them."""
        settings = self.world.settings
        longest = np.minimum(rows["max_tokens"], settings[at.MAX_LEN] - rows["input_tokens"])
        usable_tokens = settings[at.USABLE] * settings[at.BLOCK_SIZE]
        rejected = (longest < 1) | (rows["input_tokens"] + longest > usable_tokens)
        if settings[at.ENCODER_CACHE]:
            most = min(settings[at.ENCODER_BUDGET], settings[at.ENCODER_CACHE])
            larger = np.concatenate(([0], np.cumsum(self.world.items["tokens"] > most)))
            rejected |= larger[rows["items_start"] + rows["items_count"]] > larger[rows["items_start"]]
        return rejected

    def _call(self, rows: np.ndarray, until_ns: int) -> None:
        """One call of the kernel, and as many more as it takes to make room for what it has to say."""
        self.world.counts[at.CURSOR] = 0
        with np.errstate(over="ignore"):  # the plain bodies of kernels mix bits with numpy's scalars
            while status := self._play(self.world, rows, until_ns):
                self._make_room(status)

    def _end_stuck(self) -> None:
        """As the reference does: those who could not go on are tried until nothing helps, then given up."""
        counts, kernels = self.world.counts, self._kernels
        for index in range(len(self.world.instances)):
            me = self.world.instances[index]
            attempts = 1 + me[at.RUNNING] + me[at.WAITING]
            while me[at.RUNNING] + me[at.WAITING] and attempts:
                formed = counts[at.FORMED]
                me[at.IS_DUE], me[at.NOW] = 1, counts[at.LATEST]
                self._arrive(np.empty(0, STREAM), at.NEVER)
                attempts -= counts[at.FORMED] == formed
            while kernels.give_up(me, self.world):
                self._make_room(at.NEEDS_RECORDS)

    def _make_room(self, needs: int) -> None:
        world = self.world
        if needs == at.NEEDS_SLOTS:
            self.world = more_slots(world)
        elif needs == at.NEEDS_RECORDS:
            self.world = more_rows(world, "records")
        elif needs == at.NEEDS_TRACES:
            self._take_traces()
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
            self.tables.requests_left(_in_order(rows) if self.tables.wants_order else rows)
            counts[at.RECORD_COUNT] = 0
        if self._traces is not None:
            self._take_traces()
            self._traces.tell(until_ns)
        if counts[at.STEP_COUNT] or self._steps:
            self._take_steps()
            rows = np.concatenate(self._steps)
            end_ns = rows["start_ns"] + rows["duration_ns"]
            order = np.lexsort((rows["instance_id"], end_ns))
            has_ended = end_ns[order] <= until_ns
            self.tables.steps_ended(rows[order[has_ended]])
            self._steps = [rows[order[~has_ended]]]

    def _take_traces(self) -> None:
        """Empty the kernel's trace."""
        assert self._traces is not None
        self._traces.add(self.world.traces[: self.world.counts[at.TRACE_COUNT]])
        self.world.counts[at.TRACE_COUNT] = 0

    def _take_steps(self) -> None:
        """Empty the kernel's table of steps."""
        self._steps.append(self.world.steps[: self.world.counts[at.STEP_COUNT]].copy())
        self.world.counts[at.STEP_COUNT] = 0


def _own(table: np.ndarray) -> np.ndarray:
    """One type for the kernels, whatever an array came from: dense, and not read-only."""
    return np.require(table, requirements=["C", "W"])


@cache
def _tell_of_compiler(family: str) -> None:
    """Nobody waits without knowing for what; once in a process."""
    log.warning("compiling the %s kernels, once: some 7 s ('servecast doctor --warm' does it beforehand)", family)


def _in_order(rows: np.ndarray) -> np.ndarray:
    """RECORD rows in order of leaving: by time, at one instant by rank and instance, else as the instance wrote them."""
    finish_ns = rows["finish_ns"]
    order = np.argsort(finish_ns)
    ordered = finish_ns[order]
    if np.any(ordered[1:] == ordered[:-1]):
        order = np.lexsort((rows["instance_id"], _RANKS[rows["finish_reason"]], finish_ns))
    return rows[order]


class WorldViews(Sequence[InstanceView]):
    """The instances of a run as routers see them, each looked at when it is asked for."""

    def __init__(self, run: FastRun):
        self._run = run

    def __len__(self) -> int:
        return len(self._run.world.instances)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)  # what ends a loop over a sequence
        me, world = self._run.world.instances[index], self._run.world
        return InstanceView(index, int(me[at.WAITING]), int(me[at.RUNNING]), int(me[at.FREE]), int(world.settings[at.USABLE]))
