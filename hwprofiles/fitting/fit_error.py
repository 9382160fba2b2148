"""The error of a step-cost table: how far it is from the kernel times that it was fitted to (development time only)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hwprofiles.costmodel import FitError, StepCost
from hwprofiles.fitting.composition import Composition

LENGTHS = (128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 16_384)
CONTEXTS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
PROMPTS = (1, 2, 4, 8)
DECODES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
MOST_PREFILL_TOKENS = 16_384
MOST_CONTEXT_TOKENS = 400_000
"""About what the KV blocks of one instance hold."""

SMALL_STEP = 17
"""Up to so many tokens every single size was measured."""

JUDGED_PROMPTS = (1, 2, 3, 4, 6, 8)
JUDGED_DECODES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
JUDGED_CONTEXTS = (128, 300, 512, 1024, 2048, 3000, 4096, 8192, 16_384)
JUDGED_MIXED = (
    (512, 12, 1024),
    (512, 48, 3000),
    (512, 192, 1024),
    (2048, 12, 3000),
    (2048, 48, 1024),
    (2048, 96, 2048),
)
"""(prompt length, decodes, context of each)"""

NOT_MEASURED = FitError(0, 0.0, 0.0, 0.0, 0.0, "nothing yet")

T = TypeVar("T")

Step = tuple[int, int, int, int]
"""(prompts, length of each, decodes, context of each)"""


@dataclass(frozen=True)
class Grid:
    """The steps that a table is fitted on."""

    sizes: Sequence[int]
    """Tokens of a step: rows of the matrix products."""
    lengths: Sequence[int]
    decodes: Sequence[int]
    contexts: Sequence[int]

    @property
    def prompt_steps(self) -> list[tuple[int, int]]:
        """(prompts, length of each)"""
        return [(b, n) for b in PROMPTS for n in self.lengths if b * n <= MOST_PREFILL_TOKENS]

    @property
    def decode_steps(self) -> list[tuple[int, int]]:
        """(decodes, context of each)"""
        return [(b, n) for b in self.decodes for n in self.contexts if b * n <= MOST_CONTEXT_TOKENS]


def full_grid(composition: Composition) -> Grid:
    """Everything that was measured."""
    return Grid(composition.tables.sizes, LENGTHS, DECODES, CONTEXTS)


def half_grid(composition: Composition) -> Grid:
    """Every other size of the matrix products, of the prompts, decodes and contexts; the first and the last among them.

    Sizes one token apart are the two sides of a stair of the kernels and stay together.
    """
    stairs: list[list[int]] = []
    for size in composition.tables.sizes:
        if stairs and size == stairs[-1][-1] + 1 and size > SMALL_STEP:
            stairs[-1].append(size)
        else:
            stairs.append([size])
    sizes = [size for stair in _every_other(stairs) for size in stair]
    return Grid(sizes, *(_every_other(knots) for knots in (LENGTHS, DECODES, CONTEXTS)))


def measure_error(cost: StepCost, half: StepCost, composition: Composition) -> FitError:
    """The error of a table over `judged_steps`, and that of one from half of the knots."""
    worst = sorted(_errors(cost, composition), reverse=True)
    held_out = list(_errors(half, composition))
    return FitError(
        steps=len(worst),
        mape_frac=round(float(np.mean(worst)), 5),
        worst_5pct_frac=round(float(np.mean(worst[: -(-len(worst) // 20)])), 5),
        max_frac=round(worst[0], 5),
        held_out_mape_frac=round(float(np.mean(held_out)), 5),
        measured_on=_judged_in_words(composition),
    )


def judged_steps(composition: Composition, kv: str) -> Iterator[Step]:
    """The steps an error is measured on: whole prompts, decodes and mixtures, on the knots and between them."""
    most_tokens = min(MOST_PREFILL_TOKENS, composition.tables.sizes[-1])
    for prompts in JUDGED_PROMPTS:
        for length in LENGTHS:
            if prompts * length <= most_tokens and composition.is_prompt_measured(prompts, length, kv):
                yield prompts, length, 0, 0
    for decodes in JUDGED_DECODES:
        for context in JUDGED_CONTEXTS:
            if decodes * context <= MOST_CONTEXT_TOKENS and composition.is_decode_measured(decodes, context, kv):
                yield 0, 0, decodes, context
    for length, decodes, context in JUDGED_MIXED:
        if composition.is_decode_measured(decodes, context, kv):
            yield 1, length, decodes, context


def _errors(cost: StepCost, composition: Composition) -> Iterator[float]:
    """|table - composed| / composed without host time, in nanoseconds as a simulator gets them, over the judged steps."""
    for kv in cost.attention:
        table = cost.table(MOST_PREFILL_TOKENS + 512, 1024, MOST_PREFILL_TOKENS, MOST_CONTEXT_TOKENS, None, kv)
        for prompts, length, decodes, context in judged_steps(composition, kv):
            composed_ns = composition.step_ms(prompts, length, decodes, context, kv) * 1e6
            ns = table.step_ns(prompts * length, prompts * length**2, decodes, decodes * context, prompts + decodes)
            yield abs(ns - composed_ns) / composed_ns


def _every_other(knots: Sequence[T]) -> list[T]:
    return [*knots[:-1:2], knots[-1]]


def _judged_in_words(composition: Composition) -> str:
    prompts = f"{_span(JUDGED_PROMPTS)} prompts of {_span(LENGTHS)} tokens"
    decodes = f"{_span(JUDGED_DECODES)} decodes of {_span(JUDGED_CONTEXTS)} tokens of context"
    return (
        f"kernel times without host: {prompts}, at most {min(MOST_PREFILL_TOKENS, composition.tables.sizes[-1])} together; "
        f"{decodes}, at most {MOST_CONTEXT_TOKENS} together; {len(JUDGED_MIXED)} mixtures of a prompt and decodes; "
        "on the points of the fit and between them, where measured"
    )


def _span(values: Sequence[int]) -> str:
    return f"{values[0]}-{values[-1]}"
