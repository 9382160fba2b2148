"""The workload of a scenario as what the simulator plays: a stream for a seed, per client or naive."""

from functools import lru_cache
from typing import Any

from experiments.errors import UserError
from experiments.scenario import Scenario, Workload
from workloads import ClientPool, Stream, compose, concurrency, naive
from workloads.traces import read_trace

PER_CLIENT = "per_client"
HOUR_S = 3600.0
DAY_S = 86400.0


def stream_of(scenario: Scenario, seed: int | None = None) -> Any:
    """What the scenario's workload sends, its naive stand-in where it asks for one, or a closed-loop source."""
    workload = scenario.workload
    seed = scenario.seed if seed is None else seed
    if workload.concurrency is not None:
        assert workload.input_tokens and workload.output_tokens
        return concurrency(workload.concurrency, workload.input_tokens, workload.output_tokens, workload.duration)
    if workload.naive == "none":
        return _per_client(workload, seed)
    if workload.duration is None or workload.duration > HOUR_S:  # perhaps more than memory holds
        return naive(_per_client(workload, scenario.seed), workload.naive, seed)
    fitted_on = workload.model_copy(update={"naive": "none"})
    return naive(_collected(fitted_on.model_dump_json(), scenario.seed), workload.naive, seed)


def kind_of(scenario: Scenario, kind: str) -> Scenario:
    """The scenario with per-client traffic or with a naive kind in its place."""
    workload = scenario.workload.model_copy(update={"naive": "none" if kind == PER_CLIENT else kind})
    return scenario.model_copy(update={"workload": workload})


def kind_asked(scenario: Scenario) -> str:
    """The kind of traffic that the scenario itself asks for."""
    return PER_CLIENT if scenario.workload.naive == "none" else scenario.workload.naive


def hour_at(scenario: Scenario, start_s: float) -> Scenario:
    """The scenario for one hour from `start_s` on; past the end of the pool's data its days come again."""
    pool = pool_of(scenario.workload.pool, scenario.workload.servegen)
    period_s = pool.duration_s // DAY_S * DAY_S or pool.duration_s
    inside_s = start_s % period_s if start_s + HOUR_S > pool.duration_s else start_s
    if inside_s + HOUR_S > pool.duration_s:
        raise UserError(
            f"workload.start: an hour from {start_s / HOUR_S:g} h on runs over the end of pool {pool.name}'s "
            f"{pool.duration_s / HOUR_S:g} h of data; expected a start at a whole hour"
        )
    return scenario.model_copy(
        update={"workload": scenario.workload.model_copy(update={"start": inside_s, "duration": HOUR_S})}
    )


@lru_cache(maxsize=4)
def _collected(workload_json: str, seed: int) -> Stream:
    """An hour that naive kinds are fitted on, in memory: several kinds under several seeds ask for it in turn."""
    return _per_client(Workload.model_validate_json(workload_json, strict=False), seed).held()


def _per_client(workload: Workload, seed: int) -> Stream:
    if workload.trace is not None:
        return read_trace(workload.trace)
    pool, start_s = pool_of(workload.pool, workload.servegen), workload.start or 0.0
    duration_s = workload.duration if workload.duration is not None else pool.duration_s - start_s
    if start_s + duration_s > pool.duration_s or duration_s <= 0.0:
        raise UserError(
            f"workload.start = {start_s / HOUR_S:g} h, duration = {duration_s / HOUR_S:g} h: "
            f"pool {pool.name} has {pool.duration_s / HOUR_S:g} h of data; expected a span inside it"
        )
    return compose(pool, start_s, duration_s, workload.rate, workload.scale, seed)


@lru_cache(maxsize=2)
def pool_of(name: str | None, servegen: str | None) -> ClientPool:
    """A shipped pool by its name, or the published data at a path."""
    return ClientPool.load(name) if name is not None else ClientPool.from_servegen(str(servegen))
