"""The third section: how latencies are spread over the requests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.report.figures import Curve, latency_cdf
from experiments.report.load import PER_CLIENT, Run
from experiments.report.markup import Html, join, table, tag
from experiments.report.schema import Compare, Summary
from experiments.report.svg import picture
from experiments.report.tables import Requests
from experiments.report.words import METRIC_NAMES, NOTHING, count, seconds, slo_lines, traffic_name
from sim.distribution import percentile
from sim.metrics import STATISTICS

_NO_ROWS = "This folder holds no table of requests: rows were not kept (--no-rows), so no distribution is drawn."
_API = "TTFT and E2E are what a client sees: each contains {} of the API server."
_MEANINGS = {"ttft": "time to first token", "tpot": "time per output token", "e2el": "arrival to last token"}


@dataclass(frozen=True)
class Plan:
    """How requests fared under one number of instances; index 0 is the per-client plan, or the only one."""

    name: str
    index: int
    requests: Requests


def latency(run: Run) -> Html | None:
    """Cumulative distributions and a table of statistics: of the run, or of each plan that was compared."""
    plans = _plans(run)
    if not plans and run.summary is None:
        return None
    tables = [_of_summary(run.summary)] if run.summary else [_of_plans(plans)]
    if not plans:
        return join([*tables, tag("p", _NO_ROWS, class_="note")])
    pictures = []
    for metric, meaning in _MEANINGS.items():
        curves = [Curve(plan.name, plan.index, plan.requests.latency_s(metric)) for plan in plans]
        figure = latency_cdf(curves, slo_lines(run.slo, metric), METRIC_NAMES[metric])
        pictures.append(picture(f"cdf-{metric}", f"{METRIC_NAMES[metric]}: {meaning}", _caption(plans, metric), figure))
    return join([tag("div", *pictures, class_="figures three"), *tables])


def _plans(run: Run) -> list[Plan]:
    """The run alone, or the plans of a comparison's first hour; those with as many instances are one and the same."""
    if run.requests is not None:
        return [Plan("", 0, run.requests)]
    if not run.compare:
        return []
    merged: dict[object, Plan] = {}
    for index, name in enumerate([PER_CLIENT, *run.compare.names]):
        if name in run.traffics:
            key = _instances(run.compare, name) or name
            first = merged.get(key)
            names = f"{first.name}, {traffic_name(name)}" if first else traffic_name(name)
            merged[key] = Plan(names, first.index if first else index, run.traffics[name])
    return list(merged.values())


def _instances(compare: Compare, name: str) -> int | None:
    hour = compare.hours[0]
    plan = hour.per_client if name == PER_CLIENT else hour.naive.get(name)
    return plan.instances if plan else None


def _caption(plans: Sequence[Plan], metric: str) -> str:
    lost = []
    for plan in plans:
        unserved = plan.requests.every * int(np.isinf(plan.requests.latency_s(metric)).sum())
        about = "" if plan.requests.every == 1 else "about "
        lost += [f"{plan.name + ': ' if plan.name else ''}{about}{count(unserved, 'request')} not served"] if unserved else []
    ends = [f"{'; '.join(lost)}: there the curve ends below 100 %."] if lost else []
    ends += dict.fromkeys(plan.requests.sampling for plan in plans if plan.requests.sampling)
    return " ".join(["Share of requests that took at most this long; further left is better.", *ends])


def _of_summary(summary: Summary) -> Html:
    lost = "∞" if summary.unserved else NOTHING
    rows = []
    for metric, name in METRIC_NAMES.items():
        if f"{metric}_p99_s" in (summary.model_extra or {}):
            values = [summary.statistic(metric, stat) for stat in STATISTICS]
            rows.append([name, *(lost if value is None else seconds(value) for value in values)])
    text = f"∞: {count(summary.unserved, 'request')} not served, which count as infinitely late."
    note = tag("p", text, class_="note") if summary.unserved else None
    api = tag("p", _API.format(seconds(summary.api_s)), class_="note") if summary.api_s else None
    return join([table(["", *STATISTICS], rows, "Latency of the run"), note, api])


def _of_plans(plans: Sequence[Plan]) -> Html:
    rows = [
        [METRIC_NAMES[metric], plan.name, *_statistics(plan.requests.latency_s(metric))]
        for metric in _MEANINGS
        for plan in plans
    ]
    title = "Latency under the real mix: the first hour on the first seed, by plan"
    return table(["latency", "plan", *STATISTICS], rows, title)


def _statistics(values: np.ndarray) -> list[str]:
    """The same six as a summary's."""
    if not len(values):
        return [NOTHING] * len(STATISTICS)
    found = [float(np.mean(values)), *(percentile(values, q) for q in (50.0, 90.0, 95.0, 99.0, 100.0))]
    return ["∞" if value == np.inf else seconds(value) for value in found]
