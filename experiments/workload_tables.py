"""The tables of a scenario that say who asks: `[workload]` and `[clients]`."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from experiments.errors import unknown
from workloads.units import parse_duration_s

SOURCES = ("pool", "servegen", "trace", "concurrency")
MODEL_KEYS = ("arrivals", "rates", "correlation", "max_tokens", "repeated_items")
"""Keys of `[workload]` that are fields of `workloads.TrafficModel`."""
RANGES = ("rate_rps", "cv", "input_tokens", "output_tokens", "active", "top")
"""Keys of `[clients]` that choose clients by what they are."""


def known(what: str, name: str, names: Any) -> str:
    """The name; ValueError with the nearest where it is not one of the names."""
    if name not in names:
        raise ValueError(unknown(what, name, names))
    return name


def naive_kind(name: str) -> str:
    """The name of a naive workload."""
    from workloads.naive import KINDS

    return known("naive workload", name, KINDS)


def _seconds(value: Any) -> float:
    return parse_duration_s(value, "a time")


def _pool(name: str) -> str:
    from workloads import known_pools
    from workloads.clients import is_pool_file

    return name if is_pool_file(name) else known("pool", name, known_pools())


def _trace_format(name: str) -> str:
    from workloads.traces import FORMATS

    return known("trace format", name, FORMATS)


def _naive_or_none(name: str) -> str:
    return name if name == "none" else naive_kind(name)


def _pair(value: Any) -> Any:
    if not (isinstance(value, list) and len(value) == 2):
        raise ValueError('expected a pair, such as [0.5, 20] or ["20h", "22h"]')
    return tuple(value)


def _range(value: Any) -> Any:
    """`[least, most]`."""
    _pair(value)
    if all(isinstance(end, (int, float)) for end in value) and value[0] > value[1]:
        raise ValueError("expected the least before the most")
    return tuple(value)


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0.0, le=366 * 86400.0)]
Start = Annotated[float, BeforeValidator(_seconds), Field(ge=0.0, le=366 * 86400.0)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
Naive = Annotated[str, AfterValidator(naive_kind)]
_Bound = Annotated[float, Field(ge=0.0, le=1e12)]
_Range = Annotated[tuple[_Bound, _Bound], BeforeValidator(_range)]
_Span = Annotated[tuple[Start, Start], BeforeValidator(_pair)]


class Table(BaseModel):
    """A table of the file: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Workload(Table):
    """Who asks: one source, for pools a span of their clock and a total rate, and what their data leave open."""

    pool: Annotated[str, AfterValidator(_pool)] | None = None
    servegen: str | None = None
    trace: str | None = None
    trace_format: Annotated[str, AfterValidator(_trace_format)] | None = None
    dejitter: bool | None = None
    concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = None
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    start: Start | None = None
    duration: Duration | None = None
    rate: Annotated[float, Field(gt=0.0, le=1e7)] | None = None
    scale: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    arrivals: str | None = None
    rates: str | None = None
    correlation: float | None = None
    max_tokens: int | str | None = None
    repeated_items: float | None = None
    naive: Annotated[str, AfterValidator(_naive_or_none)] = "none"
    burstiness: Annotated[float, Field(ge=0.005, le=1e4)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "Workload":
        sources = [name for name in SOURCES if getattr(self, name) is not None]
        if len(sources) != 1:
            found = f"found {' and '.join(sources)}" if sources else "found none"
            raise ValueError(f"expected exactly one of {', '.join(SOURCES)}; {found}")
        kind = sources[0]
        of_traces, of_loops = ("trace_format", "dejitter"), ("input_tokens", "output_tokens")
        of_pools = ("start", "rate", "scale", *MODEL_KEYS)
        useless = {
            "trace": (*of_loops, *of_pools, "duration"),
            "concurrency": (*of_traces, *of_pools),
        }.get(kind, (*of_traces, *of_loops))
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
        if self.burstiness is not None and self.naive != "loadgen":
            raise ValueError('burstiness would do nothing: it is that of naive = "loadgen"')
        return self

    @model_validator(mode="after")
    def _model_can_be(self) -> "Workload":
        self.traffic_model()
        return self

    def traffic_model(self) -> Any:
        """The `workloads.TrafficModel` asked for; ValueError where there is none such."""
        from workloads.traffic_model import TrafficModel

        return TrafficModel(**{key: value for key in MODEL_KEYS if (value := getattr(self, key)) is not None})


class Clients(Table):
    """Which of a pool's clients send, and how many of each."""

    numbers: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    rate_rps: _Range | None = None
    cv: _Range | None = None
    input_tokens: _Range | None = None
    output_tokens: _Range | None = None
    active: _Span | None = None
    top: Annotated[int, Field(ge=1)] | None = None
    imputed: bool | None = None
    copies: Annotated[int, Field(ge=1, le=10_000)] | None = None
    spread: Start | None = None
    resample: Annotated[int, Field(ge=1, le=100_000)] | None = None

    @model_validator(mode="after")
    def _numbers_or_ranges(self) -> "Clients":
        ranges = [key for key in RANGES if getattr(self, key) is not None]
        if self.numbers is not None and ranges:
            raise ValueError(f"expected numbers or {', '.join(ranges)}, not both")
        if self.resample is not None and self.copies is not None:
            raise ValueError("expected copies or resample, not both")
        if self.spread is not None and (self.copies or 1) < 2:
            raise ValueError("spread would do nothing: it is between the clocks of copies")
        if self.spread is not None and self.spread % 21_600.0:
            raise ValueError(f"spread: expected whole blocks of 6 h, got {self.spread / 3600.0:g} h")
        return self


class Conversation(Table):
    """The requests of a pool as turns of conversations: a preset of `workloads.ConversationModel`, changed."""

    preset: str = "chat"
    itt: str | None = None
    multi_turn_share: float | None = None
    extra_turns: list[list[float]] | None = None
    itt_median_s: float | None = None
    itt_sigma: float | None = None
    history: str | None = None
    new_tokens: str | None = None
    keep_reasoning: bool | None = None
    max_input_tokens: int | None = None
    system_tokens: int | None = None

    @model_validator(mode="after")
    def _model_can_be(self) -> "Conversation":
        self.model()
        return self

    def model(self) -> Any:
        """The `workloads.ConversationModel` asked for; ValueError where there is none such."""
        from workloads.sessions import ConversationModel

        changes = self.model_dump(exclude={"preset", "itt"}, exclude_none=True)
        if "extra_turns" in changes:
            changes["extra_turns"] = tuple(map(tuple, changes["extra_turns"]))
        return ConversationModel.preset(self.preset, self.itt, **changes)


class Asked(Table):
    """All that says who asks: the tables of a scenario that need no cluster."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    workload: Workload
    clients: Clients | None = None
    conversation: Conversation | None = None

    @model_validator(mode="after")
    def _clients_are_of_a_pool(self) -> "Asked":
        of_pools = [name for name in ("clients", "conversation") if getattr(self, name) is not None]
        if of_pools and self.workload.pool is None and self.workload.servegen is None:
            raise ValueError(f"{' and '.join(of_pools)} would do nothing: the workload is not a pool of clients")
        return self
