"""The cluster: instances of one kind behind a router, and `simulate`, which plays a stream of requests on it.

The only file of sim that sees every part. A request's way: a STREAM row arrives, the router names an instance, the
instance serves it, a RECORD row is left.
"""

import copy
import heapq
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np
import simpy

from hwprofiles import Gpu, Model, kv_blocks, load_gpu, load_model, load_step_cost
from sim.clock import ARRIVALS, Clock, Moment
from sim.engine import ClusterError, Engine, FullEngine
from sim.instance import Instance
from sim.kvcache import KVCache, PrefixCache
from sim.metrics import Result
from sim.plan import Plan, StepCost
from sim.probes import Kept, Probe, Sink, Tables
from sim.prompts import Prompts
from sim.request import (
    FAILED,
    NOT_REJECTED,
    RECORD,
    REJECTED,
    TOO_LARGE_FOR_ENCODER,
    TOO_LONG_FOR_KV,
    TOO_LONG_FOR_MODEL,
    Request,
    RequestHead,
    head_of,
    longest_answer,
)
from sim.router import ROUTERS, Router, Views
from sim.scheduler import SCHEDULERS
from sim.slo import Slo
from sim.source import Source, Stream
from sim.tally import Tally
from sim.waiting import POLICIES
from workloads import WorkloadError, check_stream

Progress = Callable[[float], None]
"""Called now and then with the simulated seconds so far."""


@dataclass(frozen=True)
class Cluster:
    """Instances of one model on one kind of GPU.

    gpu, model: names of data sheets in hwprofiles. tp: GPUs of one instance (tensor parallel). router: a name of
    `sim.router.ROUTERS`, or an object with `choose(head, views)`. step_cost: an object with `step_ns`, in place of the
    measured table of (gpu, model, precision, tp); the engine must then name seats, budget, context and KV blocks.
    """

    gpu: str | None = None
    model: str | None = None
    precision: str = "bf16"
    tp: int = 1
    instances: int = 1
    router: str | Router = "power_of_two"
    engine: Engine = field(default_factory=Engine)
    step_cost: StepCost | None = None

    def plan(self) -> Plan:
        """Look everything up and check it. ClusterError or ProfileError where something is unknown or does not fit."""
        self.engine.check()
        if self.instances < 1:
            raise ClusterError(f"cluster.instances = {self.instances}: at least 1 is needed")
        engine = self.engine
        names = (
            ("router", self.router, ROUTERS),
            ("scheduler", engine.scheduler, SCHEDULERS),
            ("policy", engine.policy, POLICIES),
        )
        for what, name, known in names:
            if isinstance(name, str) and name not in known:
                close = get_close_matches(name, list(known), 1)
                hint = f"; did you mean '{close[0]}'?" if close else ""
                raise ClusterError(f"no {what} '{name}'{hint} (known: {', '.join(known)})")
        return self._plan_custom() if self.step_cost is not None else self._plan_measured()

    def _plan_custom(self) -> Plan:
        engine = self.engine
        missing = [
            name
            for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "num_gpu_blocks_override")
            if getattr(engine, name) is None
        ]
        if missing:
            raise ClusterError(f"a cluster with its own step_cost needs engine.{', engine.'.join(missing)}")
        assert self.step_cost is not None and engine.num_gpu_blocks_override is not None
        return Plan(FullEngine.of(engine), self.step_cost, engine.num_gpu_blocks_override)

    def _plan_measured(self) -> Plan:
        if self.gpu is None or self.model is None:
            raise ClusterError("a cluster needs gpu and model, or a step_cost of its own")
        gpu, model = load_gpu(self.gpu), load_model(self.model)
        engine = _with_defaults(self.engine, gpu, model)
        engine.check()
        blocks = engine.num_gpu_blocks_override or kv_blocks(
            gpu,
            model,
            self.precision,
            self.tp,
            block_size=engine.block_size,
            gpu_memory_utilization=engine.gpu_memory_utilization,
            max_num_batched_tokens=engine.max_num_batched_tokens,
            max_num_seqs=engine.max_num_seqs,
        )
        cost = load_step_cost(gpu, model, self.precision, self.tp)
        table = cost.table(engine.max_num_batched_tokens, engine.max_num_seqs, engine.max_model_len, blocks * engine.block_size)
        return Plan(engine, table, blocks)


def _with_defaults(engine: Engine, gpu: Gpu, model: Model) -> FullEngine:
    """Fill in vLLM's defaults for the GPU's class; its own caps apply to them, as in `vllm/engine/arg_utils.py` (0.33)."""
    max_model_len = engine.max_model_len or model.max_model_len
    if max_model_len > model.max_model_len:
        raise ClusterError(f"engine.max_model_len = {max_model_len}: {model.id} has a context of {model.max_model_len} tokens")
    budget = engine.max_num_batched_tokens or gpu.max_num_batched_tokens
    seats = engine.max_num_seqs or min(gpu.max_num_seqs, budget)
    if engine.max_num_batched_tokens is None:
        budget = min(budget if engine.enable_chunked_prefill else max(budget, max_model_len), seats * max_model_len)
    return FullEngine.of(engine, max_num_seqs=seats, max_num_batched_tokens=budget, max_model_len=max_model_len)


def simulate(
    stream: Stream | Source | np.ndarray,
    cluster: Cluster,
    seed: int = 1,
    keep_steps: bool = True,
    progress: Progress | None = None,
    *,
    keep_records: bool = True,
    slo: str | Slo | None = None,
    sinks: Sequence[Sink] = (),
    probe: Probe | None = None,
    use_stretches: bool = True,
) -> Result:
    """Play `stream` on `cluster` until its last request has left.

    stream: a Stream, a closed-loop Source, or STREAM rows (whose duration is then their last arrival). seed: of the
    router's coins. keep_steps, keep_records: whether STEP and RECORD rows are kept; without them memory does not grow
    with the run. slo: whose terms on each request are counted on the way, for a summary without rows. sinks: get the
    RECORD rows in order of leaving, and are closed at the end. use_stretches: False forms every iteration by the
    scheduler (the same results, slower). probe: an observer of every iteration. Raises ClusterError or ProfileError for
    a cluster that cannot be, WorkloadError for rows that are no stream, SloError.
    """
    plan = cluster.plan()
    prompts = Prompts(plan.engine, getattr(stream, "segments", None), getattr(stream, "items", None))
    duration_s = _duration_s(stream)
    tally = Tally(round(duration_s * 1e9) or None, Slo.parse(slo) if isinstance(slo, str) else slo)
    kept = Kept(RECORD) if keep_records else None
    with ExitStack() as ending:
        for sink in sinks:
            ending.callback(sink.close)
        tables = Tables(keep_steps, [tally, *([kept] if kept else []), *sinks])
        run = _Run(cluster, plan, seed, tables, prompts)
        for instance in run.instances:
            instance.probe, instance.use_stretches = probe, use_stretches
        if isinstance(stream, Source):
            run.follow = stream.follow
        elif prompts.are_named and not isinstance(stream, np.ndarray):
            prompts.check(stream.windows())
        run.play(_windows(stream), progress)
        tables.flush()
    return run.result(duration_s, tally, kept.array() if kept else None)


def _duration_s(stream: Stream | Source | np.ndarray) -> float:
    """The time in which requests arrive; 0 where only the run itself can tell, as in a closed loop that is not cut."""
    if isinstance(stream, np.ndarray):
        return max(int(stream["arrival_ns"][-1]), 1) / 1e9 if len(stream) else 0.0
    return stream.duration_s or 0.0


def _windows(stream: Stream | Source | np.ndarray) -> Iterator[np.ndarray]:
    """STREAM rows by arrival; of a closed loop the first ones."""
    if isinstance(stream, np.ndarray):
        return iter([stream])
    return iter([stream.first()] if isinstance(stream, Source) else stream.windows())


class _Run:
    """One run: the SimPy environment, the instances, and the process that lets requests arrive."""

    def __init__(self, cluster: Cluster, plan: Plan, seed: int, tables: Tables, prompts: Prompts):
        self.cluster = cluster
        self.plan = plan
        self.seed = seed
        self.prompts = prompts
        self.env = Clock()
        self.tables = tables
        self.router: Router = ROUTERS[cluster.router]() if isinstance(cluster.router, str) else copy.deepcopy(cluster.router)
        self.follow: Callable[[int, int], np.ndarray | None] | None = None
        self.due: list[tuple] = []  # closed-loop requests to come, a heap by (arrival_ns, request_id)
        self.instances = [self._instance(i) for i in range(cluster.instances)]
        for instance in self.instances:
            instance.on_finish = self._finish
            instance.tables = tables
        self.views = Views(self.instances)

    def _instance(self, instance_id: int) -> Instance:
        engine = self.plan.engine
        cache = PrefixCache if engine.enable_prefix_caching else KVCache
        kv = cache(self.plan.num_blocks, engine.block_size)
        scheduler = SCHEDULERS[engine.scheduler](engine, kv)
        return Instance(self.env, instance_id, scheduler, kv, self.plan.step_cost, engine)

    def play(self, windows: Iterator[np.ndarray], progress: Progress | None) -> None:
        """Run to the end."""
        self.env.process(self._arrivals(windows, progress))
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
                self.tables.request_left(request.record(self.env.now_ns, FAILED))

    def _arrivals(self, windows: Iterator[np.ndarray], progress: Progress | None) -> Generator[simpy.Event, None, None]:
        env = self.env
        for window in windows:
            check_stream(window)
            if len(window) and window["arrival_ns"][0] < env.now_ns:
                raise WorkloadError(
                    f"a window begins at {window['arrival_ns'][0]} ns, before the last request at {env.now_ns} ns"
                )
            for row in window.tolist():
                if row[0] > env.now_ns or not env.now_ns:
                    yield Moment(env, row[0] - env.now_ns, ARRIVALS)
                self._route(row)
            if progress is not None:
                progress(env.now_ns / 1e9)

    def _route(self, row: tuple) -> None:
        """A request arrives: to an instance, or away with it."""
        engine = self.plan.engine
        if reject_reason := self._reject_reason(row):
            self.tables.request_left(Request(row, engine.max_model_len).record(row[0], REJECTED, reject_reason))
            return
        head: RequestHead = head_of(row, self.seed)
        index = self.router.choose(head, self.views)
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
        self.tables.request_left(request.record(now, request.end_reason(self.plan.engine.max_model_len)))
        if self.follow is None:
            return
        row = self.follow(now, request.request_id)
        if row is not None:
            heapq.heappush(self.due, row.tolist())
            Moment(self.env, int(row["arrival_ns"]) - now, ARRIVALS).callbacks.append(self._route_due)

    def _route_due(self, _: simpy.Event) -> None:
        while self.due and self.due[0][0] <= self.env.now_ns:
            self._route(heapq.heappop(self.due))

    def result(self, duration_s: float, tally: Tally, rows: np.ndarray | None) -> Result:
        """What came out and what it was made on."""
        tables, cluster = self.tables, self.cluster
        if duration_s <= 0.0:  # a closed loop that ends with its requests
            duration_s = max(self.env.now_ns, 1) / 1e9
        return Result(
            tally,
            tables.gaps,
            tables.step_count,
            duration_s,
            cluster.instances,
            cluster.tp,
            self.plan.num_blocks,
            self.seed,
            tables.steps(),
            rows,
        )
