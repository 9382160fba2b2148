"""The reference engine: plain Python on SimPy, one process for each instance and an event for each iteration.

It is the definition of what a run is; the fast engine returns the same.
"""

import heapq
from collections.abc import Callable, Generator, Iterable

import numpy as np
import simpy

from sim.clock import ARRIVALS, CONTROL, Clock, Moment
from sim.instance import Instance
from sim.kvcache import KVCache, PrefixCache
from sim.plan import Job, Plan
from sim.probes import Looks, Tables, Watch
from sim.prompts import Prompts
from sim.request import (
    FAILED,
    NOT_REJECTED,
    REJECTED,
    TOO_LARGE_FOR_ENCODER,
    TOO_LONG_FOR_KV,
    TOO_LONG_FOR_MODEL,
    Request,
    RequestHead,
    head_of,
    longest_answer,
)
from sim.router import Router, Views, checked_choice, new_router
from sim.scheduler import SCHEDULERS


class ReferenceRun:
    """One run: the SimPy environment, the instances, and the process that lets requests arrive."""

    def __init__(self, plan: Plan, job: Job, prompts: Prompts, tables: Tables):
        self.plan = plan
        self.seed = job.seed
        self.prompts = prompts
        self.env = Clock()
        self.tables = tables
        self.router: Router = new_router(job.router)
        self.follow: Callable[[int, int], np.ndarray | None] | None = None
        self.due: list[tuple] = []  # closed-loop requests to come, a heap by (arrival_ns, request_id)
        self.instances = [self._instance(i) for i in range(job.instances)]
        for instance in self.instances:
            instance.on_finish = self._finish
            instance.tables = tables
            instance.probe, instance.use_stretches = job.probe, job.use_stretches
        self.views = Views(self.instances)

    def _instance(self, instance_id: int) -> Instance:
        engine = self.plan.engine
        cache = PrefixCache if engine.enable_prefix_caching else KVCache
        kv = cache(self.plan.num_blocks, engine.block_size)
        scheduler = SCHEDULERS[engine.scheduler](engine, kv)
        return Instance(self.env, instance_id, scheduler, kv, self.plan.step_cost, engine)

    def play(self, windows: Iterable[np.ndarray], watch: Watch | None) -> None:
        """Run to the end; `windows` are checked STREAM arrays in order. The watch looks for as long as requests arrive."""
        self.env.process(self._arrivals(windows, watch))
        self.env.run()
        self._end_stuck()

    def _end_stuck(self) -> None:
        """No arrival will come to those who could not go on: try them until nothing helps, then give them up as failed.

        With `scheduler_reserve_full_isl` off vLLM itself can hang here.
        """
        for instance in self.instances:
            attempts = 1 + len(instance.scheduler.running) + len(instance.scheduler.waiting)
            while instance.has_requests() and attempts:
                steps = self.tables.step_count
                instance.nudge()
                self.env.run()
                attempts = attempts - 1 if self.tables.step_count == steps else attempts
            for request in [*instance.scheduler.running, *instance.scheduler.waiting]:
                self._leave(request, self.env.now_ns, FAILED)

    def _arrivals(self, windows: Iterable[np.ndarray], watch: Watch | None) -> Generator[simpy.Event, None, None]:
        env, looks = self.env, Looks(watch)
        for window in windows:
            for row in window.tolist():
                for look_ns in looks.until(row[0]):
                    yield Moment(env, look_ns - env.now_ns, CONTROL)
                    looks.look(look_ns, self.views)
                if row[0] > env.now_ns or not env.now_ns:
                    yield Moment(env, row[0] - env.now_ns, ARRIVALS)
                self._route(row)

    def _route(self, row: tuple) -> None:
        """A request arrives: to an instance, or away with it."""
        engine = self.plan.engine
        if reject_reason := self._reject_reason(row):
            self._leave(Request(row, engine.max_model_len), row[0], REJECTED, reject_reason)
            return
        head: RequestHead = head_of(row, self.seed)
        index = checked_choice(self.router, head, self.views)
        self.instances[index].accept(self.prompts.request(row))

    def _reject_reason(self, row: tuple) -> int:
        """Why no instance can ever serve the request: no room for an answer, or more blocks than an empty one has."""
        kv, max_model_len = self.instances[0].kv, self.plan.engine.max_model_len
        if row[6] >= max_model_len:
            return TOO_LONG_FOR_MODEL
        if kv.blocks_for(row[6] + longest_answer(row, max_model_len)) > kv.usable_blocks:
            return TOO_LONG_FOR_KV
        return NOT_REJECTED if self.prompts.fit_encoder(row) else TOO_LARGE_FOR_ENCODER

    def _finish(self, request: Request) -> None:
        now = self.env.now_ns
        self._leave(request, now, request.end_reason(self.plan.engine.max_model_len))
        if self.follow is None:
            return
        row = self.follow(now + self.plan.api_ns, request.request_id)  # when its client has the answer
        if row is not None:
            heapq.heappush(self.due, row.tolist())
            Moment(self.env, int(row["arrival_ns"]) - now, ARRIVALS).callbacks.append(self._route_due)

    def _leave(self, request: Request, finish_ns: int, reason: int, reject_reason: int = NOT_REJECTED) -> None:
        self.tables.request_left(request.record(finish_ns, reason, reject_reason, api_ns=self.plan.api_ns))

    def _route_due(self, _: simpy.Event) -> None:
        while self.due and self.due[0][0] <= self.env.now_ns:
            self._route(heapq.heappop(self.due))
