"""Rules of every figure: its letters lie inside, its axes keep their room, nothing is drawn for nothing."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from experiments.report import figures, timeline, windows
from experiments.report.figures import Curve, Search
from experiments.report.svg import inline, style
from experiments.report.tables import Requests, Steps
from experiments.report.words import number, seconds
from tests.test_report_folders import requests_table, steps_table

LIMIT = [("SLO p99 ≤ 5 s", 5.0)]
LIMITS = [*LIMIT, ("SLO p50 ≤ 900 ms", 0.9), ("SLO each ≤ 12 s", 12.0)]
EDGES = windows.edges_s(3600.0, 60)


@pytest.fixture(autouse=True)
def look():
    with style():
        yield


def check(figure):
    """The rules, on the figure as it is drawn."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    for axes in figure.axes:
        box = axes.get_position()
        assert box.width >= 0.15 and box.height >= 0.15
        for axis in (axes.xaxis, axes.yaxis):
            shown = _labels(axis)
            assert len(shown) >= 2, f"an axis with the ticks {[label.get_text() for label in shown]}"
            boxes = sorted((label.get_window_extent() for label in shown), key=lambda box: (box.x0, box.y0))
            assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    hidden = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in _outside(axis)}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in hidden:
            box, page = text.get_window_extent(), figure.bbox
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
            assert inside, f"{text.get_text()!r} leaves the figure"


def _labels(axis):
    outside = _outside(axis)
    return [label for label in axis.get_ticklabels() if label.get_text() and label not in outside]


def _outside(axis):
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_majorticklocs(), axis.get_ticklabels())
    return {label for place, label in ticks if not low - 1e-9 * abs(low) <= place <= high + 1e-9 * abs(high)}


def requests(n, unserved=0):
    table = requests_table(n, unserved=unserved)
    lost = table["finish_reason"].to_numpy() == "rejected"
    names = ("arrival_s", "input_tokens", "output_tokens", "ttft_s", "tpot_s", "e2el_s")
    columns = {name: table[name].to_numpy(float) for name in names}
    return Requests(**{name: np.where(lost & name.startswith(("t", "e")), np.inf, column) for name, column in columns.items()})


def steps(n):
    return Steps(**{name: column.to_numpy(float) for name, column in steps_table(n).items()})


def curves(*columns, name=""):
    return [Curve(f"{name} {i}", i, column) for i, column in enumerate(columns)]


def searches(scale=1.0, names=("per-client", "poisson", "n_hour"), counts=(5, 6, 8)):
    points = [tuple((n, scale * 40.0 / n ** (1 + i)) for n in counts) for i in range(len(names))]
    return [
        Search(name, i, points[i], points[i], counts[1], counts[0], counts[-1], scale * 9.0 if i else None)
        for i, name in enumerate(names)
    ]


CASES = {
    "three searches": lambda: figures.latency_against_instances(searches(), LIMIT, "TTFT p99"),
    "one search": lambda: figures.latency_against_instances(searches()[:1], LIMIT, "TTFT p99"),
    "no limit": lambda: figures.latency_against_instances(searches(), [], "TTFT p99"),
    "many limits": lambda: figures.latency_against_instances(searches(), LIMITS, "TTFT p99"),
    "tiny latencies": lambda: figures.latency_against_instances(searches(1e-6), [("SLO p99 ≤ 50 ms", 0.05)], "TPOT p99"),
    "huge latencies": lambda: figures.latency_against_instances(searches(1e5), LIMIT, "TTFT p99"),
    "one run": lambda: figures.latency_against_instances([Search("a", 0, ((1, 2.0),), (), 1, 1, 1)], LIMIT, "TTFT p99"),
    "all zero": lambda: figures.latency_against_instances([Search("a", 0, ((1, 0.0),), (), 1)], [], "TTFT p99"),
    "gaps": lambda: figures.latency_against_instances(
        [Search("a", 0, ((1, None), (2, 3.0), (9, 1.0)), ((2, None), (2, 3.1)), 9)], LIMIT, "TTFT"
    ),
    "cross alone": lambda: figures.latency_against_instances([Search("a", 1, (), chosen=3, real=2.0)], LIMIT, "TTFT p99"),
    "long names": lambda: figures.latency_against_instances(searches(names=["W" * 80] * 5), LIMIT, "W" * 200),
    "letters that the font lacks": lambda: figures.latency_against_instances(searches(names="漢\x7f\u202e"), [], "漢"),
    "thousands": lambda: figures.latency_against_instances(searches(counts=(900, 40_000, 100_000)), LIMIT, "TTFT p99"),
    "misses": lambda: figures.misses_against_instances([Search("a", 0, ((3, 0.2), (4, 0.004)), (), 4)], [("SLO ≤ 1 %", 0.01)]),
    "no misses": lambda: figures.misses_against_instances([Search("a", 0, ((3, 0.0),), (), 3)], []),
    "hours": lambda: figures.instances_over_hours([f"{h:02d}:00" for h in range(24)], {"a": list(range(24)), "b": [None] * 24}),
    "two hours": lambda: figures.instances_over_hours(["20:00", "21:00"], {"a": [1, 1], "W" * 80: [1, None]}),
    "cdf": lambda: figures.latency_cdf(curves(requests(500).ttft_s), LIMIT, "TTFT"),
    "cdf of plans": lambda: figures.latency_cdf(
        curves(*(requests(50).ttft_s * i for i in (1, 2, 9)), name="W" * 30), LIMITS, "TTFT"
    ),
    "cdf of one": lambda: figures.latency_cdf(curves(np.array([0.3])), [], "TTFT"),
    "cdf with lost requests": lambda: figures.latency_cdf(curves(requests(50, 20).ttft_s), LIMIT, "TTFT"),
    "cdf over nine decades": lambda: figures.latency_cdf(curves(np.geomspace(1e-6, 1e3)), LIMIT, "TTFT"),
    "cdf with a far limit": lambda: figures.latency_cdf(
        curves(np.array([0.3, 0.31])), [("SLO max ≤ 36000 s", 36000.0)], "TTFT"
    ),
    "arrivals": lambda: timeline.arrivals(requests(500), EDGES, 3600.0),
    "arrivals of one": lambda: timeline.arrivals(requests(1), EDGES, 3600.0),
    "arrivals in a day": lambda: timeline.arrivals(requests(50), windows.edges_s(86400.0, 50), 90_000.0),
    "arrivals in a blink": lambda: timeline.arrivals(requests(50), windows.edges_s(0.01, 50), 0.02),
    "tokens": lambda: timeline.tokens(requests(500), EDGES, 3600.0),
    "band": lambda: timeline.latency_band(requests(500), "ttft", LIMIT, EDGES, 3600.0),
    "band with limits": lambda: timeline.latency_band(requests(500), "ttft", LIMITS, EDGES, 3600.0),
    "band without limit": lambda: timeline.latency_band(requests(500, 300), "ttft", [], EDGES, 3600.0),
    "band of lost requests": lambda: timeline.latency_band(requests(9, 9), "ttft", LIMIT, EDGES, 3600.0),
    "queues": lambda: timeline.queues(steps(500), EDGES, 3600.0),
    "KV blocks": lambda: timeline.kv_blocks(steps(5000), 20000, 8, EDGES, 3600.0),
    "KV blocks of one": lambda: timeline.kv_blocks(steps(1), 20000, 1, EDGES, 3600.0),
}


@pytest.mark.parametrize("case", CASES)
def test_letters_stay_inside_and_axes_keep_their_room(case):
    check(CASES[case]())


@settings(max_examples=12, deadline=None)
@given(st.floats(1e-5, 1e4), st.floats(1.0, 1e5), st.floats(1e-4, 1e4))
def test_any_latencies_fit_their_axes(low, spread, limit):
    named = [(f"SLO p99 ≤ {seconds(limit)}", limit)]
    check(figures.latency_cdf(curves(np.geomspace(low, low * spread, 9)), named, "TTFT"))
    check(figures.latency_against_instances([Search("a", 0, ((2, low * spread), (3, low)), (), 3)], named, "TTFT p99"))


@pytest.mark.parametrize(
    "nothing",
    [
        lambda: figures.latency_against_instances([], LIMIT, "TTFT p99"),
        lambda: figures.latency_against_instances([Search("a", 0, ((3, None),), (), 3)], LIMIT, "TTFT p99"),
        lambda: figures.misses_against_instances([Search("a", 0, (), chosen=3)], LIMIT),
        lambda: figures.instances_over_hours(["20:00"], {"a": [3]}),
        lambda: figures.instances_over_hours(["20:00", "21:00"], {"a": [None, None]}),
        lambda: figures.latency_cdf(curves(np.full(3, np.inf)), LIMIT, "TTFT"),
        lambda: figures.latency_cdf([], LIMIT, "TTFT"),
        lambda: timeline.arrivals(requests(0), EDGES, 3600.0),
        lambda: timeline.tokens(requests(0), EDGES, 3600.0),
        lambda: timeline.latency_band(requests(0), "ttft", LIMIT, EDGES, 3600.0),
        lambda: timeline.queues(steps(0), EDGES, 3600.0),
        lambda: timeline.kv_blocks(steps(9), 0, 8, EDGES, 3600.0),
    ],
)
def test_nothing_is_drawn_for_nothing(nothing):
    assert nothing() is None


def test_line_leaves_out_what_has_no_value_and_runs_are_marks():
    search = Search("a", 0, ((4, 2.0), (3, None), (5, 0.5)), ((3, None), (4, 1.0), (4, 3.0)), 5)
    line, runs, ring = figures.latency_against_instances([search], [], "TTFT p99").axes[0].lines
    assert line.get_xydata().tolist() == [[4.0, 2.0], [5.0, 0.5]]
    assert runs.get_xydata().tolist() == [[4.0, 1.0], [4.0, 3.0]]
    assert ring.get_xydata().tolist() == [[5.0, 0.5]]


def test_axis_is_logarithmic_only_beyond_a_decade():
    near, far = (Search("a", 0, ((3, top), (4, 1.0)), (), 4) for top in (9.9, 10.1))
    assert figures.latency_against_instances([near], [], "TTFT p99").axes[0].get_yscale() == "linear"
    assert figures.latency_against_instances([far], [], "TTFT p99").axes[0].get_yscale() == "log"


def test_limit_is_drawn_at_its_value_and_written_on_the_line():
    axes = figures.latency_against_instances(searches(), LIMIT, "TTFT p99").axes[0]
    assert [5.0, 5.0] in [list(line.get_ydata()) for line in axes.lines]
    assert "SLO p99 ≤ 5 s" in [text.get_text() for text in axes.texts]


def test_svg_keeps_text_as_text_and_escapes_it():
    figure = figures.latency_cdf(curves(np.array([1.0, 2.0]), np.array([1.0, 3.0]), name="<b>&\"'$x$"), [], "TTFT")
    svg = inline(figure, "key", "a < b", "c > d")
    assert "&lt;b&gt;&amp;" in svg and "$x$" in svg and "<b>" not in svg
    assert "<title" in svg and "a &lt; b" in svg


def test_svg_ids_begin_with_the_key():
    svg = inline(figures.latency_cdf(curves(np.array([1.0, 2.0])), [], "TTFT"), "mine", "t", "d")
    assert (found := re.findall(r' id="(.*?)"', svg)) and all(name.startswith("mine-") for name in found)
    assert "xmlns" not in svg and "http" not in svg


def test_users_matplotlib_settings_change_nothing():
    import matplotlib as mpl

    def made():
        with style():
            return inline(figures.latency_cdf(curves(np.array([1.0, 2.0])), LIMIT, "TTFT"), "k", "t", "d")

    plain = made()
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30}):
        assert made() == plain


@given(st.floats(0.0, 1e9))
def test_numbers_keep_three_digits(value):
    shown = float(number(value).replace(",", ""))
    assert shown == pytest.approx(value, rel=5.1e-3, abs=1e-12)
