"""An exact distribution of whole numbers, tokens most of them, as the published data hold it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


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

    def shifted(self) -> Pmf:
        """The same one higher, for what may be 0 and is kept as numbers of at least 1."""
        return Pmf(self.values + 1, self.probabilities)

    def at_least_one(self) -> Pmf:
        """A length of 0, of which some two in a million requests are, counts as 1."""
        if len(self.values) == 0 or self.values[0] > 0:
            return self
        values, inverse = np.unique(np.maximum(self.values, 1), return_inverse=True)
        return Pmf(values, np.bincount(inverse, self.probabilities))
