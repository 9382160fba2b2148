"""The scenario: everything that a user may ask for, as he writes it in TOML, checked at the door.

One class per table of the file. Unknown keys are errors, and so are keys that do nothing where they stand. Fields left
out are None or the default shown; what depends on the GPU (seats, token budget) is filled in by the simulator.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from experiments.workload_tables import Asked, Naive, Table, known
from hwprofiles.software import DEFAULT


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
    from hwprofiles.own_file import is_path

    return name if is_path(name) else known("gpu", name, known_gpus())


def _model(name: str) -> str:
    from hwprofiles import known_models
    from hwprofiles.own_file import is_path

    return name if is_path(name) else known("model", name, known_models())


def _software(name: str) -> str:
    from hwprofiles import known_software

    return known("software", name, known_software())


def _router(name: str) -> str:
    from sim import ROUTERS

    return known("router", name, ROUTERS)


def _policy(name: str) -> str:
    from sim.waiting import POLICIES

    return known("policy", name, POLICIES)


def _kv_cache_dtype(name: str) -> str:
    from hwprofiles.memory import KV_CACHE_PRECISION

    return known("kv_cache_dtype", name, KV_CACHE_PRECISION)


def _replications(value: Any) -> Any:
    if value != "auto" and not (type(value) is int and 1 <= value <= 100):
        raise ValueError('expected "auto" or a whole number from 1 to 100')
    return value


class ClusterTable(Table):
    """What serves: instances of one model, by its name or its file, on one kind of GPU behind a router."""

    gpu: Annotated[str, AfterValidator(_gpu)]
    model: Annotated[str, AfterValidator(_model)]
    precision: str = "bf16"
    tp: Annotated[int, Field(ge=1, le=64)] = 1
    instances: Annotated[int, Field(ge=1, le=4096)] = 1
    router: Annotated[str, AfterValidator(_router)] = "power_of_two"
    software: Annotated[str, AfterValidator(_software)] = DEFAULT
    profiles: Annotated[str, Field(min_length=1)] | None = None
    gpu_price_per_hour: Annotated[float, BeforeValidator(_dollars_per_hour), Field(gt=0.0)] | None = None

    @property
    def gpu_name(self) -> str:
        """As people read it: a file goes by its name alone."""
        from hwprofiles import load_gpu

        return load_gpu(self.gpu).id

    @property
    def model_name(self) -> str:
        """The same of the model."""
        from hwprofiles import load_model

        return load_model(self.model).id


class EngineTable(Table):
    """How an instance forms its batches, under vLLM's names."""

    scheduler: Literal["vllm"] = "vllm"
    max_num_seqs: Annotated[int, Field(ge=1, le=65_536)] | None = None
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=1_048_576)] | None = None
    max_model_len: Annotated[int, Field(ge=2, le=10_000_000)] | None = None
    block_size: Annotated[int, Field(ge=1, le=4096)] = 16
    gpu_memory_utilization: Annotated[float, Field(gt=0.0, le=1.0)] = 0.92
    num_gpu_blocks_override: Annotated[int, Field(ge=2, le=100_000_000)] | None = None
    kv_cache_dtype: Annotated[str, AfterValidator(_kv_cache_dtype)] = "auto"
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
    naive: list[Naive] = Field(default=["poisson", "n_hour"], min_length=1)

    @model_validator(mode="after")
    def _once_each(self) -> "CompareTable":
        if len(set(self.naive)) != len(self.naive):
            raise ValueError("naive: each kind once")
        return self


class Scenario(Asked):
    """A whole file."""

    name: Annotated[str, AfterValidator(_file_safe)] = "scenario"
    slo: Annotated[str, AfterValidator(_slo)] | None = None
    attainment: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
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
