"""Renewal arrivals: theory of each family, identity under scaling and cutting, stationarity from the first gap on."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from workloads import WorkloadError, excess
from workloads.arrival_models import MODELS, bulk_of
from workloads.arrivals import (
    EXPONENTIAL,
    GAMMA,
    WEIBULL,
    WINDOW_S,
    Flow,
    edge_rates,
    gap_cv,
    pause_for_cv,
    to_operational,
    to_seconds,
    weibull_shape,
)
from workloads.renewal import Renewal, Renewals

families = st.sampled_from([(EXPONENTIAL, 1.0), (GAMMA, 0.3), (GAMMA, 4.0), (WEIBULL, 0.5), (WEIBULL, 2.0)])
CASES = [(EXPONENTIAL, 1.0), (GAMMA, 0.25), (GAMMA, 1.0), (GAMMA, 5.0), (WEIBULL, 0.6), (WEIBULL, 1.7)]


def gaps_like(is_weibull: bool, shape: float) -> excess.Gaps:
    return excess.Gaps(np.array([is_weibull]), np.array([shape]))


def gaps_of(family: int, shape: float, count: int = 200_000) -> np.ndarray:
    return np.diff(Renewal(3, 8).advance(float(count), family, shape))


def counts_of(clients: int, pieces: list[tuple[float, int, float]]) -> np.ndarray:
    """Arrivals of each client in the last of these pieces: length, family and shape."""
    renewals, everyone = Renewals(2, np.arange(clients)), np.arange(clients)
    for length, family, shape in pieces:
        renewals.enter(everyone, np.full(clients, family), np.full(clients, shape))
        counts = np.array([len(renewals.advance(client, length)) for client in everyone])
    return counts


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_gaps_have_unit_mean_and_the_cv_of_theory(family: int, shape: float) -> None:
    gaps = gaps_of(family, shape)
    cv = float(gap_cv(np.array([family]), np.array([shape]))[0])
    assert gaps.mean() == pytest.approx(1.0, abs=4 * cv / math.sqrt(len(gaps)))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_gaps_have_the_distribution_of_their_family(family: int, shape: float) -> None:
    """Kolmogorov-Smirnov against scipy.special; 2.2/√n is exceeded once in 8,000 times."""
    gaps = np.sort(gaps_of(family, shape, 50_000))
    if family == WEIBULL:
        expected = -np.expm1(-((gaps * special.gamma(1 + 1 / shape)) ** shape))
    else:
        expected = special.gammainc(shape, shape * gaps)
    assert np.abs(expected - (np.arange(len(gaps)) + 0.5) / len(gaps)).max() < 2.2 / math.sqrt(len(gaps))


def test_consecutive_gaps_are_independent() -> None:
    gaps = np.argsort(np.argsort(gaps_of(GAMMA, 0.3)))
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 0.01


@given(families, st.lists(st.floats(0.01, 30.0), min_size=1, max_size=6), st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_arrivals_in_operational_time_do_not_depend_on_the_windows(family, lengths, seed) -> None:
    cut, start, pieces = Renewal(seed, 1), 0.0, []
    for length in lengths:
        pieces.append(start + cut.advance(length, *family))
        start += length
    whole = Renewal(seed, 1).advance(start, *family)
    assert np.concatenate(pieces) == pytest.approx(whole, rel=1e-9, abs=1e-9)


@given(families, st.floats(0.1, 200.0), st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_a_shorter_window_holds_the_first_arrivals_bit_for_bit(family, length, seed) -> None:
    longer = Renewal(seed, 1).advance(3.7 * length, *family)
    assert np.array_equal(Renewal(seed, 1).advance(length, *family), longer[longer < length])


@pytest.mark.parametrize(("family", "shape"), [(EXPONENTIAL, 1.0), (GAMMA, 0.2), (WEIBULL, 0.5), (GAMMA, 6.0)])
@pytest.mark.parametrize("length", [0.3, 5.0])
def test_counts_are_unbiased_from_the_first_window_on(family: int, shape: float, length: float) -> None:
    counts = counts_of(2000, [(length, family, shape)])
    assert abs(counts.mean() - length) < 4 * counts.std() / math.sqrt(len(counts))


def test_counts_stay_unbiased_where_gaps_grow_burstier() -> None:
    """An hour whose shape falls from 4 to 0.15: a wait carried in seconds would add some three requests."""
    counts = counts_of(2000, [(20.0, GAMMA, 4.0), (20.0, GAMMA, 0.15)])
    assert abs(np.mean(counts) - 20.0) < 4 * np.std(counts) / math.sqrt(len(counts))


@pytest.mark.parametrize(("family", "shape"), [(GAMMA, 0.25), (WEIBULL, 0.7), (GAMMA, 4.0)])
def test_count_variance_is_that_of_a_renewal(family: int, shape: float) -> None:
    """Asymptotically n cv² (Cox 1962, ch. 4), here over 1000 expected requests; 4 sd of the estimate are 15 %."""
    counts = counts_of(1500, [(1000.0, family, shape)])
    cv = float(gap_cv(np.array([family]), np.array([shape]))[0])
    assert counts.var() == pytest.approx(1000 * cv * cv, rel=0.17)


@pytest.mark.parametrize("shape", [0.05, 0.3, 1.0, 3.0])
def test_excess_of_gamma_gaps_is_that_of_theory(shape: float) -> None:
    x = excess._X
    theory = x * special.gammaincc(shape, shape * x) + special.gammainc(shape + 1, shape * x)
    assert special.expit(excess.log_odds(gaps_like(False, shape))[0]) == pytest.approx(theory, abs=1e-3)


@pytest.mark.parametrize("shape", [0.2, 0.8, 2.0])
def test_excess_of_weibull_gaps_is_that_of_theory(shape: float) -> None:
    theory = special.gammainc(1 / shape, (special.gamma(1 + 1 / shape) * excess._X) ** shape)
    assert special.expit(excess.log_odds(gaps_like(True, shape))[0]) == pytest.approx(theory, abs=1e-3)


@given(st.floats(1e-3, 1e3), st.floats(0.1, 10.0), st.floats(0.2, 5.0))
@settings(max_examples=50, deadline=None)
def test_carrying_a_wait_over_and_back_returns_it(wait: float, a: float, b: float) -> None:
    one, gammas, weibulls = excess.Excess(1), gaps_like(False, a), gaps_like(True, b)
    there = one.carried(np.array([0]), np.array([wait]), gammas, weibulls)
    back = one.carried(np.array([0]), there, weibulls, gammas)
    assert back[0] == pytest.approx(wait, rel=0.02) or not 1e-6 < there[0] < 1e4


@given(st.lists(st.tuples(st.booleans(), st.floats(0.05, 200.0), st.booleans(), st.floats(0.05, 200.0), st.floats(0.0, 50.0))))
@settings(max_examples=30, deadline=None)
def test_a_wait_is_carried_alike_alone_and_among_many(cases) -> None:
    columns = [np.array(column) for column in zip(*cases)] or [np.empty(0)] * 5
    old, new, wait = excess.Gaps(columns[0] > 0, columns[1]), excess.Gaps(columns[2] > 0, columns[3]), columns[4]
    everyone = np.arange(len(cases))
    together = excess.Excess(len(cases))
    for gaps in ((old, new), (new, old)):
        carried = together.carried(everyone, wait, *gaps)
        for client in everyone:
            one = (excess.Gaps(g.is_weibull[[client]], g.shape[[client]]) for g in gaps)
            assert excess.Excess(1).carried(np.array([0]), wait[[client]], *one)[0] == carried[client]
        wait = carried


@given(st.floats(1.0, 1e6), st.floats(0.0, 590.0), st.floats(0.0, 1.0), st.lists(st.floats(0.0, 1.0), max_size=20))
def test_stretching_is_monotone_and_leaves_the_pause_empty(requests, pause_s, place, shares) -> None:
    flow = Flow(requests, GAMMA, 1.0, pause_s, place * (WINDOW_S - pause_s))
    times = to_seconds(flow, np.sort(np.array(shares)) * requests)
    assert np.all(np.diff(times) >= 0) and np.all((times >= 0) & (times <= WINDOW_S * (1 + 1e-12)))
    assert not np.any((times > flow.pause_at_s + 1e-9) & (times < flow.pause_at_s + pause_s - 1e-9))


@given(st.floats(1.0, 1e6), st.floats(0.0, 590.0), st.floats(0.0, 1.0), st.floats(0.0, 600.0))
def test_seconds_and_operational_time_are_inverse_outside_the_pause(requests, pause_s, place, offset_s) -> None:
    flow = Flow(requests, GAMMA, 1.0, pause_s, place * (WINDOW_S - pause_s))
    if flow.pause_at_s <= offset_s <= flow.pause_at_s + pause_s:
        return
    back = to_seconds(flow, np.array([to_operational(flow, offset_s)]))[0]
    assert back == pytest.approx(offset_s, abs=1e-6) or abs(offset_s - flow.pause_at_s) < 1e-6 + pause_s


@given(st.floats(1.2, 5.0), st.floats(0.3, 1.1), st.integers(1000, 100_000))
def test_the_pause_gives_the_reported_cv(cv: float, bulk_cv: float, n: int) -> None:
    """Squares of n gaps: of the bulk, and of the one that the pause fell into, which is longer than others."""
    pause = float(pause_for_cv(np.array([n]), np.array([cv]), np.array([bulk_cv]))[0])
    mean, longer = (WINDOW_S - pause) / n, (1.0 + bulk_cv**2) * (WINDOW_S - pause) / n
    squares = n * mean**2 * (1 + bulk_cv**2) + pause**2 + 2 * pause * longer
    assert squares * n / WINDOW_S**2 == pytest.approx(cv**2 + 1, rel=1e-9)


@given(st.floats(0.0, 1.0), st.floats(0.0, 2.0), st.floats(0.0, 2.0), st.floats(0.0, 590.0), st.floats(0.0, 1.0))
def test_curved_rates_are_monotone_and_inverse(share, begin, end, pause_s, place) -> None:
    flow = Flow(1000.0, GAMMA, 1.0, pause_s, place * (WINDOW_S - pause_s), begin, end)
    seconds = to_seconds(flow, np.array([0.0, share * 1000.0, 1000.0]))
    assert seconds[0] <= seconds[1] <= seconds[2] <= WINDOW_S * (1 + 1e-12)
    if not flow.pause_at_s - 1e-6 <= seconds[1] <= flow.pause_at_s + pause_s + 1e-6:
        assert float(to_operational(flow, float(seconds[1]))) == pytest.approx(share * 1000.0, abs=1e-6)


@given(st.lists(st.floats(0.01, 1e4), min_size=3, max_size=9))
def test_smooth_rates_meet_at_the_edges_and_are_not_negative(counts) -> None:
    before, count, after = np.array(counts[:-2]), np.array(counts[1:-1]), np.array(counts[2:])
    begin, end = edge_rates(before, count, after)
    assert np.allclose(end[:-1] * count[:-1], begin[1:] * count[1:])
    assert np.all(2.0 - 0.5 * (begin + end) >= -1e-12)


@given(st.sampled_from(sorted(MODELS)), st.integers(2, 10**6), st.floats(0.3, 30.0), st.sampled_from([GAMMA, WEIBULL]))
def test_no_bulk_is_burstier_than_reported_unless_the_model_is_the_published_fit(model, n, cv, family) -> None:
    bulk = bulk_of(model, np.array([n * 1.0]), np.array([cv]), np.array([family]), np.array([0.6]))
    if model not in ("published", "exponential"):
        assert float(gap_cv(bulk.family, bulk.shape)[0]) <= cv * (1 + 1e-6)
    if model in ("weibull_gap", "gap"):
        assert 0.0 <= bulk.pause_s[0] <= 599.0
    else:
        assert bulk.pause_s[0] == 0.0


def test_a_window_without_traffic_has_no_pause() -> None:
    for model in MODELS:
        bulk = bulk_of(model, np.zeros(2), np.zeros(2), np.zeros(2, np.int8), np.zeros(2))
        assert bulk.pause_s.tolist() == [0.0, 0.0] and bulk.shape.tolist() == [1.0, 1.0]


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(WorkloadError, match="nearest: weibull_gap"):
        bulk_of("weibul_gap", np.ones(1), np.ones(1), np.ones(1, np.int8), np.ones(1))


@given(st.floats(0.1, 20.0))
def test_weibull_shape_inverts_the_cv(cv: float) -> None:
    shape = weibull_shape(np.array([cv]))
    assert float(gap_cv(np.array([WEIBULL]), shape)[0]) == pytest.approx(cv, rel=1e-6)
