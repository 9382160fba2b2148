"""A case: what a scheduler was given, and what it decided in every step, as a recorder wrote it down.

The format is that of the recorded vLLM runs: one JSON object, gzipped or not. Times are ns from the start of the run.
docs/scheduler.md tells how cases are made.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_FILE_BYTES = 256 << 20  # unpacked; the largest recorded case has 8 MB
MOST_MISTAKES = 10
SUFFIXES = (".json", ".json.gz")

Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
Count = Annotated[int, Field(ge=0, le=1 << 31)]
Ns = Annotated[int, Field(ge=0, le=1 << 62)]
RequestId = Annotated[int, Field(ge=0, le=1 << 31)]


class CaseError(ValueError):
    """Files that are no cases; the message has a line for each mistake: file, place, what was expected."""


class Step(NamedTuple):
    """One batch. `batch` has (request id, tokens) in batch order, `encoded` (request id, item index); both others sorted."""

    end_ns: Ns
    batch: list[tuple[RequestId, Tokens]]
    preempted: list[RequestId]
    encoded: list[tuple[RequestId, Count]]


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Settings(_Checked):
    """The engine. `num_blocks` counts vLLM's null block; encoder sizes are in tokens, 0 for a model of text alone."""

    block_size: Tokens
    num_blocks: Annotated[int, Field(ge=2, le=1 << 31)]
    max_num_seqs: Tokens
    max_num_batched_tokens: Tokens
    max_model_len: Tokens
    long_prefill_token_threshold: Count
    policy: Literal["fcfs", "priority"]
    prefix_caching: bool
    async_scheduling: bool
    watermark: Annotated[float, Field(ge=0.0, lt=1.0)]
    reserve_full_isl: bool
    chunked_prefill: bool
    encoder_budget: Count
    encoder_cache: Count


class Cost(_Checked):
    """Price of a step, each term a whole number of ns."""

    base_ns: Ns
    per_token_ns: Ns
    per_kv_token_ns: Ns
    per_encoder_token_ns: Ns


class CaseRequest(_Checked):
    """A request. `prompt` has (key, tokens): equal keys are equal tokens. Without `max_tokens` its end is foreseen."""

    id: RequestId
    arrival_ns: Ns
    priority: Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]
    output_tokens: Tokens
    max_tokens: Tokens | None = None
    prompt: Annotated[list[tuple[str, Tokens]], Field(min_length=1)]

    @property
    def input_tokens(self) -> int:
        """Length of the prompt."""
        return sum(tokens for _, tokens in self.prompt)


class Case(_Checked):
    """A whole case; `first_token_ns` and `finish_ns` are by request id."""

    case: str
    source: str
    engine: Settings
    cost: Cost
    requests: Annotated[list[CaseRequest], Field(min_length=1)]
    steps: list[Step]
    first_token_ns: dict[RequestId, Ns]
    finish_ns: dict[RequestId, Ns]

    @property
    def preemptions(self) -> int:
        """Over all steps."""
        return sum(len(step.preempted) for step in self.steps)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Case":
        mistakes = list(islice(_contradictions(self), MOST_MISTAKES))
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


_TABLES: dict[str, type[BaseModel]] = {"": Case, "engine": Settings, "cost": Cost, "requests": CaseRequest}


def _contradictions(case: Case) -> Iterator[str]:
    """What a type cannot say: ids increase, a key has one length, and every request is recorded to its end."""
    known = {request.id for request in case.requests}
    if [request.id for request in case.requests] != sorted(known):
        yield "requests: expected ids in order, each once"
    lengths: dict[str, int] = {f"out:{request.id}": request.output_tokens for request in case.requests}
    for request in case.requests:
        if request.max_tokens is not None and request.max_tokens < request.output_tokens:
            yield f"requests.{request.id}.max_tokens = {request.max_tokens}: expected at least output_tokens"
        for key, tokens in request.prompt:
            if key.startswith("out:") and key not in lengths:
                yield f"requests.{request.id}.prompt: '{key}' names no request"
            elif lengths.setdefault(key, tokens) != tokens:
                yield f"requests.{request.id}.prompt: '{key}' has {tokens} tokens here and {lengths[key]} elsewhere"
            elif key.startswith("img") and tokens > min(case.engine.encoder_budget, case.engine.encoder_cache):
                yield f"requests.{request.id}.prompt: '{key}' fits neither engine.encoder_budget nor engine.encoder_cache"
    for name, times in (("first_token_ns", case.first_token_ns), ("finish_ns", case.finish_ns)):
        if times.keys() != known:
            yield f"{name}: expected a time for each request"
    for index, step in enumerate(case.steps):
        ids = [request_id for request_id, _ in [*step.batch, *step.encoded]] + step.preempted
        yield from (f"steps.{index}: {request_id} is the id of no request" for request_id in ids if request_id not in known)


def parse_case(text: bytes, place: str) -> Case:
    """A case from its JSON text; CaseError, with up to ten mistakes each at its place, where it is none."""
    try:
        return Case.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        found.sort(key=lambda mistake: mistake["type"] != "extra_forbidden")  # a name misspelt explains a name missing
        lines = [f"{place}: {line}" for mistake in found[:MOST_MISTAKES] for line in _in_words(dict(mistake))]
        if len(found) > MOST_MISTAKES:
            lines.append(f"{place}: {len(found) - MOST_MISTAKES} further mistakes are not listed")
        raise CaseError("\n".join(lines)) from None


def _in_words(mistake: dict) -> list[str]:
    """A pydantic error as `key.key: what is expected`, with the nearest name for an unknown key."""
    *inside, last = mistake["loc"] or ("",)
    where = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        close = get_close_matches(str(last), _TABLES[str(inside[0]) if inside else ""].model_fields, 1)
        return [f"{where}: no such key" + (f"; nearest: {close[0]}" if close else "")]
    lines = str(mistake["msg"]).removeprefix("Value error, ").split("\n")
    return [f"{where}: {line}" if where else line for line in lines]


def read_case(path: Path) -> Case:
    """A case from a file `.json` or `.json.gz`; CaseError where it cannot be read, is too large, or is no case."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise CaseError(f"{path}: cannot be read ({error})") from None
    if len(text) > MAX_FILE_BYTES:
        raise CaseError(f"{path}: unpacked, a case has at most {MAX_FILE_BYTES >> 20} MB")
    return parse_case(text, str(path))


def case_files(paths: Iterable[Path]) -> list[Path]:
    """The files of `paths`, folders searched through, in order of name; CaseError names every path without any."""
    files, mistakes = [], []
    for path in paths:
        found = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES)) if path.is_dir() else [path]
        if not found:
            mistakes.append(f"{path}: no file in it ends in {' or '.join(SUFFIXES)}")
        elif not path.exists():
            mistakes.append(f"{path}: no such file or folder")
        files += found
    if mistakes:
        raise CaseError("\n".join(mistakes))
    return files
