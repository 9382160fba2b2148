"""Composed steps: what the steps of many models take by the kernel tables of a GPU, part by part (development time only)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from hwprofiles.costmodel import FittedRange
from hwprofiles.datasheet import Gpu, Model, ProfileError, known_models, load_model
from hwprofiles.fitting.composition import Composition
from hwprofiles.fitting.coverage import covered, tables_of
from hwprofiles.fitting.fit import source_of
from hwprofiles.fitting.fit_error import judged_steps

Family = tuple[int, int, int, int]
"""Width, query heads, KV heads and their size: layers of one family are nearly the same."""


@dataclass(frozen=True)
class Steps:
    """The composed steps of one model on one GPU count: one row a step."""

    model: Model
    tp: int
    precision: str
    kv: str
    prompts: np.ndarray
    lengths: np.ndarray
    decodes: np.ndarray
    contexts: np.ndarray
    """Of each decode."""
    parts_ms: np.ndarray
    """(steps, 4): f_tok, head, attention of prefill, of decodes."""

    @property
    def total_ms(self) -> np.ndarray:
        """Of whole steps."""
        return self.parts_ms.sum(axis=1)

    @property
    def family(self) -> Family:
        """A model is unseen only where no other one of its family was fitted on."""
        return self.model.hidden, self.model.heads, self.model.kv_heads, self.model.head_size


def steps_of(composition: Composition, kv: str = "bf16") -> Steps:
    """The steps that errors of step-cost tables are measured on, composed."""
    rows = list(judged_steps(composition, kv))
    tokens_ms, head_ms = cache(composition.tokens_ms), cache(composition.head_ms)  # many steps have the same number
    parts_ms = [
        (
            tokens_ms(prompts * length + decodes),
            head_ms(prompts + decodes),
            composition.prompt_attention_ms(prompts, length, kv),
            composition.decode_attention_ms(decodes, context, kv),
        )
        for prompts, length, decodes, context in rows
    ]
    prompts, lengths, decodes, contexts = np.array(rows, dtype=float).T
    precision = composition.tables.precision
    return Steps(composition.model, composition.tp, precision, kv, prompts, lengths, decodes, contexts, np.array(parts_ms))


def gpu_steps(folder: Path, gpu: Gpu, more: Sequence[Model] = ()) -> tuple[list[Steps], str]:
    """Steps of every shipped model and of `more`, at every precision and degree that has room and that the tables cover,
    and their source; ProfileError where they cover none."""
    tables = tables_of(folder, gpu)
    models = {model.id: model for model in (*map(load_model, known_models()), *more)}
    found = [steps_of(one, kv) for one in covered(tables, gpu, list(models.values())) for kv in one.tables.decodes]
    if not found:
        raise ProfileError(f"{folder}: the kernel tables of {gpu.id} cover no model")
    return found, source_of(folder, gpu, next(iter(tables.values())))


def largest(steps: Sequence[Steps]) -> FittedRange:
    """The largest arguments among the steps."""
    return FittedRange(
        tokens=int(max((s.prompts * s.lengths + s.decodes).max() for s in steps)),
        samples=int(max((s.prompts + s.decodes).max() for s in steps)),
        prompt_tokens=int(max(s.lengths.max() for s in steps)),
        decodes=int(max(s.decodes.max() for s in steps)),
        context_tokens=int(max(s.contexts.max() for s in steps)),
    )


def in_words(steps: Sequence[Steps]) -> str:
    """What the steps are, of which models."""
    degrees: dict[str, set[int]] = {}
    for s in steps:
        degrees.setdefault(s.model.id, set()).add(s.tp)
    models = (f"{model} tp {', '.join(map(str, sorted(tps)))}" for model, tps in sorted(degrees.items()))
    return f"kernel times without host, in steps like those that step-cost tables are judged on, of {'; '.join(models)}"
