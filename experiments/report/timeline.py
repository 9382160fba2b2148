"""Figures of a run over time, each a function of its tables; None where there is nothing to draw."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from experiments.report import windows
from experiments.report.axes import (
    GOOD,
    LIMIT,
    PER_CLIENT,
    SECOND,
    Limits,
    better_low,
    finite,
    legend,
    limit_lines,
    linear_seconds,
    log_seconds,
    new_axes,
    numbers,
    spans_a_decade,
    time_unit,
)
from experiments.report.tables import Requests, Steps
from experiments.report.words import METRIC_NAMES

_SIZE_IN = (5.0, 2.6)


def arrivals(requests: Requests, edges: np.ndarray, end_s: float) -> Figure | None:
    """Requests that arrive per second."""
    if not len(requests):
        return None
    figure, axes = new_axes(*_SIZE_IN)
    rate = requests.every * windows.rate(requests.arrival_s, None, edges)
    _stairs(axes, rate, edges, end_s, color=PER_CLIENT, fill=True)
    numbers(axes, float(rate.max()))
    axes.set_ylabel("requests per second")
    return figure


def tokens(requests: Requests, edges: np.ndarray, end_s: float) -> Figure | None:
    """Input and output tokens per second, counted where their requests arrive."""
    columns = {"input tokens": requests.input_tokens, "output tokens": requests.output_tokens} if len(requests) else {}
    rates = {name: requests.every * windows.rate(requests.arrival_s, column, edges) for name, column in columns.items()}
    drawn = {name: rate for name, rate in rates.items() if rate.any()}
    if not drawn:
        return None
    figure, axes = new_axes(*_SIZE_IN)
    for name, rate in drawn.items():
        _stairs(axes, rate, edges, end_s, color=PER_CLIENT if name == "input tokens" else GOOD, label=name)
    numbers(axes, max(float(rate.max()) for rate in drawn.values()))
    axes.set_ylabel("tokens per second")
    legend(figure, axes)
    return figure


def latency_band(requests: Requests, metric: str, limits: Limits, edges: np.ndarray, end_s: float) -> Figure | None:
    """p50 to p99 of a latency in windows of arrival; those whose p99 is over a limit, or infinite, are shaded."""
    values = requests.column_s(metric)
    if np.isnan(values).all():
        return None
    p50, p99 = (windows.percentiles(requests.arrival_s, values, edges, q) for q in (50.0, 99.0))
    heights = finite([*p50, *p99])
    figure, axes = new_axes(*_SIZE_IN)
    scale = [*(height for height in heights if height > 0.0), *(limit for _, limit in limits)]
    if spans_a_decade(scale) and 0.0 not in heights:
        log_seconds(axes, "y", min(scale), max(scale))
    else:
        linear_seconds(axes, max([*scale, *heights], default=0.0))
    late = p99 > min([limit for _, limit in limits], default=np.finfo(float).max)
    _shade(axes, late, edges, end_s, "p99 over the SLO or not served" if limits else "more than 1 % not served")
    _band(axes, p50, p99, edges, end_s)
    limit_lines(axes, limits)
    axes.set_ylabel(better_low(METRIC_NAMES[metric]))
    legend(figure, axes)
    return figure


def queues(steps: Steps, edges: np.ndarray, end_s: float) -> Figure | None:
    """Requests running and waiting in the whole cluster, mean over each window."""
    if not len(steps):
        return None
    running, waiting = (windows.time_mean(held, steps.start_s, steps.dur_s, edges) for held in (steps.running, steps.waiting))
    figure, axes = new_axes(*_SIZE_IN)
    _stairs(axes, running, edges, end_s, color=PER_CLIENT, label="running")
    _stairs(axes, waiting, edges, end_s, color=LIMIT, label="waiting", linestyle="--")
    numbers(axes, float(max(running.max(), waiting.max())))
    axes.set_ylabel("requests")
    legend(figure, axes)
    return figure


def kv_blocks(steps: Steps, kv_blocks: int, instances: int, edges: np.ndarray, end_s: float) -> Figure | None:
    """KV blocks in use as a share: mean of the instances, the fullest one, and ticks where requests were preempted."""
    if not len(steps) or not kv_blocks or not instances:
        return None
    mean = windows.time_mean(steps.kv_blocks_used, steps.start_s, steps.dur_s, edges) / (kv_blocks * instances)
    fullest = windows.peak(steps.kv_blocks_used, steps.start_s, steps.dur_s, edges) / kv_blocks
    figure, axes = new_axes(*_SIZE_IN)
    _stairs(axes, mean, edges, end_s, color=PER_CLIENT, fill=True, label="mean of instances" if instances > 1 else "mean")
    _stairs(axes, fullest, edges, end_s, color=SECOND, label="fullest instance" if instances > 1 else "peak")
    preempted = windows.rate(steps.start_s, steps.preempted, edges) > 0.0
    if preempted.any():
        at = ((edges[:-1] + edges[1:]) / 2 / time_unit(end_s)[0])[preempted]
        axes.plot(at, np.full(len(at), 1.08), marker="|", markersize=8, linestyle="none", color=LIMIT, label="preemptions")
    axes.set_ylim(0.0, 1.14)
    axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, 0, " %"))
    axes.set_ylabel("KV blocks in use")
    legend(figure, axes)
    return figure


def _time_axis(axes: Axes, end_s: float) -> float:
    """Label x; returns the seconds to its unit."""
    unit_s, unit = time_unit(end_s)
    axes.set_xlim(0.0, end_s / unit_s)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 1.5, 2, 3, 5, 6, 10]))
    axes.set_xlabel(f"time ({unit})")
    return unit_s


def _stairs(axes: Axes, heights: np.ndarray, edges: np.ndarray, end_s: float, fill: bool = False, **style: Any) -> None:
    unit_s = _time_axis(axes, end_s)
    if fill:
        axes.stairs(heights, edges / unit_s, fill=True, color=style["color"], alpha=0.18, linewidth=0)
    axes.stairs(heights, edges / unit_s, baseline=None, linewidth=1.4, **style)


def _band(axes: Axes, low: np.ndarray, high: np.ndarray, edges: np.ndarray, end_s: float) -> None:
    unit_s = _time_axis(axes, end_s)
    low, high = (np.where(np.isfinite(edge), edge, np.nan) for edge in (low, high))
    both = np.isfinite(low) & np.isfinite(high)
    if both.any():
        for start, stop in _runs(both):
            axes.stairs(
                high[start:stop],
                edges[start : stop + 1] / unit_s,
                baseline=low[start:stop],
                fill=True,
                color=PER_CLIENT,
                alpha=0.15,
                linewidth=0,
            )
        axes.stairs(high, edges / unit_s, baseline=None, color=PER_CLIENT, linewidth=1.6, label="p99")
    if np.isfinite(low).any():
        axes.stairs(low, edges / unit_s, baseline=None, color=PER_CLIENT, linewidth=1.2, linestyle=":", label="p50")


def _shade(axes: Axes, bad: np.ndarray, edges: np.ndarray, end_s: float, name: str) -> None:
    unit_s = _time_axis(axes, end_s)
    for i, (start, stop) in enumerate(_runs(bad)):
        axes.axvspan(
            edges[start] / unit_s,
            edges[stop] / unit_s,
            color=LIMIT,
            alpha=0.1,
            linewidth=0,
            label=name if i == 0 else None,
        )


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Where True stands in a row: [start, stop) of each stretch."""
    steps = np.diff(np.concatenate([[0], flags.astype(int), [0]]))
    return list(zip(np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist()))
