"""Fitting and characterizing from the command line: sources, files that are whole or not there, figures one can open."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from experiments.character_figures import FIGURES, figures
from experiments.character_laws import gap_law, length_law
from experiments.characterize import characterize_source
from experiments.errors import UserError
from experiments.fit import fit_trace
from experiments.report.svg import style
from experiments.sources import Part, source_of
from tests.shared_data import SHARED, needs_shared
from workloads import ClientPool, WorkloadError, compose, conversations
from workloads.characterize import characterize
from workloads.characterize.gap_fits import fit_gaps
from workloads.pool_file import read_pool
from workloads.stream import ITEMS, Stream
from workloads.stream_file import save

HOUR = Part(start="20h", duration="1h", scale=0.2, seed=4)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    save(compose(ClientPool.load("deepseek-r1"), "20h", "1h", scale=0.2, seed=4), path)
    return path


def test_a_trace_becomes_a_pool_that_is_a_source_itself(trace, tmp_path, capsys):
    target = fit_trace(str(trace), tmp_path)
    assert target == tmp_path / "trace.npz"
    pool, told = read_pool(target), capsys.readouterr().out
    assert pool.count.sum() == len(source_of(str(trace)).collect()) and f"{len(pool.client_ids)} clients" in told
    assert pool.provenance["source"] == "trace.csv" and pool.provenance["grades"]["arrivals"] == "fitted"
    assert str(tmp_path) not in json.dumps(pool.provenance)
    stream = source_of(str(target))
    assert stream.duration_s == 3600.0 and len(stream.collect()) == pytest.approx(pool.count.sum(), rel=0.1)


def test_a_pool_is_not_written_over_another_nor_where_no_folder_is(trace, tmp_path):
    (tmp_path / "x.npz").write_bytes(b"mine")
    for out, name, expected in (
        (tmp_path / "x.npz", None, "--force"),
        (tmp_path / "no" / "x.npz", None, "no folder"),
        (tmp_path, "../x", "letters"),
        (tmp_path / "y.npz", "z", "named by its file"),
    ):
        with pytest.raises(UserError, match=expected):
            fit_trace(str(trace), out, name)
    assert (tmp_path / "x.npz").read_bytes() == b"mine"
    assert fit_trace(str(trace), tmp_path / "x.npz", force=True).stat().st_size > 1000
    with pytest.raises(WorkloadError, match="max_clients"):
        fit_trace(str(trace), tmp_path / "w.npz", max_clients=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trace.csv", "x.npz"]


def test_a_source_is_a_pool_a_file_or_nothing(trace):
    assert source_of("deepseek-r1", HOUR).duration_s == 3600.0
    assert source_of("deepseek-r1").duration_s == 86_400.0
    assert source_of("deepseek-r1", Part(start="20h")).duration_s == 4 * 3600.0
    for text, part, expected in (
        ("deepseek-r2", None, "deepseek-r1"),
        (str(trace), HOUR, "--start, --duration, --scale"),
        ("deepseek-r1", Part(start="25h"), "24 h of data"),
    ):
        with pytest.raises(UserError, match=expected):
            source_of(text, part)


def test_figures_and_json_are_there_whole_or_not_at_all(trace, tmp_path, capsys):
    out = tmp_path / "out"
    result = characterize_source("deepseek-r1", str(trace), out, HOUR)
    told = capsys.readouterr().out
    kept = json.loads((out / "characterize.json").read_text())
    assert kept["differences"]["lengths"]["input_tokens"]["ks"] < 0.005 and list(kept["characters"]) == [
        "deepseek-r1",
        "trace.csv",
    ]
    assert "trace.csv against deepseek-r1" in told and "gamma" in told
    pictures = {path.stem for path in out.glob("*.png")}
    assert pictures == {"over_time", "gaps", "lengths", "clients", "top_clients", "correlation", "reasoning"}
    for path in out.glob("*.png"):
        assert imread(path).std() > 0.05
    with pytest.raises(UserError, match="--force"):
        characterize_source("deepseek-r1", None, out, HOUR)
    assert characterize_source("deepseek-r1", None, out, HOUR, force=True)["characters"]["deepseek-r1"]["requests"] > 1000
    assert "differences" in result and "differences" not in json.loads((out / "characterize.json").read_text())


def test_two_sources_of_one_name_are_told_apart(trace, tmp_path):
    other = tmp_path / "b" / "trace.csv"
    other.parent.mkdir()
    other.write_bytes(trace.read_bytes())
    assert list(characterize_source(str(trace), str(other))["characters"]) == ["trace.csv (1)", "trace.csv (2)"]


def thinking_in_turns() -> Stream:
    stream = conversations(
        n=300,
        turns=4,
        rate_rps=1.0,
        system_tokens=0,
        first_tokens=(50, 900),
        turn_tokens=20,
        output_tokens=(20, 300),
        think_s=60.0,
    )
    rows = stream.collect().copy()
    rows["reason_tokens"] = rows["output_tokens"] * (rows["request_id"] % 7) // 7
    rows["items_count"], rows["items_start"] = 1, np.arange(len(rows))
    items = np.zeros(len(rows), ITEMS)
    items["tokens"] = 10 + np.arange(len(rows)) % 30
    return Stream(stream.duration_s, lambda: (rows,), segments=stream.segments, items=items)


def test_every_figure_is_drawn_of_a_stream_that_has_everything_with_names_and_units_on_its_axes():
    character = characterize(thinking_in_turns())
    with style():
        drawn = figures({"one": character, "two": character})
        assert set(drawn) == set(FIGURES)
        for figure in drawn.values():
            figure.canvas.draw()
            assert all(axes.get_ylabel() for axes in figure.axes) and any(axes.get_xlabel() for axes in figure.axes)
            assert any(axes.get_legend() for axes in figure.axes)


def test_curves_of_laws_are_the_laws_that_were_fitted():
    gaps_s = np.sort(np.random.default_rng(1).weibull(0.7, 4000))
    seen = (np.arange(len(gaps_s)) + 0.5) / len(gaps_s)
    for law, told in fit_gaps(gaps_s)["laws"].items():
        assert np.abs(gap_law(law, told, gaps_s) - seen).max() == pytest.approx(told["ks"], abs=0.001)
    character = characterize(compose(ClientPool.load("deepseek-r1"), "20h", "1h"))["lengths"]["output_tokens"]
    for law, told in character["laws"].items():
        curve = length_law(law, told, np.array(character["value"]) + 0.5)
        assert np.abs(curve - np.array(character["cumulative_frac"])).max() == pytest.approx(told["ks"], abs=0.01)


@needs_shared
def test_a_published_trace_has_the_statistics_that_were_published():
    """Mooncake's conversation trace: dispersion per minute 2.9, CV of gaps 3.03 on its grid, rank correlation .07."""
    told = characterize(source_of(str(SHARED / "traces" / "mooncake_conversation_trace.jsonl")))
    assert told["dispersion"]["60s"] == pytest.approx(2.9, abs=0.1)
    assert told["correlation"]["spearman"] == pytest.approx(0.07, abs=0.01)
    assert told["lengths"]["input_tokens"]["mean"] == pytest.approx(12_035, abs=1)
    assert told["lengths"]["output_tokens"]["p99"] == pytest.approx(1119, rel=0.01)
