"""Numerics whose bits are the same on every machine: exp, log, gamma, normal quantile, and counter-based uniforms.

numpy's exp, log, power and distributions pick code by processor and differ in their last bits. Everything a sampled
value depends on therefore uses only + - * / sqrt, which IEEE 754 rounds correctly, exact splits of a float into
mantissa and exponent, and integers. All functions work on whole arrays of float64 or uint64.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np

# ln 2 as a sum: the first term has so few bits that its product with an exponent is exact (Cody and Waite 1980, ch. 6).
_LN2_HIGH: Final = 6.93147180369123816490e-01
_LN2_LOW: Final = 1.90821492927058770002e-10
_INVERSE_LN2: Final = 1.44269504088896338700e00

# Minimax coefficients of Sun Microsystems' fdlibm (e_exp.c, e_log.c, 1993), in ascending powers.
_EXP: Final = (
    1.66666666666666019037e-01,
    -2.77777777770155933842e-03,
    6.61375632143793436117e-05,
    -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)
_LOG: Final = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
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
# Rational approximations of Wichura, Algorithm AS 241 (PPND16), Applied Statistics 37 (1988), in ascending powers.
_CENTRE: Final = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
_MIDDLE: Final = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
_TAIL: Final = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15  # the increment of splitmix64: 2^64 / golden ratio, odd


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


def exp(x: np.ndarray | float) -> np.ndarray:
    """e^x within 1 ulp, x held to [-708, 709]: 2^k · e^r with |r| ≤ ln 2 / 2, and e^r = 1 + 2r / (R(r²) - r)."""
    x = np.minimum(np.maximum(np.asarray(x, np.float64), -708.0), 709.0)
    k = np.rint(x * _INVERSE_LN2)
    high = x - k * _LN2_HIGH
    low = k * _LN2_LOW
    r = high - low
    square = r * r
    c = r - square * _polynomial(_EXP, square)
    return np.ldexp(1.0 - ((low - r * c / (2.0 - c)) - high), k.astype(np.int32))


def log(x: np.ndarray | float) -> np.ndarray:
    """ln x within 1 ulp for normal x > 0: x = 2^k (1 + f), and ln(1 + f) is a series in s = f / (2 + f)."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    low_half = mantissa < 0.7071067811865476
    f = np.where(low_half, 2.0 * mantissa, mantissa) - 1.0
    k = (exponent - low_half).astype(np.float64)
    s = f / (2.0 + f)
    square = s * s
    half = 0.5 * f * f
    remainder = square * _polynomial(_LOG, square)
    return k * _LN2_HIGH - ((half - (s * (half + remainder) + k * _LN2_LOW)) - f)


def power(x: np.ndarray | float, exponent: np.ndarray | float) -> np.ndarray:
    """x^exponent = e^(exponent · ln x) for x > 0; the relative error is that of the product, about |ln result| ulp."""
    return exp(np.asarray(exponent, np.float64) * log(x))


def gamma(x: np.ndarray | float) -> np.ndarray:
    """Γ(x) within a few ulp for 0.5 ≤ x ≤ 171: Γ(1 + f) from the series of its inverse, then Γ(x + 1) = x Γ(x)."""
    x = np.asarray(x, np.float64)
    steps = np.maximum(np.rint(x) - 1.0, 0.0)
    f = x - steps - 1.0
    result = 1.0 / _polynomial(_INVERSE_GAMMA, f)
    for step in range(int(steps.max(initial=0.0))):
        result = np.where(step < steps, result * (f + (1.0 + step)), result)
    return result


def normal_quantile(p: np.ndarray | float) -> np.ndarray:
    """The z with Φ(z) = p, 0 < p < 1, to about 1e-15 relative (Wichura 1988)."""
    p = np.asarray(p, np.float64)
    q = p - 0.5
    centre = 0.180625 - q * q
    tail = np.sqrt(-log(np.minimum(p, 1.0 - p)))
    far = np.where(tail <= 5.0, _ratio(_MIDDLE, tail - 1.6), _ratio(_TAIL, tail - 5.0))
    return np.where(np.abs(q) <= 0.425, q * _ratio(_CENTRE, centre), np.copysign(far, q))


def stream_key(seed: int, client_id: int, purpose: Purpose) -> np.uint64:
    """The name of one sequence of uniforms: a hash of seed (an integer of any size), client and purpose."""
    key = 0
    for part in (seed, client_id, int(purpose)):
        key = _mix_int((key + _GOLDEN) & _MASK ^ _mix_int(part & _MASK))
    return np.uint64(key)


def uniforms(key: np.uint64 | np.ndarray, index: np.ndarray) -> np.ndarray:
    """Entry `index` of the sequence `key`, in (0, 1): splitmix64 (Steele, Lea and Flood 2014) as a counter hash.

    The upper 52 bits and a half: never 0, never 1, and exact in float64. `key` is one key or one per index.
    """
    counter = np.asarray(index).astype(np.uint64) + np.uint64(1)
    z = np.asarray(key, np.uint64) + counter * np.uint64(_GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _mix_int(z: int) -> int:
    """splitmix64's output function on a Python integer."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def _polynomial(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """Σ c_i x^i by Horner's rule: a fixed order of operations."""
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total *= x
        total += coefficient
    return total


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: np.ndarray) -> np.ndarray:
    above, below = coefficients
    return _polynomial(above, x) / _polynomial(below, x)
