"""Formulas of numerics, e^x to hashed uniforms: of one number when compiled, of whole arrays in plain Python.

Only + - * / sqrt, which IEEE 754 rounds correctly, whole numbers, and the bits of a float64: mantissa and exponent lie in
its integer view. So the bits of a result are the same on every machine, compiled or not. Numbers are float64, keys and
hashes uint64; uint64 meets nothing but uint64, as with an int64 it would become a float.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workloads.jit import compiler

_, kernel, _ = compiler(__name__)

Number = Any  # a float64, or an array of them

# ln 2 as a sum: the first term has so few bits that its product with an exponent is exact (Cody and Waite 1980, ch. 6).
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_INVERSE_LN2 = 1.44269504088896338700e00

# Minimax coefficients of Sun Microsystems' fdlibm (e_exp.c, e_log.c, 1993), in ascending powers.
_EXP = (
    1.66666666666666019037e-01,
    -2.77777777770155933842e-03,
    6.61375632143793436117e-05,
    -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)
_LOG = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
# Rational approximations of Wichura, Algorithm AS 241 (PPND16), Applied Statistics 37 (1988), in ascending powers.
_CENTRE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
_MIDDLE = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
_TAIL = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip

_EXPONENT_BIT = 52  # a float64 is sign, 11 bits of exponent + 1023, 52 bits of mantissa
_ROOT_HALF_BITS = 0x3FE6A09E667F3BCD  # those of 0.7071067811865476, the first float64 above √½
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # the increment of splitmix64: 2^64 / golden ratio, odd


@kernel
def exp(x: Number) -> Number:
    """e^x within 1 ulp, x held to [-708, 709]: 2^k · e^r with |r| ≤ ln 2 / 2, and e^r = 1 + 2r / (R(r²) - r)."""
    x = np.minimum(np.maximum(x, -708.0), 709.0)
    k = np.rint(x * _INVERSE_LN2)
    high = x - k * _LN2_HIGH
    low = k * _LN2_LOW
    r = high - low
    square = r * r
    c = r - square * polynomial(_EXP, square)
    power_of_two = np.int64((np.int64(k) + 1023) << _EXPONENT_BIT).view(np.float64)
    return (1.0 - ((low - r * c / (2.0 - c)) - high)) * power_of_two


@kernel
def log(x: Number) -> Number:
    """ln x within 1 ulp for normal x > 0: x = 2^k (1 + f) with √½ ≤ 1 + f < √2, and ln(1 + f) is a series in f / (2 + f)."""
    bits = np.float64(x).view(np.int64)
    exponent = (bits - _ROOT_HALF_BITS) >> _EXPONENT_BIT
    f = np.int64(bits - (exponent << _EXPONENT_BIT)).view(np.float64) - 1.0
    k = np.float64(exponent)
    s = f / (2.0 + f)
    square = s * s
    half = 0.5 * f * f
    remainder = square * polynomial(_LOG, square)
    return k * _LN2_HIGH - ((half - (s * (half + remainder) + k * _LN2_LOW)) - f)


@kernel
def power(x: Number, exponent: Number) -> Number:
    """x^exponent = e^(exponent · ln x) for x > 0; the relative error is that of the product, about |ln result| ulp."""
    return exp(exponent * log(x))


@kernel
def central_quantile(q: Number) -> Number:
    """The z with Φ(z) = ½ + q for |q| ≤ 0.425, to about 1e-15 relative (Wichura 1988)."""
    return q * ratio(_CENTRE, 0.180625 - q * q)


@kernel
def tail_distance(p: Number) -> Number:
    """√(-ln min(p, 1 - p)): what the outer quantiles are a function of."""
    return np.sqrt(-log(np.minimum(p, 1.0 - p)))


@kernel
def outer_quantile(distance: Number) -> Number:
    """The size of the normal quantile beyond the centre at a tail distance up to 5 (Wichura 1988)."""
    return ratio(_MIDDLE, distance - 1.6)


@kernel
def far_quantile(distance: Number) -> Number:
    """The size of the normal quantile at a tail distance above 5 (Wichura 1988)."""
    return ratio(_TAIL, distance - 5.0)


@kernel
def uniform(key: Number, index: Number) -> Number:
    """Entry `index` ≥ 0 of the sequence `key`, in (0, 1): splitmix64 (Steele, Lea and Flood 2014) as a counter hash.

    The upper 52 bits and a half: never 0, never 1, and exact in float64.
    """
    z = mix(key + (np.uint64(index) + np.uint64(1)) * GOLDEN)
    return (np.float64(z >> np.uint64(12)) + 0.5) * 2.0**-52


@kernel
def mix(z: Number) -> Number:
    """splitmix64's output function: every bit of a uint64 depends on every bit of z."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def polynomial(coefficients: tuple[float, ...], x: Number) -> Number:
    """Σ c_i x^i by Horner's rule: a fixed order of operations. At least two coefficients."""
    total = coefficients[-1] * x + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        total *= x
        total += coefficient
    return total


@kernel
def ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Number) -> Number:
    """One polynomial over another."""
    return polynomial(coefficients[0], x) / polynomial(coefficients[1], x)
