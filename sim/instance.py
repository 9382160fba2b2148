"""One instance of the reference engine: a SimPy process that plays its iterations, one event each."""

from collections import deque
from collections.abc import Callable, Generator

import simpy

from sim.batch import Batch
from sim.clock import STEP_BEGINS, STEP_ENDS, Clock, Moment
from sim.engine import FullEngine
from sim.histogram import bin_of
from sim.kvcache import KVCache
from sim.plan import StepCost
from sim.probes import Kept, Probe, Tables
from sim.request import RECORD, Request
from sim.scheduler import Scheduler
from sim.stretch import Stretch


class Flight:
    """A batch on its way through the GPU; None for an iteration of a stretch."""

    __slots__ = ("batch", "end_ns", "start_ns", "used_blocks", "waiting")

    def __init__(self, batch: Batch | None, start_ns: int, end_ns: int, waiting: int, used_blocks: int):
        self.batch = batch
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.waiting = waiting  # requests in the queue after it was formed
        self.used_blocks = used_blocks  # KV blocks held then


class Instance:
    """One model copy with its scheduler, its KV blocks and the step cost of its GPUs.

    `depth` is the number of batches in flight; with two, the next is formed before the tokens of the last are known.
    """

    def __init__(
        self, env: Clock, instance_id: int, scheduler: Scheduler, kv: KVCache, step_cost: StepCost, engine: FullEngine
    ):
        self.env = env
        self.instance_id = instance_id
        self.scheduler = scheduler
        self.kv = kv
        self.step_ns = step_cost.step_ns
        self.batch_ns: Callable[[Batch], int] = getattr(step_cost, "batch_ns", self._batch_ns)
        self.depth = 2 if engine.async_scheduling else 1
        self.max_model_len = engine.max_model_len
        self.tables = Tables(False, Kept(RECORD))
        self.probe: Probe | None = None
        self.on_finish: Callable[[Request], None] = lambda request: None
        self.use_stretches = True
        self._in_flight: deque[Flight] = deque()
        self._stretch: Stretch | None = None
        self._wake: simpy.Event | None = None
        env.process(self._run())

    def accept(self, request: Request) -> None:
        """Queue a request; the next iteration may take it."""
        request.instance_id = self.instance_id
        self.scheduler.waiting.push(request)
        self.nudge()

    def has_requests(self) -> bool:
        """Whether somebody waits or runs here."""
        return bool(self.scheduler.running) or bool(self.scheduler.waiting)

    def nudge(self) -> None:
        """Try once more to form a batch."""
        if self._wake is not None:
            self._wake.succeed()
            self._wake = None

    def _run(self) -> Generator[simpy.Event, None, None]:
        env, begins, ends, in_flight = self.env, STEP_BEGINS + self.instance_id, STEP_ENDS + self.instance_id, self._in_flight
        is_stuck = False
        while True:
            if not in_flight and (is_stuck or not self.has_requests()):
                self._wake = env.event()
                yield self._wake
                yield Moment(env, 0, begins)
                is_stuck = False
            elif env.is_busy_now():  # something else happens at this instant and may come before us
                yield Moment(env, 0, begins)
            self._launch()
            if not in_flight:  # nobody who is here can go on: only an arrival, or a nudge, leads to another attempt
                is_stuck = True
                continue
            flight = in_flight.popleft()
            yield Moment(env, flight.end_ns - env.now_ns, ends)
            if self._stretch is None:
                self._end_batch(flight)
            else:
                self._end_decode(self._stretch, flight)

    def _launch(self) -> None:
        """Form batches until as many are in flight as there may be; each starts when the one before it has ended."""
        stretch, in_flight = self._stretch, self._in_flight
        if stretch is not None:
            if (stretch.head_waits or not self.scheduler.waiting) and stretch.launch():
                decodes = stretch.decodes
                self._fly(None, self.step_ns(0, 0, decodes, stretch.context_tokens - decodes, decodes))
                return
            self._settle()
        while len(in_flight) < self.depth:
            batch = self.scheduler.schedule()
            if not batch.requests:
                return
            self._fly(batch, self.batch_ns(batch))

    def _fly(self, batch: Batch | None, duration_ns: int) -> None:
        in_flight, start_ns, kv = self._in_flight, self.env.now_ns, self.kv
        if in_flight and in_flight[-1].end_ns > start_ns:
            start_ns = in_flight[-1].end_ns
        used_blocks = kv.usable_blocks - kv.free_blocks
        in_flight.append(Flight(batch, start_ns, start_ns + duration_ns, len(self.scheduler.waiting), used_blocks))

    def _batch_ns(self, batch: Batch) -> int:
        return self.step_ns(batch.prefill_tokens, batch.prefill_work, batch.decodes, batch.decode_context_tokens, batch.samples)

    def _end_decode(self, stretch: Stretch, flight: Flight) -> None:
        """An iteration of a stretch ended."""
        gap_ns = stretch.advance(flight.end_ns)
        tables, decodes = self.tables, stretch.decodes
        tables.step_count += 1
        index = bin_of(gap_ns)
        tables.gaps[index] = tables.gaps.get(index, 0) + decodes
        if tables.keep_steps:
            start_ns, duration_ns = flight.start_ns, flight.end_ns - flight.start_ns
            counts = (decodes, flight.waiting, flight.used_blocks, 0)
            tables.step_ended((self.instance_id, start_ns, duration_ns, 0, decodes, 0, *counts))
        if not stretch.returns_left:
            self._settle()
            done = [request for request in stretch.requests if request.tokens >= request.end_tokens]
            self.scheduler.let_go(done)
            for request in done:
                self.on_finish(request)
            self._begin_stretch()

    def _settle(self) -> None:
        """The stretch is over; what is in flight is the scheduler's again."""
        if self._stretch is not None:
            self._stretch.settle()
            for flight in self._in_flight:
                if flight.batch is None:
                    flight.batch = self._stretch.batch()
            self._stretch = None

    def _end_batch(self, flight: Flight) -> None:
        """An iteration that the scheduler formed ended: tokens come out, and some requests are done."""
        batch = flight.batch
        assert batch is not None
        done, gaps = self.scheduler.receive(batch, flight.start_ns, flight.end_ns)
        self._watch(flight, batch, gaps)
        for request in done:
            self.on_finish(request)
        self._begin_stretch()

    def _begin_stretch(self) -> None:
        """The next iterations are a stretch if all who run have just got a token, all decode, and nobody can join them.

        One batch may be on the GPU already: all who run must be in it, and nobody else.
        """
        scheduler, in_flight = self.scheduler, self._in_flight
        running = scheduler.running
        if not (running and self.use_stretches and self.probe is None) or len(in_flight) != self.depth - 1:
            return
        for flight in in_flight:
            batch = flight.batch
            if batch is None or batch.preempted or not len(running) == len(batch.requests) == batch.decodes == batch.samples:
                return
        is_closed, now_ns = scheduler.is_closed(), self.env.now_ns
        if (is_closed or not scheduler.waiting) and all(request.last_token_ns == now_ns for request in running):
            self._stretch = Stretch(running, self.kv, is_closed, self.depth - 1, self.max_model_len)

    def _watch(self, flight: Flight, batch: Batch, gaps: dict[int, int]) -> None:
        start_ns, end_ns = flight.start_ns, flight.end_ns
        tables = self.tables
        tables.step_count += 1
        for gap_ns, count in gaps.items():
            index = bin_of(gap_ns)
            tables.gaps[index] = tables.gaps.get(index, 0) + count
        if tables.keep_steps:
            tokens = (batch.prefill_tokens, batch.decodes, batch.encode_tokens)
            counts = (len(batch.requests), flight.waiting, flight.used_blocks, len(batch.preempted))
            tables.step_ended((self.instance_id, start_ns, end_ns - start_ns, *tokens, *counts))
        if self.probe is not None:
            self.probe.step_ended(self.instance_id, start_ns, end_ns, batch)
