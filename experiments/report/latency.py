"""The third section: how latencies are spread over the requests."""

from collections.abc import Mapping

import numpy as np

from experiments.report.figures import latency_cdf
from experiments.report.load import Run
from experiments.report.markup import Html, join, table, tag
from experiments.report.schema import Summary
from experiments.report.svg import picture
from experiments.report.tables import Requests
from experiments.report.words import METRIC_NAMES, NOTHING, count, seconds, slo_lines
from sim.metrics import STATISTICS, percentile

_MEANINGS = {"ttft": "time to first token", "tpot": "time per output token", "e2el": "arrival to last token"}


def latency(run: Run) -> Html | None:
    """Cumulative distributions and a table of statistics: of the run, or of each plan that was compared."""
    plans: Mapping[str, Requests] = run.traffics or ({"": run.requests} if run.requests is not None else {})
    if not plans and run.summary is None:
        return None
    tables = [_of_summary(run.summary)] if run.summary else []
    if run.traffics:
        tables.append(_of_plans(plans))
    if not plans:
        missing = tag("p", "This folder holds no table of requests, so no distribution is drawn.", class_="note")
        return join([*tables, missing])
    pictures = []
    for metric, meaning in _MEANINGS.items():
        curves = {name: requests.latency_s(metric) for name, requests in plans.items()}
        figure = latency_cdf(curves, slo_lines(run.slo, metric), METRIC_NAMES[metric])
        pictures.append(picture(f"cdf-{metric}", f"{METRIC_NAMES[metric]}: {meaning}", _caption(curves), figure))
    return join([tag("div", *pictures, class_="figures three"), *tables])


def _caption(curves: Mapping[str, np.ndarray]) -> str:
    unserved = {name: int(np.isinf(values).sum()) for name, values in curves.items()}
    lost = [f"{name + ': ' if name else ''}{count(n, 'request')} not served" for name, n in unserved.items() if n]
    end = f" {'; '.join(lost)}: there the curve ends below 100 %." if lost else ""
    return f"Share of requests that took at most this long; further left is better.{end}"


def _of_summary(summary: Summary) -> Html:
    lost = "∞" if summary.unserved else NOTHING
    rows = []
    for metric, name in METRIC_NAMES.items():
        if f"{metric}_p99_s" in (summary.model_extra or {}):
            values = [summary.statistic(metric, stat) for stat in STATISTICS]
            rows.append([name, *(lost if value is None else seconds(value) for value in values)])
    text = f"∞: {count(summary.unserved, 'request')} not served, which count as infinitely late."
    note = tag("p", text, class_="note") if summary.unserved else None
    return join([table(["", *STATISTICS], rows, "Latency of the run"), note])


def _of_plans(plans: Mapping[str, Requests]) -> Html:
    rows = [
        [METRIC_NAMES[metric], name, *_statistics(requests.latency_s(metric))]
        for metric in _MEANINGS
        for name, requests in plans.items()
    ]
    return table(["", "", *STATISTICS], rows, "Latency under the real mix in the first hour, by plan")


def _statistics(values: np.ndarray) -> list[str]:
    """The same six as a summary's."""
    if not len(values):
        return [NOTHING] * len(STATISTICS)
    found = [float(np.mean(values)), *(percentile(values, q) for q in (50.0, 90.0, 95.0, 99.0, 100.0))]
    return ["∞" if value == np.inf else seconds(value) for value in found]
