"""What the figures share: colours, axes in seconds, limits, legends. Nothing here knows what is drawn."""

import math
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from experiments.report.words import number, seconds

Limits = Sequence[tuple[str, float]]
"""Lines of an SLO: the words on each, and its value in seconds (or as a share)."""

PER_CLIENT = "#0072B2"
NAIVE = ("#D55E00", "#E69F00", "#CC79A7", "#666666")  # Okabe and Ito, jfly.uni-koeln.de/color
DARK = "#1E272C"
LIMIT = "#B3261E"
GOOD = "#009E73"
SECOND = "#56B4E9"
MARKERS = ("o", "s", "D", "^", "v")

_LOG_DIGITS = ((1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,))
_LEGEND_ROW_IN = 0.17  # 8 pt letters and the space between rows
_STEPS = (1, 2, 2.5, 5, 10)


def new_axes(width_in: float, height_in: float) -> tuple[Figure, Axes]:
    """A figure with one axes."""
    figure = Figure(figsize=(width_in, height_in))
    return figure, figure.add_subplot()


def traffic_style(index: int) -> tuple[str, str]:
    """Colour and marker of the per-client traffic (0) and of each naive one (1, 2, ...)."""
    return (PER_CLIENT if index == 0 else NAIVE[(index - 1) % len(NAIVE)]), MARKERS[index % len(MARKERS)]


def label(text: str, most: int = 26) -> str:
    """A name from a file, short enough for its place and in letters that the figure's font has."""
    known = _letters()
    text = "".join(c if ord(c) in known and c.isprintable() else "?" for c in text.strip())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def better_low(text: str) -> str:
    """The name of an axis on which lower is better, over two lines if it is long."""
    return f"{label(text, 14)}{' ' if len(text) < 10 else chr(10)}(lower is better)"


def legend(figure: Figure, axes: Axes) -> None:
    """Above the axes, left, in as many columns as fit; the figure grows with its rows. Only for what has a name."""
    entries = list(zip(*axes.get_legend_handles_labels()))
    room = 0.97 * figure.bbox.width
    for rows in range(1, len(entries) + 1):
        columns = -(-len(entries) // rows)
        by_row = [entry for column in range(columns) for entry in entries[column::columns]]
        made = figure.legend(*zip(*by_row), loc="outside upper left", ncols=columns)
        width = made.get_window_extent().width
        if columns == 1 or width < room:
            figure.set_figheight(figure.get_figheight() + _LEGEND_ROW_IN * (rows - 1))
            for text in made.get_texts() if width > room else ():
                text.set_text(label(text.get_text(), int(room / width * len(text.get_text())) - 4))
            return
        made.remove()


def limit_lines(axes: Axes, limits: Limits, upright: bool = False) -> None:
    """The SLO: dashed lines with their values written on them. Upright on a latency axis that runs to the right."""
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.0}
    style: dict[str, Any] = {"color": LIMIT, "linestyle": "--", "linewidth": 1.3, "zorder": 3}
    for row, (text, limit) in enumerate(limits):
        if upright:
            axes.axvline(limit, **style)
            place = ((limit, 1.0), (0, 2 + 10 * row), axes.get_xaxis_transform(), "offset points")
            axes.annotate(text, *place, ha="center", va="bottom", color=LIMIT, fontsize=8)
        else:
            axes.axhline(limit, **style)
            place = ((1.0, limit), (0, 3), axes.get_yaxis_transform(), "offset points")
            axes.annotate(text, *place, ha="right", va="bottom", color=LIMIT, fontsize=8, bbox=paper, zorder=4)


def spans_a_decade(values: Sequence[float]) -> bool:
    """Whether a logarithmic axis shows these better; never with a zero among them."""
    return bool(values) and min(values) > 0.0 and max(values) / min(values) > 10.0


def log_seconds(axes: Axes, which: str, lo: float, hi: float) -> None:
    """Make "x" or "y" logarithmic from a little below lo to a little above hi, with the ticks in ms and s that fit."""
    lo, hi = lo / 1.25, hi * 1.6
    upright = which == "y"
    (axes.set_yscale if upright else axes.set_xscale)("log")
    (axes.set_ylim if upright else axes.set_xlim)(lo, hi)
    size_in = 0.7 * (axes.figure.get_figheight() if upright else axes.figure.get_figwidth())  # type: ignore[union-attr]
    axis = axes.yaxis if upright else axes.xaxis
    axis.set_major_locator(FixedLocator(_log_ticks(lo, hi, size_in, upright)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))


def linear_seconds(axes: Axes, hi: float) -> None:
    """Make y run from 0 to a little above hi, in ms or s, whichever fits the whole axis."""
    axes.set_ylim(0.0, 1.18 * hi if hi > 0.0 else 1.0)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    scale, unit = (1e3, "ms") if hi < 1.0 else (1.0, "s")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{number(value * scale)} {unit}"))


def numbers(axes: Axes, hi: float, whole: bool = False) -> None:
    """Make y run from 0 to a little above hi, thousands separated; `whole` allows ticks at whole numbers alone."""
    axes.set_ylim(0.0, 1.12 * hi if hi > 0.0 else 1.0)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS, integer=whole))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def integers(axes: Axes, values: Iterable[int]) -> None:
    """Make x run over these counts, with whole numbers for ticks."""
    known = list(values)
    axes.set_xlim(min(known) - 0.6, max(known) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def time_unit(span_s: float) -> tuple[float, str]:
    """Seconds to a unit that suits the span, and its name."""
    return (3600.0, "h") if span_s >= 3 * 3600 else (60.0, "min") if span_s >= 180 else (1.0, "s")


def finite(values: Iterable[float | None]) -> list[float]:
    """The values that can be drawn."""
    return [value for value in values if value is not None and math.isfinite(value)]


def _log_ticks(lo: float, hi: float, size_in: float, upright: bool) -> list[float]:
    """The densest choice of round numbers between lo and hi whose labels have room beside each other."""
    powers = range(math.floor(math.log10(lo)), math.ceil(math.log10(hi)) + 1)
    choices = [[digit * 10.0**power for power in powers for digit in digits] for digits in _LOG_DIGITS]
    choices += [[10.0**power for power in powers if power % stride == 0] for stride in range(2, 8)]
    kept = [[tick for tick in choice if lo <= tick <= hi] for choice in choices]
    inches = size_in / math.log10(hi / lo)
    fitting = (ticks for ticks in kept if all(math.log10(b / a) * inches > _room_in(a, b, upright) for a, b in pairwise(ticks)))
    return next((ticks for ticks in fitting if len(ticks) > 1), kept[0][:1])


def _room_in(a: float, b: float, upright: bool) -> float:
    """Inches that two neighbours need from middle to middle, at 8 pt."""
    return 0.22 if upright else 0.1 + 0.035 * (len(seconds(a)) + len(seconds(b)))


@cache
def _letters() -> frozenset[int]:
    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())
