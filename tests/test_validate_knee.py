"""The knee: the highest rate at a limit on TPOT, and whole requests of closed loops, from which it is made."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.validate.judgement import Group, Judged
from experiments.validate.knee import FEWEST, TPOT_LIMITS_S, highest_rps, knee_groups, knees_of
from experiments.validate.point import Setting
from experiments.validate.request_time import request_times
from tests.test_validate import judged

OUTPUT_TOKENS = 101
CURVES = st.lists(st.tuples(st.floats(0.001, 0.2), st.floats(0.01, 100.0)), min_size=1, max_size=8)


def figure(n, metric, measured, predicted, **group):
    """A figure of a closed loop of n requests."""
    setting = Setting("g", "m", "p", 1, "s", 512, OUTPUT_TOKENS, "closed_concurrency", float(n))
    return Judged(
        f"{n}", Group("g", "m", "p", 1, "s", "closed_concurrency", metric), measured, predicted, setting=setting, **group
    )


def loops(tpots_s, faster=1.0, **group):
    """Closed loops of 1, 2, 4, ... requests with these TPOTs, no TTFT, and predicted ones that are `faster` times as fast."""
    concurrencies = [2**i for i in range(len(tpots_s))]
    ttfts = [figure(n, "ttft_mean_s", 1e-12, 1e-12, **group) for n in concurrencies]
    return ttfts + [figure(n, "tpot_mean_s", s, s / faster, **group) for n, s in zip(concurrencies, tpots_s)]


def knees(figures):
    return knees_of(request_times(figures))


# ---- laws ----


@settings(max_examples=200)
@given(CURVES, st.floats(0.0005, 0.3), st.floats(1.0, 2.0))
def test_a_looser_limit_never_holds_a_lower_rate(curve, limit_s, looser):
    assert highest_rps(curve, limit_s) <= highest_rps(curve, limit_s * looser) * (1.0 + 1e-12)


@settings(max_examples=200)
@given(CURVES, st.floats(0.0005, 0.3))
def test_the_highest_rate_is_that_of_the_curve_drawn_finely(curve, limit_s):
    """A twin by brute force: each straight piece on logarithms as 2,000 points."""
    share = np.linspace(0.0, 1.0, 2000)
    rates = [rps for tpot_s, rps in curve if tpot_s <= limit_s]
    for (one_s, one_rps), (other_s, other_rps) in pairwise(curve):
        tpot_s, rps = one_s * (other_s / one_s) ** share, one_rps * (other_rps / one_rps) ** share
        rates += list(rps[tpot_s <= limit_s])
    assert highest_rps(curve, limit_s) == pytest.approx(max(rates, default=0.0), rel=0.01)


@settings(max_examples=100)
@given(st.lists(st.floats(0.004, 0.15), min_size=FEWEST, max_size=8, unique=True))
def test_knees_of_predictions_as_measured_have_no_error_and_lie_inside(tpots_s):
    found = knees(loops(sorted(tpots_s)))
    inside = [limit_s for limit_s in TPOT_LIMITS_S if min(tpots_s) < limit_s < max(tpots_s)]
    assert [knee.tpot_limit_s for knee in found] == inside
    assert all(knee.error_frac == 0.0 and not knee.beyond for knee in found)


# ---- by hand ----


def test_the_rate_at_a_limit_is_interpolated_on_logarithms():
    # 1 .. 16 requests of 100 gaps; TPOT doubles with the requests from 2 on, so that the rate stays
    found = {knee.tpot_limit_s: knee for knee in knees(loops([0.005, 0.006, 0.012, 0.024, 0.048]))}
    assert list(found) == [0.0075, 0.010, 0.015, 0.020, 0.030]
    assert found[0.010].concurrencies == (1, 2, 4, 8, 16)
    assert found[0.010].measured_rps == pytest.approx(2 / (100 * 0.006), rel=1e-6)
    rising = {knee.tpot_limit_s: knee for knee in knees(loops([0.005, 0.0075, 0.008, 0.0125, 0.048]))}
    between = (0.010 / 0.008) ** (np.log((8 / 0.0125) / (4 / 0.008)) / np.log(0.0125 / 0.008)) * 4 / 0.8
    assert rising[0.010].measured_rps == pytest.approx(between, rel=1e-6)


def test_a_curve_that_does_not_reach_the_limit_is_a_miss_and_is_told_as_one():
    slow = knees(loops([0.005, 0.006, 0.008, 0.009, 0.011], faster=0.5))
    assert [(knee.tpot_limit_s, knee.beyond) for knee in slow] == [(0.0075, True), (0.010, False)]
    assert slow[0].predicted_rps == pytest.approx(1 / (100 * 0.010))  # one request alone is already too slow
    assert slow[0].error_frac < 0.0
    fast = knees(loops([0.005, 0.006, 0.008, 0.009, 0.011], faster=2.0))
    assert [(knee.tpot_limit_s, knee.beyond) for knee in fast] == [(0.0075, True), (0.010, True)]
    assert fast[0].predicted_rps == pytest.approx(16 / (100 * 0.0055))  # its last concurrency still holds the limit
    (group,) = knee_groups(fast)
    assert (group["n"], group["beyond_n"]) == (2, 2) and group["bias_frac"] == group["mape_frac"] > 0.5


def test_few_concurrencies_and_those_that_queue_make_no_knee():
    tpots_s = [0.005, 0.006, 0.012, 0.024, 0.048]
    assert knees(loops(tpots_s)) and not knees(loops(tpots_s[:4]))
    assert not knees(loops(tpots_s, is_capped=True))
    assert not knees([one for one in loops(tpots_s) if one.group.metric == "tpot_mean_s"])


# ---- whole requests ----


def test_a_whole_request_is_its_first_token_and_its_gaps():
    (time,) = request_times([figure(4, "ttft_mean_s", 0.5, 0.25), figure(4, "tpot_mean_s", 0.01, 0.02)])
    assert (time.measured_s, time.predicted_s) == (pytest.approx(1.5), pytest.approx(2.25))
    assert (time.judged.group.metric, time.judged.group.derived) == ("e2e_mean_s", True)


def test_the_derived_e2e_of_a_file_is_a_group_of_its_own(tmp_path):
    rows = [{"metric": metric} for metric in ("ttft_mean_s", "tpot_mean_s", "e2e_mean_s")]
    first = {point["metric"]: point["predicted"] for point in judged(tmp_path, *rows)["points"]}
    assert first["e2e_mean_s"] == pytest.approx(first["ttft_mean_s"] + 31 * first["tpot_mean_s"], rel=1e-6)
    told = judged(tmp_path, *({**row, "measured": repr(first[row["metric"]] / 2)} for row in rows))
    groups = {(group["metric"], group["derived"]): group for group in told["groups"]}
    assert (
        groups["e2e_mean_s", True]["bias_frac"] == pytest.approx(groups["e2e_mean_s", False]["bias_frac"]) == pytest.approx(1.0)
    )
    assert len(told["points"]) == 3


def test_a_file_of_five_concurrencies_has_its_knees(tmp_path, capsys):
    rows = [
        {"id": f"n{n}", "load_value": str(n), "metric": metric, "isl": "64"}
        for n in (1, 4, 16, 64, 128)
        for metric in ("ttft_mean_s", "tpot_mean_s")
    ]
    first = {(point["id"], point["metric"]): point["predicted"] for point in judged(tmp_path, *rows)["points"]}
    again = [{**row, "measured": repr(1.05 * first[row["id"], row["metric"]])} for row in rows]
    told = judged(tmp_path, *again)
    assert told["knees"] and {knee["tpot_limit_s"] for knee in told["knees"]} <= set(TPOT_LIMITS_S)
    assert all(knee["error_frac"] > 0.0 and knee["concurrencies"] == (1, 4, 16, 64, 128) for knee in told["knees"])
    (group,) = told["knee_groups"]
    assert group["n"] == len(told["knees"]) and "knees" in capsys.readouterr().out
