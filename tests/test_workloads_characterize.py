"""Characters: what a stream was made of is what is told of it, and a second one is as far away as it was made."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import ClientPool, Stream, WorkloadError, compose, conversations, naive
from workloads.characterize import characterize, differences
from workloads.characterize.differences import ks_of_two
from workloads.characterize.gap_fits import fit_gaps, ks_of
from workloads.characterize.hashed_sample import HashedSample
from workloads.characterize.length_laws import fit_lengths
from workloads.characterize.numbers import quantiles, spearman
from workloads.stream import ITEMS, new_rows

NS = 10**9


def stream_of(arrival_s, duration_s: float, **columns) -> Stream:
    rows = new_rows(len(arrival_s))
    rows["arrival_ns"], rows["request_id"] = np.asarray(arrival_s) * NS, np.arange(len(rows))
    for name in ("input_tokens", "output_tokens", "max_tokens"):
        rows[name] = 10
    for name, values in columns.items():
        rows[name] = values
    return Stream(duration_s, lambda: (rows,))


def poisson(rate_rps: float, duration_s: float, seed: int = 1) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).uniform(0.0, duration_s, round(rate_rps * duration_s)))


def drawn(law: str, count: int = 20_000) -> np.ndarray:
    random = np.random.default_rng(11)
    if law == "gamma":
        return random.gamma(0.3, 2.0, count)
    return random.weibull(0.5, count) if law == "weibull" else random.exponential(2.0, count)


requests = st.lists(
    st.tuples(st.integers(0, 1999 * NS), st.integers(0, 3), st.integers(1, 9000), st.integers(1, 900), st.integers(-1, 5)),
    min_size=1,
    max_size=80,
)


@given(requests)
@settings(max_examples=30)
def test_any_stream_has_a_character_that_json_can_hold(rows):
    arrival, client, tokens, answer, session = np.array(sorted(rows)).T
    stream = stream_of(arrival / NS, 2000.0, client_id=client, input_tokens=tokens, output_tokens=answer, session_id=session)
    told = json.loads(json.dumps(characterize(stream), allow_nan=False))
    assert told["requests"] == len(rows) and len(told["over_time"]["rate_rps"]) == 4
    assert told["lengths"]["input_tokens"]["mean"] == pytest.approx(tokens.mean())
    assert told["lengths"]["output_tokens"]["max"] == answer.max()
    assert told["clients"]["clients"] == len(set(client.tolist()))
    covered_s = np.array([600.0, 600.0, 600.0, 200.0])
    assert np.dot(told["over_time"]["rate_rps"], covered_s) == pytest.approx(len(rows))
    assert told["clients"]["top_share_frac"]["1"] == pytest.approx(np.bincount(client).max() / len(rows))
    assert differences(told, told)["gap_ks"] == 0.0


@pytest.mark.parametrize("law", ["exponential", "gamma", "weibull"])
def test_the_law_that_gaps_were_drawn_from_fits_best(law):
    gaps_s = drawn(law)
    told = fit_gaps(gaps_s)
    if law == "exponential":  # both others contain it
        assert told["laws"][law]["ks"] < 0.012 and told["laws"]["weibull"]["shape"] == pytest.approx(1.0, abs=0.03)
    else:
        assert told["best"] == law and told["laws"][law]["ks"] < 0.012 and told["laws"]["exponential"]["ks"] > 0.15
    shape = {"exponential": 1.0, "gamma": 0.3, "weibull": 0.5}[law]
    assert told["laws"][law]["shape"] == pytest.approx(shape, rel=0.03)
    assert told["mean_s"] == pytest.approx(gaps_s.mean()) and told["cv"] == pytest.approx(gaps_s.std() / gaps_s.mean())


@pytest.mark.parametrize("law", ["gamma", "weibull"])
def test_no_other_shape_is_likelier(law):
    from scipy.special import gammaln

    gaps_s = drawn(law, 500)
    told = fit_gaps(gaps_s)["laws"][law]

    def log_likelihood(k: float, scale: float) -> float:
        if law == "gamma":
            return float(np.sum((k - 1) * np.log(gaps_s) - gaps_s / scale) - len(gaps_s) * (gammaln(k) + k * np.log(scale)))
        x = gaps_s / scale
        return float(np.sum(np.log(k / scale) + (k - 1) * np.log(x) - x**k))

    best = log_likelihood(told["shape"], told["scale_s"])
    for shape, scale in ((1.02, 1.0), (0.98, 1.0), (1.0, 1.02), (1.0, 0.98), (1.02, 0.98)):
        assert log_likelihood(shape * told["shape"], scale * told["scale_s"]) < best


def test_gaps_that_are_alike_or_few_have_no_law():
    assert fit_gaps(np.full(100, 2.0))["best"] is None
    assert fit_gaps(np.array([1.0, 2.0]))["laws"] == {}
    assert fit_gaps(np.empty(0))["mean_s"] is None and fit_gaps(np.zeros(20))["cv"] is None


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_ks_is_the_largest_distance_on_either_side_of_a_step(values):
    values = np.sort(np.array(values) / 10.0)
    either = [abs(np.mean(values <= x) - x) for x in values] + [abs(np.mean(values < x) - x) for x in values]
    assert ks_of(values, values) == pytest.approx(max(either))


def test_a_mixture_of_lognormal_and_pareto_is_found_again():
    random = np.random.default_rng(5)
    tokens = np.concatenate((random.lognormal(5.0, 0.6, 85_000), 400.0 * random.pareto(1.3, 15_000) + 400.0))
    values, counts = np.unique(np.rint(tokens).clip(1, 1e6).astype(int), return_counts=True)
    laws = fit_lengths(values, counts)
    assert laws["pareto_lognormal"]["ks"] < 0.01 < laws["lognormal"]["ks"] < laws["exponential"]["ks"]
    assert laws["pareto_lognormal"]["alpha"] == pytest.approx(1.3, rel=0.15)


def test_exponential_lengths_are_known_as_such():
    tokens = np.ceil(np.random.default_rng(5).exponential(300.0, 50_000)).astype(int)
    laws = fit_lengths(*np.unique(tokens, return_counts=True))
    assert laws["exponential"]["ks"] < 0.01 < laws["lognormal"]["ks"]


def test_lengths_of_one_value_break_no_law():
    assert all(0.0 <= law["ks"] <= 1.0 for law in fit_lengths(np.array([128]), np.array([5])).values())
    assert fit_lengths(np.array([0]), np.array([5])) == {}


def test_poisson_counts_have_dispersion_one_and_gaps_a_cv_of_one():
    told = characterize(stream_of(poisson(20.0, 7200.0), 7200.0))
    assert told["dispersion"]["1s"] == pytest.approx(1.0, abs=0.05) and told["dispersion"]["10s"] == pytest.approx(
        1.0, abs=0.15
    )
    assert np.mean(told["over_time"]["cv"]) == pytest.approx(1.0, abs=0.02)
    assert told["gaps"]["busiest"]["count"] > 20 * 1200


@given(st.lists(st.integers(0, 1299), min_size=2, max_size=40))
@settings(max_examples=30)
def test_counts_and_gaps_are_those_of_the_whole_stream(seconds):
    arrival_s = np.sort(np.array(seconds) + 0.5)
    told = characterize(stream_of(arrival_s, 1310.0))
    for span in (1, 10):
        counts = np.bincount((arrival_s // span).astype(int), minlength=1310 // span)
        assert told["dispersion"][f"{span}s"] == pytest.approx(counts.var(ddof=1) / counts.mean())
    gaps_s = np.maximum(np.diff(arrival_s), 1e-9)
    assert max(told["gaps"]["s"]) == pytest.approx(gaps_s.max(), rel=0.02)
    shares = np.diff(told["gaps"]["cumulative_frac"], prepend=0.0)
    assert np.dot(np.log(told["gaps"]["s"]), shares) == pytest.approx(np.log(gaps_s).mean(), abs=0.02)


cdfs = st.lists(st.integers(0, 9), min_size=1, max_size=12)


@given(cdfs, cdfs)
def test_two_sample_ks_is_the_largest_difference_of_shares(ours, theirs):
    def curve(values):
        return {"value": sorted(set(values)), "cumulative_frac": [np.mean(np.array(values) <= v) for v in sorted(set(values))]}

    expected = max(abs(np.mean(np.array(ours) <= x) - np.mean(np.array(theirs) <= x)) for x in range(10))
    assert ks_of_two(curve(ours), curve(theirs), "value") == pytest.approx(expected)


def test_the_busiest_twenty_minutes_are_found():
    busy = np.concatenate((np.arange(0, 7200, 5.0), np.arange(2410, 3500, 0.25) + 1e-3))
    busiest = characterize(stream_of(np.sort(busy), 7200.0))["gaps"]["busiest"]
    assert busiest["start_s"] == 2400.0 and busiest["span_s"] <= 1200.0 and busiest["count"] > 4000


def test_sorted_pairs_correlate_within_and_a_mix_of_clients_only_over_all():
    """Two clients, one short in and short out, the other long in and long out; within each, unrelated."""
    random = np.random.default_rng(2)
    client = random.integers(0, 2, 4000)
    columns = {name: random.integers(1, 50, 4000) + 1000 * client for name in ("input_tokens", "output_tokens")}
    told = characterize(stream_of(np.arange(4000) / 10.0, 400.0, client_id=client, **columns))["correlation"]
    assert told["spearman"] > 0.7 and abs(told["spearman_within_median"]) < 0.06 and told["clients_within"] == 2
    answers = dict(zip(told["output_by_input"]["input_tokens"], told["output_by_input"]["output_p50_tokens"]))
    assert min(answers.values()) < 50 < 1000 < max(answers.values())


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_spearman_is_the_correlation_of_mean_ranks(pairs):
    x, y = np.array(pairs).T

    def ranks(values):
        return np.array([np.mean(np.flatnonzero(np.sort(values) == value)) for value in values])

    expected = None if min(np.ptp(x), np.ptp(y)) == 0 else np.corrcoef(ranks(x), ranks(y))[0, 1]
    assert spearman(x, y) == (None if expected is None else pytest.approx(expected))


def test_turns_and_their_distances_are_those_of_the_conversations():
    stream = conversations(
        n=400, turns=5, rate_rps=4.0, system_tokens=0, first_tokens=50, turn_tokens=20, output_tokens=30, think_s=60.0
    )
    told = characterize(stream)["turns"]
    assert told["mean"] == told["multi_turn_mean"] == 5.0 and told["multi_turn_requests_frac"] == pytest.approx(1.0)
    assert told["between_s"]["mean"] == pytest.approx(60.0, rel=0.1)
    assert told["between_s"]["p50"] == pytest.approx(60.0 * math.log(2.0), rel=0.15)


def test_thoughts_and_items_are_told_of_the_requests_that_have_them():
    count = np.tile([2, 0], 50)
    stream = stream_of(np.arange(100), 100.0, input_tokens=400, output_tokens=100, reason_tokens=np.tile([75, 0], 50))
    (rows,) = stream.blocks()
    rows["items_count"], rows["items_start"] = count, np.cumsum(count) - count
    items = np.zeros(100, ITEMS)
    items["tokens"] = np.tile([150, 50], 50)
    told = characterize(Stream(100.0, lambda: (rows,), items=items))
    assert told["reasoning"]["reason_share_frac"] == 0.375 and told["reasoning"]["reason_per_answer"] == pytest.approx(0.6)
    assert told["reasoning"]["histogram_frac"][0] == 0.5 and told["reasoning"]["histogram_frac"][15] == 0.5
    assert told["items"] == {
        "image": {"requests_frac": 0.5, "input_share_mean_frac": 0.5, "input_tokens_frac": 0.25},
    }
    assert told["lengths"]["image_count"]["mean"] == 1.0 and told["lengths"]["image_tokens"]["mean"] == 100.0
    assert told["lengths"]["text_tokens"]["p50"] == pytest.approx(200, rel=0.004)


def test_windows_of_the_source_change_nothing():
    stream = compose(ClientPool.load("deepseek-r1"), "20h", "40min", scale=0.3)
    whole = stream.held()
    assert json.dumps(characterize(stream)) == json.dumps(characterize(whole))


def test_naive_traffic_differs_where_it_is_naive():
    """Poisson in the place of clients: rate and lengths are kept, gaps are not."""
    pool = ClientPool.load("deepseek-r1")
    real = compose(pool, "8h", "1h")
    apart = differences(characterize(naive(real, "poisson")), characterize(real))
    assert abs(apart["rate_error_frac"]) < 0.03 and apart["gap_ks"] > 0.05 and apart["cv_ratio"] < 0.9
    assert apart["lengths"]["input_tokens"]["ks"] < 0.02


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 60))
def test_a_sample_is_of_whole_names_and_depends_on_no_order(names, most):
    def sampled(order):
        sample = HashedSample(most)
        for piece in np.array_split(np.array(order, np.int64), 4):
            sample.add(piece, piece)
        return sorted(sample.rows().tolist()), sample.share

    kept, share = sampled(names)
    assert (kept, share) == sampled(names[::-1]) and len(kept) <= most
    assert all(kept.count(name) == names.count(name) for name in set(kept))
    assert share == 1.0 and len(kept) == len(names) if len(names) <= most else share < 1.0


def test_quantiles_are_values_that_so_many_do_not_exceed():
    told = quantiles(np.array([1, 2, 3, 4]), np.array([0.1, 0.5, 0.9, 1.0]))
    assert (told["p10"], told["p50"], told["p90"], told["p99"]) == (1, 2, 3, 4)


def test_nothing_has_no_character():
    with pytest.raises(WorkloadError, match="nothing to characterize"):
        characterize(Stream(60.0, lambda: ()))
    broken = new_rows(1)
    with pytest.raises(WorkloadError, match="output_tokens"):
        characterize(Stream(60.0, lambda: (broken,)))
