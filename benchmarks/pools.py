"""A shipped pool beside its source: requests over time, burstiness, and lengths, as published and as composed.

    python -m benchmarks.pools SOURCE --name deepseek-r1 --draw docs/measured/deepseek-r1.svg

SOURCE is the folder or .tar.gz of published ServeGen data. The numbers to the picture: `python -m workloads.fit_pool SOURCE
--name NAME --check`. A pool of more than MOST_REQUESTS is composed at a lower rate, and its counts are scaled back.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import NullLocator

from workloads import ClientPool, compose
from workloads.arrivals import WINDOW_S
from workloads.fields import REASON, REASON_PARTS, TEXT, meant
from workloads.pool_check import members_of, windows_played
from workloads.servegen import ServegenData, read_servegen
from workloads.servegen_pool import stored_pmf
from workloads.stream import MODALITIES

MOST_REQUESTS = 3_000_000
FEW_WINDOWS = 432  # three days: with more, a window is less than a point of the picture
SOURCE_COLOUR, COMPOSED_COLOUR = "#9aa5ab", "#1f6f8b"
LABELS = {
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    TEXT: "text tokens of a prompt",
    REASON: "share of the answer that thinks",
    "image_count": "images of a prompt",
    "image_tokens": "tokens of an image",
}


class Curve(NamedTuple):
    """A distribution: values, and the share of requests (or items) at or below them."""

    values: np.ndarray
    share: np.ndarray


def published_curve(pool: ClientPool, data: ServegenData, name: str) -> Curve:
    """The mixture of the published distributions, weighted by requests; of an image's tokens by images."""
    weights: dict[int, float] = {}
    for block in range(pool.length_row.shape[1]):
        for _, requests, pmfs in members_of(pool, data, block):
            pmf = stored_pmf(pmfs, name)
            items = stored_pmf(pmfs, name.replace("_tokens", "_count")).mean() - 1.0 if name == "image_tokens" else 1.0
            for value, probability in zip(pmf.values.tolist(), pmf.probabilities.tolist()):
                weights[value] = weights.get(value, 0.0) + requests * items * probability
    values = np.array(sorted(weights))
    share = np.cumsum([weights[value] for value in values])
    return Curve(_shown(name, values), share / share[-1])


def composed_curve(stream: Any, rows: np.ndarray, name: str) -> Curve:
    """The same of a composed stream."""
    if name == "image_tokens":
        values = stream.items["tokens"][stream.items["modality"] == MODALITIES.index("image")]
    elif name == "image_count":
        values = rows["items_count"]
    elif name == REASON:
        values = rows["reason_tokens"] / rows["output_tokens"]
    elif name == TEXT:
        held = np.append(np.cumsum(stream.items["tokens"], dtype=np.int64), 0)
        end, begin = rows["items_start"] + rows["items_count"] - 1, rows["items_start"] - 1
        values = rows["input_tokens"] - np.where(rows["items_count"] > 0, held[end] - held[begin], 0)
    else:
        values = rows[name]
    values, counts = np.unique(values, return_counts=True)
    return Curve(values, np.cumsum(counts) / counts.sum())


def _shown(name: str, stored: np.ndarray) -> np.ndarray:
    return meant(name, stored) / (REASON_PARTS if name == REASON else 1)


def draw(pool: ClientPool, data: ServegenData, path: Path, seed: int = 1) -> None:
    """Requests over time, CVs of windows, and one panel for each field."""
    from matplotlib.figure import Figure

    from experiments.report.svg import style

    present = pool.published()
    requests = present.count.sum()
    scale = min(1.0, MOST_REQUESTS / requests)
    stream = compose(present, 0, present.duration_s, scale=scale, seed=seed)
    rows = stream.collect()
    names = list(present.lengths)
    with style():
        figure = Figure(figsize=(10.5, 5.2))
        grid = figure.subplots(2, 3)
        _draw_rates(grid[0, 0], present, rows, scale)
        _draw_cvs(grid[0, 1], present, data, seed)
        for axes, name in zip(grid.ravel()[2:], names):
            _draw_lengths(axes, name, published_curve(present, data, name), composed_curve(stream, rows, name))
        for axes in grid.ravel()[2 + len(names) :]:
            axes.remove()
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_rates(axes: Any, pool: ClientPool, rows: np.ndarray, scale: float) -> None:
    each = 1 if pool.windows <= FEW_WINDOWS else 36  # windows to a point
    hours = (np.arange(0, pool.windows, each) + 0.5 * each) * WINDOW_S / 3600.0
    sent = np.bincount(rows["arrival_ns"] // round(WINDOW_S * 1e9), minlength=pool.windows) / scale
    for requests, colour, width, label in (
        (pool.count.sum(axis=0), SOURCE_COLOUR, 2.6, "published"),
        (sent, COMPOSED_COLOUR, 0.9, "composed"),
    ):
        rate = np.add.reduceat(requests, np.arange(0, pool.windows, each)) / (each * WINDOW_S)
        axes.plot(hours, rate, color=colour, linewidth=width, label=label)
    title = "Rate in windows of 10 min" if each == 1 else "Rate in blocks of 6 h"
    axes.set(xlabel="hours", ylabel="requests/s", title=title, ylim=(0, None))
    axes.legend()


def _draw_cvs(axes: Any, pool: ClientPool, data: ServegenData, seed: int) -> None:
    played = windows_played(pool, data, seed, 4000)
    known = (played["requests"] >= 300) & np.isfinite(played["cv_ratio"])
    reported, weight = played["cv"][known], played["requests"][known]
    for cv, colour, width, label in (
        (reported, SOURCE_COLOUR, 2.6, "published"),
        (reported * played["cv_ratio"][known], COMPOSED_COLOUR, 0.9, "composed"),
    ):
        order = np.argsort(cv)
        axes.plot(cv[order], np.cumsum(weight[order]) / weight.sum(), color=colour, linewidth=width, label=label)
    axes.set(xlabel="CV of the gaps in a client's window", ylabel="share of requests", title="Burstiness")
    _log_scale(axes)
    axes.legend()


def _draw_lengths(axes: Any, name: str, published: Curve, composed: Curve) -> None:
    axes.step(*_thinned(published), where="post", color=SOURCE_COLOUR, linewidth=2.6, label="published")
    axes.step(*_thinned(composed), where="post", color=COMPOSED_COLOUR, linewidth=0.9, label="composed")
    axes.set(ylabel="share at or below", ylim=(0, 1.02), title=LABELS.get(name, name).capitalize())
    if name not in (REASON, "image_count"):
        _log_scale(axes)
    axes.legend()


def _thinned(curve: Curve) -> Curve:
    """At most some 500 points: those at which the share has moved by a 500th."""
    kept = np.unique(np.searchsorted(curve.share, np.linspace(curve.share[0], 1.0, 501) - 1e-9))
    kept = kept[kept < len(curve.share)]
    return Curve(curve.values[kept], curve.share[kept])


def _log_scale(axes: Any) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.xaxis.set_minor_locator(NullLocator())


def main() -> None:
    """Draw the picture of one pool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder or .tar.gz of published ServeGen data")
    parser.add_argument("--name", required=True, help="the shipped pool")
    parser.add_argument("--draw", type=Path, required=True, help="an .svg or .png to draw")
    asked = parser.parse_args()
    draw(ClientPool.load(asked.name), read_servegen(asked.source), asked.draw)


if __name__ == "__main__":
    main()
