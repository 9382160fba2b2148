"""What is drawn and tabled of a validation: every simulated figure, in a file that is there whole or not at all."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from experiments.errors import UserError
from experiments.report.svg import style
from experiments.validate import validate
from experiments.validate.judgement import Group, Judged
from experiments.validate.picture import draw
from experiments.validate.table import group_table, knee_table
from tests.test_report_figures import check
from tests.test_validate import judged, recorded

ROOT = Path(__file__).resolve().parents[1]


def figure(gpu="H100-SXM-80GB", software="vLLM 0.12", metric="tpot_mean_s", measured=0.01, predicted=0.012, **more):
    return Judged("a", Group(gpu, "m", "bf16", 1, software, "closed_concurrency", metric), measured, predicted, **more)


MANY = [
    figure(f"{gpu}-SXM-80GB", f"{engine} 1.{i}", metric, scale * (1 + i), scale * (1 + i) * 1.1, is_capped=i == 3)
    for gpu in ("H100", "H200", "B200", "A100", "L40S", "GH200", "MI300X")
    for engine in ("vLLM", "TRT-LLM", "SGLang")
    for metric, scale in (("tpot_mean_s", 0.004), ("ttft_p99_s", 0.05), ("e2e_mean_s", 1.0), ("output_tokens_per_s", 900.0))
    for i in range(5)
]


@pytest.mark.parametrize(
    "kept",
    [MANY, MANY[:5], [figure()], [figure(), figure(metric="requests_per_s", measured=3.0, predicted=2.0)], MANY[::7]],
    ids=["all kinds", "one kind", "one figure", "two kinds", "some"],
)
def test_letters_lie_inside_and_axes_have_ticks(kept):
    with style():
        check(draw(kept))


def test_every_figure_is_drawn_once_in_the_panel_of_its_kind():
    with style():
        drawn = draw(MANY)
        FigureCanvasAgg(drawn)
        drawn.draw_without_rendering()
    places = {axes.get_title(loc="left").split(",")[0]: axes for axes in drawn.axes}
    assert list(places) == ["TPOT", "TTFT", "E2E", "tokens/s"]
    for axes, start in zip(places.values(), ("tpot", "ttft", "e2e", "output")):
        points = sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1)
        assert points == sorted((one.measured, one.predicted) for one in MANY if one.group.metric.startswith(start))
        assert axes.get_xlim() == axes.get_ylim() and axes.get_xscale() == axes.get_yscale() == "log"


def test_errors_told_on_a_panel_leave_out_what_queues():
    with style():
        (axes,) = draw([figure(predicted=0.0105), figure(predicted=0.02), figure(predicted=9.0, is_capped=True)]).axes
    assert any("50% within ±10%" in text.get_text() for text in axes.texts)


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_picture_is_the_same_in_every_run(tmp_path, ending):
    paths = [tmp_path / f"{name}.{ending}" for name in "ab"]
    for path in paths:
        judged(tmp_path, {}, {"metric": "ttft_mean_s"}, picture=path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    if ending == "svg":
        assert ElementTree.parse(paths[0]).getroot().tag.endswith("svg")
    else:
        assert imread(paths[0]).std() > 0.05
    assert {path.name for path in tmp_path.iterdir()} == {"points.csv", *(path.name for path in paths)}


@pytest.mark.parametrize(
    "name, told", [("a.pdf", "ends in .svg or .png"), ("a", "ends in"), ("none/a.svg", "there is no folder")]
)
def test_a_picture_that_cannot_be_is_refused_before_any_work(tmp_path, name, told):
    with pytest.raises(UserError, match=f"--picture .*{told}"):
        validate(tmp_path / "missing.csv", picture=tmp_path / name)


def test_there_is_no_picture_of_nothing_nor_of_a_recorded_run(tmp_path):
    with pytest.raises(UserError, match="nothing was simulated"):
        judged(tmp_path, {"gpu": "TPU"}, picture=tmp_path / "a.svg")
    with pytest.raises(UserError, match="expected with a file of points"):
        validate(recorded(tmp_path / "run"), picture=tmp_path / "a.svg")
    assert not (tmp_path / "a.svg").exists()


def test_tables_have_a_row_for_each_group_and_the_same_cells_in_all(tmp_path):
    target = tmp_path / "out.json"
    rows = [{"metric": metric, "software": "a|b"} for metric in ("tpot_mean_s", "ttft_mean_s", "tpot_mean_s")]
    told = judged(tmp_path, *rows, {"id": "b", "isl": "8192", "load_value": "64", "notes": "requests=64"}, json_out=target)
    table = group_table(told["groups"]).splitlines()
    assert len(table) == 2 + len(told["groups"]) == 6
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "e2e_mean_s (derived)" in table[2] and "1: 0.0%" in table[3]  # measured twice alike
    command = [sys.executable, "-m", "experiments.validate.table", str(target)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert printed == group_table(json.loads(target.read_text())["groups"]) + "\n" + knee_table([])
