"""The picture of a validation: every simulated figure, predicted over measured, a panel for each kind of figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.errors import UserError
from experiments.picture_file import save_picture
from experiments.report.axes import DARK, GOOD, MARKERS, NAIVE, PER_CLIENT, SECOND, label
from experiments.report.svg import style
from experiments.report.words import number, seconds
from experiments.validate.judgement import Judged

COLOURS: Final = (PER_CLIENT, NAIVE[0], GOOD, NAIVE[2], NAIVE[1], SECOND)
"""Of engines, those with the most figures first; all others are grey."""

BAND_FRAC: Final = 0.1
_OTHER = "others"
_MOST_LETTERS = 22
_NARROWEST = 6.5  # from 2 to 5 and a little on both sides is 6.25
_MANY = 300  # figures of a panel that would hide each other


class Kind(NamedTuple):
    """A panel: what it shows, which metrics, and how its numbers are written."""

    title: str
    is_in: Callable[[str], bool]
    text: Callable[[float], str]


KINDS: Final = (
    Kind("TPOT", lambda metric: metric.startswith("tpot_"), seconds),
    Kind("TTFT", lambda metric: metric.startswith("ttft_"), seconds),
    Kind("E2E", lambda metric: metric.startswith("e2e_"), seconds),
    Kind("tokens/s", lambda metric: metric.endswith("_tokens_per_s"), number),
    Kind("requests/s", lambda metric: metric == "requests_per_s", number),
)


def write_picture(judged: Sequence[Judged], target: Path) -> None:
    """Draw the figures that were simulated into an SVG or PNG file, whole or not at all; UserError where none were."""
    kept = [one for one in judged if one.predicted and one.measured]
    if not kept:
        raise UserError(f"--picture {target}: nothing was simulated, so there is nothing to draw")
    with style():
        save_picture(draw(kept), target, "--picture")


def draw(kept: Sequence[Judged]) -> Figure:
    """A panel for each kind there is; colours are engines, markers GPUs, hollow ones queue for KV blocks or seats."""
    engines = _by_count(_engine(one) for one in kept)
    colours = dict(zip(engines, COLOURS))
    markers = dict(zip(_by_count(_gpu(one) for one in kept), MARKERS))
    panels = [(kind, found) for kind in KINDS if (found := [one for one in kept if kind.is_in(one.group.metric)])]
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.1 * columns if columns > 1 else 5.2, 3.9 * rows + 0.5))
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, (kind, found) in zip(places, panels):
        _panel(place, kind, found, colours, markers)
    for place in places[len(panels) :]:
        place.remove()
    _legend(figure, engines, colours, markers, any(one.is_capped for one in kept))
    return figure


def _panel(axes: Axes, kind: Kind, found: Sequence[Judged], colours: dict[str, str], markers: dict[str, str]) -> None:
    measured, predicted = (np.array([getattr(one, name) for one in found]) for name in ("measured", "predicted"))
    low, high = _limits(min(measured.min(), predicted.min()), max(measured.max(), predicted.max()))
    ends = np.array([low, high])
    axes.fill_between(ends, ends * (1 - BAND_FRAC), ends * (1 + BAND_FRAC), color=DARK, alpha=0.1, linewidth=0, zorder=1)
    axes.plot(ends, ends, color=DARK, linewidth=0.9, zorder=2)
    size = 4.2 if len(found) < _MANY else 3.2
    for one, x, y in zip(found, measured, predicted):
        colour = colours.get(_engine(one), NAIVE[3])
        face = "none" if one.is_capped else colour
        look: dict[str, Any] = {"markerfacecolor": face, "markeredgecolor": colour, "markersize": size, "alpha": 0.7}
        axes.plot(x, y, markers.get(_gpu(one), "x"), markeredgewidth=0.8, zorder=3, **look)
    for axis, limits in ((axes.xaxis, axes.set_xlim), (axes.yaxis, axes.set_ylim)):
        limits(low, high)
        (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
        axis.set_major_locator(LogLocator(subs=_digits(high / low), numticks=9))
        axis.set_major_formatter(FuncFormatter(lambda value, _: kind.text(value)))
        axis.set_minor_formatter(NullFormatter())
    axes.set_aspect("equal")
    axes.set_title(f"{kind.title}, {len(found):,} figures")
    axes.set_xlabel(f"measured {kind.title}")
    axes.set_ylabel(f"predicted {kind.title}")
    _tell_errors(axes, found)


def _limits(least: float, most: float) -> tuple[float, float]:
    """Both ends of an axis, so far apart that two of 1, 2, 5 lie between them."""
    room = max(1.35, (_NARROWEST * least / most) ** 0.5)
    return float(least / room), float(most * room)


def _digits(span: float) -> tuple[float, ...]:
    """Which digits have a tick on an axis whose ends are this far apart, so that numbers do not meet."""
    return (1.0, 2.0, 5.0) if span < 50 else (1.0, 3.0) if span < 1000 else (1.0,)


def _tell_errors(axes: Axes, found: Sequence[Judged]) -> None:
    """Share within the band and median error, of figures that do not queue."""
    errors = np.array([one.error_frac for one in found if not one.is_capped])
    if len(errors):
        inside, middle = np.mean(np.abs(errors) <= BAND_FRAC), np.median(np.abs(errors))
        text = f"{inside:.0%} within ±{BAND_FRAC:.0%}\nmedian |error| {middle:.1%}"
        axes.text(0.97, 0.04, text, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, color=DARK)


def _legend(figure: Figure, engines: Sequence[str], colours: dict[str, str], markers: dict[str, str], has_capped: bool) -> None:
    plain: dict[str, Any] = {"linestyle": "none", "markersize": 5}
    entries = [Line2D([], [], marker="s", color=colours[name], label=label(name, _MOST_LETTERS), **plain) for name in colours]
    if len(engines) > len(colours):
        entries.append(Line2D([], [], marker="s", color=NAIVE[3], label="other engines", **plain))
    for gpu, marker in markers.items():
        entries.append(Line2D([], [], marker=marker, color=DARK, label=label(gpu, _MOST_LETTERS), **plain))
    if has_capped:
        entries.append(Line2D([], [], marker="o", color=DARK, markerfacecolor="none", label="queues for KV or seats", **plain))
    entries.append(Line2D([], [], color=DARK, linewidth=5, alpha=0.2, label=f"±{BAND_FRAC:.0%}"))
    figure.legend(handles=entries, loc="outside upper left", ncols=min(len(entries), 5))


def _by_count(names: Iterable[str]) -> list[str]:
    """Names, the most frequent first, then by letter."""
    return [name for name, _ in sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))]


def _gpu(one: Judged) -> str:
    """The first word of a GPU's name, such as H100."""
    return _first(one.group.gpu.replace("_", "-"), "-")


def _engine(one: Judged) -> str:
    """The engine without its version."""
    return _first(one.group.software, None)


def _first(text: str, sign: str | None) -> str:
    return (text.split(sign) or [""])[0] or _OTHER
