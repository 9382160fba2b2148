"""Figures of the character of one or two streams, as `workloads.characterize` gives it; none where there is nothing to draw.

They show what the figures of the ServeGen paper (arXiv 2505.09999) show of production workloads, each by the same means for
every stream. The first stream is drawn in full colour with its fitted laws, a second one over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from experiments.character_laws import gap_law, length_law
from experiments.report.axes import DARK, GOOD, NAIVE, PER_CLIENT, SECOND, label, time_unit
from experiments.report.words import number

Characters = Mapping[str, dict[str, Any]]
COLOURS: Final = (PER_CLIENT, NAIVE[0])
WIDTHS: Final = (2.8, 1.4)  # the first is seen under the second where they are alike
LAW_COLOURS: Final = (DARK, GOOD, NAIVE[2])
TOP_COLOURS: Final = (PER_CLIENT, NAIVE[0], GOOD, NAIVE[2])
_LENGTHS: Final = {
    "input_tokens": ("input tokens", ("exponential", "pareto_lognormal")),
    "output_tokens": ("output tokens", ("exponential", "lognormal")),
}
_FEW: Final = 3  # points of a curve that says something


def figures(characters: Characters) -> dict[str, Figure]:
    """All figures by the name of their file, without its suffix."""
    drawn = {name: draw(characters) for name, draw in FIGURES.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def over_time(characters: Characters) -> Figure | None:
    """Rate, CV of gaps, and mean lengths by 10 minutes."""
    span_s = max(len(of["over_time"]["rate_rps"]) * of["over_time"]["window_s"] for of in characters.values())
    if max(len(of["over_time"]["rate_rps"]) for of in characters.values()) < _FEW:
        return None
    figure, (rate, cv, tokens) = _panels(3, 1, 7.6, 6.6)
    unit_s, unit = time_unit(span_s)
    for index, (name, of) in enumerate(characters.items()):
        over, colour = of["over_time"], COLOURS[index]
        edges = np.arange(len(over["rate_rps"]) + 1) * over["window_s"] / unit_s
        for axes, key in ((rate, "rate_rps"), (cv, "cv")):
            axes.stairs(_known(over[key]), edges, baseline=None, color=colour, label=label(name, 30))
        for key, what, dash in (("input_tokens_mean", "input", "-"), ("output_tokens_mean", "output", "--")):
            tokens.stairs(
                _known(over[key]), edges, baseline=None, color=colour, linestyle=dash, label=f"{what}, {label(name, 30)}"
            )
    cv.axhline(1.0, color=DARK, linewidth=0.8, linestyle=":")
    for axes, what in ((rate, "requests/s"), (cv, "CV of gaps\n(Poisson 1, dotted)"), (tokens, "mean tokens")):
        axes.set_ylabel(what)
        axes.set_ylim(bottom=0.0)
        axes.set_xlim(0.0, span_s / unit_s)
        _plain(axes)
    tokens.set_xlabel(f"time, {unit} (windows of 10 min)")
    _named(rate, columns=2)
    _named(tokens, columns=2)
    return figure


def gaps(characters: Characters) -> Figure | None:
    """Gaps between requests in the busiest 20 minutes, and the laws fitted to them."""
    kept = {name: of["gaps"]["busiest"] for name, of in characters.items() if of["gaps"]["busiest"]["laws"]}
    if not kept:
        return None
    figure, (below, above) = _panels(1, 2, 9.2, 3.4)
    for index, (name, of) in enumerate(kept.items()):
        x, y = np.array(of["s"])[:-1], np.array(of["cumulative_frac"])[:-1]  # beyond the longest there are none
        for axes, heights in ((below, y), (above, 1.0 - y)):
            axes.plot(
                1e3 * x,
                heights,
                color=COLOURS[index],
                linewidth=WIDTHS[index],
                label=f"{label(name, 30)}, CV {number(of['cv'])}",
            )
    of = next(iter(kept.values()))
    x = np.geomspace(1e-3 * of["mean_s"], max(of["s"]), 300)
    for colour, (law, told) in zip(LAW_COLOURS, of["laws"].items()):
        y = gap_law(law, told, x)
        for axes, heights in ((below, y), (above, 1.0 - y)):
            axes.plot(1e3 * x, heights, color=colour, linestyle="--", linewidth=1.2, label=f"{law}, KS {told['ks']:.3f}")
    for axes, what in ((below, "share of gaps no longer"), (above, "share of gaps longer")):
        axes.set_xlim(1e3 * x[0], 2e3 * x[-1])
        axes.set_xlabel("gap between requests, ms")
        axes.set_ylabel(what)
        _logarithmic(axes, "x")
    above.set_ylim(0.5 / max(of["count"], 10), 1.5)
    _logarithmic(above, "y")
    _named(below, columns=2)
    return figure


def lengths(characters: Characters) -> Figure | None:
    """Lengths of prompts and answers with fitted laws."""
    figure, panels = _panels(1, 2, 9.2, 3.6)
    for axes, (field, (what, laws)) in zip(panels, _LENGTHS.items()):
        first: dict[str, Any] = {}
        for index, (name, of) in enumerate(characters.items()):
            told = of["lengths"].get(field)
            if told is None:
                continue
            first = first or told
            axes.plot(
                told["value"], told["cumulative_frac"], color=COLOURS[index], linewidth=WIDTHS[index], label=label(name, 30)
            )
        x = np.geomspace(1.0, max(first["max"], 10), 400)
        for colour, law in zip(LAW_COLOURS, laws):
            fitted = first["laws"][law]
            text = f"{law.replace('pareto_lognormal', 'Pareto + lognormal')}, KS {fitted['ks']:.3f}"
            axes.plot(x, length_law(law, fitted, x), color=colour, linestyle="--", linewidth=1.2, label=text)
        _distribution(axes, what, "share of requests\nno longer")
        axes.set_xlim(1.0, max(first["max"], 10))
        _named(axes, columns=1)
    return figure


def clients(characters: Characters) -> Figure | None:
    """How unevenly requests are spread over clients, and how their rates, CVs and lengths differ."""
    if all(of["clients"]["clients"] < _FEW for of in characters.values()):
        return None
    figure, ((ranks, rate), (cv, tokens)) = _panels(2, 2, 8.6, 5.8)
    for index, (name, character) in enumerate(characters.items()):
        of, colour = character["clients"], COLOURS[index]
        shares = of["share_by_rank"]
        ranks.plot(shares["rank"], shares["cumulative_frac"], color=colour, label=label(name, 30))
        by = of["by_requests"]
        _steps(rate, by["rate_rps"], color=colour)
        if by["cv"] is not None:
            _steps(cv, by["cv"], color=colour)
        for key, what, dash in (("input_tokens_mean", "input", "-"), ("output_tokens_mean", "output", "--")):
            _steps(tokens, by[key], color=colour, linestyle=dash, label=what if index == 0 else None)
    ranks.set_ylabel("share of requests of the\nbusiest clients")
    ranks.set_xlabel("clients")
    for axes, what in ((rate, "client's rate, requests/s"), (cv, "client's CV of gaps"), (tokens, "client's mean tokens")):
        axes.set_xlabel(what)
        axes.set_ylabel("share of requests of\nclients no higher")
    for axes in (ranks, rate, cv, tokens):
        axes.set_ylim(0.0, 1.03)
        _logarithmic(axes, "x")
    _named(ranks)
    _named(tokens, columns=2)
    return figure


def top_clients(characters: Characters) -> Figure | None:
    """Rate and CV of the busiest clients of the first stream over time."""
    of = next(iter(characters.values()))
    top, window_s = of["clients"]["top"], of["over_time"]["window_s"]
    windows = len(of["over_time"]["rate_rps"])
    if len(top) < 2 or windows < _FEW:
        return None
    figure, (rate, cv) = _panels(2, 1, 7.6, 4.8)
    unit_s, unit = time_unit(windows * window_s)
    edges = np.arange(windows + 1) * window_s / unit_s
    for colour, told in zip(TOP_COLOURS, top):
        name = f"client {told['client_id']} ({told['share_frac']:.1%})"
        rate.stairs(np.array(told["requests_by_window"]) / window_s, edges, baseline=None, color=colour, label=name)
        cv.stairs(_known(told["cv_by_window"]), edges, baseline=None, color=colour)
    _logarithmic(cv, "y")
    for axes, what in ((rate, "requests/s"), (cv, "CV of gaps")):
        axes.set_ylabel(what)
        axes.set_xlim(0.0, edges[-1])
    rate.set_ylim(bottom=0.0)
    cv.set_xlabel(f"time, {unit} (windows of 10 min)")
    _named(rate)
    return figure


def correlation(characters: Characters) -> Figure | None:
    """Median and 90th percentile of answers by the length of their prompts."""
    if all(len(of["correlation"]["output_by_input"]["input_tokens"]) < _FEW for of in characters.values()):
        return None
    figure, (axes,) = _panels(1, 1, 5.4, 3.4)
    for index, (name, character) in enumerate(characters.items()):
        of = character["correlation"]["output_by_input"]
        text = f"{label(name, 26)}, rank correlation {number(character['correlation']['spearman'])}"
        axes.plot(of["input_tokens"], of["output_p50_tokens"], color=COLOURS[index], marker="o", markersize=3, label=text)
        axes.plot(of["input_tokens"], of["output_p90_tokens"], color=COLOURS[index], linestyle="--", marker="o", markersize=3)
    axes.set_xlabel("input tokens")
    axes.set_ylabel("output tokens, median\n(dashed: 90 % are shorter)")
    _logarithmic(axes, "x")
    _logarithmic(axes, "y")
    _named(axes, columns=1)
    return figure


def turns(characters: Characters) -> Figure | None:
    """Turns of conversations, and the time from one to the next."""
    kept = {name: of["turns"] for name, of in characters.items() if of["turns"] and of["turns"]["between_s"]}
    if not kept:
        return None
    figure, (number_of, between) = _panels(1, 2, 8.6, 3.2)
    for index, (name, of) in enumerate(kept.items()):
        _steps(number_of, of["turns"], color=COLOURS[index], label=f"{label(name, 30)}, mean {number(of['mean'])}")
        _steps(between, of["between_s"], color=COLOURS[index])
    _distribution(number_of, "turns of a conversation", "share of conversations\nwith no more")
    _distribution(between, "from turn to turn, s", "share of turns")
    _named(number_of)
    return figure


def reasoning(characters: Characters) -> Figure | None:
    """The part of answers that thinks."""
    kept = {name: of["reasoning"] for name, of in characters.items() if of["reasoning"]}
    if not kept:
        return None
    figure, (axes,) = _panels(1, 1, 5.4, 3.0)
    for index, (name, of) in enumerate(kept.items()):
        heights = np.array(of["histogram_frac"])
        edges = np.linspace(0.0, 1.0, len(heights) + 1)
        text = f"{label(name, 30)}, {of['reason_share_frac']:.0%} of answer tokens"
        axes.stairs(heights, edges, color=COLOURS[index], fill=index == 0, alpha=0.45 if index == 0 else 1.0, label=text)
    axes.set_xlabel("part of the answer that thinks")
    axes.set_ylabel("share of requests")
    axes.set_xlim(0.0, 1.0)
    _named(axes)
    return figure


def items(characters: Characters) -> Figure | None:
    """Items of a request, and tokens of an item, by modality."""
    of = next(iter(characters.values()))
    modalities = list(of["items"] or ())
    if not modalities:
        return None
    figure, (count, tokens) = _panels(1, 2, 8.6, 3.2)
    for index, (name, character) in enumerate(characters.items()):
        for colour, modality in zip((COLOURS[index], SECOND, GOOD), modalities):
            dash = "-" if index == 0 else "--"
            many, each = (character["lengths"].get(f"{modality}_{what}") for what in ("count", "tokens"))
            if many and each:
                _steps(count, many, color=colour, linestyle=dash, label=f"{modality}, {label(name, 26)}")
                _steps(tokens, each, color=colour, linestyle=dash)
    _distribution(count, "items of a request", "share of requests\nwith no more")
    count.set_xscale("symlog", linthresh=1.0)
    count.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    _distribution(tokens, "tokens of an item", "share of items\nno larger")
    _named(count)
    return figure


FIGURES: Final[dict[str, Callable[[Characters], Figure | None]]] = {
    "over_time": over_time,
    "gaps": gaps,
    "lengths": lengths,
    "clients": clients,
    "top_clients": top_clients,
    "correlation": correlation,
    "turns": turns,
    "reasoning": reasoning,
    "items": items,
}


def _panels(rows: int, columns: int, width_in: float, height_in: float) -> tuple[Figure, Any]:
    """A figure and its axes, as an array that unpacks by row."""
    figure = Figure(figsize=(width_in, height_in))
    made = figure.subplots(rows, columns, squeeze=False)
    return figure, made if rows > 1 and columns > 1 else made.ravel()


def _steps(axes: Axes, curve: Mapping[str, Any], **style: Any) -> None:
    """A cumulative distribution, which rises at its values."""
    axes.plot([curve["value"][0], *curve["value"]], [0.0, *curve["cumulative_frac"]], drawstyle="steps-post", **style)


def _distribution(axes: Axes, what: str, share: str) -> None:
    axes.set_xlabel(what)
    axes.set_ylabel(share)
    axes.set_ylim(0.0, 1.03)
    _logarithmic(axes, "x")


def _plain(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def _logarithmic(axes: Axes, which: str) -> None:
    """A logarithmic axis with plain numbers: 1, 2, 5 where it spans few decades, else powers of ten."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 200.0 * low else (1.0,), numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_formatter(NullFormatter())


def _named(axes: Axes, columns: int = 4) -> None:
    """A legend above the axes."""
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns)


def _known(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values])
