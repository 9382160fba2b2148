"""What the fields of a pool (fields.py) are in the rows of a stream."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from workloads import fields
from workloads.stream import MODALITIES


def lengths_of(rows: np.ndarray, items: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Fields of STREAM rows: name, the row that each value is of, values as a table of lengths keeps them.

    A field that a row has none of is left out: no part of the answer thinks, no image is in the prompt.
    """
    every = np.arange(len(rows))
    yield "output_tokens", every, rows["output_tokens"]
    thinks = np.flatnonzero(rows["reason_tokens"])
    if len(thinks):
        share = rows["reason_tokens"][thinks] / rows["output_tokens"][thinks]
        yield fields.REASON, thinks, 1 + np.rint(share * fields.REASON_PARTS).astype(np.int64)
    if not len(items):
        yield "input_tokens", every, rows["input_tokens"]
        return
    owner, own = items_of(rows, items)
    of_items = np.bincount(owner, own["tokens"], len(rows)).astype(np.int64)
    yield fields.TEXT, every, np.maximum(rows["input_tokens"] - of_items, 1)
    for number, modality in enumerate(MODALITIES):
        is_this = own["modality"] == number
        many = np.bincount(owner[is_this], minlength=len(rows))
        having = np.flatnonzero(many)
        if len(having):
            yield fields.count_of(modality), having, many[having] + 1
            yield fields.tokens_of(modality), owner[is_this], np.maximum(own["tokens"][is_this], 1)


def items_of(rows: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The items of all rows, in the order of rows: the row of each, and its ITEMS entry."""
    count = rows["items_count"].astype(np.int64)
    owner = np.repeat(np.arange(len(rows)), count)
    return owner, items[np.arange(len(owner)) + np.repeat(rows["items_start"] - (np.cumsum(count) - count), count)]
