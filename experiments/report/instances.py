"""The second section: the latency that each number of instances gives, and the runs that say so."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.report.cards import chip, latency
from experiments.report.comparison import hour_name, hours_table, is_long
from experiments.report.figures import (
    Search,
    instances_over_hours,
    latency_against_instances,
    misses_against_instances,
)
from experiments.report.load import Run
from experiments.report.markup import Html, join, table, tag
from experiments.report.schema import Compare, CurvePoint, Hour, Plan
from experiments.report.svg import picture
from experiments.report.words import (
    METRIC_NAMES,
    NOTHING,
    count,
    number,
    seconds,
    share,
    slo_lines,
    term_name,
    traffic_name,
)
from sim.slo import Slo

Point = tuple[int, float | None]

_METRICS = ("ttft", "tpot")
_DRAWN_KEYS = tuple(f"{metric}_p99_s" for metric in _METRICS)
_COMPARE_CAPTION = (
    "Each line: a traffic's own p99, as its search saw it; ring: the number it says is enough. "
    "Crosses: where a naive plan ends up under the real per-client mix. Dashed: the SLO."
)


def instances(run: Run) -> Html | None:
    """p99 latencies against the number of instances, a line for each traffic; None for a single run."""
    if run.compare:
        return _comparison(run.compare, run.slo)
    return _plan(run.plan, run.slo) if run.plan else None


def _plan(plan: Plan, slo: Slo | None) -> Html:
    points = _points(plan)
    pictures = []
    for metric, key in zip(_METRICS, _DRAWN_KEYS):
        name = METRIC_NAMES[metric]
        judged = [(point.instances, getattr(point, key)) for point in points]
        search = _search(plan, judged, [(one.instances, getattr(one, key)) for one in plan.runs])
        figure = latency_against_instances([search], slo_lines(slo, metric, "p99"), f"{name} p99")
        caption = _plan_caption(plan, "all seeds taken together" if plan.curve else "the worst of the seeds")
        pictures.append(picture(f"instances-{metric}", f"{name} p99 against instances", caption, figure))
    others = dict.fromkeys(term.key for one in plan.runs for term in one.terms if term.key not in _DRAWN_KEYS)
    pictures += [_term_picture(plan, key, f"instances-{i}") for i, key in enumerate(others)]
    title = f"The search, {'all seeds taken together' if plan.curve else 'worst of the seeds'}"
    head = ("instances", "seeds that hold", "TTFT p99", "TPOT p99", "attainment", "SLO")
    rows = [_plan_row(point, plan) for point in points]
    return join([tag("div", *pictures, class_="figures two"), table(head, rows, title)])


def _points(plan: Plan) -> list[CurvePoint]:
    """What each number of instances was judged on, by number; where the plan does not say, its worst seeds."""
    if plan.curve:
        return sorted(plan.curve, key=lambda point: point.instances)
    points = []
    for n in sorted({one.instances for one in plan.runs}):
        runs = [one for one in plan.runs if one.instances == n]
        ttft, tpot = (_worst([getattr(one, key) for one in runs]) for key in _DRAWN_KEYS)
        met = [one.attainment_frac for one in runs if one.attainment_frac is not None]
        share_met = min(met, default=None)
        holds = all(one.holds for one in runs)
        points.append(CurvePoint(instances=n, ttft_p99_s=ttft, tpot_p99_s=tpot, attainment_frac=share_met, holds=holds))
    return points


def _worst(values: Sequence[float | None]) -> float | None:
    """The largest; None, for infinite, if one of them is."""
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def _search(plan: Plan, points: Sequence[Point], runs: Sequence[Point]) -> Search:
    return Search("per-client", 0, tuple(points), tuple(runs), plan.instances, plan.lo, plan.hi)


def _plan_caption(plan: Plan, line: str) -> str:
    return (
        f"Line: {line}; small marks: {count(len(plan.seeds), 'single seed')}; ring: the answer; dashed: the SLO. "
        "Where more than 1 % of requests were not served, there is no p99 and no mark."
    )


def _term_picture(plan: Plan, key: str, anchor: str) -> Html | None:
    """A condition of the SLO other than the p99 of TTFT and TPOT, against the number of instances."""
    terms = [(one.instances, term) for one in plan.runs for term in one.terms if term.key == key]
    is_share, limit = key == "slo_attainment_frac", terms[0][1].limit
    runs = [(n, term.value if term.value is None or not is_share else 1.0 - term.value) for n, term in terms]
    points = [(n, _worst([value for m, value in runs if m == n])) for n in sorted({n for n, _ in runs})]
    search, caption = _search(plan, points, runs), _plan_caption(plan, "the worst of the seeds")
    if is_share:
        figure = misses_against_instances([search], [(f"SLO ≤ {number(100 * (1 - limit))} %", 1.0 - limit)])
        return picture(anchor, "Requests that miss a limit, against instances", caption, figure)
    figure = latency_against_instances([search], [(f"SLO ≤ {seconds(limit)}", limit)], term_name(key))
    return picture(anchor, f"{term_name(key)} against instances", caption, figure)


def _plan_row(point: CurvePoint, plan: Plan) -> list[object]:
    runs = [one for one in plan.runs if one.instances == point.instances]
    latencies = [latency(value, "p99") for value in (point.ttft_p99_s, point.tpot_p99_s)]
    verdict = NOTHING if point.holds is None else chip(point.holds, "holds" if point.holds else "misses")
    held = f"{sum(one.holds for one in runs)} of {len(runs)}"
    return [f"{point.instances:,}", held, *latencies, share(point.attainment_frac), verdict]


def _comparison(compare: Compare, slo: Slo | None) -> Html | None:
    peak = max(compare.hours, key=lambda hour: hour.per_client.instances or 0)
    pictures = []
    for metric in _METRICS:
        name = METRIC_NAMES[metric]
        searches = _searches(peak, compare.names, metric)
        figure = latency_against_instances(searches, slo_lines(slo, metric, "p99"), f"{name} p99")
        title = f"{name} p99 against instances, {hour_name(peak)}"
        pictures.append(picture(f"instances-{metric}", title, _COMPARE_CAPTION, figure))
    hours = picture(
        "instances-hours",
        "Instances, hour by hour",
        "What each traffic says is enough, in each hour.",
        _hours_figure(compare),
    )
    by_hour = tag("div", hours, class_="figures one") if hours else None
    table_of_hours = hours_table(compare) if is_long(compare) else None
    if not any((hours, table_of_hours, *pictures)):
        return None
    return join([by_hour, tag("div", *pictures, class_="figures two"), table_of_hours])


def _hours_figure(compare: Compare) -> Figure | None:
    plans = {"per-client": [hour.per_client.instances for hour in compare.hours]}
    for name in compare.names:
        sizings = [hour.naive.get(name) for hour in compare.hours]
        plans[traffic_name(name)] = [sizing.instances if sizing else None for sizing in sizings]
    return instances_over_hours([hour_name(hour).rpartition(" ")[2][:5] for hour in compare.hours], plans)


def _searches(hour: Hour, names: Sequence[str], metric: str) -> list[Search]:
    """The per-client search of an hour and those on naive traffic that it has."""
    key = f"{metric}_p99_s"
    out = []
    for index, name in enumerate(["per_client", *names]):
        plan = hour.per_client if index == 0 else hour.naive.get(name)
        if plan is None:
            continue
        points = tuple((point.instances, getattr(point, key)) for point in hour.curves.get(name, ()))
        real = getattr(plan, key) if index else None
        out.append(Search(traffic_name(name), index, points, (), plan.instances, plan.lo, plan.hi, real))
    return out
