"""Histogram bins: 128 to an octave."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.histogram import BINS, bin_of, bins_of, mean, middle_of, percentile, value_at

values = st.integers(1, 10**15)


@given(values)
def test_a_bin_is_the_floor_of_128_parts_of_its_octave(value):
    octave = value.bit_length() - 1
    assert bin_of(value) == octave * 128 + math.floor(128 * (value / 2**octave)) - 128


@given(values, values)
def test_bins_keep_order(a, b):
    assert (bin_of(a) <= bin_of(b)) or a > b


@given(values.filter(lambda v: v >= 128))
def test_the_middle_of_a_bin_is_near_its_values(value):
    assert abs(middle_of(bin_of(value)) / value - 1) <= 0.5 / 128 + 1e-12


@given(st.lists(values.filter(lambda v: v >= 128), min_size=1, max_size=40), st.integers(1, 100))
def test_a_percentile_is_the_order_statistic_to_half_a_bin(numbers, q):
    counts = {}
    for number in numbers:
        counts[bin_of(number)] = counts.get(bin_of(number), 0) + 1
    exact = sorted(numbers)[math.ceil(q / 100 * len(numbers)) - 1]
    assert abs(percentile(counts, q) / exact - 1) < 0.01
    assert abs(mean(counts) / (sum(numbers) / len(numbers)) - 1) < 0.01


def test_no_counts_have_no_percentile():
    assert math.isnan(percentile({}, 50)) and math.isnan(mean({}))


@given(st.lists(st.integers(-5, 2**53 - 1), min_size=1, max_size=40))
def test_bins_of_an_array_are_those_of_its_numbers(numbers):
    assert bins_of(np.array(numbers)).tolist() == [bin_of(number) for number in numbers]


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=40))
def test_a_value_read_by_rank_is_the_order_statistic_to_half_a_bin(numbers):
    bins, counts = np.unique(bins_of(np.array(numbers)), return_counts=True)
    for rank, exact in enumerate(sorted(numbers)):
        assert abs(value_at(bins, counts, rank) - exact) <= max(exact / 256, 1)


def test_no_number_has_a_bin_beyond_the_last():
    assert bin_of(2**63 - 1) == BINS - 1 and middle_of(0) == 0.0
