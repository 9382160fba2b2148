"""Naive baselines and the closed source: their definitions, checked from outside."""

import functools
import math
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import naive_workloads
from workloads import ClientPool, Stream, WorkloadError, check_stream, compose, concurrency, naive
from workloads.arrivals import EXPONENTIAL, GAMMA
from workloads.naive import FEWEST_REQUESTS, KINDS, fit_n_10min, fit_n_hour, fit_poisson
from workloads.renewal import Renewals
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
    assert abs(counts.mean() - wanted) <= 4 * counts.std() / np.sqrt(12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_naive_stream_is_fixed_by_its_seed(kind: str) -> None:
    one, again, other = (naive(source(), kind, seed).collect().tobytes() for seed in (1, 1, 2))
    assert one == again and one != other


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


@pytest.mark.parametrize(("kind", "piece_s"), [("poisson", 9000), ("n_hour", 3600), ("n_10min", 600), ("loadgen", 9000)])
def test_pairs_come_from_the_requests_of_their_piece(kind: str, piece_s: int) -> None:
    for ours, theirs in zip(naive(source(), kind, 4).windows(piece_s), source().windows(piece_s)):
        pairs = [set(zip(rows["input_tokens"].tolist(), rows["output_tokens"].tolist())) for rows in (ours, theirs)]
        assert pairs[0] <= pairs[1]
        assert ours["output_tokens"].mean() == pytest.approx(theirs["output_tokens"].mean(), rel=0.08)


SHORT = st.lists(st.floats(0.0, 1799.0), min_size=3, max_size=60).map(sorted)


@given(SHORT)
def test_n_10min_fits_each_window_by_its_definition(arrival_s: list[float]) -> None:
    fits = fit_n_10min(stream_of(arrival_s, 1800.0))
    assert [fit.start_s for fit in fits] == [0.0, 600.0, 1200.0] and {fit.duration_s for fit in fits} == {600.0}
    for fit in fits:
        mine = [int(t * NS) for t in arrival_s if fit.start_s <= t < fit.start_s + 600]
        assert fit.n == len(mine) and fit.rate_rps == len(mine) / 600
        if fit.n < FEWEST_REQUESTS or len(set(mine)) == 1:
            continue
        gaps = [b - a for a, b in pairwise(mine)]
        mean = sum(gaps) / len(gaps)
        assert fit.cv == pytest.approx(math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) / mean, rel=1e-9)


@given(SHORT, st.integers(0, 2**64))
def test_n_10min_sends_nothing_in_windows_of_too_few(arrival_s: list[float], seed: int) -> None:
    stream = stream_of(arrival_s, 1800.0)
    fits = fit_n_10min(stream)
    if any(fit.n >= FEWEST_REQUESTS for fit in fits):
        for fit, rows in zip(fits, naive(stream, "n_10min", seed).windows(600.0)):
            assert fit.n >= FEWEST_REQUESTS or len(rows) == 0


def test_n_10min_follows_the_curve_that_n_hour_levels() -> None:
    """A rate of 1, 9, 1, 9 … requests/s by ten minutes; five standard deviations of a Poisson count, as gaps are even or so."""
    arrival_s = np.concatenate([600.0 * k + np.linspace(0.0, 599.9, (600, 5400)[k % 2]) for k in range(6)])
    stream = stream_of(arrival_s.tolist(), 3600.0)
    follows, levels = ([len(rows) for rows in naive(stream, kind).windows(600.0)] for kind in ("n_10min", "n_hour"))
    assert all(abs(count - (600, 5400)[k % 2]) < 5 * np.sqrt(5400) for k, count in enumerate(follows))
    assert all(abs(count - 3000) < 5 * np.sqrt(3000) * fit_n_hour(stream)[0].cv + 5 for count in levels)


@pytest.mark.parametrize(("kind", "cv"), [("poisson", 1.0), ("n_hour", 2.0), ("n_10min", 2.0)])
def test_counts_vary_as_renewals_do(kind: str, cv: float) -> None:
    """Var N / E N tends to CV² for a renewal (Cox 1962, ch. 4); of 900 windows it is known to √(2/900) or so."""
    steps = np.random.default_rng(5).gamma(0.25, 4.0, 90_000)
    stream = stream_of((np.cumsum(steps) * 9000 / steps.sum() * 0.9999).tolist(), 9000.0)
    counts = np.array([len(rows) for rows in naive(stream, kind, 3).windows(10.0)])
    assert counts.var() / counts.mean() == pytest.approx(cv * cv, rel=5 * np.sqrt(2 / 900))


@given(SHORT, st.floats(0.05, 100.0) | st.just(math.inf), st.integers(0, 2**64))
def test_loadgen_sends_each_request_once_and_the_last_at_the_very_end(arrival_s, burstiness, seed) -> None:
    stream = stream_of(arrival_s, 1800.0)
    rows = naive(stream, "loadgen", seed, burstiness=burstiness).collect()
    check_stream(rows)
    assert len(rows) == len(arrival_s) and rows["arrival_ns"][-1] == 1800 * NS - 1
    assert sorted(rows["input_tokens"].tolist()) == list(range(1, len(rows) + 1))
    assert np.array_equal(rows["input_tokens"], rows["output_tokens"])


@given(SHORT, st.sampled_from([0.3, 1.0, 4.0]), st.integers(0, 2**64))
def test_loadgen_is_the_sum_of_its_gaps_over_the_last_one(arrival_s, burstiness, seed) -> None:
    rows = naive(stream_of(arrival_s, 1800.0), "loadgen", seed, burstiness=burstiness).collect()
    drawn = Renewals(seed, np.array([-1]))
    drawn.enter(np.zeros(1, int), np.array([EXPONENTIAL if burstiness == 1.0 else GAMMA]), np.array([burstiness]))
    sums = list(accumulate(naive_workloads.gap(drawn.state[0], k) for k in range(len(rows))))
    assert rows["arrival_ns"] == pytest.approx([min(t / sums[-1] * 1800 * NS, 1800 * NS - 1) for t in sums], abs=20)


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 16.0])
def test_gaps_of_loadgen_have_the_cv_of_their_burstiness(burstiness: float) -> None:
    gaps = np.diff(naive(source(), "loadgen", 4, burstiness=burstiness).collect()["arrival_ns"])
    assert len(gaps) > 90_000 and gaps.std() / gaps.mean() == pytest.approx(burstiness**-0.5, rel=0.03)


def test_loadgen_of_endless_burstiness_is_a_clock() -> None:
    stream = naive(stream_of([0.5, 0.6, 3.0, 4.0], 8.0), "loadgen", burstiness=math.inf)
    assert stream.collect()["arrival_ns"].tolist() == [2 * NS, 4 * NS, 6 * NS, 8 * NS - 1]
    assert stream.description["fit"][0]["cv"] == 0.0 and stream.description["burstiness"] == "inf"


def test_loadgen_forgets_the_order_of_requests() -> None:
    rows = naive(stream_of(np.linspace(0, 99, 5000).tolist(), 100.0), "loadgen").collect()
    assert abs(np.corrcoef(rows["input_tokens"], np.arange(5000))[0, 1]) < 5 / np.sqrt(5000)


def test_n_global_draws_input_and_output_apart_from_the_whole_period() -> None:
    """Here every input is its output and grows with time; the KS distance and the correlation are held to five deviations."""
    period = stream_of(np.linspace(0, 7199, 20_000).tolist(), 7200.0)
    rows = naive(stream_of(np.linspace(0, 3599, 9000).tolist(), 3600.0), "n_global", 3, period=period).collect()
    assert abs(np.corrcoef(rows["input_tokens"], rows["output_tokens"])[0, 1]) < 5 / np.sqrt(9000)
    for name in ("input_tokens", "output_tokens"):
        ranks = np.sort(rows[name]) / 20_000
        assert np.abs(ranks - np.arange(len(ranks)) / len(ranks)).max() < 2.2 / np.sqrt(len(ranks))
    assert np.array_equal(rows["max_tokens"], rows["output_tokens"])


def test_n_global_of_a_pool_has_the_mean_lengths_of_all_its_requests() -> None:
    pool = ClientPool.load("deepseek-r1")
    stream = naive(source(), "n_global", 3, period=pool)
    rows, weight = stream.collect(), dict.fromkeys(("input_tokens", "output_tokens"), 0.0)
    for client in range(len(pool.client_ids)):
        for window in range(pool.windows):
            for name in ("input_tokens", "output_tokens"):
                row = pool.length_row[client, window // 36]
                weight[name] += pool.count[client, window] * pool.lengths[name].mean[row] / pool.count.sum()
    for name in ("input_tokens", "output_tokens"):
        assert rows[name].mean() == pytest.approx(weight[name], abs=5 * rows[name].std() / np.sqrt(len(rows)))
    assert 0.6 < rows["reason_tokens"].sum() / rows["output_tokens"].sum() < 0.85
    assert set(rows["max_tokens"]) == {pool.max_output_tokens} and "deepseek-r1" in stream.description["lengths_of"]


def test_n_global_arrives_as_n_hour_and_says_where_its_lengths_are_from() -> None:
    streams = {kind: naive(source(), kind, 3) for kind in ("n_hour", "n_global")}
    arrivals = [stream.collect()["arrival_ns"] for stream in streams.values()]
    assert np.array_equal(*arrivals)
    assert streams["n_global"].description["lengths_of"].startswith("the stream itself")


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_think_stay_with_their_answer(kind: str) -> None:
    rows = stream_of(np.linspace(0, 3599, 500).tolist(), 3600.0).collect()
    rows["reason_tokens"] = rows["output_tokens"] // 3
    drawn = naive(Stream(3600.0, lambda: [rows]), kind).collect()
    assert np.array_equal(drawn["reason_tokens"], drawn["output_tokens"] // 3) and drawn["reason_tokens"].any()


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("poisson", {"burstiness": 2.0}, "burstiness does nothing for naive poisson, only for loadgen"),
        ("n_hour", {"period": 3}, "period does nothing for naive n_hour, only for n_global"),
        ("n_global", {"period": 3}, "period: expected a client pool or a stream, got int"),
        ("n_global", {"period": ClientPool.load("mm-image")}, "prompts of pool mm-image are text and items"),
        ("n_global", {"period": stream_of([], 5.0)}, "period: a stream without requests"),
        ("loadgen", {"burstiness": 0.0}, "burstiness: expected a number from 0.005 to 10000, or inf, got 0.0"),
        ("loadgen", {"burstiness": math.nan}, "burstiness: expected a number"),
        ("loadgen", {"burstiness": "high"}, "burstiness: expected a number"),
    ],
)
def test_settings_of_kinds_that_cannot_be_are_refused(kind: str, settings: dict, told: str) -> None:
    with pytest.raises(WorkloadError, match=told):
        naive(stream_of([1.0, 2.0, 3.0, 4.0], 10.0), kind, **settings)


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
