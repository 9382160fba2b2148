"""A job: one command being carried out, from a scenario to a folder with its answer.

The verbs differ in the middle only; what is the same for all is here: flags, checks before work begins, and the files.
"""

import os
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.console import Console, log_to
from experiments.errors import UserError, nearest
from experiments.folder import check_free, default_folder, environment, new_folder, write_json
from experiments.scenario import Scenario
from experiments.scenario_file import load_scenario, to_toml
from experiments.tables import RequestsFile, groups_frame, steps_frame, write_frame
from experiments.traffic import stream_of
from experiments.workers import Workers, cluster_of, default_workers
from hwprofiles import ProfileError, StepCost, load_software, load_step_cost
from sim.choice import ENGINES, Choice, family_of
from sim.cluster import Progress, simulate
from sim.engine import ClusterError
from sim.groups import ByClient, ByWindow, Groups
from sim.metrics import MetricsError, Result
from sim.probes import Sink
from sim.slo import Slo
from workloads import parse_duration_s
from workloads.jit import can_compile


@dataclass(frozen=True)
class Flags:
    """The flags of the verbs that simulate; a verb that does not take one leaves its default."""

    overrides: list[str] = field(default_factory=list)
    seed: int | None = None
    engine: str = "auto"
    goodput: str | None = None
    attainment: float | None = None
    result_dir: Path | None = None
    workers: int | None = None
    force: bool = False
    assert_slo: bool = False
    dry_run: bool = False
    quiet: bool = False
    by_client: bool = False
    by_window: str | None = None
    no_rows: bool = False
    no_report: bool = False


class Job:
    """A scenario, the flags, and what has been spent so far."""

    def __init__(self, verb: str, path: Path, flags: Flags):
        if flags.engine not in ENGINES:
            raise UserError(f"--engine {flags.engine}: expected {', '.join(ENGINES)}{nearest(flags.engine, ENGINES)}")
        if flags.workers is not None and flags.workers < 1:
            raise UserError(f"--workers {flags.workers}: expected at least 1")
        self.verb, self.flags = verb, flags
        self.window_s = _window_s(flags.by_window)
        self.console = Console(flags.quiet)
        self.choices: Counter[Choice] = Counter()  # engines of the runs so far
        log_to(self.console)
        self.scenario = _resolved(load_scenario(path, _overrides(flags)), path)
        self.folder = flags.result_dir or default_folder(verb, self.scenario)
        self.command = shlex.join([*_program(), *sys.argv[1:]])
        self.workers = flags.workers or default_workers()
        self._wall, self._cpu = time.monotonic(), sum(os.times()[:4])  # CPU of workers that ended included

    def begin(self) -> bool:
        """Everything that can be wrong before work begins; False where --dry-run asked for no more than that."""
        if self.flags.dry_run:
            self.console.say(to_toml(self.resolved()).rstrip())
            return False
        check_free(self.folder, self.flags.force)
        return True

    def resolved(self) -> dict[str, Any]:
        """The scenario as it is simulated, with what the GPU and the model decided filled in."""
        tables = self.scenario.resolved()
        engine = cluster_of(self.scenario).plan().engine
        tables["engine"] = {key: value for key, value in engine.__dict__.items() if value is not None}
        return tables

    def pool(self, what: str) -> Workers:
        """Workers that report how many runs are done. What they compile is compiled first, once, and not by each of them."""
        if self.flags.engine != "reference" and can_compile():
            from sim.warm import warm

            family, _ = family_of(cluster_of(self.scenario).plan().engine, stream_of(self.scenario))
            warm(family)
        told = f"{what}: %d runs played"
        return Workers(self.workers, self.flags.engine, self.choices, lambda played: self.console.progress(told % played))

    def write(self, fill: Callable[[Path], None]) -> str:
        """Make the run's folder: `fill` adds the answer's files, the rest is the same for all verbs.

        Returns where the report is, or how to have one.
        """
        with new_folder(self.folder, self.flags.force) as draft:
            (draft / "scenario.toml").write_text(to_toml(self.resolved()), encoding="utf-8")
            fill(draft)
            spent = time.monotonic() - self._wall, sum(os.times()[:4]) - self._cpu
            told = environment(self.command, self.scenario.seed, *spent, self.workers, self.choices)
            write_json(draft / "environment.json", told)
            self.console.note(f"engine: {told['engine']} ({told['engine_reason']})")
            if not self.flags.no_report:
                from experiments.report import write_report

                write_report(draft)
        if self.flags.no_report:
            return f"none; servecast report {shlex.quote(str(self.folder))} makes one"
        return str(self.folder / "report.html")

    def play(
        self, draft: Path, stream: Any, seed: int, instances: int | None = None, progress: Progress | None = None
    ) -> dict[str, Any]:
        """One run into the draft: summary.json, requests and steps, and the groups that were asked for. Returns the summary.

        UserError where there is no request, or none that can be served.
        """
        keep_rows, slo = not self.flags.no_rows, self.scenario.parsed_slo() if self.scenario.slo else None
        groups = self._groups(slo)
        sinks: list[Sink] = [*([RequestsFile(draft, slo)] if keep_rows else []), *groups.values()]
        cluster = cluster_of(self.scenario, instances)
        options: dict[str, Any] = {"engine": self.flags.engine, "keep_records": False, "slo": slo, "sinks": sinks}
        result = simulate(stream, cluster, seed, keep_rows, progress, **options)
        self.choices[result.choice] += 1
        _refuse_no_latencies(result)
        if len(result.steps):
            write_frame(steps_frame(result.steps), draft, "steps")
        for stem, one in groups.items():
            write_frame(groups_frame(one), draft, stem)
        summary = {
            "schema_version": 1,
            "simulated": True,
            "name": self.scenario.name,
            "seed": result.seed,
            **result.summary(slo),
            "workload": _description(stream),
            "profile": self.profile() | {"extrapolated": self._beyond_fit(result.tally.largest)},
        }
        write_json(draft / "summary.json", summary)
        return summary

    def _groups(self, slo: Slo | None) -> dict[str, Groups]:
        """What --by-client and --by-window ask for, by the name of its table."""
        groups: dict[str, Groups] = {"by_client": ByClient(slo)} if self.flags.by_client else {}
        return groups | ({"by_window": ByWindow(self.window_s, slo)} if self.window_s is not None else {})

    def profile(self) -> dict[str, Any]:
        """Where step times come from, and how good they are."""
        table, cost = self.scenario.cluster, self._step_cost()
        era = load_software(table.software).name
        return {"grade": cost.grade, "era": era, "error_mape_frac": cost.error_mape_frac, "source": cost.source}

    def _beyond_fit(self, largest: Mapping[str, int]) -> list[str]:
        """Sentences about requests longer than the step costs were fitted to."""
        return self._step_cost().beyond_fit(largest["input_tokens"], largest["context_tokens"])

    def _step_cost(self) -> StepCost:
        table = self.scenario.cluster
        return load_step_cost(table.gpu, table.model, table.precision, table.tp, table.profiles)

    def close(self, holds: bool | None) -> int:
        """The exit code: 3 where --assert-slo was given and the SLO was missed."""
        return 3 if self.flags.assert_slo and holds is False else 0


def _refuse_no_latencies(result: Result) -> None:
    """UserError where nobody was served by the run's own rules: it says nothing about latencies."""
    tally = result.tally
    if not len(tally):
        raise UserError("the workload sent no request in this span; expected a longer duration or a higher rate")
    if tally.sums["requests_rejected"] == len(tally):
        raise UserError(
            f"all {len(tally):,} requests were rejected: prompt and longest answer exceed engine.max_model_len "
            f"or the {result.kv_blocks - 1:,} usable KV blocks "
            f"(the longest prompt has {tally.largest['input_tokens']:,} tokens); expected a workload or an engine that fits"
        )


def _window_s(text: str | None) -> float | None:
    """--by-window in seconds; UserError or WorkloadError for what is no width of a window."""
    if text is None:
        return None
    window_s = parse_duration_s(text, "--by-window")
    try:
        ByWindow(window_s)
    except MetricsError:
        raise UserError(f"--by-window {text}: expected a time of at least 0.001s, such as 60s") from None
    return window_s


def _description(stream: Any) -> dict[str, Any]:
    description = getattr(stream, "description", None)
    if description is not None:
        return dict(description)
    return {
        "source": "concurrency",
        "concurrency": stream.n,
        "input_tokens": stream.input_tokens,
        "output_tokens": stream.output_tokens,
    }


def _program() -> list[str]:
    """How this program is called from here: by name where it is on the path, else as it was."""
    if Path(sys.argv[0]).name == "__main__.py":
        return ["python", "-m", "experiments"]
    return ["servecast"] if shutil.which("servecast") else [sys.argv[0]]


def _overrides(flags: Flags) -> list[str]:
    """--seed, --goodput and --attainment are short for --set."""
    out = list(flags.overrides)
    if flags.seed is not None:
        out.append(f"seed={flags.seed}")
    if flags.goodput is not None:
        out.append(f"slo={flags.goodput}")
    if flags.attainment is not None:
        out.append(f"attainment={flags.attainment}")
    return out


def _resolved(scenario: Scenario, place: Path) -> Scenario:
    """Look the cluster up, so that what does not fit is told before anything else is done."""
    try:
        cluster_of(scenario).plan()
    except (ClusterError, ProfileError) as error:
        raise UserError(f"{place}: [cluster] and [engine]: {error}") from None
    return scenario
