"""The search for the least number of instances that hold an SLO, on common random numbers.

Every number of instances is judged on the same seeds: the same requests and the same router coins, so that two clusters
differ by their size alone. The verdict is the joint one on all terms, over the requests of all seeds taken together;
`lo` and `hi` are the least and the most that a single seed would have asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.errors import UserError
from experiments.scenario import Scenario
from experiments.workers import Question, Run
from sim.metrics import Result, pooled, share_within, term_value, verdict
from sim.slo import Slo, Term


@dataclass(frozen=True)
class Point:
    """What so many instances gave: the verdict over all seeds, and that of each."""

    instances: int
    terms: list[dict[str, Any]]
    ttft_p99_s: float
    tpot_p99_s: float
    attainment_frac: float
    seeds_hold: tuple[bool, ...]
    runs: list[dict[str, Any]] = field(repr=False)
    rows: np.ndarray | None = field(repr=False, default=None)  # RECORD rows of the first seed, where the search keeps them

    @property
    def holds(self) -> bool:
        """Whether the SLO is met over all seeds taken together."""
        return all(term["holds"] for term in self.terms)

    def row(self) -> dict[str, Any]:
        """For the curves of a report."""
        return {
            "instances": self.instances,
            "holds": self.holds,
            "ttft_p99_s": self.ttft_p99_s,
            "tpot_p99_s": self.tpot_p99_s,
            "attainment_frac": self.attainment_frac,
        }


@dataclass(frozen=True)
class Answer:
    """Least instances for one kind of traffic, the range over single seeds, and every point that was looked at."""

    kind: str
    instances: int
    lo: int
    hi: int
    binding_term: str
    points: dict[int, Point]


class Search:
    """The points of one kind of traffic; `least` finds the answer, `at` looks at a single number of instances."""

    def __init__(self, scenario: Scenario, kind: str, seeds: Sequence[int], keep_rows: bool = False):
        self.scenario = scenario
        self.kind = kind
        self.seeds = tuple(seeds)
        self.keep_rows = keep_rows
        self.slo: Slo = scenario.parsed_slo()
        self.most = scenario.plan.max_instances
        self.points: dict[int, Point] = {}

    def at(self, instances: int) -> Question[Point]:
        """The point at a number of instances, played once."""
        if instances not in self.points:
            first = self.seeds[0] if self.keep_rows else None
            results = yield [Run(self.scenario, self.kind, seed, instances, seed == first) for seed in self.seeds]
            self.points[instances] = point_of(results, self.slo, self.seeds)
        return self.points[instances]

    def least(self, guess: int) -> Question[Answer]:
        """Bracket from a guess, bisect, and widen until the answer of every single seed is known."""
        passing = yield from self._first_passing(min(max(guess, 1), self.most))
        failing = max((n for n, point in self.points.items() if n < passing and not point.holds), default=0)
        while passing - failing > 1:
            middle = (passing + failing) // 2
            if (yield from self.at(middle)).holds:
                passing = middle
            else:
                failing = middle
        lo, hi = yield from self._single_seeds(passing)
        return Answer(self.kind, passing, lo, hi, self._binding_term(passing), dict(sorted(self.points.items())))

    def _first_passing(self, guess: int) -> Question[int]:
        """Go up in growing steps until the SLO holds, or down by single ones until it does not."""
        n, step = guess, 1
        if (yield from self.at(n)).holds:
            while n > 1 and (yield from self.at(n - 1)).holds:
                n -= 1
            return n
        while n < self.most:
            n, step = min(n + step, self.most), step * 2
            if (yield from self.at(n)).holds:
                return n
        raise UserError(_too_few(self.points[self.most], self.kind))

    def _single_seeds(self, answer: int) -> Question[tuple[int, int]]:
        """The least and the most that one seed alone would have asked for."""
        lo = hi = answer
        while lo > 1 and any((yield from self.at(lo - 1)).seeds_hold):
            lo -= 1
        while hi < self.most and not all((yield from self.at(hi)).seeds_hold):
            hi += 1
        return lo, hi

    def _binding_term(self, answer: int) -> str:
        """The term that one instance less would break, or that is nearest to its limit where there is no less."""
        below = self.points.get(answer - 1)
        terms = [term for term in below.terms if not term["holds"]] if below else self.points[answer].terms
        return max(terms, key=_strain)["term"]


def point_of(results: Sequence[Result], slo: Slo, seeds: Sequence[int]) -> Point:
    """The point of the results of all seeds at one number of instances."""
    whole = pooled(results)
    runs = [_run_row(result, slo, seed) for result, seed in zip(results, seeds)]
    return Point(
        whole.instances,
        verdict(whole, slo),
        **_headline(whole, slo),
        seeds_hold=tuple(row["holds"] for row in runs),
        runs=runs,
        rows=results[0].rows,
    )


def _run_row(result: Result, slo: Slo, seed: int) -> dict[str, Any]:
    terms = verdict(result, slo)
    row = {
        "instances": result.instances,
        "seed": seed,
        "holds": all(term["holds"] for term in terms),
        "requests": len(result.tally),
    }
    return {**row, "terms": terms, **_headline(result, slo)}


def _headline(result: Result, slo: Slo) -> dict[str, float]:
    """p99 TTFT and TPOT, and the share of requests that meet every limit on TTFT and the like as if it were on each."""
    p99 = {f"{metric}_p99_s": term_value(result, Term("", metric, "p99", 0.0)) for metric in ("ttft", "tpot")}
    return {**p99, "attainment_frac": share_within(result, slo.terms)}


def _strain(term: dict[str, Any]) -> float:
    """How far a term is over its limit; for the attainment, how far the misses are over what is allowed."""
    if term["key"] == "slo_attainment_frac":
        return (1.0 - term["value"]) / max(1.0 - term["limit"], 1e-9)
    return term["value"] / term["limit"]


def _too_few(point: Point, kind: str) -> str:
    broken = ", ".join(
        f"{t['term']} ({t['key']} = {t['value']:.4g}, limit {t['limit']:g})" for t in point.terms if not t["holds"]
    )
    return (
        f"plan.max_instances = {point.instances}: even that many instances do not hold the SLO "
        f"under {kind.replace('_', '-')} traffic: "
        f"{broken}; expected a wider limit, a faster cluster, or a larger plan.max_instances"
    )
