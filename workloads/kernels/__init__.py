"""Kernels: the loops of composing, compiled; and the formulas that they share with numpy's walk of whole arrays.

Reading order: numbers.py (exp, log, uniforms), gaps.py (one gap of one client), play.py (all clients through a piece of time,
and its arrivals in order), rows.py (lengths, and the rows of a stream). A formula is written once, for one number and for
arrays alike: `plain("workloads.kernels")` gives it to numpy, which composes streams too short to wait for a compiler.
"""

from .gaps import ATTEMPT_BITS, EXPONENTIAL, GAMMA, WEIBULL, acceptance, gap, normal_quantile, proposal, squeeze
from .numbers import (
    GOLDEN,
    central_quantile,
    exp,
    far_quantile,
    log,
    mix,
    outer_quantile,
    polynomial,
    power,
    tail_distance,
    uniform,
)
from .play import DIGIT_BITS, EVENT_BITS, curved, in_time_order, offset_ns, play, seconds_of, to_curved_seconds, to_seconds
from .rows import fill_lengths, fill_rows, fraction_of, tokens

__all__ = [
    "ATTEMPT_BITS",
    "DIGIT_BITS",
    "EVENT_BITS",
    "EXPONENTIAL",
    "GAMMA",
    "GOLDEN",
    "WEIBULL",
    "acceptance",
    "central_quantile",
    "curved",
    "exp",
    "far_quantile",
    "fill_lengths",
    "fill_rows",
    "fraction_of",
    "gap",
    "in_time_order",
    "log",
    "mix",
    "normal_quantile",
    "offset_ns",
    "outer_quantile",
    "play",
    "polynomial",
    "power",
    "proposal",
    "seconds_of",
    "squeeze",
    "tail_distance",
    "to_curved_seconds",
    "to_seconds",
    "tokens",
    "uniform",
]
