"""The cluster: instances of one kind behind a router, and `simulate`, which plays a stream of requests on it.

The only file of sim that sees every part. A request's way: a STREAM row arrives, the router names an instance, the
instance serves it, a RECORD row is left.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hwprofiles import Gpu, Model, Software, kv_blocks, load_gpu, load_model, load_software, load_step_cost
from hwprofiles.memory import KV_CACHE_PRECISION
from hwprofiles.software import DEFAULT as DEFAULT_SOFTWARE
from sim.choice import Choice, Wanted, choose_engine
from sim.engine import ClusterError, Engine, FullEngine, unknown
from sim.metrics import Result
from sim.plan import Job, Plan, StepCost
from sim.probes import Kept, Probe, Sink, Tables, Watch
from sim.prompts import Prompts
from sim.reference import ReferenceRun
from sim.request import RECORD
from sim.router import ROUTERS, Router
from sim.scheduler import SCHEDULERS
from sim.slo import Slo
from sim.source import Source, Stream, checked
from sim.tally import Tally
from sim.waiting import POLICIES

if TYPE_CHECKING:
    from sim.fast import FastRun

log = logging.getLogger("servecast")

Progress = Callable[[float], None]
"""Called now and then with the simulated seconds so far."""


@dataclass(frozen=True)
class Cluster:
    """Instances of one model on one kind of GPU.

    gpu, model: names of data sheets in hwprofiles, or paths of one's own. tp: GPUs of one instance (tensor parallel).
    router: a name of `sim.router.ROUTERS`, or an object with `choose(head, views)`. step_cost: an object with `step_ns`,
    in place of the measured table of (gpu, model, precision, tp); the engine must then name seats, budget, context and
    KV blocks, and no API server adds time. software: the engine's era, a name of `hwprofiles.load_software`. profiles: a
    folder that `servecast profiles fit` wrote, whose step costs are taken in place of those that ship.
    """

    gpu: str | None = None
    model: str | None = None
    precision: str = "bf16"
    tp: int = 1
    instances: int = 1
    router: str | Router = "power_of_two"
    engine: Engine = field(default_factory=Engine)
    step_cost: StepCost | None = None
    software: str | Software = DEFAULT_SOFTWARE
    profiles: str | None = None

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
            ("kv_cache_dtype", engine.kv_cache_dtype, KV_CACHE_PRECISION),
        )
        for what, name, known in names:
            if isinstance(name, str) and name not in known:
                raise unknown(what, name, known)
        software = load_software(self.software)
        return self._plan_custom() if self.step_cost is not None else self._plan_measured(software)

    def _plan_custom(self) -> Plan:
        engine = self.engine
        if self.profiles is not None:
            raise ClusterError(f"cluster.profiles = {self.profiles!r}: would do nothing with a step_cost of its own")
        missing = [
            name
            for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "num_gpu_blocks_override")
            if getattr(engine, name) is None
        ]
        if missing:
            raise ClusterError(f"a cluster with its own step_cost needs engine.{', engine.'.join(missing)}")
        assert self.step_cost is not None and engine.num_gpu_blocks_override is not None
        return Plan(FullEngine.of(engine), self.step_cost, engine.num_gpu_blocks_override)

    def _plan_measured(self, software: Software) -> Plan:
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
            kv_cache_dtype=engine.kv_cache_dtype,
        )
        cost = load_step_cost(gpu, model, self.precision, self.tp, self.profiles)
        table = cost.table(
            engine.max_num_batched_tokens,
            engine.max_num_seqs,
            engine.max_model_len,
            blocks * engine.block_size,
            software,
            engine.kv_cache_dtype,
        )
        return Plan(engine, table, blocks, round(software.api_ms * 1e6))


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
    engine: str = "auto",
    keep_records: bool = True,
    slo: str | Slo | None = None,
    sinks: Sequence[Sink] = (),
    probe: Probe | None = None,
    watch: Watch | None = None,
    use_stretches: bool = True,
) -> Result:
    """Play `stream` on `cluster` until its last request has left.

    stream: a Stream, a closed-loop Source, or STREAM rows (whose duration is then their last arrival). seed: of the
    router's coins. engine: "reference"; "fast", compiled; or "auto", the fast one where it applies, compiled where that
    pays; results are the same. keep_steps, keep_records: whether STEP and RECORD rows are kept; without them memory does
    not grow with the run. slo: whose terms on each request are counted on the way, for a summary without rows. sinks: get
    the RECORD rows in order of leaving, and are closed at the end. probe: an observer of every iteration. watch: looks at
    the instances once in a while, as long as requests arrive. use_stretches: False forms every iteration by the
    reference's scheduler. Raises ClusterError or ProfileError for a cluster that cannot be, WorkloadError for rows that
    are no stream, SloError.
    """
    plan = cluster.plan()
    wanted = Wanted(engine, probe is not None, use_stretches)
    choice, windows = choose_engine(wanted, stream, cluster.router, plan)
    log.info("engine: %s (%s)", choice.engine, choice.reason)
    duration_s = _duration_s(stream)
    tally = Tally(round(duration_s * 1e9) or None, Slo.parse(slo) if isinstance(slo, str) else slo)
    kept = Kept(RECORD) if keep_records else None
    with ExitStack() as ending:
        for sink in sinks:
            ending.callback(sink.close)
        tables = Tables(keep_steps, tally, [*([kept] if kept else []), *sinks])
        run = _new_run(choice, stream, plan, Job(cluster.instances, cluster.router, seed, probe, use_stretches), tables)
        run.play(checked(windows, progress, getattr(stream, "is_checked", False)), watch)
        tables.flush()
    return Result(
        tally,
        tables.gaps,
        tables.step_count,
        duration_s or max(run.env.now_ns + plan.api_ns, 1) / 1e9,  # a closed loop that ends with its last answer says none
        cluster.instances,
        cluster.tp,
        plan.num_blocks,
        seed,
        tables.steps(),
        kept.array() if kept else None,
        choice,
        tables.paths or {choice.engine: tables.step_count},
        plan.api_ns,
    )


def _new_run(
    choice: Choice, stream: Stream | Source | np.ndarray, plan: Plan, job: Job, tables: Tables
) -> "ReferenceRun | FastRun":
    """The run of the engine that was chosen."""
    prompts = Prompts(plan.engine, getattr(stream, "segments", None), getattr(stream, "items", None))
    if prompts.are_named and not isinstance(stream, (np.ndarray, Source)) and not getattr(stream, "is_checked", False):
        prompts.check(stream.windows())
    if choice.kernels is not None:
        from sim.fast import FastRun

        return FastRun(plan, job, prompts, tables, choice.kernels)
    run = ReferenceRun(plan, job, prompts, tables)
    if isinstance(stream, Source):
        run.follow = stream.follow
    return run


def _duration_s(stream: Stream | Source | np.ndarray) -> float:
    """The time in which requests arrive; 0 where only the run itself can tell, as in a closed loop that is not cut."""
    if isinstance(stream, np.ndarray):
        return max(int(stream["arrival_ns"][-1]), 1) / 1e9 if len(stream) else 0.0
    return stream.duration_s or 0.0
