"""The first section: the answer in a sentence, whether each limit holds, and the few numbers that matter."""

from experiments.report.cards import Card, cards_row, chip, chips_row, latency, term_chip
from experiments.report.comparison import comparison
from experiments.report.load import Run
from experiments.report.markup import Html, join, tag
from experiments.report.schema import Plan, Summary, TermRow
from experiments.report.words import NOTHING, count, interval, number, seconds, share, slo_sentence
from sim.slo import Slo, SloError


def answer(run: Run) -> Html:
    """Sentence, chips and cards of whatever question the folder answers."""
    if run.compare:
        return comparison(run.compare, run.slo)
    if run.plan:
        return _plan(run, run.plan)
    assert run.summary is not None, "load_run asks for at least one result"
    return _simulation(run, run.summary)


def _plan(run: Run, plan: Plan) -> Html:
    slo = slo_sentence(run.slo) if run.slo else plan.slo
    end = (f" to hold {slo} for ", tag("i", run.name), ".")
    sentence: tuple[object, ...]
    if plan.instances is not None and plan.holds:
        gpus = count(plan.instances * plan.gpus_per_instance, "GPU")
        sentence = ("You need ", tag("b", count(plan.instances, "instance")), f" ({gpus})", *end)
    else:
        tried = [one.instances for one in plan.runs]
        reach = interval(min(tried, default=None), max(tried, default=None))
        sentence = (tag("b", "No number of instances"), f" that was tried ({reach}) is enough", *end)
    binding = f" The limit that binds is {_limit(plan.binding_term)}." if plan.binding_term else ""
    terms = run.summary.slo_terms if run.summary and run.summary.slo_terms else _worst_terms(plan)
    known = NOTHING if plan.instances is None else f"{plan.instances:,}"
    seeds = f"interval {interval(plan.lo, plan.hi)}, {count(len(plan.seeds), 'seed')}"
    gpus = NOTHING if plan.gpus is None else f"{plan.gpus:,}"
    cards = [Card("instances", known, seeds), Card("GPUs", gpus, f"{plan.gpus_per_instance} to an instance")]
    return join(
        [
            tag("p", plan.question, class_="question") if plan.question else None,
            tag("p", *sentence, binding, class_="lead"),
            chips_row([term_chip(term) for term in terms] or [chip(plan.holds, f"verdict: {plan.verdict}")]),
            cards_row([*cards, *(_cards(run.summary, run.slo) if run.summary else [])]),
        ]
    )


def _simulation(run: Run, summary: Summary) -> Html:
    fleet = tag("b", count(summary.instances, "instance"))
    served = summary.requests - summary.unserved
    sentence: tuple[object, ...]
    if summary.unserved and not served:
        sentence = (tag("b", f"None of {count(summary.requests, 'request')}"), " could be served by ", fleet, ".")
    elif run.slo and summary.slo_holds is not None:
        plain, third = ("hold", "holds") if summary.slo_holds else ("miss", "misses")
        verb = tag("b", third if summary.instances == 1 else plain)
        sentence = (fleet, " ", verb, f" {slo_sentence(run.slo)} for ", tag("i", run.name), _p99(summary))
    else:
        requests = tag("b", count(served, "request"))
        sentence = (fleet, " served ", requests, " of ", tag("i", run.name), _p99(summary))
    gpus_each = f"{number(summary.gpus / summary.instances)} to an instance" if summary.instances else ""
    cards = [
        Card("instances", f"{summary.instances:,}", "as the scenario says"),
        Card("GPUs", f"{summary.gpus:,}", gpus_each),
        *_cards(summary, run.slo),
    ]
    chips = chips_row([term_chip(term) for term in summary.slo_terms])
    return join([tag("p", *sentence, class_="lead"), chips, cards_row(cards)])


def _p99(summary: Summary) -> str:
    """The two headline latencies as the end of a sentence."""
    known = {metric: summary.statistic(metric, "p99") for metric in ("ttft", "tpot")}
    parts = [
        f"{metric.upper()} p99 is {latency(value, 'p99') if summary.unserved else seconds(value)}"
        for metric, value in known.items()
        if value is not None or summary.unserved
    ]
    return f": {' and '.join(parts)}." if parts else "."


def _cards(summary: Summary, slo: Slo | None) -> list[Card]:
    """What the run cost and gave. Attainment and goodput need a limit on each request; without one, what was served."""
    limited = bool(slo and slo.request_terms)
    cards = [Card("GPU-hours", number(summary.gpu_hours), f"for {number(summary.duration_s / 3600.0)} h of arrivals")]
    if limited:
        cards.append(Card("attainment", share(summary.slo_attainment_frac), "of requests met every limit on a request"))
        cards.append(Card("goodput", number(summary.request_goodput_rps), "good requests per second"))
    else:
        served = (summary.requests - summary.unserved) / summary.requests if summary.requests else None
        cards.append(Card("served", share(served), "of requests got their whole answer"))
        cards.append(Card("throughput", number(summary.request_throughput_rps), "requests per second"))
    return [*cards, Card("requests", f"{summary.requests:,}", f"{summary.unserved:,} not served")]


def _worst_terms(plan: Plan) -> list[TermRow]:
    """Each condition as the worst of the runs at the answer met it."""
    worst: dict[str, TermRow] = {}
    for term in (term for one in plan.runs if one.instances == plan.instances for term in one.terms):
        seen = worst.get(term.term)
        if seen is None or _badness(term) > _badness(seen):
            worst[term.term] = term
    return list(worst.values())


def _badness(term: TermRow) -> tuple[bool, float]:
    value = float("inf") if term.value is None else term.value
    return (not term.holds, -value if term.key == "slo_attainment_frac" else value)


def _limit(text: str) -> str:
    """A term of the SLO in words, where it is one."""
    try:
        return slo_sentence(Slo.parse(text))
    except SloError:
        return text
