"""Laws of the windows and curves that the report draws instead of its rows."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from experiments.report import windows

spans = st.floats(1e-3, 1e7)
times = st.lists(st.floats(0.0, 1000.0), min_size=1, max_size=60)
values = st.lists(st.floats(1e-3, 1e3) | st.just(np.inf), min_size=1, max_size=1500)
pieces = st.lists(st.tuples(st.integers(0, 50), st.floats(0.0, 900.0), st.floats(1e-3, 100.0)), min_size=1, max_size=40)


@given(spans, st.integers(0, 400))
@example(3600.0, 300)
@example(1e-3, 0)
def test_windows_cover_the_span_in_order_and_are_not_too_many(span_s, most):
    edges = windows.edges_s(span_s, most)
    assert edges[0] == 0.0 and edges[-1] == span_s
    assert (np.diff(edges) > 0.0).all()
    assert len(edges) - 1 <= max(1, min(most, windows.MAX_WINDOWS))


@given(times, st.integers(1, 50))
def test_rates_count_every_event_once(events, most):
    edges = windows.edges_s(1000.0, most)
    rates = windows.rate(np.array(events), None, edges)
    assert np.isclose((rates * np.diff(edges)).sum(), len(events))


@given(times, st.integers(1, 50))
def test_percentiles_are_those_of_each_window_alone(events, most):
    arrival = np.array(events)
    latency = np.arange(len(events)) + 1.0
    edges = windows.edges_s(1000.0, most)
    window = windows.window_of(arrival, edges)
    found = windows.percentiles(arrival, latency, edges, 90.0)
    for i, value in enumerate(found):
        inside = latency[window == i]
        assert np.isclose(value, np.percentile(inside, 90.0)) if len(inside) else np.isnan(value)


def test_percentiles_leave_out_what_is_undefined_and_keep_what_is_infinite():
    found = windows.percentiles(
        np.array([1.0, 2.0, 12.0, 13.0]), np.array([5.0, np.nan, 1.0, np.inf]), np.array([0.0, 10.0, 20.0]), 99.0
    )
    assert found.tolist() == [5.0, np.inf]


def naive_overlaps_s(start, dur, edges):
    """Seconds that each piece (rows) spends in each window (columns)."""
    low, high = np.maximum(start[:, None], edges[:-1]), np.minimum((start + dur)[:, None], edges[1:])
    return np.maximum(0.0, high - low)


@given(pieces, st.integers(1, 50))
def test_time_mean_is_the_overlap_weighted_sum(held, most):
    height, start, dur = (np.array(column, float) for column in zip(*held))
    edges = windows.edges_s(1000.0, most)
    expected = (height[:, None] * naive_overlaps_s(start, dur, edges)).sum(0) / np.diff(edges)
    assert np.allclose(windows.time_mean(height, start, dur, edges), expected, atol=1e-6)


@given(pieces, st.integers(1, 50))
def test_peak_is_the_largest_that_overlaps(held, most):
    height, start, dur = (np.array(column, float) for column in zip(*held))
    edges = windows.edges_s(1000.0, most)
    expected = np.where(naive_overlaps_s(start, dur, edges) > 0.0, height[:, None], 0.0).max(0)
    assert np.array_equal(windows.peak(height, start, dur, edges), expected)


@given(values)
def test_cdf_rises_to_the_share_that_was_served_in_few_points(latencies):
    x, y = windows.cdf(np.array(latencies))
    served = np.isfinite(latencies)
    assert len(x) <= windows.MAX_CDF_POINTS
    assert (np.diff(x) >= 0.0).all() and (np.diff(y) > 0.0).all()
    assert not len(y) or y[-1] <= served.mean() + 1e-12
    if served.all():
        assert y[-1] == 1.0


@given(values)
def test_cdf_gives_the_share_that_is_no_larger(latencies):
    ordered = np.sort(latencies)
    for x, y in zip(*windows.cdf(np.array(latencies))):
        assert np.searchsorted(ordered, x, "left") < y * len(ordered) + 1e-9 <= np.searchsorted(ordered, x, "right") + 1e-6


def test_cdf_of_nothing_is_nothing():
    assert [len(part) for part in windows.cdf(np.empty(0))] == [0, 0]
