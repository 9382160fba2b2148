"""The SLO grammar."""

import pytest

from sim import Slo, SloError


def test_a_percentile_term_is_about_the_run_and_a_bare_one_about_each_request():
    slo = Slo.parse("ttft.p99:2s tpot:50")
    run, request = slo.run_terms[0], slo.request_terms[0]
    assert (run.metric, run.stat, run.percentile, run.limit_s) == ("ttft", "p99", 99.0, 2.0)
    assert (request.metric, request.stat, request.limit_s) == ("tpot", None, 0.05)


@pytest.mark.parametrize(
    ("text", "limit_s"),
    [("ttft:500", 0.5), ("ttft:500us", 5e-4), ("ttft:500ms", 0.5), ("ttft:1.5s", 1.5), ("ttft:2min", 120.0)],
)
def test_units_and_the_default_of_milliseconds(text, limit_s):
    assert Slo.parse(text).terms[0].limit_s == pytest.approx(limit_s)


def test_e2e_is_another_name_of_e2el_and_max_is_the_last_percentile():
    term = Slo.parse("e2e.max:9s").terms[0]
    assert term.metric == "e2el" and term.percentile == 100.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tfft.p99:2s", "did you mean 'ttft'"),
        ("ttft.p99:2sec", "no unit 'sec'"),
        ("ttft.p100:2s", "no statistic 'p100'"),
        ("ttft.q99:2s", "no statistic 'q99'"),
        ("ttft.p99:-2s", "positive"),
        ("ttft.p99:0s", "positive"),
        ("ttft.p99:infs", "expected metric"),
        ("ttft.p99=2s", "expected metric"),
        ("ttft:1..2s", "not a number"),
        ("", "at least one term"),
        ("ttft.p99:2s ttft.p99:3s", "limited twice"),
    ],
)
def test_a_mistake_is_named(text, said):
    with pytest.raises(SloError, match=said):
        Slo.parse(text)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(SloError) as error:
        Slo.parse("tfft:1 tpot:1x queue:2")
    assert "tfft" in str(error.value) and "1x" in str(error.value)


def test_an_attainment_is_a_share():
    with pytest.raises(SloError, match="share"):
        Slo.parse("ttft:1", attainment=99)
