"""The workload of a scenario as what the simulator plays: a stream for a seed, per client or naive."""

from functools import lru_cache
from typing import Any

from experiments.errors import UserError
from experiments.scenario import Scenario
from experiments.workload_tables import Asked, Clients
from workloads import ClientPool, Stream, compose, concurrency, naive
from workloads.arrivals import WINDOW_S
from workloads.lengths import BLOCK_S
from workloads.sessions import sessions
from workloads.traces import read_trace

PER_CLIENT = "per_client"
HOUR_S = 3600.0


def stream_of(scenario: Asked, seed: int | None = None) -> Any:
    """What the scenario's workload sends, its naive stand-in where it asks for one, or a closed-loop source."""
    workload = scenario.workload
    seed = scenario.seed if seed is None else seed
    if workload.concurrency is not None:
        assert workload.input_tokens and workload.output_tokens
        return concurrency(workload.concurrency, workload.input_tokens, workload.output_tokens, workload.duration)
    if workload.naive == "none":
        return _per_client(scenario, seed)
    if workload.duration is None or workload.duration > HOUR_S:  # perhaps more than memory holds
        fitted_on = _per_client(scenario, scenario.seed)
    else:
        fitted_on = _collected(_fitted_on(scenario).model_dump_json(), scenario.seed)
    options: dict[str, Any] = {} if workload.burstiness is None else {"burstiness": workload.burstiness}
    if workload.naive == "n_global" and workload.trace is None:
        options["period"] = clients_pool(scenario)
    return naive(fitted_on, workload.naive, seed, **options)


def _fitted_on(asked: Asked) -> Asked:
    """What is asked for, less all that does not move the per-client traffic that a naive kind is fitted on."""
    workload = asked.workload.model_copy(update={"naive": "none", "burstiness": None})
    return Asked(seed=asked.seed, workload=workload, clients=asked.clients, conversation=asked.conversation)


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
    inside_s = start_s % (pool.period * WINDOW_S)
    changes = {"start": inside_s, "duration": HOUR_S}
    return scenario.model_copy(update={"workload": scenario.workload.model_copy(update=changes)})


@lru_cache(maxsize=4)
def _collected(asked_json: str, seed: int) -> Stream:
    """An hour that naive kinds are fitted on, in memory: several kinds under several seeds ask for it in turn."""
    return _per_client(Asked.model_validate_json(asked_json, strict=False), seed).held()


def _per_client(scenario: Asked, seed: int) -> Stream:
    workload = scenario.workload
    if workload.trace is not None:
        return read_trace(workload.trace, workload.trace_format, bool(workload.dejitter))
    pool, start_s = clients_pool(scenario), workload.start or 0.0
    duration_s = workload.duration if workload.duration is not None else pool.duration_s - start_s
    if duration_s <= 0.0:
        raise UserError(
            f"workload.start = {start_s / HOUR_S:g} h: pool {pool.name} has {pool.duration_s / HOUR_S:g} h of data; "
            "expected a duration too, as past them its days come again"
        )
    options: dict[str, Any] = {"seed": seed, "clients": _chosen(scenario.clients, pool), "model": workload.traffic_model()}
    if scenario.conversation is not None:
        options["conversation"] = scenario.conversation.model()
        return sessions(pool, start_s, duration_s, workload.rate, workload.scale, **options)
    return compose(pool, start_s, duration_s, workload.rate, workload.scale, **options)


def clients_pool(scenario: Asked) -> ClientPool:
    """The pool that the scenario asks for, with as many copies of its clients."""
    pool, clients = pool_of(scenario.workload.pool, scenario.workload.servegen), scenario.clients
    if clients is not None and clients.imputed is False:
        pool = pool.published()
    if clients is not None and (clients.copies or 1) > 1:
        pool = pool.replicate(clients.copies or 1, round((clients.spread or 0.0) / BLOCK_S), scenario.seed)
    if clients is not None and clients.resample is not None:
        pool = pool.resample(clients.resample, scenario.seed)
    return pool


def _chosen(clients: Clients | None, pool: ClientPool) -> list[int] | None:
    """The numbers of the clients that send; None for all of them."""
    if clients is None:
        return None
    if clients.numbers is not None:
        return clients.numbers
    names: dict[str, Any] = {"rate_rps": clients.rate_rps, "cv": clients.cv, "input_tokens": clients.input_tokens}
    names |= {"output_tokens": clients.output_tokens, "active_s": clients.active, "top": clients.top}
    ranges = {name: value for name, value in names.items() if value is not None}
    return pool.select(**ranges) if ranges else None


@lru_cache(maxsize=2)
def pool_of(name: str | None, servegen: str | None) -> ClientPool:
    """A shipped pool by its name, a pool's file, or the published data at a path."""
    return ClientPool.load(name) if name is not None else ClientPool.from_servegen(str(servegen))
