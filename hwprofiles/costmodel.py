"""The step-cost model: how long one iteration of an instance takes, as a sum of a few integers.

    t(step) = f_tok(m) + head(B) + c0 + cs*B
            + [prefill tokens > 0] * (a0 + a1*prefill tokens + a2*prefill work)
            + [decodes > 0]        * (d0 + d1*decodes + d2*decode context tokens)

with m = prefill tokens + decodes, and B = requests that sample a token in this step. Prefill work is the sum of
n*(n + 2*past) over the prefill chunks, n new tokens after `past` computed ones: twice the token pairs that attention
scores. Decode context tokens are the sum of the context lengths of the decodes, the token computed now included.

Every coefficient is a whole number of ticks, 2^-16 ns, so sums are exact; a step is rounded once, to a nanosecond.
docs/hardware.md prices a step by hand.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

from hwprofiles.datasheet import Gpu, Model, load_gpu, load_model
from hwprofiles.records import INT64_MAX, ProfileError, load_record, profile_names
from hwprofiles.steptable import TICKS_PER_MS, Knots, StepTable

FOLDER = "measured"

MAX_TABLE_LENGTH = 1 << 22
"""The most tokens or requests of a step that a table is made for."""


@dataclass(frozen=True)
class FitError:
    """How far a step-cost table is from the composed kernel times it was fitted to, over named steps; fractions."""

    steps: int
    """Steps compared."""
    mape_frac: float
    """Mean of |table - composed| / composed."""
    worst_5pct_frac: float
    """Mean of the same over the worst twentieth of the steps."""
    max_frac: float
    """The worst step."""
    knot_left_out_mape_frac: float
    """Error of f_tok at each inner knot when its neighbours interpolate it: how much may hide between two knots."""
    measured_on: str
    """What the steps were."""


@dataclass(frozen=True)
class FittedRange:
    """The largest arguments the fit saw; beyond them the formula extrapolates."""

    tokens: int
    """New tokens in a step."""
    samples: int
    """Requests that sample in a step."""
    prompt_tokens: int
    """Tokens of a prompt, computed in one chunk with nothing before it."""
    decodes: int
    """Decodes in a step."""
    context_tokens: int
    """Context of a decode."""


@dataclass(frozen=True)
class Coefficients:
    """The linear terms of a step, in ticks."""

    step: int
    """c0: once a step, on the host."""
    sample: int
    """cs: for each request that samples, on the host."""
    prefill_step: int
    """a0: once a step with prefill."""
    prefill_token: int
    """a1: for each prefill token."""
    prefill_work: int
    """a2: for each unit of n*(n + 2*past)."""
    decode_step: int
    """d0: once a step with decodes."""
    decode: int
    """d1: for each decode."""
    decode_context_token: int
    """d2: for each token of context of a decode."""


@dataclass(frozen=True)
class StepCost:
    """What a step costs on one (GPU, model, precision, tensor parallelism, software era), with its pedigree."""

    gpu: str
    model: str
    precision: str
    tp: int
    grade: str
    """What stands behind the answer; `measured`: composed from kernels measured on this GPU."""
    era: str
    """The serving software whose host time this is."""
    source: str
    licence: str
    command: str
    """What makes the file."""
    error: FitError
    fitted: FittedRange
    tokens: Knots
    """f_tok: the matrix products, all-reduces and elementwise kernels of all layers, by new tokens of the step."""
    samples: Knots
    """head: the output head, by sampling requests."""
    coefficients: Coefficients

    @property
    def error_mape_frac(self) -> float:
        """Mean error against the composed kernel times."""
        return self.error.mape_frac

    @property
    def fitted_tokens(self) -> tuple[int, int]:
        """New tokens of a step between which f_tok is interpolated; beyond, it goes on along its last slope."""
        return self.tokens.at[0], self.tokens.at[-1]

    def table(self, max_num_batched_tokens: int, max_num_seqs: int, max_model_len: int, kv_tokens: int) -> StepTable:
        """The table for one engine's limits; ProfileError where the largest step could overflow 64 bits.

        kv_tokens, the capacity of the KV blocks, bounds one context. It does not bound their sum, since requests with
        a common prefix share blocks: that is bounded by max_num_seqs contexts.
        """
        _check_limits(max_num_batched_tokens, max_num_seqs, max_model_len, kv_tokens)
        c, most_decodes = self.coefficients, min(max_num_batched_tokens, max_num_seqs)
        table = StepTable(
            by_tokens=[c.step + ticks for ticks in self.tokens.resample(max_num_batched_tokens)],
            by_samples=[ticks + c.sample * b for b, ticks in enumerate(self.samples.resample(most_decodes))],
            by_prefill_tokens=_affine(c.prefill_step, c.prefill_token, max_num_batched_tokens),
            by_decodes=_affine(c.decode_step, c.decode, most_decodes),
            prefill_work_ticks=c.prefill_work,
            decode_context_ticks=c.decode_context_token,
        )
        context = min(max_model_len, kv_tokens)
        # n*(n + 2*past) is at most 2*n*context, as n + past is at most the context.
        table.check_largest_step(2 * max_num_batched_tokens * context, most_decodes * context)
        return table

    def coefficients_ms(self) -> dict[str, float]:
        """The linear terms by name, in ms, for a person to read."""
        return {field.name: getattr(self.coefficients, field.name) / TICKS_PER_MS for field in fields(Coefficients)}

    def problems(self) -> Iterator[str]:
        """Sentences about values that do not go together."""
        yield from self.tokens.problems("tokens")
        yield from self.samples.problems("samples")
        if self.tp < 1:
            yield "tp must be from 1 up"
        if self.tokens.ticks and self.coefficients.step + self.tokens.ticks[0] < TICKS_PER_MS // 1_000_000:
            yield "tokens.ticks and coefficients.step make a step shorter than a nanosecond"


@dataclass(frozen=True)
class ProfileRow:
    """One line of the catalogue of step costs."""

    gpu: str
    model: str
    precision: str
    tp: int
    grade: str
    error_mape_frac: float


def load_step_cost(gpu: str | Gpu, model: str | Model, precision: str = "bf16", tp: int = 1) -> StepCost:
    """The shipped step cost; ProfileError with the nearest combination, and all there are, where there is none."""
    gpu, model = load_gpu(gpu), load_model(model)
    name = profile_name(gpu.id, model.id, precision, tp)
    if name in profile_names(FOLDER, ".json"):
        return _load(name)
    rows = list_profiles()
    nearest = min(rows, key=lambda row: _distance(gpu.id, model.id, precision, tp, row))
    there = "\n".join(f"  {row.gpu} {row.model} {row.precision} tp {row.tp}" for row in rows)
    raise ProfileError(
        f"no step cost for {gpu.id} {model.id} {precision} tp {tp}; "
        f"the nearest is {nearest.gpu} {nearest.model} {nearest.precision} tp {nearest.tp}; there are:\n{there}"
    )


def list_profiles() -> list[ProfileRow]:
    """Every shipped step cost, sorted by GPU, model, precision and tp."""
    costs = [_load(name) for name in profile_names(FOLDER, ".json")]
    rows = [ProfileRow(c.gpu, c.model, c.precision, c.tp, c.grade, c.error_mape_frac) for c in costs]
    return sorted(rows, key=lambda row: (row.gpu, row.model, row.precision, row.tp))


def profile_name(gpu: str, model: str, precision: str, tp: int) -> str:
    """Name of the file of a combination, without its suffix."""
    return f"{gpu}_{model}_{precision}_tp{tp}"


def _load(name: str) -> StepCost:
    cost = load_record(StepCost, FOLDER, name, ".json")
    if (about := profile_name(cost.gpu, cost.model, cost.precision, cost.tp)) != name:
        raise ProfileError(f"hwprofiles/{FOLDER}/{name}.json: its contents belong in {about}.json")
    return cost


def _distance(gpu: str, model: str, precision: str, tp: int, row: ProfileRow) -> tuple[bool, bool, bool, float]:
    """How far a row is: another model is worse than another GPU, that than another precision, that than another tp."""
    ratio = abs(math.log2(row.tp / tp)) if tp > 0 else math.inf
    return row.model != model, row.gpu != gpu, row.precision != precision, ratio


def _check_limits(max_num_batched_tokens: int, max_num_seqs: int, max_model_len: int, kv_tokens: int) -> None:
    limits = {
        "max_num_batched_tokens": (max_num_batched_tokens, MAX_TABLE_LENGTH),
        "max_num_seqs": (max_num_seqs, MAX_TABLE_LENGTH),
        "max_model_len": (max_model_len, INT64_MAX),
        "kv_tokens": (kv_tokens, INT64_MAX),
    }
    mistakes = [
        f"{name} must be from 1 to {most}, not {value!r}" for name, (value, most) in limits.items() if not 1 <= value <= most
    ]
    if mistakes:
        raise ProfileError("\n".join(mistakes))


def _affine(once: int, each: int, longest: int) -> list[int]:
    """0 for nothing, once + each*n for n from 1 to `longest`."""
    return [0] + [once + each * n for n in range(1, longest + 1)]
