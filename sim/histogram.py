"""Counts of integers in bins of equal relative width: 128 to an octave, found by bit operations.

The bin of v is floor(128 * (v / 2^k)) - 128 + 128 k for the octave 2^k <= v < 2^(k+1): the exponent of v as a float64
followed by the first seven bits of its mantissa. A value read from its bin is the bin's middle, off by at most half a
bin, 1/256 of the value; bin 0 takes 1 and everything below and reads as 0.
"""

from collections.abc import Mapping

import numpy as np

BINS_PER_OCTAVE_LOG2 = 7
BINS = 63 << BINS_PER_OCTAVE_LOG2
"""More bins than any int64 can ask for."""

_MANTISSA_BITS = 52
_EXPONENT_OF_ONE = 1023


def bin_of(value: int) -> int:
    """The bin of a positive integer; 0 and below share bin 0."""
    if value <= 0:
        return 0
    octave = value.bit_length() - 1
    if octave >= BINS_PER_OCTAVE_LOG2:
        return (octave << BINS_PER_OCTAVE_LOG2) + (value >> (octave - BINS_PER_OCTAVE_LOG2)) - (1 << BINS_PER_OCTAVE_LOG2)
    return (octave << BINS_PER_OCTAVE_LOG2) + (value << (BINS_PER_OCTAVE_LOG2 - octave)) - (1 << BINS_PER_OCTAVE_LOG2)


def bins_of(values: np.ndarray) -> np.ndarray:
    """The bins of int64 values below 2^53 (104 days in ns), beyond which a float64 may round up into the next bin."""
    bins = np.maximum(values, 1).astype("f8").view("i8")
    bins >>= _MANTISSA_BITS - BINS_PER_OCTAVE_LOG2
    bins -= _EXPONENT_OF_ONE << BINS_PER_OCTAVE_LOG2
    return bins


def middle_of(index: int) -> float:
    """The value that a bin reads as: its middle, and 0 for bin 0."""
    if index == 0:
        return 0.0
    octave, part = divmod(index, 1 << BINS_PER_OCTAVE_LOG2)
    return (2.0**octave) * (1.0 + (part + 0.5) / (1 << BINS_PER_OCTAVE_LOG2))


def value_at(bins: np.ndarray, counts: np.ndarray, rank: int) -> float:
    """The counted value of a rank, 0 being the smallest, to half a bin. `bins` are in order, `counts` what each holds."""
    return middle_of(int(bins[np.searchsorted(np.cumsum(counts), rank, "right")]))


def percentile(counts: Mapping[int, int], q: float) -> float:
    """The value below which q per cent of the counted integers lie; nan for no counts."""
    total = sum(counts.values())
    if not total:
        return float("nan")
    rank = q / 100.0 * total
    below = 0
    index = 0
    for index in sorted(counts):
        below += counts[index]
        if below >= rank:
            break
    return middle_of(index)


def mean(counts: Mapping[int, int]) -> float:
    """The mean of the counted integers, to half a bin; nan for no counts."""
    total = sum(counts.values())
    return sum(middle_of(i) * counts[i] for i in sorted(counts)) / total if total else float("nan")
