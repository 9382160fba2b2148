"""Naive baselines and the closed source: their definitions, checked from outside."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads import ClientPool, Stream, WorkloadError, check_stream, compose, concurrency, naive
from workloads.naive import FEWEST_REQUESTS, KINDS, fit_n_hour, fit_poisson
from workloads.stream import new_rows

NS = 10**9


@functools.cache
def source() -> Stream:
    rows = compose(ClientPool.load("deepseek-r1"), "8h", "150min", rate=12.0, seed=5).collect()
    return Stream(9000.0, lambda: [rows])


def stream_of(arrival_s: list[float], duration_s: float) -> Stream:
    rows = new_rows(len(arrival_s))
    rows["arrival_ns"] = np.array(arrival_s) * NS
    rows["request_id"] = np.arange(len(rows))
    rows["input_tokens"] = rows["output_tokens"] = rows["max_tokens"] = 1 + np.arange(len(rows))
    return Stream(duration_s, lambda: [rows])


@pytest.mark.parametrize("kind", KINDS)
def test_a_naive_stream_is_a_stream_of_one_client(kind: str) -> None:
    stream = naive(source(), kind, seed=2)
    rows = stream.collect()
    check_stream(rows)
    assert stream.duration_s == source().duration_s and rows["arrival_ns"].max() < 9000 * NS
    assert set(rows["client_id"]) == {0} and rows["request_id"].tolist() == list(range(len(rows)))
    assert np.array_equal(np.concatenate(list(stream.windows(77.0))), rows)


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_fitted_on_in_the_mean(kind: str) -> None:
    wanted = len(source().collect())
    counts = np.array([len(naive(source(), kind, seed).collect()) for seed in range(12)])
    assert abs(counts.mean() - wanted) < 4 * counts.std() / np.sqrt(12)


def test_poisson_gaps_are_exponential_at_the_rate_of_the_horizon() -> None:
    fit = fit_poisson(source())[0]
    assert (fit.n, fit.rate_rps) == (len(source().collect()), len(source().collect()) / 9000)
    gaps = np.sort(np.diff(naive(source(), "poisson", 3).collect()["arrival_ns"]) / NS * fit.rate_rps)
    assert np.abs(-np.expm1(-gaps) - np.arange(len(gaps)) / len(gaps)).max() < 2.2 / np.sqrt(len(gaps))


def test_n_hour_has_the_rate_and_cv_of_each_hour() -> None:
    for hour, (ours, theirs) in enumerate(zip(*(s.windows(3600.0) for s in (naive(source(), "n_hour", 4), source())))):
        gaps = np.diff(theirs["arrival_ns"])
        fit = fit_n_hour(source())[hour]
        assert fit.cv == pytest.approx(gaps.std() / gaps.mean(), rel=1e-9) and fit.n == len(theirs)
        own = np.diff(ours["arrival_ns"])
        assert own.std() / own.mean() == pytest.approx(fit.cv, rel=0.04)
        assert len(ours) == pytest.approx(len(theirs), abs=5 * fit.cv * np.sqrt(len(theirs)))


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_come_from_the_requests_of_their_piece(kind: str) -> None:
    piece_s = 3600.0 if kind == "n_hour" else 9000.0
    for ours, theirs in zip(naive(source(), kind, 4).windows(piece_s), source().windows(piece_s)):
        pairs = [set(zip(rows["input_tokens"].tolist(), rows["output_tokens"].tolist())) for rows in (ours, theirs)]
        assert pairs[0] <= pairs[1]
        assert ours["output_tokens"].mean() == pytest.approx(theirs["output_tokens"].mean(), rel=0.05)


def test_an_hour_with_too_few_requests_sends_none() -> None:
    stream = naive(stream_of([1.0, 2.0, 3600.0, 3700.0, 3800.0, 3900.0], 7200.0), "n_hour")
    assert stream.description["fit"][0]["n"] < FEWEST_REQUESTS
    assert all(len(naive(stream_of([1.0, 2.0, 3600.0, 3700.0, 3900.0], 7200.0), "n_hour", s).windows(3600).__next__()) == 0
               for s in range(5))  # fmt: skip


def test_constant_gaps_stay_nearly_constant() -> None:
    gaps = np.diff(naive(stream_of([float(s) for s in range(1000)], 1000.0), "n_hour").collect()["arrival_ns"])
    assert gaps.std() / gaps.mean() < 0.02


def test_naive_draws_nothing_a_composed_client_draws() -> None:
    """Fitted and judged with one seed, they would otherwise share client 0's gaps."""
    a = naive(stream_of([float(s) for s in range(1000)], 1000.0), "poisson", seed=1).collect()["arrival_ns"]
    from workloads.arrivals import EXPONENTIAL
    from workloads.renewal import Renewal

    assert not np.isin(np.floor(Renewal(1, 0).advance(1000.0, EXPONENTIAL, 1.0) * NS).astype(int), a).any()


def test_unknown_kinds_and_empty_streams_are_refused() -> None:
    with pytest.raises(WorkloadError, match="nearest: poisson"):
        naive(source(), "poison")
    with pytest.raises(WorkloadError, match="too few requests"):
        naive(stream_of([1.0], 10.0), "poisson")


@given(st.integers(1, 50), st.integers(1, 200), st.lists(st.integers(0, 49), max_size=300))
def test_a_closed_source_keeps_n_in_flight_and_sends_so_many(n: int, requests: int, finishes: list[int]) -> None:
    source = concurrency(n, 10, 5, requests=requests)
    rows = source.first()
    check_stream(rows)
    flight = {int(r["client_id"]): int(r["request_id"]) for r in rows}
    seen, now = set(flight.values()), 0
    for slot in finishes:
        if slot not in flight:
            continue
        now += 7
        row = source.follow(now, flight.pop(slot))
        if row is None:
            assert len(seen) == requests
            continue
        assert row["arrival_ns"] == now and row["client_id"] == slot and row["request_id"] not in seen
        flight[slot] = int(row["request_id"])
        seen.add(flight[slot])
        assert len(flight) <= n
    assert len(seen) <= requests and source.sent == len(seen)


def test_a_closed_source_ends_with_its_duration_and_starts_over() -> None:
    source = concurrency(2, 10, 5, duration="1s")
    first = source.first()
    assert source.follow(NS - 1, int(first["request_id"][0])) is not None
    assert source.follow(NS, int(first["request_id"][1])) is None
    assert np.array_equal(source.first(), first) and source.sent == 2


CANNOT_BE = (
    {},
    {"requests": 0},
    {"duration": 0},
    {"n": 0, "requests": 1},
    {"input_tokens": 0, "requests": 1},
    {"n": True, "requests": 2},
)


@pytest.mark.parametrize("settings_", CANNOT_BE)
def test_closed_sources_that_cannot_be_are_refused(settings_) -> None:
    with pytest.raises(WorkloadError):
        concurrency(**{"n": 2, "input_tokens": 10, "output_tokens": 5, **settings_})
