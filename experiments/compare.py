"""compare: what sizing with naive traffic would have cost, hour by hour.

For each hour the least instances are found for per-client traffic and for each naive kind, which is fitted on that
hour's per-client traffic of the scenario's seed. Every plan is then judged on per-client traffic of other seeds.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiments.errors import UserError
from experiments.plan import judging_seeds, require_slo, start_search
from experiments.scenario import Scenario
from experiments.search import Answer, Point, Search
from experiments.traffic import HOUR_S, PER_CLIENT, hour_at, kind_of, stream_of
from experiments.workers import Question, Workers, together

HOURS_AT_ONCE = 4  # bounds what is in memory


@dataclass(frozen=True)
class Hour:
    """One hour: the answer for each kind of traffic, and how each naive plan does under the real mix."""

    start_s: float
    description: dict[str, Any]
    answers: dict[str, Answer]
    judged: dict[str, Point]
    fits: dict[str, dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """One entry of `hours` in compare.json."""
        real = self.answers[PER_CLIENT]
        naive = {}
        for kind, point in self.judged.items():
            answer = self.answers[kind]
            naive[kind] = {"lo": answer.lo, "hi": answer.hi, **point.row(), "fit": self.fits[kind]}
        return {
            "start_s": self.start_s,
            "duration_s": HOUR_S,
            "rate_rps": self.description.get("rate_rps"),
            "per_client": {
                "lo": real.lo,
                "hi": real.hi,
                **real.points[real.instances].row(),
                "binding_term": real.binding_term,
            },
            "naive": naive,
            "curves": {kind: [point.row() for point in answer.points.values()] for kind, answer in self.answers.items()},
        }

    def rows(self) -> dict[str, np.ndarray]:
        """RECORD rows of the per-client plan and of each naive one, under the real mix, where they were kept."""
        real = self.answers[PER_CLIENT]
        points = {PER_CLIENT: real.points[real.instances], **self.judged}
        return {kind: point.rows for kind, point in points.items() if point.rows is not None}


@dataclass(frozen=True)
class Comparison:
    """All hours."""

    hours: list[Hour]
    first_rows: dict[str, np.ndarray]  # RECORD rows of the first hour under its real mix and the first seed, by plan
    seeds: list[int]
    scenario: Scenario

    def as_json(self) -> dict[str, Any]:
        """compare.json."""
        return {
            "schema_version": 1,
            "slo": self.scenario.slo,
            "gpus_per_instance": self.scenario.cluster.tp,
            "fit_seed": self.scenario.seed,
            "seeds": self.seeds,
            "hours": [hour.as_json() for hour in self.hours],
        }


def compare(scenario: Scenario, workers: Workers) -> Comparison:
    """Study the scenario's hours; UserError where it cannot be compared."""
    require_slo(scenario)
    workload = scenario.workload
    if workload.naive != "none":
        raise UserError(f'workload.naive = "{workload.naive}": compare plays naive traffic beside the real; expected "none"')
    if workload.concurrency is not None or workload.trace is not None:
        raise UserError("compare needs a pool of clients (workload.pool or workload.servegen): it looks at hours of its clock")
    starts = ((workload.start or 0.0) + i * HOUR_S for i in range(scenario.compare.hours))
    studies = [(hour_at(scenario, start_s), start_s) for start_s in starts]
    seeds = judging_seeds(scenario)
    hours: list[Hour] = []
    for begin in range(0, scenario.compare.hours, HOURS_AT_ONCE):
        some = studies[begin : begin + HOURS_AT_ONCE]
        hours += workers.answer(together([study(*hour, seeds, hour is studies[0]) for hour in some]))
    return Comparison(hours, hours[0].rows(), seeds, scenario)


def study(scenario: Scenario, start_s: float, seeds: list[int], keep_rows: bool) -> Question[Hour]:
    """One hour; `start_s` is its place among the hours, which may lie past the end of the pool's data."""
    kinds = [PER_CLIENT, *scenario.compare.naive]
    searches: dict[str, Search] = {}
    questions = []
    for kind in kinds:
        searches[kind], guess = start_search(scenario, kind, seeds, keep_rows and kind == PER_CLIENT)
        questions.append(searches[kind].least(guess))
    answers = dict(zip(kinds, (yield from together(questions))))
    real = searches[PER_CLIENT]
    judged = yield from together([real.at(answers[kind].instances) for kind in scenario.compare.naive])
    answers[PER_CLIENT] = replace(answers[PER_CLIENT], points=dict(sorted(real.points.items())))
    stream = stream_of(scenario, scenario.seed)
    fits = {kind: stream_of(kind_of(scenario, kind), scenario.seed).description for kind in scenario.compare.naive}
    points = dict(zip(scenario.compare.naive, judged))
    return Hour(start_s, stream.description, answers, points, fits)
