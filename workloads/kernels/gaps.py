"""One gap of one client: exponential, Gamma or Weibull with mean 1, from the uniforms of its number."""

from __future__ import annotations

from typing import Any

import numpy as np

from workloads.jit import compiler

from .numbers import Number, central_quantile, far_quantile, log, outer_quantile, power, tail_distance, uniform

_, kernel, _ = compiler(__name__)

EXPONENTIAL, GAMMA, WEIBULL = 0, 1, 2
ATTEMPT_BITS = 6  # a gamma draw is rejected with probability below 0.05, 64 times in a row never


@kernel
def gap(renewal: Any, number: int) -> float:
    """Gap `number` of a RENEWAL row.

    With k the shape: exponential E = -ln U; Gamma draw / k; Weibull E^(1/k) / Γ(1 + 1/k), where `scale` is that Γ.
    """
    if renewal["family"] == GAMMA:
        return gamma_draw(renewal, number + 1) / renewal["shape"]
    exponential = -log(uniform(renewal["gap_key"], number))
    if renewal["family"] == EXPONENTIAL:
        return exponential
    return power(exponential, renewal["inverse_shape"]) / renewal["scale"]


@kernel
def gamma_draw(renewal: Any, index: int) -> float:
    """Gamma(shape) draw number `index` (Marsaglia and Tsang 2000); below shape 1, Gamma(shape + 1) × U^(1/shape)."""
    shape = renewal["shape"]
    boost = 1.0
    if shape < 1.0:
        boost = power(uniform(renewal["boost_key"], index), renewal["inverse_shape"])
        shape = shape + 1.0
    d = shape - 1.0 / 3.0
    for attempt in range(1 << ATTEMPT_BITS):
        counter = (index << ATTEMPT_BITS) + attempt
        x = normal_quantile(uniform(renewal["normal_key"], counter))
        root = proposal(x, d)
        if root > 0.0:
            v = root * root * root
            u = uniform(renewal["accept_key"], counter)
            if u < squeeze(x) or log(u) < acceptance(x, d, v):
                return d * v * boost
    return 0.0


@kernel
def proposal(x: Number, d: Number) -> Number:
    """The cube root of Marsaglia and Tsang's v for a normal x: 1 + x / √(9 d); v counts where it is above 0."""
    return 1.0 + x / np.sqrt(9.0 * d)


@kernel
def acceptance(x: Number, d: Number, v: Number) -> Number:
    """What ln U has to stay below for d v to be accepted: x²/2 + d (1 - v + ln v)."""
    return 0.5 * x * x + d * (1.0 - v + log(v))


@kernel
def squeeze(x: Number) -> Number:
    """A U below it is accepted without asking: Marsaglia and Tsang's 1 - 0.0331 x⁴, less more than rounding can change."""
    return 0.999 - 0.0331 * (x * x) * (x * x)


@kernel
def normal_quantile(p: float) -> float:
    """The z with Φ(z) = p, 0 < p < 1."""
    q = p - 0.5
    if abs(q) <= 0.425:
        return central_quantile(q)
    distance = tail_distance(p)
    size = outer_quantile(distance) if distance <= 5.0 else far_quantile(distance)
    return size if q > 0.0 else -size
