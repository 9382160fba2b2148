"""Kernels: the loops of composing, compiled; and the formulas that they share with numpy's walk of whole arrays.

Reading order: numbers.py (exp, log, uniforms), gaps.py (one gap of one client), play.py (all clients through a piece of time,
in time order), rows.py (STREAM rows and their lengths). A formula is written once, for one number and for arrays alike:
`plain("workloads.kernels")` gives it to numpy, which composes streams too short to wait for a compiler.
"""

from .gaps import acceptance, gap, proposal
from .numbers import (
    central_quantile,
    exp,
    far_quantile,
    log,
    outer_quantile,
    polynomial,
    power,
    tail_distance,
    uniform,
)
from .play import EVENT_BITS, in_time_order, offset_ns, play, to_seconds
from .rows import fill_lengths, fill_rows, fraction_of, tokens

__all__ = [
    "EVENT_BITS",
    "acceptance",
    "central_quantile",
    "exp",
    "far_quantile",
    "fill_lengths",
    "fill_rows",
    "fraction_of",
    "gap",
    "in_time_order",
    "log",
    "offset_ns",
    "outer_quantile",
    "play",
    "polynomial",
    "power",
    "proposal",
    "tail_distance",
    "to_seconds",
    "tokens",
    "uniform",
]
