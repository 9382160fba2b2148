"""What the report says: the answer first, in words that are true of the folder."""

import doctest
import json

import pytest

from experiments.report import markup, windows, words
from experiments.report.comparison import against
from experiments.report.schema import Sizing
from tests.test_report_folders import Page, compare, make_folder, plan, report, requests_table, steps_table, summary_of

KINDS = ("plan", "compare")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report of each kind of folder."""
    base = tmp_path_factory.mktemp("runs")
    return {kind: Page(report(make_folder(base / kind, kind))) for kind in KINDS}


def test_plan_says_its_answer_first(pages):
    text = pages["plan"].text
    assert "You need 8 instances (32 GPUs) to hold TTFT p99 ≤ 5 s and TPOT p99 ≤ 50 ms" in text
    assert "The limit that binds is TTFT p99 ≤ 5 s." in text
    assert "interval 7–9, 3 seeds" in text
    assert "∞ (more than 1 % not served)" in text


def test_plan_without_an_answer_says_so(tmp_path):
    found = plan() | {
        "instances": None,
        "lo": None,
        "hi": None,
        "gpus": None,
        "verdict": "NOT REACHED",
        "binding_term": None,
    }
    folder = make_folder(tmp_path, "plan", n=20, plan=found)
    assert "No number of instances that was tried (5–10) is enough to hold TTFT p99 ≤ 5 s" in Page(report(folder)).text


def test_plan_limits_other_than_the_headlines_get_their_own_figure(tmp_path):
    search = plan(slo="e2el.p90:20s tpot:50")
    for one in search["runs"]:
        one["terms"] = [
            {
                "term": "e2el.p90:20s",
                "key": "e2el_p90_s",
                "value": 100.0 / one["instances"],
                "limit": 20.0,
                "holds": True,
            },
            {
                "term": "tpot:50",
                "key": "slo_attainment_frac",
                "value": 1 - 0.1 / one["instances"],
                "limit": 0.99,
                "holds": True,
            },
        ]
    table = requests_table(20)
    folder = make_folder(tmp_path, "plan", plan=search, requests=table, summary=summary_of(table, slo=None), scenario="")
    text = Page(report(folder)).text
    assert "E2E p90 against instances" in text
    assert "Requests that miss a limit, against instances" in text


def test_comparison_says_who_is_under_and_by_how_much_it_misses(pages):
    text = pages["compare"].text
    assert "you need 6 instances to hold" in text
    assert (
        "poisson sizing says 5 (−1 under) and misses under the real mix: "
        "TTFT p99 is 12.3 s, 2.5 times the limit of 5 s." in text
    )


def test_comparison_says_plainly_when_naive_sizing_suffices(pages):
    assert "n_hour sizing says 6 (same) and holds under the real mix: here naive sizing suffices." in pages["compare"].text


def test_comparison_of_a_day_counts_hours(tmp_path):
    text = Page(report(make_folder(tmp_path, "compare", n=20, compare=compare(24)))).text
    assert "Over 24 hours from 20:00–21:00 on" in text
    assert "poisson sizing, hour by hour: under in 24 of 24; under the real mix it misses the SLO in 24 of 24." in text
    assert (
        "n_hour sizing, hour by hour: same in 24 of 24; "
        "under the real mix it holds in all of them: here naive sizing suffices." in text
    )
    assert "Instances, hour by hour" in text and "day 2, 00:00–01:00" in text


@pytest.mark.parametrize(("naive", "words"), [(4, "−2 under"), (6, "same"), (9, "+3 over"), (None, "–")])
def test_difference_comes_with_sign_and_words(naive, words):
    assert against(Sizing(instances=naive), Sizing(instances=6)) == words


def test_naive_plan_that_loses_requests_reads_as_infinite(tmp_path):
    content = compare()
    content["hours"][0]["naive"]["poisson"] |= {"ttft_p99_s": None, "tpot_p99_s": None}
    text = Page(report(make_folder(tmp_path, "compare", n=20, compare=content))).text
    assert "misses under the real mix: TTFT p99 is ∞ (more than 1 % not served), the limit 5 s." in text


def test_verdict_does_not_rest_on_colour(tmp_path):
    table = requests_table(200)
    table["ttft_s"] *= 20.0
    text = Page(report(make_folder(tmp_path, requests=table, summary=summary_of(table)))).text
    assert "✗ TTFT p99" in text and "limit 5 s · missed" in text and "✓ TPOT p99" in text and "· holds" in text
    assert "8 instances miss TTFT p99 ≤ 5 s" in text


def test_unserved_requests_are_told_and_make_statistics_infinite(tmp_path):
    table = requests_table(1000, unserved=100)
    text = Page(report(make_folder(tmp_path, requests=table, summary=summary_of(table)))).text
    assert "TTFT p99 is ∞ (more than 1 % not served)" in text
    assert "∞: 100 requests not served, which count as infinitely late." in text
    assert "100 requests not served: there the curve ends below 100 %." in text


def test_page_of_nothing_but_rejections_is_right(tmp_path):
    table = requests_table(5, unserved=5)
    page = Page(report(make_folder(tmp_path, requests=table, summary=summary_of(table, 1), steps=steps_table(0))))
    assert "None of 5 requests could be served by 1 instance." in page.text
    assert not any("cdf" in value for value in page.values("aria-labelledby"))


def test_page_of_one_request_on_one_instance_is_right(tmp_path):
    table = requests_table(1)
    page = Page(report(make_folder(tmp_path, requests=table, summary=summary_of(table, 1), steps=steps_table(1, instances=1))))
    assert "1 instance holds TTFT p99 ≤ 5 s" in page.text
    assert sum("cdf" in value for value in page.values("aria-labelledby")) == 3


def test_page_of_no_requests_at_all_is_right(tmp_path):
    table = requests_table(0)
    folder = make_folder(tmp_path, requests=table, summary=summary_of(table), steps=steps_table(0))
    page = Page(report(folder))
    assert "Nothing happened in this run." in page.text
    assert "svg" not in {tag for tag, _ in page.tags}


def test_summary_alone_makes_a_page(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(summary_of(requests_table(100))))
    text = Page(report(tmp_path)).text
    assert "8 instances hold" in text and "rows were not kept (--no-rows)" in text


def test_trust_gives_command_seeds_grade_error_and_notes(pages):
    text = pages["plan"].text
    for fact in (
        "servecast plan chat.toml --seed 1",
        "judged on seeds2, 3, 4",
        "measured, mean absolute error 6.1 %",
        "reference (asked for)",
    ):
        assert fact in text
    assert "13 % of the pool's clients send nothing" in text and "nothing was cut" in text


@pytest.mark.parametrize("module", [markup, windows, words])
def test_examples_in_the_docstrings_are_right(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def test_plan_shows_what_it_was_judged_on_where_it_says(tmp_path):
    curve = [{"instances": n, "ttft_p99_s": 40.0 / n, "tpot_p99_s": 0.3 / n, "attainment_frac": 0.98} for n in (8, 7)]
    judged = [point | {"holds": point["instances"] == 8} for point in curve]
    text = Page(report(make_folder(tmp_path, "plan", n=20, plan=plan() | {"curve": judged}))).text
    assert "The search, all seeds taken together" in text
    assert "70 of 3" in text and "5.71 s42.9 ms98.0 %✗ misses" in text
    assert "83 of 3" in text and "5 s37.5 ms98.0 %✓ holds" in text


def test_plan_without_a_curve_shows_the_worst_of_its_seeds(tmp_path):
    search = plan(counts=(8,))
    text = Page(report(make_folder(tmp_path, "plan", n=20, plan=search))).text
    worst = max(run["ttft_p99_s"] for run in search["runs"])
    assert "The search, worst of the seeds" in text and f"83 of 3{worst:.2f}".rstrip("0") in text


def test_attainment_of_the_scenario_is_told(tmp_path):
    table = requests_table(50)
    summary = summary_of(table, slo=None) | {"slo": "ttft:5s", "slo_holds": True, "slo_attainment_frac": 0.97}
    folder = make_folder(tmp_path, requests=table, summary=summary, scenario="attainment = 0.95\n")
    assert "8 instances hold TTFT ≤ 5 s for 95 % of requests" in Page(report(folder)).text


def test_plans_of_as_many_instances_are_shown_as_one(pages):
    assert "TTFTper-client, n_hour" in pages["compare"].text and "TTFTpoisson" in pages["compare"].text


def test_instances_that_the_search_found_are_not_told_as_given(pages):
    assert "cluster.gpuh100" in pages["plan"].text and "cluster.instances" not in pages["plan"].text


def test_comparison_may_tell_its_profile_and_notes(tmp_path):
    told = {"profile": {"grade": "roofline", "error_mape_frac": None, "source": ""}, "notes": ["Quiet clients were left out."]}
    text = Page(report(make_folder(tmp_path, "compare", n=20, compare=compare() | told))).text
    assert "roofline, error not known" in text and "Quiet clients were left out." in text
