"""Host time of each software era, from a fixed seventh of the points: `python -m experiments.validate.host_time POINTS.csv`.

Points are played with no host time at all. What then is missing from their time per output token (of a static batch: from its
E2E, by its output tokens) is step_ms + layers * (layer_ms + [tp > 1] * parallel_layer_ms) + sample_ms * requests in flight, by
least squares of the relative error, no constant below 0. Points that queue for KV blocks or seats are left out. Where points
cannot tell the constants for layers apart, as with one model alone, all goes to step_ms.
"""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from experiments.errors import UserError
from experiments.validate.harness import harness_of
from experiments.validate.point import Point, read_points
from experiments.validate.prediction import predict
from experiments.validate.shipped import refusal, target_of
from hwprofiles import load_model, load_software

SET_ASIDE_BYTES = 36
"""A point is set aside whose id has a SHA-256 that begins with a byte below this one: 36 of 256, so that of every group of the
open points it is less than a fifth."""

METRICS = {"closed_concurrency": "tpot_mean_s", "static_batch": "e2e_mean_s"}
"""What tells a step's time, by the kind of load."""

CONSTANTS = ("step_ms", "layer_ms", "parallel_layer_ms", "sample_ms")


class Missing(NamedTuple):
    """Of one point: the time of a step as measured, what is missing from it, and what each constant is multiplied with."""

    measured_ms: float
    missing_ms: float
    factors: tuple[float, float, float, float]


def is_set_aside(point_id: str) -> bool:
    """Whether host time may be set from the points of this id."""
    return hashlib.sha256(point_id.encode()).digest()[0] < SET_ASIDE_BYTES


def host_times(points: Sequence[Point]) -> dict[str, tuple[int, dict[str, float]]]:
    """{era: (points, {constant: ms})} for the eras that such points are of."""
    by_era: dict[str, list[Missing]] = defaultdict(list)
    for point in points:
        setting = point.setting
        if is_set_aside(point.id) and not point.suspect and METRICS.get(setting.load_kind) == point.metric:
            era = load_software(harness_of(setting).software)
            is_told = era.engine.lower() in setting.software.lower() and not refusal(setting, point.metric)
            if is_told and (missing := _missing(point)) is not None:
                by_era[era.id].append(missing)
    return {era: (len(found), _constants(found)) for era, found in sorted(by_era.items())}


def _missing(point: Point) -> Missing | None:
    """None for a point that queues."""
    setting = point.setting
    era = load_software(harness_of(setting).software)
    none = replace(era, step_ms=0.0, layer_ms=0.0, parallel_layer_ms=0.0, sample_ms=0.0)
    prediction = predict(setting, software=none)
    if prediction.is_capped:
        return None
    steps = (setting.output_tokens or 1) if setting.load_kind == "static_batch" else 1
    measured_ms, predicted_ms = (1e3 * seconds / steps for seconds in (point.measured, prediction.of(point.metric)))
    layers, tp = load_model(target_of(setting).model).layers, setting.tp or 1
    return Missing(measured_ms, measured_ms - predicted_ms, (1.0, layers, layers * (tp > 1), setting.load or 1.0))


def _constants(found: Sequence[Missing]) -> dict[str, float]:
    weights = 1 / np.array([one.measured_ms for one in found])
    factors = np.array([one.factors for one in found]) * weights[:, None]
    told = [0, *([1, 2] if len({one.factors[1] for one in found}) > 2 else []), 3]
    solution, _ = nnls(factors[:, told], np.array([one.missing_ms for one in found]) * weights)
    return dict.fromkeys(CONSTANTS, 0.0) | {CONSTANTS[at]: float(ms) for at, ms in zip(told, solution)}


def main(arguments: Sequence[str]) -> int:
    """Print the constants of each era; 2 for a user's mistake."""
    try:
        (path,) = arguments
        found = host_times(read_points(Path(path)))
    except ValueError as error:
        print(error if isinstance(error, UserError) else "usage: python -m experiments.validate.host_time POINTS.csv")
        return 2
    for era, (n, constants) in found.items():
        print(f"{era}: {n} points; " + ", ".join(f"{name} = {ms:.4g}" for name, ms in constants.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
