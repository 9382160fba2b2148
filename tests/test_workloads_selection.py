"""Some clients of a pool, more of them, or others like them."""

import numpy as np
import pytest

from workloads import ClientPool, WorkloadError, compose
from workloads.arrivals import WINDOW_S


@pytest.fixture(scope="module")
def pool() -> ClientPool:
    return ClientPool.load("deepseek-r1")


def test_selected_clients_are_those_within_all_ranges(pool: ClientPool) -> None:
    requests = pool.count.sum(axis=1)
    rate = requests / pool.duration_s
    chosen = pool.select(rate_rps=(0.1, 2.0))
    assert chosen == pool.client_ids[(rate >= 0.1) & (rate <= 2.0)].tolist()
    cv = (pool.count * pool.cv).sum(axis=1) / np.maximum(requests, 1)
    assert set(pool.select(cv=(None, 1.2))) == set(pool.client_ids[(requests > 0) & (cv <= 1.2)].tolist())
    assert set(pool.select(rate_rps=(0.1, None), cv=(None, 1.2))) <= set(pool.select(cv=(None, 1.2)))


def test_lengths_and_time_select_too(pool: ClientPool) -> None:
    long = pool.select(input_tokens=(3000, None))
    rows = compose(pool, 0, "1d", scale=0.1, clients=long).collect()
    assert rows["input_tokens"].mean() > 3000
    at_night = pool.select(active_s=(3 * 3600.0, 4 * 3600.0))
    window = int(3 * 3600 / WINDOW_S)
    sending = pool.client_ids[pool.count[:, window : window + 6].sum(axis=1) > 0]
    assert at_night == sending.tolist()
    assert pool.select(top=1) == [35] and len(pool.select(top=5)) == 5


def test_imputed_clients_can_be_left_out() -> None:
    mid = ClientPool.load("m-mid")
    assert not set(mid.select(imputed=False)) & set(mid.imputed_ids)
    real = mid.published()
    assert real.imputed_ids == () and real.present_share(0.0, real.duration_s) == pytest.approx(0.708, abs=0.001)
    assert any("present clients" in note for note in compose(real, "60h", "10min", rate=5.0).description["notes"])


@pytest.mark.parametrize(
    ("ranges", "told"),
    [
        ({"rate_rps": (2.0, 1.0)}, "the least before the most"),
        ({"cv": (-1.0, None)}, "at least 0"),
        ({"output_tokens": (float("nan"), None)}, "at least 0"),
        ({"rate_rps": (1e6, None)}, "none of its 73 clients"),
        ({"top": 0}, "at least 1 client"),
    ],
)
def test_ranges_that_cannot_be_are_refused(pool: ClientPool, ranges: dict, told: str) -> None:
    with pytest.raises(WorkloadError, match=told):
        pool.select(**ranges)


def test_copies_are_independent_clients_at_the_same_rates(pool: ClientPool) -> None:
    three = pool.replicate(3)
    assert len(three.client_ids) == 3 * 73 and len(set(three.client_ids.tolist())) == 3 * 73
    assert three.rate_rps(0.0, 86_400.0) == pytest.approx(3 * pool.rate_rps(0.0, 86_400.0))
    rows = compose(three, "9h", "20min", scale=1.0).collect()
    one, other = (rows[rows["client_id"] == number]["arrival_ns"] for number in (35, 135))
    assert len(one) > 300 and len(other) > 300 and not np.array_equal(one[:100], other[:100])
    alone = compose(pool, "9h", "20min", scale=1.0, clients=[35]).collect()
    assert np.array_equal(alone["arrival_ns"], one)


def test_copies_may_live_at_other_hours(pool: ClientPool) -> None:
    spread = pool.replicate(8, spread_blocks=3)
    assert spread.count.sum() == pytest.approx(8 * pool.count.sum())
    hourly = [p.count.reshape(len(p.client_ids), 24, 6).sum(axis=(0, 2)) for p in (pool, spread)]
    assert hourly[1].max() / hourly[1].min() < 0.6 * hourly[0].max() / hourly[0].min()
    assert len(compose(spread, 0, "10min", rate=5.0).collect()) > 1000


def test_a_resampled_pool_has_clients_of_this_one(pool: ClientPool) -> None:
    drawn = pool.resample(200, seed=4)
    assert len(drawn.client_ids) == len(set(drawn.client_ids.tolist())) == 200
    assert set((drawn.client_ids % 100).tolist()) <= set(pool.client_ids.tolist())
    assert np.array_equal(drawn.count, pool.resample(200, seed=4).count)
    assert not np.array_equal(drawn.client_ids, pool.resample(200, seed=5).client_ids)


@pytest.mark.parametrize("wrong", [lambda p: p.replicate(0), lambda p: p.replicate(2, -1), lambda p: p.resample(0)])
def test_pools_of_nobody_are_refused(pool: ClientPool, wrong) -> None:
    with pytest.raises(WorkloadError):
        wrong(pool)
