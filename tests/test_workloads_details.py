"""What composed requests have besides arrival and lengths: correlation, thinking tokens, items, limits; by law and by pool."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from workloads import ClientPool, Stream, WorkloadError, check_segments, check_stream, compose
from workloads.fields import REASON, REASON_PARTS, meant
from workloads.lengths import LengthTable
from workloads.numerics import normal_cdf
from workloads.stream import MODALITIES
from workloads.traffic_model import TrafficModel

CLIENT = 0


def image(duration: str = "20min", **model) -> Stream:
    return compose(ClientPool.load("mm-image"), "10h", duration, seed=4, model=TrafficModel(**model))


def reasoning(duration: str = "1h", **model) -> np.ndarray:
    return compose(ClientPool.load("deepseek-r1"), "8h", duration, rate=20, seed=3, model=TrafficModel(**model)).collect()


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Of mean ranks, as ties of token counts are many."""
    ranks = []
    for values in (a, b):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2.0)[inverse])
    return float(np.corrcoef(*ranks)[0, 1])


@given(st.floats(-36.0, 36.0))
def test_the_normal_distribution_is_scipys(z: float) -> None:
    assert float(normal_cdf(z)) == pytest.approx(float(special.ndtr(z)), rel=2e-8, abs=1e-15)


@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.3, 1.0])
def test_lengths_of_a_client_have_the_rank_correlation_asked_for(correlation: float) -> None:
    rows = reasoning("3h", correlation=correlation)
    for client in np.unique(rows["client_id"]):
        own = rows[rows["client_id"] == client]
        if len(own) >= 5000:
            assert spearman(own["input_tokens"], own["output_tokens"]) == pytest.approx(correlation, abs=0.05)


def test_correlation_keeps_prompts_and_the_law_of_answers() -> None:
    plain, bound = reasoning("3h"), reasoning("3h", correlation=0.8)
    assert np.array_equal(plain["input_tokens"], bound["input_tokens"])
    assert bound["output_tokens"].mean() == pytest.approx(plain["output_tokens"].mean(), rel=0.05)


def test_tokens_that_think_are_part_of_the_answer_and_have_two_modes() -> None:
    rows = compose(ClientPool.load("deepseek-r1"), 0, "1d", seed=2).collect()
    share = rows["reason_tokens"] / rows["output_tokens"]
    assert np.all((share >= 0.0) & (share <= 1.0)) and share.mean() == pytest.approx(0.702, abs=0.01)
    bins = np.histogram(share, 20, (0.0, 1.0))[0]
    assert bins[7] > 1.5 * bins[10] < bins[17]  # modes near .37 and .95, a dip near .55 (facts of the published pool)


def test_shares_are_drawn_in_whole_501sts() -> None:
    stored = ClientPool.load("deepseek-r1").lengths[REASON].knots
    assert np.all(meant(REASON, stored) <= REASON_PARTS)


@pytest.mark.parametrize("repeated", [0.0, 0.4])
def test_prompts_hold_their_items_and_then_text(repeated: float) -> None:
    stream = image(repeated_items=repeated)
    rows = stream.collect()
    check_stream(rows)
    check_segments(rows, stream.segments, stream.items)
    per_request = np.add.reduceat(np.append(stream.items["tokens"], 0), rows["items_start"]) * (rows["items_count"] > 0)
    assert len(stream.items) == rows["items_count"].sum() and np.all(rows["input_tokens"] > per_request)
    assert stream.items["modality"].max() == MODALITIES.index("image")
    assert np.all(stream.items["encoder_units"] == 4 * stream.items["tokens"])


def test_repeated_items_are_the_same_item_and_share_memory_where_they_begin_a_prompt() -> None:
    none, some = image(), image(repeated_items=0.5)
    assert len(np.unique(none.items["item_id"])) == len(none.items) and len(none.segments) == 0
    ids, first, counts = np.unique(some.items["item_id"], return_index=True, return_counts=True)
    again = some.items["item_id"][np.isin(some.items["item_id"], ids[counts > 1])]
    assert len(again) / len(some.items) == pytest.approx(0.5, abs=0.05)
    tokens = dict(zip(ids.tolist(), some.items["tokens"][first].tolist()))
    assert all(tokens[i] == t for i, t in zip(some.items["item_id"].tolist(), some.items["tokens"].tolist()))
    begins = some.segments["segment_id"][some.collect()["segments_start"]]
    assert len(np.unique(begins)) < 0.9 * len(begins)


def test_items_and_slices_do_not_depend_on_how_the_stream_is_consumed() -> None:
    stream = image()
    joined = np.concatenate(list(stream.windows(7.0)))
    assert joined.tobytes() == stream.collect().tobytes()
    assert stream.items.tobytes() == image().items.tobytes()


def test_a_client_keeps_its_items_whoever_else_sends() -> None:
    pool = ClientPool.load("mm-image")
    one, all_of_them = (compose(pool, "10h", "20min", scale=1.0, clients=c) for c in ([CLIENT], None))
    mine = all_of_them.collect()
    mine = mine[mine["client_id"] == CLIENT]
    own = one.collect()
    assert np.array_equal(own["input_tokens"], mine["input_tokens"]) and len(own) > 50
    rows = np.concatenate([np.arange(a, a + n) for a, n in zip(mine["items_start"], mine["items_count"])])
    assert all_of_them.items[rows].tobytes() == one.items.tobytes()


def test_limits_are_what_the_model_says() -> None:
    longest = ClientPool.load("deepseek-r1").max_output_tokens
    assert np.all(reasoning("10min")["max_tokens"] == longest)
    rows = reasoning("10min", max_tokens="output")
    assert np.array_equal(rows["max_tokens"], rows["output_tokens"])
    rows = reasoning("10min", max_tokens="client")
    assert np.all(rows["max_tokens"] >= rows["output_tokens"]) and len(np.unique(rows["max_tokens"])) > 2
    assert all(len(np.unique(rows["max_tokens"][rows["client_id"] == c])) == 1 for c in np.unique(rows["client_id"]))
    plain, cut = reasoning("10min"), reasoning("10min", max_tokens=500)
    assert np.array_equal(cut["output_tokens"], np.minimum(plain["output_tokens"], 500)) and np.all(cut["max_tokens"] == 500)
    assert np.all(cut["reason_tokens"] <= 500)


@given(st.floats(-1.0, 1.0), st.sampled_from(["pool", "client", "output", 77]), st.floats(0.0, 1.0))
@settings(max_examples=10, deadline=None)
def test_whatever_the_model_streams_are_sound(correlation, max_tokens, repeated) -> None:
    model = TrafficModel(correlation=correlation, max_tokens=max_tokens, repeated_items=repeated)
    stream = compose(ClientPool.load("mm-image"), "3h", "2min", seed=1, model=model)
    rows = stream.collect()
    check_stream(rows)
    check_segments(rows, stream.segments, stream.items)


def test_every_mistake_of_a_model_is_told() -> None:
    with pytest.raises(WorkloadError) as error:
        TrafficModel(arrivals="weibull", rates="smoth", correlation=2.0, max_tokens="pol", repeated_items=-1.0)
    told = str(error.value)
    assert "nearest: smooth" in told and "nearest: pool" in told and "from -1 to 1" in told and "from 0 to 1" in told
    with pytest.raises(WorkloadError, match="nearest: weibull_gap"):
        TrafficModel(arrivals="weibul_gap")
    for wrong in (0, True, 10**9):
        with pytest.raises(WorkloadError, match="max_tokens"):
            TrafficModel(max_tokens=wrong)


def test_past_their_end_the_data_come_again() -> None:
    pool = ClientPool.load("deepseek-r1")
    stream = compose(pool, "20h", "10h", scale=0.2)
    counts = [len(rows) for rows in stream.windows(3600.0)]
    native = [pool.rate_rps(hour % 24 * 3600.0, 3600.0) * 3600.0 * 0.2 for hour in range(20, 30)]
    assert len(counts) == 10 and counts == pytest.approx(native, rel=0.25)
    assert sum(counts) == pytest.approx(sum(native), rel=0.05)
    assert any("come again" in note for note in stream.description["notes"])
    later = compose(pool, "44h", "1h", scale=0.2).description
    assert later["native_rate_rps"] == pytest.approx(native[0] / 3600.0 / 0.2)


def test_smooth_rates_keep_the_requests_of_every_window_and_the_jumps_go() -> None:
    pool = ClientPool.load("deepseek-r1")
    counts = {}
    for rates in ("stepped", "smooth"):
        sums = np.zeros((6, 60))
        for seed in range(40):
            rows = compose(pool, "21h", "1h", seed=seed, model=TrafficModel("exponential", rates)).collect()
            sums += np.bincount(rows["arrival_ns"] // 10**10, minlength=360).reshape(6, 60)
        counts[rates] = sums / 40
    assert counts["smooth"].sum(axis=1) == pytest.approx(counts["stepped"].sum(axis=1), rel=0.02)
    edge = {rates: np.abs(c[1:, :6].mean(axis=1) - c[:-1, -6:].mean(axis=1)).mean() for rates, c in counts.items()}
    assert edge["smooth"] < 0.5 * edge["stepped"]


def test_a_stream_of_nobody_has_tables_too() -> None:
    stream = compose(ClientPool.load("mm-image"), "10h", "1s", rate=1e-6, model=TrafficModel(repeated_items=0.5))
    assert len(stream.collect()) == len(stream.items) == len(stream.segments) == 0


def test_prompts_beyond_all_bounds_are_refused() -> None:
    pool = ClientPool.load("mm-image")
    table = pool.lengths["image_tokens"]
    huge = LengthTable.of(np.full_like(table.knots, 9e6), np.full_like(table.mean, 9e6), table.tail_shape)
    longer = dataclasses.replace(pool, lengths={**pool.lengths, "image_tokens": huge})
    with pytest.raises(WorkloadError, match="tokens, expected at most"):
        compose(longer, "10h", "1min").collect()
