"""Host time of the software eras: set from a fixed seventh of the points and from nothing else."""

from collections import defaultdict
from dataclasses import replace

import pytest

from experiments.validate.harness import harness_of
from experiments.validate.host_time import CONSTANTS, METRICS, host_times, is_set_aside, main
from experiments.validate.point import Point, Setting, read_points
from experiments.validate.prediction import predict
from experiments.validate.shipped import refusal
from hwprofiles import load_software
from tests.shared_data import SHARED, needs_shared

LOOP = Setting("H100-SXM-80GB", "Llama-3.1-8B", "bf16", 1, "vLLM 0.12.0", 256, 32, "closed_concurrency", 2.0)


def points_of(load, tpot_s, count=3):
    """That many points that may be used, of one concurrency."""
    ids = [name for name in (f"{load}-{i}" for i in range(200)) if is_set_aside(name)][:count]
    return [Point(name, "tpot_mean_s", tpot_s, replace(LOOP, load=load), "", 1) for name in ids]


def test_a_seventh_of_all_ids_is_set_aside():
    share = sum(is_set_aside(f"id {i}") for i in range(20_000)) / 20_000
    assert share == pytest.approx(36 / 256, abs=0.01)


def test_points_not_set_aside_change_nothing():
    used = points_of(2.0, 0.02) + points_of(8.0, 0.03)
    others = [replace(point, id="other", measured=9.0) for point in used]
    assert not is_set_aside("other")
    assert host_times(used) == host_times(used + others)


def test_constants_that_made_the_points_are_found_again():
    made = replace(load_software("vllm-2025"), step_ms=2.0, sample_ms=0.05)
    points = [
        point
        for load in (1.0, 4.0, 16.0)
        for point in points_of(load, predict(replace(LOOP, load=load), software=made).of("tpot_mean_s"))
    ]
    (n, found) = host_times(points)["vllm-2025"]
    assert n == 9
    assert found["step_ms"] == pytest.approx(2.0, rel=0.05) and found["sample_ms"] == pytest.approx(0.05, rel=0.1)


def test_a_missing_file_is_told_in_a_sentence(capsys, tmp_path):
    assert main([str(tmp_path / "none.csv")]) == 2
    assert main([]) == 2
    assert "none.csv" in capsys.readouterr().out


@needs_shared
def test_the_shipped_eras_are_what_the_points_set_aside_give():
    points = read_points(SHARED / "validation" / "points.csv")
    ids = defaultdict(set)
    for point in points:
        if METRICS.get(point.setting.load_kind) == point.metric and not refusal(point.setting, point.metric):
            ids[harness_of(point.setting).software].add(point.id)
    found = host_times(points)
    assert set(found) == {"trtllm-2024", "trtllm-2025", "vllm-2024", "vllm-2025", "vllm-2025-async"}
    for era, (n, constants) in found.items():
        shipped = load_software(era)
        assert f"{n} " in shipped.source and n <= 0.2 * len(ids[era])
        for name in CONSTANTS:
            assert getattr(shipped, name) == pytest.approx(constants[name], rel=0.02, abs=2e-4), (era, name)
