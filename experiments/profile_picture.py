"""The picture of a step cost: step times against batch and against tokens, beside the fitted roofline and the data sheet."""

from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from experiments.picture_file import save_picture
from experiments.profile_curves import Accounts, Curve, Panel
from experiments.report.axes import DARK, GOOD, NAIVE, PER_CLIENT, label
from experiments.report.svg import style
from experiments.report.words import number

COLOURS: Final = (PER_CLIENT, NAIVE[0], GOOD)
STEP: Final[dict[str, Any]] = {"linewidth": 2.0}
BEYOND: Final[dict[str, Any]] = {"linewidth": 2.0, "linestyle": (0, (1, 1.2))}
ROOFLINE: Final[dict[str, Any]] = {"linewidth": 0.8}
BOUND: Final[dict[str, Any]] = {"linewidth": 1.0, "linestyle": (0, (5, 3))}


def write_picture(of: Accounts, target: Path) -> None:
    """Draw into an SVG or PNG file, whole or not at all."""
    with style():
        save_picture(draw(of), target)


def draw(of: Accounts) -> Figure:
    """Two panels, to be made inside of `style`."""
    figure = Figure(figsize=(9.6, 4.4))
    places = figure.subplots(1, 2)
    panels = list(of.panels())
    for place, panel in zip(places, panels):
        _panel(place, panel)
    cost = of.cost
    title = f"{label(of.model.name, 40)} on {cost.tp} x {label(of.gpu.name, 40)}, {cost.precision}, KV cache {of.kv}"
    figure.suptitle(f"{title} ({cost.grade}, error {cost.error_mape_frac:.1%})", fontsize=10, x=0.01, ha="left")
    figure.legend(handles=_entries(of, panels), loc="outside lower left", ncols=4)
    return figure


def _panel(axes: Axes, panel: Panel) -> None:
    for colour, curve in zip(COLOURS, panel.curves):
        _curve(axes, curve, colour)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_name)
    axes.set_ylabel("step time, ms")
    axes.xaxis.set_major_locator(LogLocator(base=4 if _octaves(panel) > 6 else 2, numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    if panel.curves:
        axes.legend(loc="upper left")


def _octaves(panel: Panel) -> int:
    return max((max(curve.x) // min(curve.x) for curve in panel.curves), default=1).bit_length() - 1


def _curve(axes: Axes, curve: Curve, colour: str) -> None:
    """The fitted part solid, what lies beyond dotted."""
    inside = sum(x <= curve.fitted_to for x in curve.x)
    axes.plot(curve.x[:inside], curve.step_ms[:inside], color=colour, label=curve.name, **STEP)
    beyond = max(inside - 1, 0)
    axes.plot(curve.x[beyond:], curve.step_ms[beyond:], color=colour, **BEYOND)
    axes.plot(curve.x, curve.bound_ms, color=colour, **BOUND)
    if curve.roofline_ms:
        axes.plot(curve.x, curve.roofline_ms, color=DARK, zorder=4, **ROOFLINE)


def _entries(of: Accounts, panels: list[Panel]) -> list[Line2D]:
    """What the kinds of line are; whose they are stands beside them."""
    entries = [Line2D([], [], color=DARK, label=f"step cost, with host time of {label(of.software.id, 20)}", **STEP)]
    if any(curve.x[-1] > curve.fitted_to for panel in panels for curve in panel.curves):
        entries.append(Line2D([], [], color=DARK, label="extrapolated", **BEYOND))
    if of.roofline is not None:
        entries.append(Line2D([], [], color=DARK, label="fitted roofline, with host time", **ROOFLINE))
    return [*entries, Line2D([], [], color=DARK, label="bound of the data sheet, no host", **BOUND)]
