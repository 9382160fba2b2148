"""How long the text of prompts has to be, for their items to have a given share of their tokens.

The share is that of each request, and its mean over requests: fields are drawn independently within a client, so it follows
from the tables. It is taken over requests of each client at stratified probabilities, and found by bisection.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from workloads.errors import WorkloadError
from workloads.fields import count_of, meant, modalities, tokens_of
from workloads.lengths import LengthTable
from workloads.numerics import exp, log, normal_cdf
from workloads.recipe.lengths import normals

_REQUESTS: Final = 192  # of each client
_FACTORS: Final = (1e-3, 1e3)
_REACHED: Final = 0.005


def text_mean(recipe: str, text: LengthTable, tables: dict[str, LengthTable], weights: np.ndarray, share: float) -> float:
    """Mean text tokens at which items have this share of a prompt's tokens; WorkloadError where no text does that."""
    rows = np.repeat(np.arange(len(weights)), _REQUESTS)
    weight = np.repeat(weights / _REQUESTS, _REQUESTS)
    items = sum(_item_tokens(recipe, modality, tables, rows) for modality in modalities(tables))
    words = text.sample(rows, _probabilities(recipe, "text", rows)).astype(np.float64)
    low, high = (float(log(factor)) for factor in _FACTORS)
    for _ in range(40):
        middle = 0.5 * (low + high)
        reached = float(np.cumsum(weight * items / (items + np.maximum(words * exp(middle), 1.0)))[-1])
        low, high = (middle, high) if reached > share else (low, middle)
    if abs(reached - share) > _REACHED:
        raise WorkloadError(f"items.share_of_input: no length of text gives {share:g}; the closest is {reached:.3g}")
    return float(exp(middle)) * float(np.cumsum(weights * text.mean)[-1])


def _item_tokens(recipe: str, modality: str, tables: dict[str, LengthTable], rows: np.ndarray) -> np.ndarray:
    """Tokens of all items of a modality in each request."""
    name = count_of(modality)
    counts = meant(name, tables[name].sample(rows, _probabilities(recipe, name, rows)))
    owner = np.repeat(np.arange(len(rows)), counts)
    tokens = tables[tokens_of(modality)].sample(rows[owner], normal_cdf(normals(recipe, f"{name} items", len(owner))))
    total = np.concatenate(([0.0], np.cumsum(tokens, dtype=np.float64)))
    ends = np.cumsum(counts)
    return total[ends] - total[ends - counts]


def _probabilities(recipe: str, what: str, rows: np.ndarray) -> np.ndarray:
    """Each client's requests at evenly spaced probabilities, in an order of its own."""
    drawn = normals(recipe, f"{what} order", len(rows) // _REQUESTS, _REQUESTS)
    order = np.argsort(np.argsort(drawn, axis=1, kind="stable"), axis=1, kind="stable")
    return ((order + 0.5) / _REQUESTS).ravel()
