"""plan: the least number of instances that holds an SLO for this workload."""

from dataclasses import dataclass
from typing import Any

from experiments.bounds import check_floor, guess_instances
from experiments.errors import UserError
from experiments.scenario import Scenario
from experiments.search import Answer, Search
from experiments.traffic import kind_asked, kind_of, stream_of
from experiments.workers import Collected, Question, Workers, cluster_of, collected

AUTO_REPLICATIONS = 3


@dataclass(frozen=True)
class PlanResult:
    """The answer and what it was judged on."""

    answer: Answer
    seeds: list[int]
    scenario: Scenario

    def as_json(self) -> dict[str, Any]:
        """plan.json."""
        answer, table = self.answer, self.scenario.cluster
        gpus = table.tp
        out: dict[str, Any] = {
            "schema_version": 1,
            "question": f"least instances of {table.model_name} on {gpus} x {table.gpu_name} that hold the SLO",
            "slo": self.scenario.slo,
            "instances": answer.instances,
            "lo": answer.lo,
            "hi": answer.hi,
            "verdict": "HOLDS",
            "binding_term": answer.binding_term,
            "gpus": answer.instances * gpus,
            "gpus_per_instance": gpus,
            "seeds": self.seeds,
            "curve": [point.row() for point in answer.points.values()],
            "runs": [run for point in answer.points.values() for run in point.runs],
        }
        if table.gpu_price_per_hour is not None:
            out["price_usd_per_hour"] = out["gpus"] * table.gpu_price_per_hour
        return out


def plan(scenario: Scenario, workers: Workers) -> PlanResult:
    """Search the scenario's workload; UserError where no number of instances can do."""
    require_slo(scenario)
    seeds = judging_seeds(scenario)
    return PlanResult(workers.answer(question(scenario, kind_asked(scenario), seeds)), seeds, scenario)


def question(scenario: Scenario, kind: str, seeds: list[int]) -> Question[Answer]:
    """Least instances for one kind of traffic."""
    search, guess = start_search(scenario, kind, seeds)
    return (yield from search.least(guess))


def start_search(scenario: Scenario, kind: str, seeds: list[int], keep_rows: bool = False) -> tuple[Search, int]:
    """A search and its first guess; UserError at once for a limit that cannot be held."""
    search, lookup = Search(scenario, kind, seeds, keep_rows), cluster_of(scenario).plan()
    stream = collected(stream_of(kind_of(scenario, kind), seeds[0]))
    if not isinstance(stream, Collected):  # a closed loop: its load depends on the cluster, so there is nothing to guess from
        return search, 1
    check_floor(scenario, stream, lookup)
    return search, guess_instances(scenario, stream, lookup)


def judging_seeds(scenario: Scenario) -> list[int]:
    """Plans are judged on the seeds after the scenario's own, on which naive traffic is fitted."""
    return [scenario.seed + 1 + i for i in range(_replications(scenario))]


def _replications(scenario: Scenario) -> int:
    """As asked; one by default where seeds change no request: a trace is what it is, and so is a closed loop."""
    asked, workload = scenario.plan.replications, scenario.workload
    if asked != "auto":
        return int(asked)
    is_fixed = workload.concurrency is not None or (workload.trace is not None and workload.naive == "none")
    return 1 if is_fixed else AUTO_REPLICATIONS


def require_slo(scenario: Scenario) -> None:
    """UserError for a scenario that does not say what has to hold."""
    if scenario.slo is None:
        raise UserError('slo: missing; expected what has to hold, such as slo = "ttft.p99:2s tpot.p99:50ms"')
