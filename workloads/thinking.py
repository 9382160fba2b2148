"""Tokens of an answer that think: its length times a share that the client's table of lengths holds."""

from __future__ import annotations

import numpy as np

from workloads.fields import REASON, REASON_PARTS, meant
from workloads.pool_data import PoolData


def thinking_tokens(pool: PoolData, sketch: np.ndarray, output: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Of answers of `output` tokens, by the rows of their clients in the tables and a uniform each; 0 where none think.

    Rounded as in composed streams (details.py), so that all answers of a pool follow one law.
    """
    tokens = output.astype(np.int64)
    if REASON not in pool.lengths:
        return np.zeros(len(tokens), np.int64)
    share = meant(REASON, pool.lengths[REASON].sample(sketch, drawn)).astype(np.int64)
    return np.minimum((tokens * share + REASON_PARTS // 2) // REASON_PARTS, tokens)
