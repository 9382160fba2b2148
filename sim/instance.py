"""One instance of the reference engine: a SimPy process that plays its iterations, one event each."""

from collections.abc import Callable, Generator
from typing import Protocol

import simpy

from sim.clock import STEP_BEGINS, STEP_ENDS, Clock, Moment
from sim.histogram import bin_of
from sim.kvcache import KVCache
from sim.probes import Tables
from sim.request import Request
from sim.scheduler import Batch, Scheduler
from sim.stretch import Stretch


class StepCost(Protocol):
    """How long an iteration takes."""

    def step_ns(self, prefill_tokens: int, prefill_work: int, decodes: int, decode_context_tokens: int, samples: int) -> int:
        """Its duration; `prefill_work` is the sum of n * (n + 2 * past) over the prefill chunks."""
        ...


class Instance:
    """One model copy with its scheduler, its KV blocks and the step cost of its GPUs."""

    def __init__(self, env: Clock, instance_id: int, scheduler: Scheduler, kv: KVCache, step_cost: StepCost, tables: Tables):
        self.env = env
        self.instance_id = instance_id
        self.scheduler = scheduler
        self.kv = kv
        self.step_ns = step_cost.step_ns
        self.tables = tables
        self.on_finish: Callable[[Request], None] = lambda request: None
        self.use_stretches = True
        self._stretch: Stretch | None = None
        self._wake: simpy.Event | None = None
        env.process(self._run())

    def accept(self, request: Request) -> None:
        """Queue a request; the next iteration may take it."""
        request.instance_id = self.instance_id
        self.scheduler.waiting.append(request)
        if self._wake is not None:
            self._wake.succeed()
            self._wake = None

    def _run(self) -> Generator[simpy.Event, None, None]:
        env, begins, ends = self.env, STEP_BEGINS + self.instance_id, STEP_ENDS + self.instance_id
        scheduler = self.scheduler
        while True:
            if not scheduler.running and not scheduler.waiting:
                self._wake = env.event()
                yield self._wake
                yield Moment(env, 0, begins)
            elif env.is_busy_now():  # something else happens at this instant and may come before us
                yield Moment(env, 0, begins)
            stretch = self._next_stretch()
            if stretch is not None:
                decodes, waiting = stretch.decodes, len(scheduler.waiting)
                yield Moment(env, self.step_ns(0, 0, decodes, stretch.context_tokens, decodes), ends)
                self._end_decode(stretch, waiting)
            else:
                batch, start_ns = scheduler.schedule(), env.now_ns
                waiting = len(scheduler.waiting)
                duration_ns = self.step_ns(
                    batch.prefill_tokens, batch.prefill_work, batch.decodes, batch.decode_context_tokens, batch.samples
                )
                yield Moment(env, duration_ns, ends)
                self._end_batch(batch, start_ns, waiting)

    def _next_stretch(self) -> Stretch | None:
        """The stretch that the next iteration belongs to, its blocks taken; None where the scheduler has to decide."""
        stretch = self._stretch
        if stretch is not None:
            if (stretch.head_waits or not self.scheduler.waiting) and stretch.take_blocks():
                return stretch
            self._settle()
        return None

    def _end_decode(self, stretch: Stretch, waiting: int) -> None:
        """An iteration of a stretch ended."""
        gap_ns = stretch.advance(self.env.now_ns)
        tables, decodes = self.tables, stretch.decodes
        tables.step_count += 1
        index = bin_of(gap_ns)
        tables.gaps[index] = tables.gaps.get(index, 0) + decodes
        if tables.keep_steps:
            used_blocks = self.kv.used_blocks
            tables.step_ended(
                (self.instance_id, self.env.now_ns - gap_ns, gap_ns, 0, decodes, 0, decodes, waiting, used_blocks, 0)
            )
        if not stretch.steps_left:
            self._settle()
            self._let_go([request for request in stretch.requests if request.tokens == request.end_tokens])
            self._begin_stretch()

    def _settle(self) -> None:
        if self._stretch is not None:
            self._stretch.settle()
            self._stretch = None

    def _end_batch(self, batch: Batch, start_ns: int, waiting: int) -> None:
        """An iteration that the scheduler formed ended: tokens come out, and some requests are done."""
        now = self.env.now_ns
        done = []
        gaps: dict[int, int] = {}
        for request, tokens in zip(batch.requests, batch.tokens):
            computed = request.computed = request.computed + tokens
            if request.scheduled_ns < 0:
                request.scheduled_ns = start_ns
            if computed == request.tokens:
                request.tokens = computed + 1
                if request.last_token_ns < 0:
                    request.first_token_ns = now
                else:
                    gap_ns = now - request.last_token_ns
                    gaps[gap_ns] = gaps.get(gap_ns, 0) + 1
                    if gap_ns > request.itl_max_ns:
                        request.itl_max_ns = gap_ns
                request.last_token_ns = now
                if computed + 1 == request.end_tokens:
                    done.append(request)
        self._watch(batch, start_ns, waiting, gaps)
        everyone_decodes = batch.samples == len(batch.requests) == len(self.scheduler.running)
        if done:
            self._let_go(done)
        if everyone_decodes:
            self._begin_stretch()

    def _watch(self, batch: Batch, start_ns: int, waiting: int, gaps: dict[int, int]) -> None:
        tables = self.tables
        tables.step_count += 1
        for gap_ns, count in gaps.items():
            index = bin_of(gap_ns)
            tables.gaps[index] = tables.gaps.get(index, 0) + count
        if tables.keep_steps:
            duration_ns, running, used_blocks = self.env.now_ns - start_ns, len(batch.requests), self.kv.used_blocks
            tokens = (batch.prefill_tokens, batch.decodes, 0)
            tables.step_ended(
                (self.instance_id, start_ns, duration_ns, *tokens, running, waiting, used_blocks, batch.preempted)
            )

    def _let_go(self, done: list[Request]) -> None:
        """Requests whose last token came out leave, in the order of the batch."""
        running = self.scheduler.running
        running[:] = [request for request in running if request.tokens < request.end_tokens]
        for request in done:
            self.kv.release(request)
            self.on_finish(request)

    def _begin_stretch(self) -> None:
        """If all who run decode now and nobody can join them, the next iterations are a stretch."""
        scheduler = self.scheduler
        if self.use_stretches and scheduler.running and not scheduler.admits_head():
            self._stretch = Stretch(scheduler.running, self.kv, bool(scheduler.waiting))
