"""Length sketches: close to the distribution they stand for, with its exact mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from workloads.lengths import COARSE_STEP, PROBABILITIES, LengthTable, filled_in, sketch_knots


def geometric(mean: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    values = np.arange(1, most + 1)
    weights = (1 - 1 / mean) ** values
    return values, weights / weights.sum()


@st.composite
def pmfs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    values = np.array(sorted(draw(st.sets(st.integers(1, 5000), min_size=1, max_size=60))))
    weights = np.array(draw(st.lists(st.floats(0.01, 1.0), min_size=len(values), max_size=len(values))))
    return values, weights / weights.sum()


def table_of(values: np.ndarray, probabilities: np.ndarray) -> LengthTable:
    mean = np.array([(values * probabilities).sum()])
    return LengthTable.of(sketch_knots(values, probabilities)[None, :], mean)


def test_knots_stand_at_normal_probabilities() -> None:
    expected = special.ndtr(np.linspace(-3, 3, 97))
    assert PROBABILITIES[1:-1] == pytest.approx(expected[1:-1], rel=1e-11)
    assert (PROBABILITIES[0], PROBABILITIES[-1]) == (0.0, 1.0)


@given(pmfs(), st.lists(st.floats(1e-9, 1 - 1e-9), min_size=1, max_size=50))
@settings(max_examples=100, deadline=None)
def test_samples_rise_with_the_uniform_and_stay_in_the_support(pmf, uniforms) -> None:
    tokens = table_of(*pmf).sample(np.zeros(len(uniforms), int), np.sort(uniforms))
    assert np.all(np.diff(tokens) >= 0)
    assert tokens.min() >= pmf[0][0] and tokens.max() <= pmf[0][-1] and tokens.dtype == np.int32


@given(pmfs())
@settings(max_examples=100, deadline=None)
def test_knots_rise_from_the_least_to_the_largest_value(pmf) -> None:
    knots = sketch_knots(*pmf)
    assert np.all(np.diff(knots) >= 0) and np.rint(knots[0]) == pmf[0][0] and np.rint(knots[-1]) == pmf[0][-1]


@given(pmfs())
@settings(max_examples=50, deadline=None)
def test_a_coarse_sketch_is_the_same_curve_through_every_third_knot(pmf) -> None:
    knots = sketch_knots(*pmf)[None, :]
    whole = filled_in(knots[:, ::COARSE_STEP])
    assert np.array_equal(whole[:, ::COARSE_STEP], knots[:, ::COARSE_STEP]) and np.all(np.diff(whole) >= -1e-9)
    logs = np.log(whole[0, :4] + 1.0)
    slopes = np.diff(logs) / np.diff(PROBABILITIES[:4])
    assert slopes == pytest.approx(slopes[0], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("mean", "most"), [(300.0, 30_000), (20.0, 1000), (3000.0, 30_000)])
def test_a_sketch_keeps_mean_and_distribution(mean: float, most: int) -> None:
    values, probabilities = geometric(mean, most)
    table = table_of(values, probabilities)
    grid = (np.arange(200_000) + 0.5) / 200_000
    tokens = table.sample(np.zeros(len(grid), int), grid)
    ours = np.searchsorted(np.sort(tokens), values, side="right") / len(tokens)
    assert table.model_mean()[0] == pytest.approx((values * probabilities).sum(), rel=1e-6)
    assert tokens.mean() == pytest.approx((values * probabilities).sum(), rel=0.005)
    assert np.abs(ours - np.cumsum(probabilities)).max() < 0.01


def test_templates_keep_their_share() -> None:
    values, probabilities = np.array([19, 20, 400, 5000]), np.array([0.5, 0.3, 0.19, 0.01])
    grid = (np.arange(50_000) + 0.5) / 50_000
    tokens = table_of(values, probabilities).sample(np.zeros(len(grid), int), grid)
    assert (tokens == 19).mean() == pytest.approx(0.5, abs=0.02)
    assert (tokens == 20).mean() == pytest.approx(0.3, abs=0.05)


def test_a_stored_mean_is_reached_by_the_last_segment_alone() -> None:
    knots = sketch_knots(*geometric(100.0, 10_000))[None, :]
    lighter, heavier = (LengthTable.of(knots, np.array([mean])) for mean in (100.1, 101.0))
    grid = np.full(1, 0.99)
    assert lighter.sample(np.zeros(1, int), grid) == heavier.sample(np.zeros(1, int), grid)
    assert (lighter.model_mean()[0], heavier.model_mean()[0]) == pytest.approx((100.1, 101.0), rel=1e-6)
