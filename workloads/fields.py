"""What is drawn for a request besides its arrival: the fields of a pool's tables of lengths, by name.

A table holds whole numbers of at least 1. A count of items may be 0, and a share lies between 0 and 1, so they are kept as
other numbers, and `meant` is the way back.

| field | of | kept as |
|---|---|---|
| input_tokens, output_tokens | every pool that is not multimodal; every pool | tokens |
| reason_share | reasoning pools: the part of the answer that thinks | 1 + 501 times the share |
| text_tokens | multimodal pools: the prompt without its items | tokens |
| image_count, audio_count, video_count | items of a prompt | 1 + how many |
| image_tokens, audio_tokens, video_tokens | one item | tokens |
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

import numpy as np

from workloads.stream import MODALITIES

LENGTHS: Final = ("input_tokens", "output_tokens")
REASON: Final = "reason_share"
TEXT: Final = "text_tokens"
REASON_PARTS: Final = 501  # the published shares are whole 501sts


def count_of(modality: str) -> str:
    """The field that says how many items of a modality a prompt has."""
    return f"{modality}_count"


def tokens_of(modality: str) -> str:
    """The field that says how many tokens one item has."""
    return f"{modality}_tokens"


FIELDS: Final = (*LENGTHS, REASON, TEXT, *map(count_of, MODALITIES), *map(tokens_of, MODALITIES))
_COUNTS: Final = tuple(map(count_of, MODALITIES))


def is_shifted(name: str) -> bool:
    """Whether a table holds one more than what is meant."""
    return name == REASON or name in _COUNTS


def meant(name: str, stored: np.ndarray) -> np.ndarray:
    """What a field's stored numbers mean: tokens, items, or 501sts of the answer."""
    return stored - 1 if is_shifted(name) else stored


def modalities(names: Container[str]) -> list[str]:
    """The modalities whose items the fields of a pool speak of."""
    return [modality for modality in MODALITIES if count_of(modality) in names]
