"""The verbs that simulate: what each prints and leaves behind."""

from pathlib import Path
from typing import Any

from experiments.compare import Comparison, compare
from experiments.folder import write_json
from experiments.job import Job
from experiments.plan import PlanResult, plan
from experiments.search import Answer, Point
from experiments.tables import RequestsFile
from experiments.traffic import PER_CLIENT, stream_of
from experiments.words import clock, count, seconds

FEW_HOURS = 3
"""Above it a comparison prints one line for an hour; the report has everything."""
_LABELS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "E2E", "queue": "queue"}


def answer_simulate(job: Job) -> int:
    """One run."""
    if not job.begin():
        return 0
    scenario, console = job.scenario, job.console
    stream = stream_of(scenario)
    duration_s = getattr(stream, "duration_s", None) or 0.0

    def progress(now_s: float) -> None:
        console.progress(f"simulated {now_s:,.0f} of {duration_s:,.0f} s")

    summary: dict[str, Any] = {}
    report = job.write(lambda draft: summary.update(job.play(draft, stream, scenario.seed, progress=progress)))
    _say_run(job, summary)
    _say_end(job, report)
    return job.close(summary.get("slo_holds"))


def answer_plan(job: Job) -> int:
    """Least instances."""
    if not job.begin():
        return 0
    with job.pool("plan") as workers:
        found = plan(job.scenario, workers)
    answer = found.answer
    # The run that the report shows: the plan, under the first of its seeds, with its steps.
    job.console.progress(f"playing {answer.instances} instances once more for the report")
    stream = stream_of(job.scenario, found.seeds[0])

    def fill(draft: Path) -> None:
        write_json(draft / "plan.json", found.as_json())
        job.play(draft, stream, found.seeds[0], answer.instances)

    report = job.write(fill)
    _say_plan(job, found)
    _say_end(job, report)
    return 0


def answer_compare(job: Job) -> int:
    """Naive against per-client sizing."""
    if not job.begin():
        return 0
    with job.pool("compare") as workers:
        found = compare(job.scenario, workers)

    def fill(draft: Path) -> None:
        told = {"profile": job.profile(), "workload": found.hours[0].description}
        write_json(draft / "compare.json", {**found.as_json(), **told})
        for kind, rows in found.first_rows.items():
            name = kind if kind == PER_CLIENT else f"naive_{kind}"
            file = RequestsFile(draft, job.scenario.parsed_slo(), f"requests_{name}")
            file.add(rows)
            file.close()

    report = job.write(fill)
    say_compare(job, found)
    _say_end(job, report)
    return 0


def say_compare(job: Job, found: Comparison) -> None:
    """The sentence and the table of a comparison."""
    console, table = job.console, job.scenario.cluster
    console.say()
    console.say(compare_sentence(found))
    console.say()
    if len(found.hours) > FEW_HOURS:
        console.table(*_hours_table(found))
        return
    head = [
        "hour",
        "sized with",
        f"instances ({table.tp} x {table.gpu_name})",
        "SLO under the real mix",
        "p99 TTFT",
        "p99 TPOT",
        "within limits",
    ]
    rows = []
    for hour in found.hours:
        real = hour.answers[PER_CLIENT]
        points = {PER_CLIENT: real.points[real.instances], **hour.judged}
        for kind, point in points.items():
            name = "per-client" if kind == PER_CLIENT else kind
            rows.append([clock(hour.start_s), name, _interval(hour.answers[kind]), *_point_cells(point)])
    console.table(head, rows)


def _hours_table(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows of many hours, a line for each: instances by every way of sizing, and how the worst naive plan does."""
    kinds = found.scenario.compare.naive
    rows = []
    for hour in found.hours:
        sizes = [_interval(hour.answers[PER_CLIENT])]
        for kind in kinds:
            sizes.append(_interval(hour.answers[kind]) + ("" if hour.judged[kind].holds else " MISSED"))
        worst = max((hour.judged[kind] for kind in kinds), key=lambda point: (not point.holds, point.ttft_p99_s))
        rows.append([clock(hour.start_s), *sizes, *_point_cells(worst)[1:]])
    head = ["hour", "per-client", *kinds, "worst naive plan: p99 TTFT", "p99 TPOT", "within limits"]
    return head, rows


def compare_sentence(found: Comparison) -> str:
    """What the comparison found, in words."""
    scenario, parts = found.scenario, []
    for kind in scenario.compare.naive:
        gaps = [hour.answers[kind].instances - hour.answers[PER_CLIENT].instances for hour in found.hours]
        missed = sum(not hour.judged[kind].holds for hour in found.hours)
        parts.append(f"sized with {kind} traffic {_gap_words(gaps)} {_missed_words(missed, len(gaps))}")
    needs = [hour.answers[PER_CLIENT].instances for hour in found.hours]
    need = f"{needs[0]}" if len(set(needs)) == 1 else f"{min(needs)} to {max(needs)}"
    several = "instance" if needs == [1] else "instances"
    return f"For its real clients this workload needs {need} {several} to hold {scenario.slo}; " + "; ".join(parts) + "."


def _missed_words(missed: int, hours: int) -> str:
    if hours == 1:
        return "and misses the SLO" if missed else "and holds the SLO"
    return f"and misses the SLO in {missed} of {hours} hours"


def _gap_words(gaps: list[int]) -> str:
    if len(gaps) == 1:
        (gap,) = gaps
        return "it gets the same number" if not gap else f"it gets {abs(gap)} too {'many' if gap > 0 else 'few'}"
    under, over = sum(g < 0 for g in gaps), sum(g > 0 for g in gaps)
    return f"it gets too few in {under}, too many in {over} and the same in {len(gaps) - under - over} of {len(gaps)} hours"


def _point_cells(point: Point) -> list[str]:
    share = f"{point.attainment_frac:.2%}" if point.attainment_frac < 0.99995 else "100 %"
    return ["holds" if point.holds else "MISSED", seconds(point.ttft_p99_s), seconds(point.tpot_p99_s), share]


def _interval(answer: Answer) -> str:
    return f"{answer.instances}" if answer.lo == answer.hi else f"{answer.instances} ({answer.lo} to {answer.hi})"


def _say_plan(job: Job, found: PlanResult) -> None:
    console, answer, table = job.console, found.answer, job.scenario.cluster
    gpus = answer.instances * table.tp
    console.say()
    range_ = f" (single seeds: {answer.lo} to {answer.hi})" if answer.lo != answer.hi else ""
    console.say(
        f"{answer.instances} instances of {table.model_name} on {table.tp} x {table.gpu_name}{range_}, {gpus} GPUs, "
        f"hold {job.scenario.slo}; "
        f"one less breaks {answer.binding_term}."
        if answer.instances > 1
        else f"1 instance of {table.model_name} on {table.tp} x {table.gpu_name} holds {job.scenario.slo}."
    )
    if table.gpu_price_per_hour is not None:
        console.say(
            f"At your {table.gpu_price_per_hour:g} $ per GPU and hour: {gpus * table.gpu_price_per_hour:,.2f} $ per hour."
        )
    console.say()
    rows = [[n, *_point_cells(point), len(point.runs)] for n, point in answer.points.items()]
    console.table(["instances", "SLO", "p99 TTFT", "p99 TPOT", "within limits", "seeds"], rows)


def _say_run(job: Job, summary: dict[str, Any]) -> None:
    console = job.console
    console.say()
    rejected = summary["requests_rejected"]
    console.say(
        f"{count(summary['requests'], 'request')} on {count(summary['instances'], 'instance')}"
        + (f", {rejected:,} rejected as too long" if rejected else "")
        + f"; {summary['request_throughput_rps']:.2f} requests/s, {summary['output_throughput_tps']:,.0f} output tokens/s."
    )
    for sentence in summary["profile"]["extrapolated"]:
        console.note(f"step times are extrapolated: {sentence}")
    for term in summary.get("slo_terms", []):
        value = f"{term['value']:.2%}" if term["key"].endswith("_frac") else seconds(term["value"])
        console.say(f"  {term['term']}: {value}, {'holds' if term['holds'] else 'MISSED'}")
    console.say()
    stats = ("mean", "p50", "p90", "p99", "max")
    rows = [[_LABELS[metric], *[seconds(_number(summary[f"{metric}_{stat}_s"])) for stat in stats]] for metric in _LABELS]
    console.table(["latency", *stats], rows)


def _say_end(job: Job, report: str) -> None:
    job.console.say()
    job.console.say(f"seed {job.scenario.seed} · again: {job.command}")
    job.console.say(f"report: {report}")


def _number(value: float | None) -> float:
    return float("inf") if value is None else value
