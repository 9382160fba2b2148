"""The answer of a comparison: what each naive method says, and how its plan does under the real per-client mix."""

from collections.abc import Sequence

from experiments.report.cards import Card, cards_row, chip, latency, mark
from experiments.report.markup import Html, join, table, tag
from experiments.report.schema import Compare, Hour, Sizing
from experiments.report.words import (
    NOTHING,
    clock,
    count,
    infinite,
    interval,
    number,
    seconds,
    share,
    slo_sentence,
    term_name,
    traffic_name,
)
from sim.slo import Slo

_HEAD = ("hour", "req/s", "sized by", "instances", "difference")
_HEAD_REAL = ("TTFT p99", "TPOT p99", "attainment", "SLO")
_READING = (
    "In brackets the interval over single seeds. Latencies, attainment and verdict are those of the plan under the real "
    "per-client mix, not under the traffic that it was sized for. Attainment: the share of requests that meet each limit "
    "of the SLO as if it were one on requests."
)


def comparison(compare: Compare, slo: Slo | None) -> Html:
    """A sentence on the clients' own need, one on each naive method, cards, and the table of all hours."""
    hours = compare.hours
    peak = max((hour.per_client.instances or 0 for hour in hours), default=0)
    goal = slo_sentence(slo) if slo else compare.slo
    when = f"At {hour_name(hours[0])}" if len(hours) == 1 else f"Over {len(hours)} hours from {hour_name(hours[0])} on"
    many = "" if len(hours) == 1 else "up to "
    need = (
        (f"you need {many}", tag("b", count(peak, "instance"))) if peak else (tag("b", "no number of instances"), " is enough")
    )
    verdicts = (tag("li", *_verdict(name, compare, slo)) for name in compare.names)
    return join(
        [
            tag("p", when, ", sized for its clients, ", *need, f" to hold {goal}.", class_="lead"),
            tag("ul", *verdicts, class_="verdicts"),
            cards_row(_cards(compare)),
            None if is_long(compare) else hours_table(compare),
        ]
    )


def is_long(compare: Compare) -> bool:
    """Whether the table of hours is too long to stand before the figures."""
    return len(compare.hours) > 3


def hours_table(compare: Compare) -> Html:
    """Hour by hour and plan by plan: instances, and latencies, attainment and verdict under the real mix."""
    rows: list[list[object]] = []
    for hour in compare.hours:
        name = [hour_name(hour), number(hour.rate_rps)]
        rows.append([*name, tag("b", "per-client"), *_cells(hour.per_client, NOTHING)])
        for method in (method for method in compare.names if method in hour.naive):
            plan = hour.naive[method]
            rows.append(["", "", traffic_name(method), *_cells(plan, against(plan, hour.per_client))])
    title = "Hour by hour: what each says is enough, and how it does under the real mix"
    return join([table([*_HEAD, *_HEAD_REAL], rows, title), tag("p", _READING, class_="note")])


def hour_name(hour: Hour) -> str:
    """Its stretch of the pool's clock."""
    return clock(hour.start_s, hour.duration_s)


def against(naive: Sizing, per_client: Sizing) -> str:
    """How many instances a naive plan is off the per-client one, in sign and words."""
    if naive.instances is None or per_client.instances is None:
        return NOTHING
    off = naive.instances - per_client.instances
    return "same" if off == 0 else f"−{-off:,} under" if off < 0 else f"+{off:,} over"


def _verdict(name: str, compare: Compare, slo: Slo | None) -> list[object]:
    pairs = [(hour.naive[name], hour.per_client) for hour in compare.hours if name in hour.naive]
    if len(pairs) == 1:
        return _verdict_on_hour(traffic_name(name), *pairs[0], slo)
    missed = sum(naive.holds is False for naive, _ in pairs)
    judged = sum(naive.holds is not None for naive, _ in pairs)
    words = [against(*pair).rpartition(" ")[2] for pair in pairs]
    tally = ", ".join(f"{word} in {words.count(word)}" for word in ("under", "same", "over") if word in words)
    if missed:
        end = f"misses the SLO in {missed} of {judged}"
    elif judged < len(pairs):
        end = f"was judged in {judged} alone, where it holds"
    else:
        end = "holds in all of them" + (", with instances to spare" if "over" in words else ": here naive sizing suffices")
    start = [mark(not missed), " ", tag("b", traffic_name(name)), f" sizing, hour by hour: {tally} of {len(pairs)}; "]
    return [*start, "under the real mix it ", tag("b", end), "."]


def _verdict_on_hour(name: str, naive: Sizing, per_client: Sizing, slo: Slo | None) -> list[object]:
    says = NOTHING if naive.instances is None else f"{naive.instances:,}"
    holds = naive.holds is True
    start = [mark(holds), " ", tag("b", name), " sizing says ", tag("b", says), f" ({against(naive, per_client)})"]
    if naive.holds is None:
        return [*start, " and was not judged under the real mix."]
    if not holds:
        return [*start, f" and misses under the real mix: {_worst(naive, slo)}."]
    spare = (naive.instances or 0) > (per_client.instances or 0)
    end = ", with instances to spare." if spare else ": here naive sizing suffices."
    return [*start, f" and holds under the real mix{end}"]


def _worst(plan: Sizing, slo: Slo | None) -> str:
    """The limit that a plan misses by most, in words."""
    values = {"ttft_p99_s": plan.ttft_p99_s, "tpot_p99_s": plan.tpot_p99_s}
    terms = [term for term in slo.run_terms if term.key in values] if slo else []
    ratios = [((values[term.key] or float("inf")) / term.limit_s, term) for term in terms]
    ratio, term = max(ratios, key=lambda pair: pair[0], default=(0.0, None))
    if term is None or ratio <= 1.0:
        return f"{share(plan.attainment_frac)} of requests meet it"
    value = values[term.key]
    if value is None:
        return f"{term_name(term.key)} is {infinite('p99')}, the limit {seconds(term.limit_s)}"
    return f"{term_name(term.key)} is {seconds(value)}, {ratio:.2g} times the limit of {seconds(term.limit_s)}"


def _cards(compare: Compare) -> list[Card]:
    peak = "instances at the peak; " if len(compare.hours) > 1 else "instances; "
    cards = [_card(compare, "per-client", [hour.per_client for hour in compare.hours], peak)]
    for name in compare.names:
        plans = [hour.naive.get(name) for hour in compare.hours]
        cards.append(_card(compare, traffic_name(name), plans, peak))
    return cards


def _card(compare: Compare, name: str, plans: Sequence[Sizing | None], peak: str) -> Card:
    sized = [(plan.instances, hour.duration_s) for plan, hour in zip(plans, compare.hours) if plan and plan.instances]
    gpu_hours = sum(instances * compare.gpus_per_instance * duration_s / 3600.0 for instances, duration_s in sized)
    top = max((instances for instances, _ in sized), default=None)
    misses = sum(plan is not None and plan.holds is False for plan in plans)
    where = f" in {misses} of {len(plans)} hours" if len(plans) > 1 else ""
    end = f"; misses the SLO{where}" if misses else ""
    return Card(f"{name} plan", NOTHING if top is None else f"{top:,}", f"{peak}{number(gpu_hours)} GPU-hours{end}")


def _cells(plan: Sizing, difference: str) -> list[object]:
    if plan.instances is None:
        return ["none", difference, NOTHING, NOTHING, NOTHING, NOTHING]
    latencies = [latency(value, "p99") for value in (plan.ttft_p99_s, plan.tpot_p99_s)]
    verdict: object = NOTHING if plan.holds is None else chip(plan.holds, "holds" if plan.holds else "misses")
    around = f" ({interval(plan.lo, plan.hi)})" if plan.lo != plan.hi else None
    found = join([tag("b", f"{plan.instances:,}"), around])
    return [found, difference, *latencies, share(plan.attainment_frac), verdict]
