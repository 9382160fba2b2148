"""Lengths: how many tokens prompts, answers, thoughts and items have, and which laws they follow."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from workloads import fields
from workloads.characterize.length_laws import fit_lengths
from workloads.characterize.numbers import Histogram, plain, quantiles
from workloads.fit.lengths import bin_of, middle_of
from workloads.fit.request_fields import items_of, lengths_of
from workloads.stream import MODALITIES

REASON_BINS: Final = 20
_WITH_LAWS: Final = ("input_tokens", "output_tokens", fields.TEXT)


class Lengths:
    """Takes STREAM rows, whose items are in one table."""

    def __init__(self, items: np.ndarray) -> None:
        self._items = items
        self._counts: dict[str, Histogram] = {}
        self._sums: dict[str, int] = {}
        self._largest: dict[str, int] = {}
        self._requests = 0
        self._reason = np.zeros(REASON_BINS, np.int64)
        self._tokens = np.zeros(2)  # of thoughts, of answers
        self._modal = np.zeros((len(MODALITIES), 3))  # requests with such items, sum of their shares of the prompt, tokens

    def add(self, rows: np.ndarray) -> None:
        """Further requests."""
        self._requests += len(rows)
        for name, _, values in lengths_of(rows, self._items):
            if name != fields.REASON:
                self._add_field(name, fields.meant(name, values))
        if len(self._items):
            self._add_field("input_tokens", rows["input_tokens"])
            self._add_shares(rows)
        thought, answer = rows["reason_tokens"], rows["output_tokens"]
        bins = np.minimum(thought * REASON_BINS // np.maximum(answer, 1), REASON_BINS - 1)
        self._reason += np.bincount(bins, minlength=REASON_BINS)
        self._tokens += (thought.sum(dtype=np.int64), answer.sum(dtype=np.int64))

    def told(self) -> dict[str, Any]:
        """`lengths` by field, `reasoning`, and `items` by modality; None for what the stream has none of."""
        thought, answer = self._tokens.tolist()
        return {
            "lengths": {name: self._told_field(name) for name in self._counts},
            "reasoning": {
                "reason_share_frac": thought / answer,
                "reason_per_answer": thought / (answer - thought) if answer > thought else None,
                "histogram_frac": plain(self._reason / self._requests),
            }
            if thought
            else None,
            "items": {
                modality: {
                    "requests_frac": float(with_it / self._requests),
                    "input_share_mean_frac": float(shares / with_it),
                    "input_tokens_frac": float(tokens / self._sums["input_tokens"]),
                }
                for modality, (with_it, shares, tokens) in zip(MODALITIES, self._modal, strict=True)
                if with_it
            }
            or None,
        }

    def _add_field(self, name: str, values: np.ndarray) -> None:
        self._counts.setdefault(name, Histogram()).add_bins(bin_of(values))
        self._sums[name] = self._sums.get(name, 0) + int(values.sum(dtype=np.int64))
        self._largest[name] = max(self._largest.get(name, 0), int(values.max(initial=0)))

    def _add_shares(self, rows: np.ndarray) -> None:
        """Of each modality, the requests that have it and its part of their prompts."""
        owner, own = items_of(rows, self._items)
        for number, sums in enumerate(self._modal):
            is_this = own["modality"] == number
            tokens = np.bincount(owner[is_this], own["tokens"][is_this], len(rows))
            has = np.bincount(owner[is_this], minlength=len(rows)) > 0
            sums += (has.sum(), (tokens / np.maximum(rows["input_tokens"], 1))[has].sum(), tokens.sum())

    def _told_field(self, name: str) -> dict[str, Any]:
        """Counts of items are over all requests, of which some have none; tokens of items are over items."""
        histogram = self._counts[name]
        if fields.is_shifted(name):
            without = self._requests - int(histogram.counts.sum())
            histogram.counts[0] += without
        bins, cumulative = histogram.cumulative()
        values = np.minimum(middle_of(bins), self._largest[name])
        number = int(histogram.counts.sum())
        return {
            "count": number,
            "mean": self._sums[name] / number,
            **quantiles(values, cumulative),
            "max": self._largest[name],
            "value": plain(values),
            "cumulative_frac": plain(cumulative),
            "laws": fit_lengths(values, histogram.counts[bins]) if name in _WITH_LAWS else {},
        }
