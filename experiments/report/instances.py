"""The second section: the latency that each number of instances gives, and the runs that say so."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.report.comparison import hour_name, hours_table, is_long
from experiments.report.figures import (
    Search,
    instances_over_hours,
    latency_against_instances,
    misses_against_instances,
)
from experiments.report.load import Run
from experiments.report.markup import Html, join, table, tag
from experiments.report.schema import Compare, Hour, Plan, PlanRun
from experiments.report.svg import picture
from experiments.report.words import (
    METRIC_NAMES,
    NOTHING,
    count,
    infinite,
    number,
    seconds,
    share,
    slo_lines,
    term_name,
    traffic_name,
)
from sim.slo import Slo

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
    pictures = []
    for metric, key in zip(_METRICS, _DRAWN_KEYS):
        name = METRIC_NAMES[metric]
        runs = tuple((one.instances, getattr(one, key)) for one in plan.runs)
        figure = latency_against_instances([_search(plan, runs)], slo_lines(slo, metric, "p99"), f"{name} p99")
        pictures.append(picture(f"instances-{metric}", f"{name} p99 against instances", _plan_caption(plan), figure))
    others = dict.fromkeys(term.key for one in plan.runs for term in one.terms if term.key not in _DRAWN_KEYS)
    pictures += [_term_picture(plan, key) for key in others]
    by_count = {n: [one for one in plan.runs if one.instances == n] for n in {one.instances for one in plan.runs}}
    head = ("instances", "seeds that hold", "worst TTFT p99", "worst TPOT p99", "least attainment")
    rows = [_plan_row(n, runs) for n, runs in sorted(by_count.items())]
    return join([tag("div", *pictures, class_="figures two"), table(head, rows, "The runs of the search")])


def _search(plan: Plan, runs: tuple[tuple[int, float | None], ...]) -> Search:
    return Search("per-client", 0, runs, plan.instances, plan.lo, plan.hi)


def _plan_caption(plan: Plan) -> str:
    return (
        f"Line: mean over {count(len(plan.seeds), 'seed')}; small marks: single runs; ring: the answer; dashed: SLO. "
        "A run that did not serve more than 1 % of its requests has no p99 and no mark."
    )


def _term_picture(plan: Plan, key: str) -> Html | None:
    """A condition of the SLO other than the p99 of TTFT and TPOT, against the number of instances."""
    terms = [(one.instances, term) for one in plan.runs for term in one.terms if term.key == key]
    limit = terms[0][1].limit
    keys = sorted({term.key for one in plan.runs for term in one.terms})
    anchor = f"instances-{keys.index(key)}"
    if key == "slo_attainment_frac":
        runs = tuple((n, None if term.value is None else 1.0 - term.value) for n, term in terms)
        line = (f"SLO ≤ {number(100 * (1 - limit))} %", 1.0 - limit)
        figure = misses_against_instances([_search(plan, runs)], [line])
        return picture(anchor, "Requests that miss a limit, against instances", _plan_caption(plan), figure)
    runs = tuple((n, term.value) for n, term in terms)
    line = (f"SLO ≤ {seconds(limit)}", limit)
    figure = latency_against_instances([_search(plan, runs)], [line], term_name(key))
    return picture(anchor, f"{term_name(key)} against instances", _plan_caption(plan), figure)


def _plan_row(n: int, runs: Sequence[PlanRun]) -> list[object]:
    names = (*_DRAWN_KEYS, "attainment_frac")
    ttft, tpot, met = ([getattr(one, name) for one in runs] for name in names)
    worst = [infinite("p99") if None in values else seconds(max(values)) for values in (ttft, tpot)]
    least = NOTHING if None in met else share(min(met))
    return [f"{n:,}", f"{sum(one.holds for one in runs)} of {len(runs)}", *worst, least]


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
        runs = tuple((point.instances, getattr(point, key)) for point in hour.curves.get(name, ()))
        real = getattr(plan, key) if index else None
        out.append(Search(traffic_name(name), index, runs, plan.instances, plan.lo, plan.hi, real))
    return out
