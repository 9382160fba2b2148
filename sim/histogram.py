"""Counts of positive integers in bins of equal relative width: 128 to an octave, found by bit operations.

The bin of v is floor(128 * (v / 2^k)) for the octave 2^k <= v < 2^(k+1). A percentile read from the bins is off by at
most half a bin: 0.4 % of its value.
"""

from collections.abc import Mapping

BINS_PER_OCTAVE_LOG2 = 7


def bin_of(value: int) -> int:
    """The bin of a positive integer; 0 and below share bin 0."""
    if value <= 0:
        return 0
    octave = value.bit_length() - 1
    if octave >= BINS_PER_OCTAVE_LOG2:
        return (octave << BINS_PER_OCTAVE_LOG2) + (value >> (octave - BINS_PER_OCTAVE_LOG2)) - (1 << BINS_PER_OCTAVE_LOG2)
    return (octave << BINS_PER_OCTAVE_LOG2) + (value << (BINS_PER_OCTAVE_LOG2 - octave)) - (1 << BINS_PER_OCTAVE_LOG2)


def middle_of(index: int) -> float:
    """The middle of a bin."""
    octave, part = divmod(index, 1 << BINS_PER_OCTAVE_LOG2)
    return (2.0**octave) * (1.0 + (part + 0.5) / (1 << BINS_PER_OCTAVE_LOG2))


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
