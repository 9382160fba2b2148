"""The scenario: everything that a user may ask for, as he writes it in TOML, checked at the door.

One class per table of the file. Unknown keys are errors, and so are keys that do nothing where they stand. Fields left
out are None or the default shown; what depends on the GPU (seats, token budget) is filled in by the simulator.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from experiments.errors import unknown
from workloads.units import parse_duration_s


def _seconds(value: Any) -> float:
    return parse_duration_s(value, "a time")


def _dollars_per_hour(value: Any) -> Any:
    """`2.5` or `"2.5 $/h"`."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(\S*)\s*", value)
    if not match or match[2] not in ("", "$/h"):
        raise ValueError('expected dollars per GPU and hour, such as 2.5 or "2.5 $/h"')
    return float(match[1])


def _slo(text: str) -> str:
    from sim.slo import Slo

    Slo.parse(text)
    return text


def _file_safe(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise ValueError("expected a name of letters, digits, '.', '_' and '-', at most 80, as it names a folder")
    return name


def _gpu(name: str) -> str:
    from hwprofiles import known_gpus

    return _known("gpu", name, known_gpus())


def _model(name: str) -> str:
    from hwprofiles import known_models

    return _known("model", name, known_models())


def _pool(name: str) -> str:
    from workloads import known_pools

    return _known("pool", name, known_pools())


def _router(name: str) -> str:
    from sim import ROUTERS

    return _known("router", name, ROUTERS)


def _policy(name: str) -> str:
    from sim.waiting import POLICIES

    return _known("policy", name, POLICIES)


def _naive(name: str) -> str:
    from workloads.naive import KINDS

    return _known("naive workload", name, KINDS)


def _naive_or_none(name: str) -> str:
    return name if name == "none" else _naive(name)


def _replications(value: Any) -> Any:
    if value != "auto" and not (type(value) is int and 1 <= value <= 100):
        raise ValueError('expected "auto" or a whole number from 1 to 100')
    return value


def _known(what: str, name: str, names: Any) -> str:
    if name not in names:
        raise ValueError(unknown(what, name, names))
    return name


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0.0, le=366 * 86400.0)]
Start = Annotated[float, BeforeValidator(_seconds), Field(ge=0.0, le=366 * 86400.0)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
Naive = Annotated[str, AfterValidator(_naive)]


class Table(BaseModel):
    """A table of the file: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Workload(Table):
    """Who asks: one source, and for pools a span of their clock and a total rate."""

    pool: Annotated[str, AfterValidator(_pool)] | None = None
    servegen: str | None = None
    trace: str | None = None
    concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = None
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    start: Start | None = None
    duration: Duration | None = None
    rate: Annotated[float, Field(gt=0.0, le=1e7)] | None = None
    scale: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    naive: Annotated[str, AfterValidator(_naive_or_none)] = "none"

    @model_validator(mode="after")
    def _one_source(self) -> "Workload":
        sources = [name for name in ("pool", "servegen", "trace", "concurrency") if getattr(self, name) is not None]
        if len(sources) != 1:
            found = f"found {' and '.join(sources)}" if sources else "found none"
            raise ValueError(f"expected exactly one of pool, servegen, trace, concurrency; {found}")
        kind = sources[0]
        useless = {
            "trace": ("start", "duration", "rate", "scale", "input_tokens", "output_tokens"),
            "concurrency": ("start", "rate", "scale"),
        }.get(kind, ("input_tokens", "output_tokens"))
        given = [key for key in useless if getattr(self, key) is not None]
        if given:
            raise ValueError(f"{', '.join(given)} would do nothing with {kind}: remove it")
        if kind == "concurrency":
            missing = [key for key in ("input_tokens", "output_tokens", "duration") if getattr(self, key) is None]
            if missing:
                raise ValueError(f"concurrency needs {', '.join(missing)} too")
            if self.naive != "none":
                raise ValueError("naive would do nothing with concurrency: a closed loop has no arrival process to fit")
        if self.rate is not None and self.scale is not None:
            raise ValueError("expected rate or scale, not both")
        return self


class ClusterTable(Table):
    """What serves: instances of one model on one kind of GPU behind a router."""

    gpu: Annotated[str, AfterValidator(_gpu)]
    model: Annotated[str, AfterValidator(_model)]
    precision: str = "bf16"
    tp: Annotated[int, Field(ge=1, le=64)] = 1
    instances: Annotated[int, Field(ge=1, le=4096)] = 1
    router: Annotated[str, AfterValidator(_router)] = "power_of_two"
    gpu_price_per_hour: Annotated[float, BeforeValidator(_dollars_per_hour), Field(gt=0.0)] | None = None


class EngineTable(Table):
    """How an instance forms its batches, under vLLM's names."""

    scheduler: Literal["vllm"] = "vllm"
    max_num_seqs: Annotated[int, Field(ge=1, le=65_536)] | None = None
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=1_048_576)] | None = None
    max_model_len: Annotated[int, Field(ge=2, le=10_000_000)] | None = None
    block_size: Annotated[int, Field(ge=1, le=4096)] = 16
    gpu_memory_utilization: Annotated[float, Field(gt=0.0, le=1.0)] = 0.92
    num_gpu_blocks_override: Annotated[int, Field(ge=2, le=100_000_000)] | None = None
    enable_prefix_caching: bool = True
    async_scheduling: bool = True
    policy: Annotated[str, AfterValidator(_policy)] = "fcfs"
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    scheduler_reserve_full_isl: bool = True
    watermark: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    max_num_encoder_input_tokens: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    encoder_cache_size: Annotated[int, Field(ge=0, le=100_000_000)] = 0


class PlanTable(Table):
    """How `plan` and `compare` search."""

    max_instances: Annotated[int, Field(ge=1, le=4096)] = 64
    replications: Annotated[int | str, BeforeValidator(_replications)] = "auto"


class CompareTable(Table):
    """What `compare` looks at: hours from workload.start on, and the naive workloads."""

    hours: Annotated[int, Field(ge=1, le=24 * 366)] = 24
    naive: Annotated[list[Naive], Field(min_length=1)] = ["poisson", "n_hour"]

    @model_validator(mode="after")
    def _once_each(self) -> "CompareTable":
        if len(set(self.naive)) != len(self.naive):
            raise ValueError("naive: each kind once")
        return self


class Scenario(Table):
    """A whole file."""

    name: Annotated[str, AfterValidator(_file_safe)] = "scenario"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    slo: Annotated[str, AfterValidator(_slo)] | None = None
    attainment: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    workload: Workload
    cluster: ClusterTable
    engine: EngineTable = EngineTable()
    plan: PlanTable = PlanTable()
    compare: CompareTable = CompareTable()

    @model_validator(mode="after")
    def _attainment_speaks_of_requests(self) -> "Scenario":
        if self.attainment is not None and not (self.slo and self.parsed_slo().request_terms):
            raise ValueError("attainment would do nothing: the slo has no term on each request, such as ttft:500ms")
        return self

    def parsed_slo(self) -> Any:
        """The SLO as a value of sim; the scenario must have one."""
        from sim.slo import Slo

        assert self.slo is not None
        return Slo.parse(self.slo) if self.attainment is None else Slo.parse(self.slo, self.attainment)

    def resolved(self) -> dict[str, Any]:
        """The scenario with its defaults, tables of tables and plain values; what is None is left out."""
        return self.model_dump(mode="json", exclude_none=True)
