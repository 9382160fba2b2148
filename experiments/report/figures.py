"""Figures of answers and latencies, each a function of plain tables; None where there is nothing to draw."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from experiments.report import windows
from experiments.report.axes import (
    DARK,
    Limits,
    better_low,
    finite,
    integers,
    label,
    legend,
    limit_lines,
    linear_seconds,
    log_seconds,
    new_axes,
    numbers,
    spans_a_decade,
    traffic_style,
)


@dataclass(frozen=True)
class Search:
    """What a search for the least number of instances found, as (instances, value); None where there is no value.

    `points` judge a number of instances, one to each; `runs` are its single seeds, if known. `chosen` is the answer, `lo`
    to `hi` the interval around it, `real` the value at the answer under the real traffic.
    """

    name: str
    index: int  # 0 for the per-client traffic, 1, 2, ... for naive ones
    points: tuple[tuple[int, float | None], ...]
    runs: tuple[tuple[int, float | None], ...] = ()
    chosen: int | None = None
    lo: int | None = None
    hi: int | None = None
    real: float | None = None


@dataclass(frozen=True)
class Curve:
    """Latencies in seconds under one plan; its index gives the colour, 0 being that of the per-client plan."""

    name: str
    index: int
    values: np.ndarray


def latency_against_instances(searches: Sequence[Search], limits: Limits, what: str) -> Figure | None:
    """A percentile in seconds against the number of instances: a line for each traffic, limits, answers ringed."""
    searches = [search for search in searches if _values([search])]
    if not searches:
        return None
    figure, axes = new_axes(5.0, 3.0)
    values = [*_values(searches), *(limit for _, limit in limits)]
    integers(axes, [n for search in searches for n in _counts(search)])
    if spans_a_decade(values):
        log_seconds(axes, "y", min(values), max(values))
    else:
        linear_seconds(axes, max(values))
    _draw_searches(axes, searches)
    limit_lines(axes, limits)
    axes.set_xlabel("instances")
    axes.set_ylabel(better_low(what))
    legend(figure, axes)
    return figure


def misses_against_instances(searches: Sequence[Search], limits: Limits) -> Figure | None:
    """The share of requests that miss the SLO against the number of instances."""
    searches = [search for search in searches if _values([search])]
    if not searches:
        return None
    figure, axes = new_axes(5.0, 3.0)
    integers(axes, [n for search in searches for n in _counts(search)])
    axes.set_ylim(0.0, 1.18 * max([*_values(searches), *(limit for _, limit in limits)]) or 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
    _draw_searches(axes, searches)
    limit_lines(axes, limits)
    axes.set_xlabel("instances")
    axes.set_ylabel(better_low("misses"))
    legend(figure, axes)
    return figure


def instances_over_hours(labels: Sequence[str], plans: Mapping[str, Sequence[int | None]]) -> Figure | None:
    """Instances by hour, a stepped line for each plan, the per-client one first."""
    known = [n for plan in plans.values() for n in plan if n is not None]
    if len(labels) < 2 or not known:
        return None
    figure, axes = new_axes(10.2, 2.8)
    edges = np.arange(len(labels) + 1) - 0.5
    for index, (name, plan) in enumerate(plans.items()):
        heights = np.array([np.nan if n is None else n for n in plan])
        if np.isnan(heights).all():
            continue
        colour, _ = traffic_style(index)
        axes.stairs(
            heights,
            edges,
            baseline=None,
            color=colour,
            linewidth=2.4 - 0.3 * index,
            label=label(name),
            linestyle=_dash(index),
        )
    numbers(axes, max(known), whole=True)
    axes.set_xlim(edges[0], edges[-1])
    shown = range(0, len(labels), -(-len(labels) // 12))
    axes.set_xticks(list(shown), [labels[i] for i in shown])
    axes.set_xlabel("hour of the pool's clock")
    axes.set_ylabel("instances")
    legend(figure, axes)
    return figure


def latency_cdf(curves: Sequence[Curve], limits: Limits, what: str) -> Figure | None:
    """Share of requests no slower than x; with unserved requests a curve ends below 1. Log x."""
    points = [(curve, *windows.cdf(curve.values)) for curve in curves]
    drawn = [(curve, x, y) for curve, x, y in points if len(x)]
    if not drawn:
        return None
    figure, axes = new_axes(3.4, 2.7)
    ends = [*(float(x[end]) for _, x, _ in drawn for end in (0, -1)), *(limit for _, limit in limits)]
    log_seconds(axes, "x", min(ends), max(ends))
    for curve, x, y in drawn:
        rise = np.append(x[:1], x), np.append(0.0, y)
        named = label(curve.name, 34) if len(curves) > 1 else None
        colour, _ = traffic_style(curve.index)
        axes.plot(*rise, color=colour, drawstyle="steps-post", linestyle=_dash(curve.index), label=named)
    axes.set_ylim(0.0, 1.04)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, 0, " %"))
    limit_lines(axes, limits, upright=True)
    axes.set_xlabel(what)
    axes.set_ylabel("share of requests")
    legend(figure, axes)
    return figure


def _draw_searches(axes: Axes, searches: Sequence[Search]) -> None:
    for search in searches:
        _draw_search(axes, search)
    for search in searches:
        colour, _ = traffic_style(search.index)
        if search.chosen is not None and finite([search.real]):
            style: dict[str, Any] = {"color": colour, "markeredgecolor": DARK, "marker": "X", "markersize": 9}
            axes.plot(
                [search.chosen],
                finite([search.real]),
                linestyle="none",
                label=label(f"{search.name}, real mix"),
                **style,
            )
    only = searches[0]
    if len(searches) == 1 and only.lo is not None and only.hi is not None and only.lo < only.hi:
        named = f"interval {only.lo}–{only.hi}"
        axes.axvspan(only.lo, only.hi, color=traffic_style(only.index)[0], alpha=0.08, linewidth=0, label=named)


def _draw_search(axes: Axes, search: Search) -> None:
    """The points as a line, single seeds as small marks, a ring around the answer."""
    colour, marker = traffic_style(search.index)
    line = {n: value for n, value in sorted(search.points) if value is not None and math.isfinite(value)}
    if line:
        named = label(search.name) + ("" if search.chosen is None else f": {search.chosen:,}")
        points = list(line), list(line.values())
        axes.plot(*points, color=colour, marker=marker, linestyle=_dash(search.index), label=named)
    runs = [(n, value) for n, value in search.runs if finite([value])]
    if runs:
        axes.plot(*zip(*runs), color=colour, marker=marker, markersize=3, alpha=0.45, linestyle="none")
    if search.chosen is not None and search.chosen in line:
        ring: dict[str, Any] = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "markeredgewidth": 1.6}
        axes.plot([search.chosen], [line[search.chosen]], color=colour, linestyle="none", **ring)


def _values(searches: Sequence[Search]) -> list[float]:
    pairs = (pair for search in searches for pair in (*search.points, *search.runs, (0, search.real)))
    return finite(value for _, value in pairs)


def _counts(search: Search) -> list[int]:
    return [n for n, _ in (*search.points, *search.runs)] + ([search.chosen] if search.chosen is not None else [])


def _dash(index: int) -> str:
    return ("-", "--", "-.", ":")[index % 4]
