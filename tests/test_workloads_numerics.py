"""Our own numerics: close to the C library's, and the same bits for ever."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from workloads import numerics
from workloads.numerics import Purpose, stream_key, uniforms

finite = st.floats(1e-300, 1e300)


def ulps(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / np.spacing(abs(theirs))


@given(st.floats(-700.0, 700.0))
def test_exp_is_within_two_ulp_of_the_c_library(x: float) -> None:
    assert ulps(float(numerics.exp(x)), math.exp(x)) <= 2


@given(finite)
def test_log_is_within_two_ulp_of_the_c_library(x: float) -> None:
    assert x == 1.0 or ulps(float(numerics.log(x)), math.log(x)) <= 2


@given(st.floats(0.5, 100.0))
def test_gamma_agrees_with_the_c_library(x: float) -> None:
    assert float(numerics.gamma(x)) == pytest.approx(math.gamma(x), rel=1e-14)


@given(st.floats(1e-300, 1.0, exclude_max=True))
def test_normal_quantile_agrees_with_scipy(p: float) -> None:
    assert float(numerics.normal_quantile(p)) == pytest.approx(float(special.ndtri(p)), rel=1e-13, abs=1e-15)


def test_power_is_exp_of_log() -> None:
    assert float(numerics.power(2.0, 10.0)) == pytest.approx(1024.0, rel=1e-14)


def test_bits_are_those_written_down() -> None:
    """Any processor, numpy or compiler gives these; a change of them changes every workload."""
    values = np.array([0.1, 0.7, 3.3])
    golden = {
        "exp": ["0x1.1aec7b35a00d4p+0", "0x1.01c2a61268987p+1", "0x1.b1cd5e7807b7bp+4"],
        "log": ["-0x1.26bb1bbb55515p+1", "-0x1.6d3c324e13f50p-2", "0x1.31a4e7240c777p+0"],
    }
    for name, bits in golden.items():
        assert [float(v).hex() for v in getattr(numerics, name)(values)] == bits
    drawn = uniforms(stream_key(1, 2, Purpose.GAP), np.arange(3))
    assert [float(v).hex() for v in drawn] == ["0x1.5909b8e7059c3p-1", "0x1.902a909dda3b5p-1", "0x1.c360d0ef57b72p-2"]


def test_uniforms_are_uniform_and_uncorrelated() -> None:
    drawn = uniforms(stream_key(7, 3, Purpose.INPUT), np.arange(100_000))
    counts = np.bincount((drawn * 100).astype(int), minlength=100)
    assert ((counts - 1000) ** 2 / 1000).sum() < 160  # chi-squared with 99 degrees of freedom: 1 in 10,000
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.015


@given(st.integers(0, 2**70), st.integers(0, 10**6), st.integers(0, 2**40))
def test_uniforms_lie_strictly_inside_0_and_1(seed: int, client: int, index: int) -> None:
    for purpose in Purpose:
        value = uniforms(stream_key(seed, client, purpose), np.array([index]))[0]
        assert 0.0 < value < 1.0


def test_the_outermost_uniforms_are_not_0_or_1() -> None:
    assert 0.5 * 2.0**-52 > 0.0
    assert (float(2**52 - 1) + 0.5) * 2.0**-52 < 1.0


def test_seed_client_and_purpose_each_change_the_sequence() -> None:
    keys = {int(stream_key(s, c, p)) for s in range(20) for c in range(20) for p in Purpose}
    assert len(keys) == 20 * 20 * len(Purpose)


def test_a_sequence_does_not_depend_on_how_it_is_cut() -> None:
    key = stream_key(5, 5, Purpose.GAP)
    whole = uniforms(key, np.arange(100))
    assert np.array_equal(whole, np.concatenate([uniforms(key, np.arange(37)), uniforms(key, np.arange(37, 100))]))
