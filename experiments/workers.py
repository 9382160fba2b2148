"""Workers: simulations on one core or on all, with the same results.

A question is a generator: it yields the runs that it wants, gets their results in the same order, and returns its
answer. `together` asks several at once. A run is named by what it is of, so that a worker process makes its stream
from the scenario itself and only what it comes to travels.
"""

import os
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import lru_cache, partial
from multiprocessing import get_context
from typing import Any, NamedTuple, TypeVar

import numpy as np

from experiments.scenario import Scenario
from experiments.traffic import kind_of, stream_of
from sim import Cluster, Engine, simulate
from sim.choice import Choice
from sim.metrics import Result
from workloads import ITEMS, SEGMENTS, Stream

T = TypeVar("T")
Question = Generator[list["Run"], list[Result], T]


class Run(NamedTuple):
    """One simulation: `scenario`, which has an SLO, with traffic of a kind, drawn from a seed, on so many instances."""

    scenario: Scenario
    kind: str
    seed: int
    instances: int
    keep_records: bool = False


def together(questions: Sequence[Question[T]]) -> Question[list[T]]:
    """Several questions as one: in each round it wants all that they want."""
    answers: dict[int, T] = {}
    wanted: dict[int, list[Run]] = {}

    def go_on(i: int, results: list[Result] | None) -> None:
        try:
            wanted[i] = next(questions[i]) if results is None else questions[i].send(results)
        except StopIteration as stop:
            answers[i] = stop.value

    for i in range(len(questions)):
        go_on(i, None)
    while wanted:
        asked, wanted = wanted, {}
        results = iter((yield [run for runs in asked.values() for run in runs]))
        for i, runs in asked.items():
            go_on(i, [next(results) for _ in runs])
    return [answers[i] for i in range(len(questions))]


class Workers:
    """A pool of `count` processes, or this process alone for one. `on_run(played)` is called after every run."""

    def __init__(
        self,
        count: int,
        engine: str = "auto",
        choices: Counter[Choice] | None = None,
        on_run: Callable[[int], None] = lambda played: None,
    ):
        """engine: of `sim.simulate`; choices: told which engine played each run."""
        self.count = count
        self.engine = engine
        self.choices: Counter[Choice] = Counter() if choices is None else choices
        self.on_run = on_run
        self.played = 0
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        if self.count > 1:
            self._pool = ProcessPoolExecutor(self.count, mp_context=get_context("spawn"))
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def answer(self, question: Question[T]) -> T:
        """Play what the question wants until it has its answer."""
        results: list[Result] | None = None
        while True:
            try:
                runs = next(question) if results is None else question.send(results)
            except StopIteration as stop:
                return stop.value
            results = self._play(runs)

    def _play(self, runs: Sequence[Run]) -> list[Result]:
        if self._pool is None:
            return [self._count(play(run, self.engine)) for run in runs]
        futures = [self._pool.submit(play, run, self.engine) for run in runs]
        for future in as_completed(futures):
            self._count(future.result())
        return [future.result() for future in futures]

    def _count(self, result: Result) -> Result:
        self.played += 1
        self.choices[result.choice] += 1
        self.on_run(self.played)
        return result


def default_workers() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def play(run: Run, engine: str = "auto") -> Result:
    """Simulate a run; its steps are not kept, and its rows only if it asks for them."""
    scenario = run.scenario
    stream = _stream(scenario.model_dump_json(), run.kind, run.seed)
    cluster, slo = cluster_of(scenario, run.instances), scenario.parsed_slo()
    return simulate(stream, cluster, run.seed, keep_steps=False, engine=engine, keep_records=run.keep_records, slo=slo)


def cluster_of(scenario: Scenario, instances: int | None = None) -> Cluster:
    """The scenario's cluster as a value of sim, with another number of instances if one is given."""
    table = scenario.cluster
    return Cluster(
        gpu=table.gpu,
        model=table.model,
        precision=table.precision,
        tp=table.tp,
        instances=table.instances if instances is None else instances,
        router=table.router,
        engine=Engine(**scenario.engine.model_dump()),
        software=table.software,
        profiles=table.profiles,
    )


@lru_cache(maxsize=6)
def _stream(scenario_json: str, kind: str, seed: int) -> Any:
    """A stream in memory, kept while runs with other numbers of instances follow; a closed loop as it is."""
    stream = stream_of(kind_of(Scenario.model_validate_json(scenario_json, strict=False), kind), seed)
    return collected(stream)


def collected(stream: Any) -> Any:
    """A stream in memory; a closed loop, whose requests depend on the cluster, as it is."""
    if not isinstance(stream, Stream):
        return stream
    return Collected(stream.collect(), stream.duration_s, stream.segments, stream.items, stream.is_checked)


@dataclass(frozen=True)
class Collected:
    """A stream in memory, as one window."""

    rows: np.ndarray
    duration_s: float
    segments: np.ndarray = field(default_factory=partial(np.empty, 0, SEGMENTS))
    items: np.ndarray = field(default_factory=partial(np.empty, 0, ITEMS))
    is_checked: bool = False

    def windows(self) -> list[np.ndarray]:
        """All of it."""
        return [self.rows]
