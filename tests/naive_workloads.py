"""Twins of the kernels of workloads: the same names and arguments, written from the definition, one number after the other."""

from typing import Any

import numpy as np

from workloads.arrivals import EXPONENTIAL, GAMMA, WINDOW_S
from workloads.lengths import LengthTable
from workloads.numerics import exp, log, normal_quantile, power, uniforms


def number(key: Any, index: int) -> float:
    return float(uniforms(key, np.array([index]))[0])


def gap(renewal: Any, k: int) -> float:
    """Gap k of mean 1: -ln U; (-ln U)^(1/shape) / Γ(1 + 1/shape); or a Gamma draw over its shape."""
    if renewal["family"] == GAMMA:
        return gamma_draw(renewal, k + 1) / renewal["shape"]
    exponential = -log(number(renewal["gap_key"], k))
    if renewal["family"] == EXPONENTIAL:
        return float(exponential)
    return float(power(exponential, 1.0 / renewal["shape"]) / renewal["scale"])


def gamma_draw(renewal: Any, index: int) -> float:
    """Marsaglia and Tsang (2000) without their squeeze."""
    shape = float(renewal["shape"])
    d = shape - 1.0 / 3.0 if shape >= 1.0 else shape + 1.0 - 1.0 / 3.0
    for counter in range(64 * index, 64 * index + 64):
        x = normal_quantile(number(renewal["normal_key"], counter))
        root = 1.0 + x / np.sqrt(9.0 * d)
        v = root * root * root
        if root > 0.0 and log(number(renewal["accept_key"], counter)) < 0.5 * x * x + d * (1.0 - v + log(v)):
            break
    boost = power(number(renewal["boost_key"], index), 1.0 / shape) if shape < 1.0 else 1.0
    return float(d * v * boost)


def arrivals(renewal: Any, flow: Any, begin_ns: int, end_ns: int) -> list[int]:
    """What one client sends from begin_ns to end_ns of a window, a gap after the other: offsets in ns."""
    result: list[int] = []
    wait, k = float(renewal["wait"]), int(renewal["next_gap"])
    while wait < flow["length"]:
        seconds = (flow["before"] + wait) * flow["seconds_per_request"]
        if flow["begin"] != 1.0 or flow["end"] != 1.0:
            sending_s = WINDOW_S - flow["pause_s"]
            seconds = sending_s * sent_by(min(seconds / sending_s, 1.0), flow["begin"], flow["end"])
        seconds += flow["pause_s"] if seconds >= flow["pause_at_s"] else 0.0
        offset_ns = max(min(int(seconds * 1e9), int(WINDOW_S * 1e9) - 1), begin_ns)
        if offset_ns >= end_ns:
            break
        result.append(offset_ns)
        wait, k = wait + gap(renewal, k), k + 1
    return result


def sent_by(area: float, begin: float, end: float) -> float:
    """Where in a window of length 1 so much is sent, the rate straight from begin to the middle and on to the end."""
    middle = 2.0 - 0.5 * (begin + end)
    if area <= 0.25 * (begin + middle):
        a, x = begin, area
    else:
        a, x = end, 1.0 - area
    s = 2.0 * x / max(a + np.sqrt(max(a * a + 4.0 * (middle - a) * x, 0.0)), 1e-300)
    return s if area <= 0.25 * (begin + middle) else 1.0 - s


def in_time_order(times: np.ndarray) -> np.ndarray:
    return np.sort(times)


def tokens(table: LengthTable, row: int, probabilities: np.ndarray, u: float) -> int:
    """The sketch read from left to right."""
    k = max(k for k in range(len(probabilities) - 1) if probabilities[k] <= u)
    part = (u - probabilities[k]) / (probabilities[k + 1] - probabilities[k])
    if k == len(probabilities) - 2:
        part = float(power(part, table.tail_shape[row]))
    low, high = float(table.log_knots[row, k]), float(table.log_knots[row, k + 1])
    return max(round(float(exp(low + part * (high - low)) - 1.0)), 1)
