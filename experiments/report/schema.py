"""What the JSON files of a run's folder hold: summary, environment, plan and compare, checked as they are read.

A number that was infinite or undefined is null in the file and None here. Keys that are not named here are kept by
Summary (the statistics) and passed over by the rest, so that a newer servecast may write more than this one shows.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


Number = Annotated[float | None, AfterValidator(_finite_or_none)]
Count = Annotated[int, Field(ge=0, le=10**12)]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class TermRow(_Row):
    """One condition of the SLO: text, name in the summary, value and limit (s, or a share), whether it holds."""

    term: str
    key: str
    value: Number
    limit: float
    holds: bool


class Profile(_Row):
    """Where the step times come from: grade, mean absolute error as a share, source, and what lies beyond their fit."""

    grade: str = ""
    error_mape_frac: Number = None
    source: str = ""
    extrapolated: list[str] = []


class Summary(_Row):
    """A run in numbers, as `sim.metrics.summary` gives them; `statistic` reads those of the latencies."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    schema_version: Literal[1]
    name: str
    seed: int
    requests: Count
    requests_stop: Count = 0
    requests_length: Count = 0
    duration_s: float = Field(gt=0.0, allow_inf_nan=False)
    instances: Count
    gpus: Count
    gpu_hours: Number = None
    kv_blocks: Count = 0
    preemptions: Count = 0
    api_s: Number = None
    slo: str | None = None
    slo_holds: bool | None = None
    slo_terms: tuple[TermRow, ...] = Field((), max_length=64)
    slo_attainment_frac: Number = None
    request_throughput_rps: Number = None
    request_goodput_rps: Number = None
    workload: dict[str, Any] = {}
    profile: Profile | None = None
    notes: tuple[str, ...] = Field((), max_length=1000)

    @property
    def unserved(self) -> int:
        """Requests that did not get their whole answer."""
        return max(0, self.requests - self.requests_stop - self.requests_length)

    def statistic(self, metric: str, stat: str) -> float | None:
        """Such as ("ttft", "p99") in seconds; None where it is infinite, undefined or not in the file."""
        value = (self.model_extra or {}).get(f"{metric}_{stat}_s")
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


class Environment(_Row):
    """How the run was made: everything that may differ between two machines and leaves the results alone."""

    schema_version: Literal[1]
    command: str = ""
    seed: int | None = None
    engine: str = ""
    engine_reason: str = ""
    versions: dict[str, Any] = {}
    wall_s: Number = None
    cpu_s: Number = None
    platform: str = ""


class CurvePoint(_Row):
    """One number of instances that a search looked at, all its seeds taken together, on the traffic it was for."""

    instances: Count
    ttft_p99_s: Number = None
    tpot_p99_s: Number = None
    attainment_frac: Number = None
    holds: bool | None = None


class PlanRun(_Row):
    """One run of the search: so many instances, judged on one seed."""

    instances: Count
    seed: int
    holds: bool
    requests: Count | None = None
    terms: tuple[TermRow, ...] = Field((), max_length=64)
    ttft_p99_s: Number = None
    tpot_p99_s: Number = None
    attainment_frac: Number = None


class Plan(_Row):
    """Least instances that hold the SLO, with the interval lo to hi over the seeds, and the runs that say so."""

    schema_version: Literal[1]
    slo: str
    instances: Count | None
    lo: Count | None = None
    hi: Count | None = None
    verdict: str
    question: str = ""
    binding_term: str | None = None
    gpus: Count | None = None
    gpus_per_instance: Count
    seeds: tuple[int, ...] = Field((), max_length=1000)
    runs: tuple[PlanRun, ...] = Field(max_length=20_000)
    curve: tuple[CurvePoint, ...] = Field((), max_length=2000)

    @property
    def holds(self) -> bool:
        """Whether an answer was found."""
        return self.verdict == "HOLDS" and self.instances is not None


class Sizing(_Row):
    """What one kind of traffic says is enough, and how that many instances do under the real per-client mix."""

    instances: Count | None
    lo: Count | None = None
    hi: Count | None = None
    ttft_p99_s: Number = None
    tpot_p99_s: Number = None
    attainment_frac: Number = None
    holds: bool | None = None


class Hour(_Row):
    """One stretch of the pool's clock, sized for its clients and by each naive method."""

    start_s: float = Field(allow_inf_nan=False)
    duration_s: float = Field(gt=0.0, allow_inf_nan=False)
    rate_rps: Number = None
    per_client: Sizing
    naive: dict[str, Sizing] = Field(max_length=16)
    curves: dict[str, Annotated[tuple[CurvePoint, ...], Field(max_length=2000)]] = Field({}, max_length=17)


class Compare(_Row):
    """Naive against per-client sizing, hour by hour."""

    schema_version: Literal[1]
    slo: str
    gpus_per_instance: Count
    fit_seed: int | None = None
    seeds: tuple[int, ...] = Field((), max_length=1000)
    hours: tuple[Hour, ...] = Field(min_length=1, max_length=500)
    workload: dict[str, Any] = {}
    profile: Profile | None = None
    notes: tuple[str, ...] = Field((), max_length=1000)

    @property
    def names(self) -> list[str]:
        """The naive methods, in the order in which they first appear: that of their colours."""
        return list(dict.fromkeys(name for hour in self.hours for name in hour.naive))
