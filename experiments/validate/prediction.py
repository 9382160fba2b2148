"""A prediction: what one setting comes to when it is simulated, in the terms of load generators."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from experiments.validate.harness import harness_of
from experiments.validate.point import Setting
from experiments.validate.shipped import Target, target_of
from experiments.validate.traffic import traffic_of
from hwprofiles import Software, load_step_cost, memory_budget
from sim import Cluster, simulate
from sim.latency import is_done, latencies_s
from sim.plan import Plan

LATENCIES = {"ttft": "ttft", "tpot": "tpot", "e2e": "e2el"}
"""The latencies of points, and what `sim.latency` calls them."""

_ONE_TOKEN_RUN = "time of a run with one output token"


class Unplayable(ValueError):
    """A setting that was simulated and says nothing: requests were refused."""


class Window(NamedTuple):
    """RECORD rows of the requests that count, and the seconds from the first arrival to the last token of them."""

    records: np.ndarray
    span_s: float


@dataclass(frozen=True)
class Prediction:
    """A setting as simulated. is_capped: more is in flight than KV blocks or seats hold, so that requests queue."""

    setting: Setting
    grade: str
    window: Window
    is_capped: bool

    def of(self, metric: str) -> float:
        """The predicted value of a metric that `shipped.refusal` has nothing against; SI units."""
        records, span_s = self.window
        if metric == "requests_per_s":
            return len(records) / span_s
        if metric.endswith("_tokens_per_s"):
            tokens = int(records["output_tokens"].sum(dtype="i8"))
            tokens += int(records["input_tokens"].sum(dtype="i8")) if metric.startswith("total") else 0
            return tokens / span_s
        name, statistic, _ = metric.split("_")
        if self.setting.load_kind == "static_batch" and (name == "e2e" or _ONE_TOKEN_RUN in self.setting.traits):
            return span_s  # a static batch is one call, which returns when the last answer is there
        return statistic_of(latencies_s(records)[LATENCIES[name]], statistic)


def predict(setting: Setting, seed: int = 1, software: Software | None = None) -> Prediction:
    """Simulate a setting; `seed` is of Poisson arrivals and lengths that vary. software: in place of the setting's own era.

    ClusterError or ProfileError where it does not fit, WorkloadError where it would last for years, Unplayable where
    requests were refused.
    """
    played = setting
    if _ONE_TOKEN_RUN in setting.traits:
        played = replace(setting, output_tokens=1)
    target = target_of(setting)
    cluster = _as_set(cluster_of(target), setting)
    cluster = cluster if software is None else replace(cluster, software=software)
    plan = cluster.plan()
    is_capped = _is_capped(setting, plan.engine.max_num_seqs, (plan.num_blocks - 1) * plan.engine.block_size)
    if _never_hits(setting, plan):
        cluster = replace(cluster, engine=replace(cluster.engine, enable_prefix_caching=False))
    result = simulate(traffic_of(played, seed), cluster, seed, keep_steps=False, engine=_engine_for(setting))
    records = np.sort(result.records, order=("arrival_ns", "request_id"))
    refused = int(np.count_nonzero(~is_done(records)))
    if refused:
        raise Unplayable("its prompts do not fit into the model's context or the KV blocks")
    return Prediction(setting, grade_of(target), _window(records, setting.warmup_requests), is_capped)


def _as_set(cluster: Cluster, setting: Setting) -> Cluster:
    """The cluster with the settings of the harness."""
    harness, engine = harness_of(setting), cluster.engine
    engine = replace(engine, **harness.engine)
    if harness.free_memory_frac is not None:
        assert cluster.gpu is not None and cluster.model is not None
        budget = memory_budget(
            cluster.gpu,
            cluster.model,
            cluster.precision,
            cluster.tp,
            max_num_batched_tokens=engine.max_num_batched_tokens,
            max_num_seqs=engine.max_num_seqs,
            kv_cache_dtype=engine.kv_cache_dtype,
        )
        free_bytes = budget.memory_bytes - budget.usable_bytes + budget.kv_bytes
        engine = replace(engine, num_gpu_blocks_override=int(harness.free_memory_frac * free_bytes) // budget.block_bytes)
    if harness.reserves_answers:
        plan = replace(cluster, engine=engine).plan()
        own_tokens = (setting.input_tokens or 0) + (setting.output_tokens or 0)
        seats = max(1, (plan.num_blocks - 1) * plan.engine.block_size // own_tokens)
        engine = replace(engine, max_num_seqs=min(plan.engine.max_num_seqs, seats))
    return replace(cluster, engine=engine)


def grade_of(target: Target) -> str:
    """What stands behind the step cost of a target."""
    return load_step_cost(target.gpu, target.model, target.precision, target.tp).grade


def cluster_of(target: Target) -> Cluster:
    """One instance with vLLM's defaults for the GPU."""
    return Cluster(gpu=target.gpu, model=target.model, precision=target.precision, tp=target.tp, software=target.software)


def statistic_of(values: np.ndarray, statistic: str) -> float:
    """mean, median or pNN (linear, as numpy's) of the values that there are."""
    there = values[~np.isnan(values)]
    if statistic == "mean":
        return float(there.mean())
    return float(np.percentile(there, 50.0 if statistic == "median" else float(statistic[1:])))


def _window(records: np.ndarray, warmup_requests: int) -> Window:
    """Without the first to arrive; Unplayable where that is all of them."""
    counted = records[warmup_requests:]
    if not len(counted):
        raise Unplayable("all its requests are of the warm-up")
    return Window(counted, int(counted["finish_ns"].max() - counted["arrival_ns"].min()) / 1e9)


def _never_hits(setting: Setting, plan: Plan) -> bool:
    """Whether the prefix cache can find nothing: prompts share no text, and no request is preempted and finds its own again.

    To play such a loop without the cache gives the same records in a fifth of the time. A block more for each request is
    room for the token that is computed ahead.
    """
    if setting.load_kind != "closed_concurrency" or setting.cached_prompt_frac:
        return False
    own_tokens = (setting.input_tokens or 0) + (setting.output_tokens or 0)
    own_blocks = -(-own_tokens // plan.engine.block_size) + 1
    return (setting.load or 0.0) * own_blocks < plan.num_blocks


def _engine_for(setting: Setting) -> str:
    """Saturating runs preempt so often that plain Python takes longer than the compiler; elsewhere `auto` knows best."""
    return "fast" if setting.load_kind == "saturated" and setting.requests is None else "auto"


def _is_capped(setting: Setting, seats: int, kv_tokens: int) -> bool:
    if setting.load_kind != "closed_concurrency":
        return False
    in_flight, own_tokens = setting.load or 0.0, (setting.input_tokens or 0) + (setting.output_tokens or 0)
    return in_flight > seats or in_flight * own_tokens > kv_tokens
