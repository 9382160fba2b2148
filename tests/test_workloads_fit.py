"""Fitting: a pool comes back from its own stream, exact counts stay exact, and what cannot be told is said."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import ClientPool, Stream, WorkloadError, compose, fields
from workloads.arrivals import EXPONENTIAL, GAMMA, WEIBULL, WINDOW_S
from workloads.fit import fit
from workloads.fit.client_places import ClientPlaces
from workloads.fit.gap_counts import OwnClocks
from workloads.fit.gap_laws import BINS, bins_of, fit_laws, shape_of
from workloads.fit.lengths import LengthCounts, bin_of, middle_of
from workloads.lengths import LengthTable, sketch_knots
from workloads.pool_data import PoolData
from workloads.pool_file import read_pool, write_pool
from workloads.stream import ITEMS, new_rows

NS = 10**9
LAWS = ((GAMMA, 0.7), (EXPONENTIAL, 1.0), (GAMMA, 1.5), (GAMMA, 5.0), (WEIBULL, 0.7), (WEIBULL, 2.0), (WEIBULL, 5.0))
QUANTILES = np.array([0.1, 0.25, 0.5, 0.75, 0.9, 0.99])


def synthetic(per_window: float, moving: bool, windows: int = 144) -> PoolData:
    """A client of each law, at a steady rate or at one that doubles and halves over the day; lengths of their own."""
    clients = len(LAWS)
    cycle = 1.0 + 0.6 * np.sin(np.arange(windows) * (2 * np.pi / 144) + np.arange(clients)[:, None]) * moving
    family = np.repeat(np.array([law for law, _ in LAWS], np.int8)[:, None], windows, axis=1)
    cv = np.repeat(np.array([cv for _, cv in LAWS])[:, None], windows, axis=1)
    rows = np.arange(clients)
    return PoolData(
        name="synthetic",
        client_ids=3 * rows.astype(np.int32),
        count=per_window * cycle,
        cv=cv,
        family=family,
        shape=shape_of(family, cv),
        length_row=np.repeat(rows[:, None], -(-windows // 36), axis=1).astype(np.int32),
        lengths={name: _lengths(clients, scale) for name, scale in (("input_tokens", 900.0), ("output_tokens", 60.0))},
        max_output_tokens=4096,
        absent_ids=(),
        absent_count=np.zeros(windows),
        gap=np.zeros(windows, bool),
    )


def _lengths(clients: int, scale: float) -> LengthTable:
    values = np.arange(1, 4096)
    weights = [np.exp(-0.5 * np.log(values / (scale * (1 + 0.2 * k))) ** 2) / values for k in range(clients)]
    knots = np.stack([sketch_knots(values, w / w.sum()) for w in weights])
    return LengthTable.of(knots, np.array([(values * w).sum() / w.sum() for w in weights]))


@functools.cache
def recovered(moving: bool) -> tuple[PoolData, PoolData]:
    pool = synthetic(2500.0, moving)
    return pool, fit(compose(pool, 0, "1d", seed=5))


def quantiles(table: LengthTable, row: int) -> np.ndarray:
    grid = (np.arange(20_000) + 0.5) / 20_000
    return np.quantile(table.sample(np.full(len(grid), row), grid), QUANTILES)


@pytest.mark.parametrize("moving", [False, True], ids=["steady", "moving"])
def test_a_pool_is_recovered_from_a_day_of_its_own_stream(moving):
    """Rates within 2 %, CVs within 5 %, quantiles within 2 % (or one token), of every client and in all."""
    pool, fitted = recovered(moving)
    assert np.array_equal(fitted.client_ids, pool.client_ids)
    requests, wanted = fitted.count.sum(axis=1), pool.count.sum(axis=1)
    assert np.abs(requests / wanted - 1.0).max() < 0.02 and abs(requests.sum() / wanted.sum() - 1.0) < 0.005
    cv = (fitted.cv * fitted.count).sum(axis=1) / requests
    assert np.abs(cv / pool.cv[:, 0] - 1.0).max() < 0.05
    for name, table in pool.lengths.items():
        for client in range(len(LAWS)):
            busiest = fitted.count[client].reshape(4, 36).sum(axis=1).argmax()
            found = quantiles(fitted.lengths[name], int(fitted.length_row[client, busiest]))
            assert np.all(np.abs(found - quantiles(table, client)) <= np.maximum(0.02 * found, 1.0))


def test_the_fitted_pool_sends_what_the_pool_sent():
    """The stream of the fitted pool, under another seed: rate and sample CV of every client's gaps in the windows."""
    pool, fitted = recovered(True)
    ours, theirs = (window_cvs(compose(p, "6h", "6h", seed=seed)) for p, seed in ((fitted, 8), (pool, 5)))
    assert np.abs(ours / theirs - 1.0).max() < 0.05


def window_cvs(stream: Stream) -> np.ndarray:
    """Of each client, the mean over windows of the sample CV of the gaps inside."""
    found = []
    for rows in stream.windows(WINDOW_S):
        gaps = [np.diff(rows["arrival_ns"][rows["client_id"] == client]) for client in 3 * np.arange(len(LAWS))]
        found.append([of_one.std() / of_one.mean() for of_one in gaps])
    return np.mean(found, axis=0)


def test_a_steady_clients_law_is_told_once_and_a_change_where_it_is():
    pool = synthetic(1500.0, moving=False, windows=72)
    pool.cv[0, 40:50], pool.shape[0, 40:50] = 2.5, 1.0 / 2.5**2
    fitted = fit(compose(pool, 0, "12h"))
    assert np.abs(fitted.cv[0, 40:50] / 2.5 - 1.0).max() < 0.15
    assert np.median(np.abs(fitted.cv[0, :40] / 0.7 - 1.0)) < 0.02
    assert np.unique(fitted.cv[1]).size < 5  # the exponential is the same throughout


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3 * 600 * NS - 1)), min_size=1, max_size=300))
@settings(max_examples=30)
def test_counts_are_exact_whatever_the_stream(requests):
    requests.sort(key=lambda pair: pair[1])
    rows = new_rows(len(requests))
    rows["client_id"], rows["arrival_ns"] = np.array(requests).T
    rows["request_id"] = np.arange(len(rows))
    for name in ("input_tokens", "output_tokens", "max_tokens"):
        rows[name] = 1 + rows["arrival_ns"] % 777
    fitted = fit(Stream(1800.0, lambda: (rows,)))
    for index, client in enumerate(fitted.client_ids):
        own = rows["arrival_ns"][rows["client_id"] == client]
        assert np.array_equal(fitted.count[index], np.bincount(own // (600 * NS), minlength=3))
        table, row = fitted.lengths["input_tokens"], fitted.length_row[index, 0]
        assert table.mean[row] == pytest.approx(rows["input_tokens"][rows["client_id"] == client].mean())
    assert fitted.max_output_tokens == rows["max_tokens"].max()
    assert np.all(np.isfinite(fitted.cv)) and np.all(fitted.cv[fitted.count > 0] > 0) and np.all(fitted.shape > 0)
    assert len(compose(fitted, 0, 1800.0, seed=2).collect()) < 20 * len(rows) + 200


@pytest.mark.parametrize("family, cv", LAWS)
def test_the_likeliest_law_is_the_one_that_gaps_were_drawn_from(family, cv):
    random = np.random.default_rng(7)
    k = float(shape_of(np.array([family]), np.array([cv]))[0])
    gaps = random.gamma(k, 1.0 / k, 60_000) if family == GAMMA else random.weibull(k, 60_000)
    found = fit_laws(np.bincount(bins_of(gaps / gaps.mean()), minlength=BINS)[None])
    assert found.family[0] == family and found.cv[0] == pytest.approx(cv, rel=0.05) and found.ks[0] < 0.01


def test_a_pause_is_not_taken_for_burstiness_of_the_others():
    """400 exponential gaps and one of 400 s, in which the others would have a mean of a third of the window's."""
    random = np.random.default_rng(3)
    gaps = random.exponential(1.0, 400)
    gaps *= 199.0 / gaps.sum()
    gaps[300] += 400.0
    rows = new_rows(len(gaps))
    rows["arrival_ns"], rows["request_id"] = np.cumsum(gaps) * NS, np.arange(len(gaps))
    for name in ("input_tokens", "output_tokens", "max_tokens"):
        rows[name] = 5
    fitted = fit(Stream(600.0, lambda: (rows,)))
    assert fitted.family[0, 0] == WEIBULL and fitted.shape[0, 0] == pytest.approx(1.0, abs=0.05)
    assert fitted.cv[0, 0] == pytest.approx(gaps.std() / gaps.mean(), rel=0.03)
    again = np.diff(compose(fitted, 0, 600.0).collect()["arrival_ns"]) / NS
    assert 350.0 < again.max() < 450.0


def test_a_gap_over_an_edge_has_its_part_of_either_windows_clock():
    """One request at the middle of a window of 2 s with 1 request, then one at the middle of one with 2."""
    clocks = OwnClocks()
    one = clocks.count(np.array([0]), np.array([NS]), np.array([1]), 2 * NS)
    idle = clocks.count(np.array([], int), np.array([], int), np.array([0]), 2 * NS)
    two = clocks.count(np.array([0, 0]), np.array([NS, 2 * NS - NS // 2]), np.array([2]), 2 * NS)
    assert one.gaps[0] == idle.gaps[0] == 0 and two.gaps[0] == 2
    assert two.total[0] == pytest.approx(0.5 + 1.0 + 0.5) and two.squares[0] == pytest.approx(1.5**2 + 0.5**2)


def test_a_coarse_clock_does_not_make_poisson_traffic_bursty():
    random = np.random.default_rng(1)
    arrival_s = np.sort(random.uniform(0.0, 7200.0, 72_000))
    rows = new_rows(len(arrival_s))
    rows["arrival_ns"] = np.floor(arrival_s) * NS  # ten a second, told in whole seconds
    rows["request_id"] = np.arange(len(rows))
    for name in ("input_tokens", "output_tokens", "max_tokens"):
        rows[name] = 5
    fitted = fit(Stream(7200.0, lambda: (rows,)))
    assert np.allclose(fitted.cv, 1.0, rtol=0.03)
    assert np.diff(rows["arrival_ns"]).std() / np.diff(rows["arrival_ns"]).mean() > 2.5  # what it looks like


def test_a_client_that_sends_every_second_stays_even():
    rows = new_rows(1800)
    rows["arrival_ns"], rows["request_id"] = np.arange(1800) * NS, np.arange(1800)
    for name in ("input_tokens", "output_tokens", "max_tokens"):
        rows[name] = 5
    assert np.all(fit(Stream(1800.0, lambda: (rows,))).cv < 0.15)


@given(st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=200), st.lists(st.integers(0, 2**24 - 1), max_size=50))
def test_binned_lengths_keep_counts_sums_and_values_within_half_a_per_cent(values, more):
    counts, other = LengthCounts(), LengthCounts()
    counts.add(np.full(len(values), 2), np.array(values))
    other.add(np.full(len(more), 2), np.array(more, np.int64))
    counts.merge(other)
    whole = np.sort(values + more)
    found, number, total = counts.of(2)
    assert number.sum() == len(whole) and total == whole.sum() and np.all(np.diff(found) > 0)
    assert np.all(np.abs(np.repeat(found, number) - whole) <= 0.004 * whole + 0.5)
    assert found[-1] <= whole[-1]


def test_every_bin_of_lengths_has_its_middle_inside():
    bins = np.arange(bin_of(np.array([2**24 - 1]))[0] + 1)
    assert np.array_equal(bin_of(middle_of(bins)), bins)
    edges = np.concatenate([np.array([255, 256, 257]), 2 ** np.arange(9, 24), 2 ** np.arange(9, 24) - 1])
    assert np.all(np.diff(bin_of(np.sort(edges))) >= 0)


@given(st.lists(st.lists(st.integers(0, 12), max_size=20), max_size=6), st.integers(1, 15))
def test_clients_take_places_in_the_order_in_which_they_are_seen(windows, most):
    places, seen = ClientPlaces(most), []
    for window in windows:
        found = places.places(np.array(window, np.int64))
        seen += [client for client in dict.fromkeys(window) if client not in seen]
        assert found.tolist() == [min(seen.index(client), most) for client in window]
    numbers = places.numbers()
    assert numbers[:most].tolist() == seen[:most] and len(set(numbers.tolist())) == len(numbers) == places.size
    assert places.merged == max(len(seen) - most, 0)


def test_clients_beyond_the_most_are_one_and_it_is_said():
    stream = compose(ClientPool.load("deepseek-r1"), "20h", "30min", scale=0.2)
    fitted = fit(stream, max_clients=5)
    rows = stream.collect()
    assert len(fitted.client_ids) == 6 and fitted.count.sum() == len(rows)
    assert any("merged" in note for note in fitted.provenance["notes"])
    assert np.all(np.diff(fitted.client_ids) > 0)


def test_a_stream_without_client_numbers_and_a_cut_window_is_said():
    rows = compose(ClientPool.load("deepseek-r1"), "20h", 900.0, scale=0.1).collect().copy()
    rows["client_id"] = 0
    fitted = fit(Stream(900.0, lambda: (rows,)))
    assert fitted.windows == 2 and fitted.count.sum() == len(rows)
    notes = " ".join(fitted.provenance["notes"])
    assert "one client" in notes and "50%" in notes


def test_thinking_and_items_become_fields_of_the_pool():
    rows = new_rows(400)
    rows["arrival_ns"], rows["request_id"], rows["client_id"] = np.arange(400) * NS, np.arange(400), np.arange(400) % 2
    rows["input_tokens"], rows["output_tokens"], rows["max_tokens"] = 500, 100, 100
    rows["reason_tokens"][::4] = 40
    rows["items_count"] = np.where(np.arange(400) % 2 == 0, 2, 0)
    rows["items_start"] = np.cumsum(rows["items_count"]) - rows["items_count"]
    items = np.zeros(400, ITEMS)
    items["tokens"], items["modality"] = np.where(np.arange(400) % 2, 100, 50), np.arange(400) % 2
    fitted = fit(Stream(400.0, lambda: (rows,), items=items))
    row = fitted.length_row[:, 0]
    mean = {name: table.mean[row].tolist() for name, table in fitted.lengths.items()}
    assert mean["text_tokens"] == [350.0, 500.0] and "input_tokens" not in mean and "video_tokens" not in mean
    assert mean["image_count"] == mean["audio_count"] == [2.0, 1.0]
    assert mean["image_tokens"] == [50.0, 1.0] and mean["audio_tokens"] == [100.0, 1.0]
    assert mean[fields.REASON] == [1.0 + 0.5 * np.rint(501 * 0.4), 1.0]


def test_a_fitted_pool_survives_its_file(tmp_path):
    fitted = fit(compose(synthetic(300.0, moving=False, windows=36), 0, "6h"))
    write_pool(fitted, tmp_path / "x.npz", fitted.provenance)
    again = read_pool(tmp_path / "x.npz")
    assert np.array_equal(again.count, fitted.count) and np.allclose(again.cv, fitted.cv, rtol=0.006)
    assert again.provenance["grades"] == {"arrivals": "fitted", "lengths": "fitted"}


def test_what_cannot_be_fitted_is_said():
    with pytest.raises(WorkloadError, match="nothing to fit"):
        fit(Stream(60.0, lambda: ()))
    with pytest.raises(WorkloadError, match="max_clients"):
        fit(Stream(60.0, lambda: ()), max_clients=0)
    broken = new_rows(1)
    with pytest.raises(WorkloadError, match="input_tokens"):
        fit(Stream(60.0, lambda: (broken,)))
