"""Composition: identity of every client's rows, whatever else is in the stream, and unbiased totals."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import STREAM, ClientPool, WorkloadError, check_stream, compose
from workloads.clients import WINDOW_S

NS = 10**9


@functools.cache
def pool() -> ClientPool:
    return ClientPool.load("deepseek-r1")


def rows_of(**settings_) -> np.ndarray:
    return compose(pool(), **{"start": "20h", "duration": "30min", "scale": 0.2, "seed": 3, **settings_}).collect()


spans = st.tuples(st.integers(0, 80_000), st.integers(1, 5000))


@given(spans, st.floats(0.05, 3.0), st.integers(0, 2**63))
@settings(max_examples=25, deadline=None)
def test_any_composition_is_a_stream(span, scale, seed) -> None:
    stream = compose(pool(), span[0], span[1], scale=scale, seed=seed)
    rows = stream.collect()
    check_stream(rows)
    assert rows.dtype == STREAM and np.all(rows["arrival_ns"] < span[1] * NS)
    assert np.array_equal(rows["request_id"] >> 32, rows["client_id"])
    assert np.array_equal(rows, stream.collect())


@given(spans, st.floats(0.5, 4000.0))
@settings(max_examples=25, deadline=None)
def test_window_length_changes_nothing(span, window_s) -> None:
    stream = compose(pool(), span[0], span[1], scale=0.3)
    windows = list(stream.windows(window_s))
    assert np.array_equal(np.concatenate(windows), stream.collect())
    assert len(windows) == -(-span[1] * NS // round(window_s * NS))
    for k, window in enumerate(windows):
        assert np.all(window["arrival_ns"] // round(window_s * NS) == k)


@given(st.sets(st.integers(0, 72), min_size=1, max_size=10))
@settings(max_examples=20, deadline=None)
def test_other_clients_change_no_row_of_a_client(chosen) -> None:
    everyone = rows_of()
    wanted = everyone[np.isin(everyone["client_id"], list(chosen))]
    try:
        assert np.array_equal(rows_of(clients=sorted(chosen)), wanted)
    except WorkloadError:
        assert not len(wanted)


def test_another_clients_rate_changes_no_row_of_a_client() -> None:
    import dataclasses

    busier = dataclasses.replace(pool(), count=np.where(pool().client_ids[:, None] == 35, 3.0, 1.0) * pool().count)
    a, b = (compose(p, "20h", "30min", scale=0.2, seed=3).collect() for p in (pool(), busier))
    assert np.array_equal(a[a["client_id"] != 35], b[b["client_id"] != 35])
    assert (b["client_id"] == 35).sum() > 2 * (a["client_id"] == 35).sum()


def test_a_longer_stream_begins_with_the_shorter() -> None:
    longer = rows_of(duration="50min")
    assert np.array_equal(longer[longer["arrival_ns"] < 1800 * NS], rows_of())


def test_scaling_keeps_the_sequence_of_lengths() -> None:
    slow, fast = rows_of(scale=0.2), rows_of(scale=0.8)
    both = np.intersect1d(slow["request_id"], fast["request_id"])
    a, b = (r[np.argsort(r["request_id"])] for r in (slow, fast))
    a, b = a[np.isin(a["request_id"], both)], b[np.isin(b["request_id"], both)]
    assert len(a) > 1000
    for name in ("input_tokens", "output_tokens"):
        assert np.array_equal(a[name], b[name])


def test_scaling_stretches_the_same_arrivals() -> None:
    """One client at a steady shape: twice the rate in half the time is the same arrivals, on another clock."""
    import dataclasses

    shape = pool().count.shape
    steady = dataclasses.replace(
        pool(),
        count=np.full(shape, 600.0),
        cv=np.full(shape, 1.1),
        family=np.ones(shape, np.int8),
    )
    one = compose(steady, 0, 2 * WINDOW_S, scale=1.0, clients=[35]).collect()
    two = compose(steady, 0, WINDOW_S, scale=2.0, clients=[35]).collect()
    assert len(one) == len(two) > 1000
    assert np.abs(one["arrival_ns"] / 2 - two["arrival_ns"]).max() < 10


def test_seeds_differ_and_input_and_output_are_independent() -> None:
    a, b = (rows_of(seed=seed, scale=2.0, start="9h") for seed in (1, 2))
    assert not np.array_equal(a["arrival_ns"][:50], b["arrival_ns"][:50])
    own = a[a["client_id"] == 35]
    ranks = [np.argsort(np.argsort(own[name])) for name in ("input_tokens", "output_tokens")]
    assert len(own) > 3000 and abs(np.corrcoef(*ranks)[0, 1]) < 0.05


def test_totals_are_unbiased_at_half_a_request_per_second() -> None:
    """All clients together below one request per second; 4 standard errors."""
    counts = np.array([len(compose(pool(), "20h", "20min", rate=0.5, seed=seed).collect()) for seed in range(100)])
    assert abs(counts.mean() - 600.0) < 4 * counts.std() / 10
    assert counts.var() > 1.5 * 600  # burstier than Poisson, of which the data leave no doubt


def test_rate_is_the_mean_of_the_span_and_scale_multiplies() -> None:
    stream = compose(pool(), "20h", "1h", rate=40.0)
    assert len(stream.collect()) == pytest.approx(40 * 3600, rel=0.05)
    assert stream.description["scale"] == pytest.approx(40.0 / pool().rate_rps(72_000, 3600))
    assert compose(pool(), "20h", "1h", scale=0.5).description["rate_rps"] == pytest.approx(pool().rate_rps(72_000, 3600) / 2)


def test_lengths_change_with_the_block() -> None:
    """Client 35's published output means are 1484, 4491, 3003, 758 over the four blocks."""
    mean = [compose(pool(), f"{h}h", "1h", scale=3.0, clients=[35]).collect()["output_tokens"].mean() for h in (1, 9, 20)]
    assert mean == pytest.approx([1484, 4491, 758], rel=0.06)


def test_neither_rate_nor_scale_means_the_sources_own_rate() -> None:
    own, scaled = (compose(pool(), "20h", "10min", scale=scale).collect() for scale in (None, 1.0))
    assert own.tobytes() == scaled.tobytes()


def test_max_tokens_is_the_longest_answer_published() -> None:
    rows = rows_of()
    assert set(rows["max_tokens"]) == {32_768} and rows["output_tokens"].max() <= 32_768


@pytest.mark.parametrize(
    ("settings_", "told"),
    [
        ({"rate": 1.0, "scale": 1.0}, "rate or scale, not both"),
        ({"rate": 0.0}, "rate: expected a number above 0"),
        ({"scale": -1.0}, "scale: expected a number above 0"),
        ({"rate": float("nan")}, "above 0"),
        ({"scale": 1.0, "duration": "999d"}, "at most 10000000 s"),
        ({"scale": 1.0, "duration": 0}, "more than 0 s"),
        ({"scale": 1.0, "duration": "1hour"}, "units: s, min, h, d"),
        ({"scale": 1.0, "clients": [999]}, "client 999 is not in pool"),
        ({"scale": 1.0, "clients": []}, "at least one client"),
        ({"scale": 1.0, "seed": -1}, "seed"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings_, told) -> None:
    with pytest.raises(WorkloadError, match=told):
        compose(pool(), **settings_)


def test_a_span_in_which_nobody_sends_is_refused() -> None:
    with pytest.raises(WorkloadError, match="send nothing"):
        compose(ClientPool.load("m-mid"), 313_200, "10min", rate=10.0)
