"""A job: one command being carried out, from a scenario to a folder with its answer.

The verbs differ in the middle only; what is the same for all is here: flags, checks before work begins, and the files.
"""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.console import Console
from experiments.errors import UserError
from experiments.folder import check_free, default_folder, environment, new_folder, write_json
from experiments.scenario import Scenario
from experiments.scenario_file import load_scenario, to_toml
from experiments.tables import requests_frame, steps_frame, write_frame
from experiments.workers import Workers, cluster_of, default_workers
from hwprofiles import ProfileError, load_step_cost
from sim.engine import ClusterError
from sim.metrics import Result, all_rejected

VERSION_HAS_ONE_ENGINE = "this version has one engine, the reference"


@dataclass(frozen=True)
class Flags:
    """The flags that every verb takes."""

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


class Job:
    """A scenario, the flags, and what has been spent so far."""

    def __init__(self, verb: str, path: Path, flags: Flags):
        if flags.engine not in ("auto", "reference"):
            raise UserError(f"--engine {flags.engine}: {VERSION_HAS_ONE_ENGINE}; expected auto or reference")
        if flags.workers is not None and flags.workers < 1:
            raise UserError(f"--workers {flags.workers}: expected at least 1")
        self.verb, self.flags = verb, flags
        self.console = Console(flags.quiet)
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
        """Workers that report how many runs are done."""
        return Workers(self.workers, lambda played: self.console.progress(f"{what}: {played} runs played"))

    def write(self, fill: Callable[[Path], None]) -> Path:
        """Make the run's folder: `fill` adds the answer's files, the rest is the same for all verbs. Returns the report."""
        with new_folder(self.folder, self.flags.force) as draft:
            (draft / "scenario.toml").write_text(to_toml(self.resolved()), encoding="utf-8")
            fill(draft)
            spent = time.monotonic() - self._wall, sum(os.times()[:4]) - self._cpu
            write_json(draft / "environment.json", environment(self.command, self.scenario.seed, *spent, self.workers))
            from experiments.report import write_report

            write_report(draft)
        return self.folder / "report.html"

    def write_result(self, draft: Path, result: Result, description: dict[str, Any]) -> dict[str, Any]:
        """summary.json, requests and steps of one run; returns the summary."""
        slo = self.scenario.parsed_slo() if self.scenario.slo else None
        summary = {
            "schema_version": 1,
            "simulated": True,
            "name": self.scenario.name,
            "seed": result.seed,
            **result.summary(slo),
            "workload": description,
            "profile": self.profile(),
        }
        write_json(draft / "summary.json", summary)
        write_frame(requests_frame(result, slo), draft, "requests")
        if len(result.steps):
            write_frame(steps_frame(result), draft, "steps")
        return summary

    def profile(self) -> dict[str, Any]:
        """Where step times come from, and how good they are."""
        table = self.scenario.cluster
        cost = load_step_cost(table.gpu, table.model, table.precision, table.tp)
        return {"grade": cost.grade, "era": cost.era, "error_mape_frac": cost.error_mape_frac, "source": cost.source}

    def close(self, holds: bool | None) -> int:
        """The exit code: 3 where --assert-slo was given and the SLO was missed."""
        return 3 if self.flags.assert_slo and holds is False else 0


def refuse_all_rejected(result: Result) -> None:
    """UserError where not one request could be served: the run says nothing about latencies."""
    if all_rejected(result.records):
        longest = int(result.records["input_tokens"].max())
        raise UserError(
            f"all {len(result.records):,} requests were rejected: prompt and longest answer exceed engine.max_model_len "
            f"or the {result.kv_blocks - 1:,} usable KV blocks (the longest prompt has {longest:,} tokens); "
            "expected a workload or an engine that fits"
        )


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
