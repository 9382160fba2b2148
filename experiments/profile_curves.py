"""What steps of one combination take, by three accounts: its step cost, the GPU's roofline, and the bound of the data sheet."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from hwprofiles.bounds import Bounds
from hwprofiles.costmodel import StepCost
from hwprofiles.datasheet import Gpu, Model
from hwprofiles.memory import KV_CACHE_PRECISION, MemoryBudget
from hwprofiles.roofline import ModelRoofline
from hwprofiles.software import Software
from hwprofiles.steptable import StepTable

CONTEXTS = (512, 2048, 8192)
"""Of the decodes whose step time is drawn against their number."""

DECODES = 32
"""Whose step time is drawn against their context."""

MOST_DECODES = 512
MOST_PREFILL = 16_384
LEAST_TOKENS = 64
POINTS = 120
"""Of a curve, evenly spaced by ratio."""


@dataclass(frozen=True)
class Step:
    """One step: a whole prompt, or so many decodes at one context. Every prompt and every decode samples."""

    prompt: int = 0
    decodes: int = 0
    context: int = 0

    @property
    def sums(self) -> tuple[int, int, int, int, int]:
        """Arguments of `StepTable.step_ns` and `ModelRoofline.step_ms`."""
        return self.prompt, self.prompt**2, self.decodes, self.decodes * self.context, self.decodes + bool(self.prompt)


@dataclass(frozen=True)
class Curve:
    """Step times along one line; all in ms."""

    name: str
    x: list[int]
    step_ms: list[float]
    """By the step cost, host included."""
    roofline_ms: list[float]
    """By the fitted roofline, host included; empty where the GPU has none."""
    bound_ms: list[float]
    """By the data sheet: kernels alone."""
    fitted_to: int
    """The last x that the fit saw."""


@dataclass(frozen=True)
class Panel:
    """Curves over one axis."""

    title: str
    x_name: str
    curves: list[Curve]


@dataclass(frozen=True)
class Accounts:
    """One combination, and all that says what its steps take."""

    cost: StepCost
    gpu: Gpu
    model: Model
    software: Software
    kv_cache_dtype: str
    memory: MemoryBudget
    roofline: ModelRoofline | None

    @cached_property
    def kernels(self) -> StepTable:
        """The step table without host time, as long as any step that is asked for here."""
        return self._table(None)

    @cached_property
    def table(self) -> StepTable:
        """The same with it."""
        return self._table(self.software)

    @property
    def kv(self) -> str:
        """Precision of the KV cache."""
        return KV_CACHE_PRECISION[self.kv_cache_dtype]

    def step_ms(self, step: Step) -> float:
        """By the step cost, host included."""
        return self.table.step_ns(*step.sums) / 1e6

    def kernels_ms(self, step: Step) -> float:
        """By the step cost, host left out."""
        return self.kernels.step_ns(*step.sums) / 1e6

    def roofline_ms(self, step: Step) -> float:
        """By the fitted roofline, which there must be, host included."""
        assert self.roofline is not None
        return self.roofline.step_ms(*step.sums) + self.step_ms(step) - self.kernels_ms(step)

    def bound_ms(self, step: Step) -> float:
        """What arithmetic and memory traffic take at the data sheet's peaks, part after part; no communication, no host."""
        bounds = Bounds(self.gpu, self.model, self.cost.precision, self.cost.tp)
        tokens, work, decodes, contexts, samples = step.sums
        ms = bounds.tokens_ms(tokens + decodes) + bounds.head_ms(samples)
        return ms + work * bounds.prefill_work_ms() + contexts * bounds.contexts_ms(self.kv, 1)

    def is_fitted(self, step: Step) -> bool:
        """Whether the fit saw steps as large, so that nothing is extrapolated."""
        fitted = self.cost.fitted
        sizes = ((step.prompt + step.decodes, fitted.tokens), (step.prompt, fitted.prompt_tokens))
        return all(
            size <= most for size, most in (*sizes, (step.decodes, fitted.decodes), (step.context, fitted.context_tokens))
        )

    def has_room(self, step: Step) -> bool:
        """Whether the KV blocks hold such a step, and the model such a context."""
        longest = max(step.prompt, step.context)
        return longest <= self.model.max_model_len and step.prompt + step.decodes * step.context <= self.memory.kv_tokens

    def panels(self) -> Iterator[Panel]:
        """Decode against batch; prefill against its tokens, and decode against context. Curves end where KV memory does."""
        batches = grid(1, MOST_DECODES)
        by_batch = [self._curve(f"context {c:,}", batches, partial(_decode, c)) for c in CONTEXTS]
        yield Panel("Decode step against batch", "decodes in the step", [curve for curve in by_batch if curve.x])
        prefill = self._curve("prefill", grid(LEAST_TOKENS, MOST_PREFILL), Step)
        contexts = grid(LEAST_TOKENS, self.model.max_model_len)
        decode = self._curve(f"{DECODES} decodes", contexts, partial(Step, 0, DECODES))
        by_tokens = [curve for curve in (prefill, decode) if curve.x]
        yield Panel("Prefill against its tokens, decode against context", "tokens of the prompt, or of each context", by_tokens)

    def _curve(self, name: str, x: Sequence[int], step_at: Callable[[int], Step]) -> Curve:
        kept = [at for at in x if self.has_room(step_at(at))]
        steps = [step_at(at) for at in kept]
        return Curve(
            name,
            kept,
            [self.step_ms(step) for step in steps],
            [self.roofline_ms(step) for step in steps] if self.roofline is not None else [],
            [self.bound_ms(step) for step in steps],
            max((at for at, step in zip(kept, steps) if self.is_fitted(step)), default=0),
        )

    def _table(self, software: Software | None) -> StepTable:
        tokens, seqs = max(MOST_PREFILL, self.gpu.max_num_batched_tokens), max(MOST_DECODES, self.gpu.max_num_seqs)
        limits = max(tokens, seqs), seqs, self.model.max_model_len, max(1, self.memory.kv_tokens)
        return self.cost.table(*limits, software, self.kv_cache_dtype)


def _decode(context: int, decodes: int) -> Step:
    return Step(0, decodes, context)


def grid(least: int, most: int) -> list[int]:
    """Whole numbers from `least` to `most`, evenly spaced by ratio."""
    return sorted({round(least * (most / least) ** (i / POINTS)) for i in range(POINTS + 1)})
