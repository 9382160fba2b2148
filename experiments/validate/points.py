"""Judging a table of points: each configuration is simulated once, each of its figures compared with the prediction."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from experiments.console import Console
from experiments.picture_file import check_picture
from experiments.validate.judgement import Group, Judged, check_target, judgement, tell, write
from experiments.validate.knee import knee_groups, knees_of
from experiments.validate.point import Point, Setting, read_points
from experiments.validate.prediction import Prediction, Unplayable, predict
from experiments.validate.request_time import request_times
from experiments.validate.shipped import as_shipped, refusal
from hwprofiles import ProfileError
from sim import ClusterError
from workloads import WorkloadError


def validate_points(
    path: Path,
    json_out: Path | None = None,
    *,
    quiet: bool = False,
    seed: int = 1,
    include_suspect: bool = False,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Simulate every point of a CSV file, print the errors, write them to `json_out`, and return what was written.

    seed: of Poisson arrivals. include_suspect: judge rows marked as suspect, too. picture: a .svg or .png to draw predicted
    over measured into. UserError with every mistake of the file. Rows that repeat a figure under one id are judged as one, by
    their median. docs/validation.md gives columns and keys.
    """
    check_target(json_out)
    if picture is not None:
        check_picture(picture, force=True, flag="--picture")
    repeats = list(_repeats(read_points(path), include_suspect).values())
    console, predictions = Console(quiet), _Predictions(seed)
    judged = []
    for number, points in enumerate(repeats, start=1):
        judged.append(_judged(points, predictions, include_suspect))
        console.progress(f"{number:,} of {len(repeats):,} figures")
    times = request_times(judged)
    derived, knees = [time.judged for time in times], knees_of(times)
    told = judgement(judged, derived)
    told |= {"knees": [knee.plain() for knee in knees], "knee_groups": knee_groups(knees)}
    tell(console, judged, told)
    write(told, json_out)
    if picture is not None:
        from experiments.validate.picture import write_picture  # loads matplotlib

        write_picture([*judged, *derived], picture)
    return told


class _Predictions:
    """Predictions by what is simulated, each made once; the reason instead of one that could not be made."""

    def __init__(self, seed: int):
        self._seed = seed
        self._made: dict[Setting, Prediction | str] = {}

    def of(self, setting: Setting) -> Prediction | str:
        played = as_shipped(setting)
        if played not in self._made:
            try:
                self._made[played] = predict(setting, self._seed)
            except (ClusterError, ProfileError, WorkloadError, Unplayable) as error:
                self._made[played] = str(error).splitlines()[0]
        return self._made[played]


def _repeats(points: Sequence[Point], include_suspect: bool) -> dict[tuple[Any, ...], list[Point]]:
    """Points of one figure in one setting; a suspect one is no repeat of a sound one."""
    repeats: dict[tuple[Any, ...], list[Point]] = {}
    for point in points:
        is_apart = bool(point.suspect) and not include_suspect
        repeats.setdefault((point.id, point.metric, point.setting, is_apart), []).append(point)
    return repeats


def _judged(points: Sequence[Point], predictions: _Predictions, include_suspect: bool) -> Judged:
    first = points[0]
    setting, measured = first.setting, [point.measured for point in points]
    group = Group(setting.gpu, setting.model, setting.precision, setting.tp, setting.software, setting.load_kind, first.metric)
    middle = median(measured)
    judged = Judged(first.id, group, middle, rows=len(points), spread_frac=(max(measured) - min(measured)) / middle)
    judged = replace(judged, setting=setting)
    if first.suspect and not include_suspect:
        return replace(judged, skipped=f"suspect: {first.suspect}")
    if reason := refusal(setting, first.metric):
        return replace(judged, skipped=reason)
    prediction = predictions.of(setting)
    if isinstance(prediction, str):
        return replace(judged, skipped=prediction)
    return replace(judged, predicted=prediction.of(first.metric), grade=prediction.grade, is_capped=prediction.is_capped)
