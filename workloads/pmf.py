"""An exact distribution of tokens, as the published data hold them, and the prompt lengths that several of them make."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from workloads.stream import MAX_TOKENS

_GRID = 2.0**40  # probabilities are rounded to 2^-40, far above a transform's noise: the same bits on any machine


class Pmf(NamedTuple):
    """Ascending values and their probabilities."""

    values: np.ndarray
    probabilities: np.ndarray

    def mean(self) -> float:
        """Expected tokens."""
        return math.fsum((self.values * self.probabilities).tolist()) / math.fsum(self.probabilities.tolist())

    @property
    def is_empty(self) -> bool:
        """No data: no value at all, or the placeholder `{0: 1.0}`."""
        return len(self.values) == 0 or (len(self.values) == 1 and self.values[0] == 0)

    def at_least_one(self) -> Pmf:
        """A length of 0, of which some two in a million requests are, counts as 1."""
        if len(self.values) == 0 or self.values[0] > 0:
            return self
        values, inverse = np.unique(np.maximum(self.values, 1), return_inverse=True)
        return Pmf(values, np.bincount(inverse, self.probabilities))


def prompt_pmf(text: Pmf, items: Iterable[tuple[Pmf, Pmf]]) -> Pmf:
    """Tokens of a prompt of text and items, all drawn independently; `items` are (how many, tokens of each) by modality.

    The generating function of the sum is text(z) times the product of count(item(z)), evaluated on the unit circle by a
    discrete Fourier transform long enough to hold the longest prompt (the random sums of Feller, An Introduction to
    Probability Theory and Its Applications, volume 1, chapter XII). Raises ValueError for prompts beyond MAX_TOKENS.
    """
    present = [(count, item) for count, item in items if not count.is_empty]
    if text.is_empty and not present:
        return text
    longest = _largest(text) + sum(_largest(count) * _largest(item) for count, item in present)
    if longest > MAX_TOKENS:
        raise ValueError(f"items make prompts of up to {longest} tokens, expected at most {MAX_TOKENS}")
    size = 1 << longest.bit_length()
    whole = _transform(text, size)
    for count, item in present:
        whole = whole * _polynomial(count, _transform(item, size))
    probabilities = np.rint(np.fft.irfft(whole, size)[: longest + 1] * _GRID) / _GRID
    values = np.flatnonzero(probabilities > 0.0)
    return Pmf(values, probabilities[values] / math.fsum(probabilities[values].tolist()))


def _largest(pmf: Pmf) -> int:
    return int(pmf.values[-1]) if len(pmf.values) else 0


def _transform(pmf: Pmf, size: int) -> np.ndarray:
    """The generating function at the size-th roots of unity; 1 for no data, which adds no token."""
    dense = np.zeros(size)
    if len(pmf.values):
        dense[pmf.values] = pmf.probabilities
    else:
        dense[0] = 1.0
    return np.fft.rfft(dense)


def _polynomial(count: Pmf, z: np.ndarray) -> np.ndarray:
    """Σ P(count = k) z^k, by Horner's rule."""
    by_count = np.zeros(_largest(count) + 1)
    by_count[count.values] = count.probabilities
    total = np.zeros_like(z)
    for probability in by_count[::-1]:
        total = total * z + probability
    return total
