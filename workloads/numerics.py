"""Numerics whose bits are the same on every machine: exp, log, gamma, normal quantile, and counter-based uniforms.

numpy's exp, log, power and distributions pick code by processor and differ in their last bits. Everything a sampled
value depends on therefore uses only + - * / sqrt, which IEEE 754 rounds correctly, exact splits of a float into
mantissa and exponent, and integers. All functions work on whole arrays of float64 or uint64; their formulas are those
that the kernels compile (kernels/numbers.py).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np

from workloads.jit import plain

# The formulas of the kernels as plain Python, in which they take whole arrays.
formulas = plain("workloads.kernels")

# Taylor series of 1/Γ(1 + x) at 0: Abramowitz and Stegun 6.1.34 (Wrench 1968), here to 20 digits.
_INVERSE_GAMMA: Final = (
    1.0,
    0.57721566490153286061,
    -0.65587807152025388108,
    -0.042002635034095235529,
    0.1665386113822914895,
    -0.042197734555544336748,
    -0.0096219715278769735621,
    0.0072189432466630995424,
    -0.0011651675918590651121,
    -0.00021524167411495097282,
    0.00012805028238811618615,
    -0.000020134854780788238656,
    -1.2504934821426706573e-6,
    1.1330272319816958824e-6,
    -2.0563384169776071035e-7,
    6.1160951044814158179e-9,
    5.0020076444692229301e-9,
    -1.1812745704870201446e-9,
    1.0434267116911005105e-10,
    7.782263439905071254e-12,
    -3.6968056186422057082e-12,
)
# Rational approximation of Hart, Computer Approximations (1968), algorithm 5666, in ascending powers, as given by
# West, Better approximations to cumulative normal functions (Wilmott Magazine, 2005).
_NEAR: Final = (
    (220.206867912376, 221.213596169931, 112.079291497871, 33.912866078383,
     6.37396220353165, 0.700383064443688, 3.52624965998911e-02),
    (440.413735824752, 793.826512519948, 637.333633378831, 296.564248779674, 86.7807322029461,
     16.064177579207, 1.75566716318264, 8.83883476483184e-02),
)  # fmt: skip
_MASK: Final = (1 << 64) - 1


class Purpose(IntEnum):
    """What a client's uniforms are for; each purpose is a sequence of its own."""

    GAP = 1
    NORMAL = 2
    ACCEPT = 3
    BOOST = 4
    EXCESS = 5
    PAUSE = 6
    INPUT = 7
    OUTPUT = 8
    REQUEST = 9
    REASON = 10
    COUNT = 11
    ITEM = 12
    REPEAT = 13
    COPY = 14


def exp(x: np.ndarray | float) -> np.ndarray:
    """e^x within 1 ulp, x held to [-708, 709]."""
    return formulas.exp(np.asarray(x, np.float64))


def log(x: np.ndarray | float) -> np.ndarray:
    """ln x within 1 ulp for normal x > 0."""
    return formulas.log(np.asarray(x, np.float64))


def power(x: np.ndarray | float, exponent: np.ndarray | float) -> np.ndarray:
    """x^exponent for x > 0; the relative error is that of the product exponent · ln x, about |ln result| ulp."""
    return formulas.power(np.asarray(x, np.float64), np.asarray(exponent, np.float64))


def gamma(x: np.ndarray | float) -> np.ndarray:
    """Γ(x) within a few ulp for 0.5 ≤ x ≤ 171: Γ(1 + f) from the series of its inverse, then Γ(x + 1) = x Γ(x)."""
    x = np.asarray(x, np.float64)
    steps = np.maximum(np.rint(x) - 1.0, 0.0)
    f = x - steps - 1.0
    result = 1.0 / formulas.polynomial(_INVERSE_GAMMA, f)
    for step in range(int(steps.max(initial=0.0))):
        result = np.where(step < steps, result * (f + (1.0 + step)), result)
    return result


def normal_quantile(p: np.ndarray | float) -> np.ndarray:
    """The z with Φ(z) = p, 0 < p < 1, to about 1e-15 relative."""
    p = np.asarray(p, np.float64)
    q = p - 0.5
    distance = formulas.tail_distance(p)
    size = np.where(distance <= 5.0, formulas.outer_quantile(distance), formulas.far_quantile(distance))
    return np.where(np.abs(q) <= 0.425, formulas.central_quantile(q), np.copysign(size, q))


def normal_cdf(z: np.ndarray | float) -> np.ndarray:
    """Φ(z) to about 1e-15, z held to [-37, 37]."""
    z = np.asarray(z, np.float64)
    size = np.minimum(np.abs(z), 37.0)
    upper = formulas.exp(-0.5 * size * size) * np.where(size < 7.07106781186547, _near(size), _far(size))
    return np.where(z > 0.0, 1.0 - upper, upper)


def _near(size: np.ndarray) -> np.ndarray:
    size = np.minimum(size, 7.1)
    return formulas.polynomial(_NEAR[0], size) / formulas.polynomial(_NEAR[1], size)


def _far(size: np.ndarray) -> np.ndarray:
    """Φ(-z)/φ(z)/√(2π) by a continued fraction."""
    size = np.maximum(size, 7.0)
    fraction = size + 1.0 / (size + 2.0 / (size + 3.0 / (size + 4.0 / (size + 0.65))))
    return 1.0 / (fraction * 2.506628274631)


def stream_key(seed: int, client_id: int, purpose: Purpose) -> np.uint64:
    """The name of one sequence of uniforms: a hash of seed (an integer of any size), client and purpose."""
    return stream_keys(seed, np.array([client_id]), purpose)[0]


def stream_keys(seed: int, client_ids: np.ndarray, purpose: Purpose) -> np.ndarray:
    """The stream_key of each client: uint64 [clients]."""
    key = np.zeros(1, np.uint64)
    for part in (np.array([seed & _MASK], np.uint64), client_ids.astype(np.uint64), np.array([purpose], np.uint64)):
        key = formulas.mix((key + formulas.GOLDEN) ^ formulas.mix(part))
    return key


def uniforms(key: np.uint64 | np.ndarray, index: np.ndarray) -> np.ndarray:
    """Entry `index` of the sequence `key`, in (0, 1), never either end. `key` is one key or one per index."""
    return formulas.uniform(np.asarray(key, np.uint64), np.asarray(index))
