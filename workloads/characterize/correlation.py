"""Correlation: whether long prompts have long answers, over all requests and within clients."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from workloads.characterize.hashed_sample import HashedSample
from workloads.characterize.numbers import plain, spearman

FEWEST_OF_CLIENT: Final = 50
FEWEST_OF_BIN: Final = 20
_BINS_PER_OCTAVE: Final = 2


class Correlation:
    """Takes STREAM rows; judges a sample of them."""

    def __init__(self) -> None:
        self._sample = HashedSample()

    def add(self, rows: np.ndarray) -> None:
        """Further requests."""
        columns = [rows[name] for name in ("client_id", "input_tokens", "output_tokens")]
        self._sample.add(rows["request_id"], np.stack(columns, axis=1))

    def told(self) -> dict[str, Any]:
        """Spearman's rank correlation of input and output, and the answer's median and 90th percentile by prompt length."""
        client, x, y = self._sample.rows().T
        within, weights = [], []
        for rows in np.split(np.argsort(client, kind="stable"), np.flatnonzero(np.diff(np.sort(client))) + 1):
            found = spearman(x[rows], y[rows]) if len(rows) >= FEWEST_OF_CLIENT else None
            if found is not None:
                within.append(found)
                weights.append(len(rows))
        order = np.argsort(within)
        cumulative = np.cumsum(np.array(weights)[order]) if within else np.empty(0)
        return {
            "sampled_requests": len(x),
            "spearman": spearman(x, y),
            "spearman_within_median": float(np.array(within)[order][np.searchsorted(cumulative, 0.5 * cumulative[-1])])
            if within
            else None,
            "clients_within": len(within),
            "output_by_input": _by_input(x, y),
        }


def _by_input(x: np.ndarray, y: np.ndarray) -> dict[str, list[Any]]:
    """Of each half octave of prompts with enough of them: where it begins and ends, and the answers' median and p90."""
    bins = np.floor(np.log2(np.maximum(x, 1)) * _BINS_PER_OCTAVE).astype(np.int64)
    kept = [number for number in np.unique(bins) if (bins == number).sum() >= FEWEST_OF_BIN]
    answers = [np.quantile(y[bins == number], (0.5, 0.9)) for number in kept]
    return {
        "input_tokens": plain(np.array([2.0 ** ((number + 0.5) / _BINS_PER_OCTAVE) for number in kept])),
        "output_p50_tokens": plain(np.array([answer[0] for answer in answers])),
        "output_p90_tokens": plain(np.array([answer[1] for answer in answers])),
    }
