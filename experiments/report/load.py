"""A run's folder as one frozen value; everything in it is read, bounded and checked here and nowhere else."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from experiments.report import ReportError
from experiments.report.schema import Compare, Environment, Plan, Summary
from experiments.report.tables import Requests, Steps, read_requests, read_steps
from sim.slo import Slo, SloError

MAX_TEXT_BYTES = 32 << 20  # of a JSON or TOML file
RESULTS = ("summary.json", "plan.json", "compare.json")
OTHERS = ("scenario.toml", "environment.json", "requests.parquet", "requests.csv.gz", "steps.parquet", "steps.csv.gz")
GROUPS = ("by_client", "by_window")
PER_CLIENT = "per_client"
_SUFFIXES = (".parquet", ".csv.gz")
_PLAIN_NAME = re.compile(r"\w{1,64}")

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Run:
    """What a folder holds; None for what it does not. `files` are the names of all files that were used, sorted.

    With a plan, summary and tables are those of the run at the answer. `traffics` are the request tables of a
    comparison's first hour under the real mix, by the plan that served them: PER_CLIENT, or a naive method.
    """

    folder: Path
    files: tuple[str, ...]
    name: str
    slo: Slo | None
    scenario: Mapping[str, Any] = field(default_factory=dict)
    environment: Environment | None = None
    summary: Summary | None = None
    plan: Plan | None = None
    compare: Compare | None = None
    requests: Requests | None = None
    steps: Steps | None = None
    traffics: Mapping[str, Requests] = field(default_factory=dict)


def load_run(folder: Path) -> Run:
    """Read a run's folder. ReportError lists all that is missing or wrong in it, with file and key."""
    if not folder.is_dir():
        raise ReportError(f"{folder}: no such folder")
    if not any((folder / name).is_file() for name in RESULTS):
        raise ReportError(_foreign(folder))
    reader = _Reader(folder)
    parts = {
        "scenario": reader.toml("scenario.toml"),
        "environment": reader.json("environment.json", Environment),
        "summary": reader.json("summary.json", Summary),
        "plan": reader.json("plan.json", Plan),
        "compare": reader.json("compare.json", Compare),
        "requests": reader.table("requests", read_requests),
        "steps": reader.table("steps", read_steps),
    }
    reader.mention(GROUPS)
    compare = parts["compare"]
    parts["traffics"] = reader.traffics(compare.names) if compare else {}
    if reader.names & {"requests", "steps"} and parts["summary"] is None and not reader.mistakes:
        reader.mistakes.append(
            "summary.json: missing, though the folder has a table of requests or steps; was the run interrupted?"
        )
    name = reader.name(parts["summary"], parts["scenario"])
    slo = reader.slo(parts)
    if reader.mistakes:
        raise ReportError("\n".join(f"{folder.name}/{mistake}" for mistake in reader.mistakes))
    return Run(folder=folder, files=tuple(sorted(reader.files)), name=name, slo=slo, **parts)


class _Reader:
    """Reads the files of one folder that exist, and gathers what is wrong with them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.files: list[str] = []
        self.names: set[str] = set()  # tables that exist, by stem
        self.mistakes: list[str] = []

    def json(self, name: str, model: type[Model]) -> Model | None:
        """A JSON file as its model; None without it, or with a mistake noted."""
        data = self._bytes(name)
        if data is None:
            return None
        try:
            return model.model_validate_json(data)
        except ValidationError as error:
            self.mistakes += [f"{name}: {line}" for line in _explain(error, data)]
            return None

    def toml(self, name: str) -> Mapping[str, Any]:
        """A TOML file as a dict; empty without it."""
        data = self._bytes(name)
        try:
            return tomllib.loads(data.decode()) if data is not None else {}
        except (ValueError, RecursionError) as error:
            self.mistakes.append(f"{name}: not TOML: {error}")
            return {}

    def table(self, stem: str, read: Any) -> Any:
        """The table `stem`.parquet or .csv.gz; None without it."""
        paths = [self.folder / f"{stem}{suffix}" for suffix in _SUFFIXES]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            return None
        self.files.append(path.name)
        self.names.add(stem)
        try:
            return read(path)
        except ReportError as error:
            self.mistakes += str(error).splitlines()
            return None

    def mention(self, stems: Iterable[str]) -> None:
        """Tables that the report does not read, to be linked where they exist."""
        names = [f"{stem}{suffix}" for stem in stems for suffix in _SUFFIXES]
        self.files += [name for name in names if (self.folder / name).is_file()]

    def traffics(self, names: Iterable[str]) -> dict[str, Requests]:
        """The request tables of a comparison, by plan: per-client first, then the naive methods in their order."""
        stems = {PER_CLIENT: "requests_per_client"}
        stems |= {name: f"requests_naive_{name}" for name in names if _PLAIN_NAME.fullmatch(name)}
        found = {plan: self.table(stem, read_requests) for plan, stem in stems.items()}
        return {plan: table for plan, table in found.items() if table is not None}

    def name(self, summary: Summary | None, scenario: Mapping[str, Any]) -> str:
        """The scenario's name, as far as it is known."""
        name = summary.name if summary else scenario.get("name")
        return name if isinstance(name, str) and name else self.folder.resolve().name

    def slo(self, parts: Mapping[str, Any]) -> Slo | None:
        """The SLO of the first file that states one."""
        for name in ("plan", "compare", "summary"):
            if parts[name] is not None and parts[name].slo:
                return self._parsed_slo(f"{name}.json", parts[name].slo, parts["scenario"])
        text = parts["scenario"].get("slo")
        if not isinstance(text, str) or not text:
            return None
        return self._parsed_slo("scenario.toml", text, parts["scenario"])

    def _parsed_slo(self, file: str, text: str, scenario: Mapping[str, Any]) -> Slo | None:
        attainment = scenario.get("attainment")
        try:
            return Slo.parse(text, attainment) if isinstance(attainment, int | float) else Slo.parse(text)
        except SloError as error:
            self.mistakes += [f"{file}: slo: {line}" for line in str(error).splitlines()]
            return None

    def _bytes(self, name: str) -> bytes | None:
        path = self.folder / name
        if not path.is_file():
            return None
        self.files.append(name)
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
        if len(data) > MAX_TEXT_BYTES:
            self.mistakes.append(f"{name}: larger than {MAX_TEXT_BYTES >> 20} MiB")
            return None
        return data


def _foreign(folder: Path) -> str:
    known = (*RESULTS, *OTHERS)
    present = sorted(path.name for path in folder.iterdir())
    near = {found: get_close_matches(found, known, 1, 0.7) for found in present[:200] if found not in known}
    hints = "".join(f"\n  {found}: did you mean {close[0]}?" for found, close in near.items() if close)
    kept = [name for name in present if name in known]
    holds = f"only {', '.join(kept)}" if kept else "nothing of a run"
    return f"{folder}: not the folder of a finished run: expected {' or '.join(RESULTS)}, found {holds}{hints}"


def _explain(error: ValidationError, data: bytes) -> list[str]:
    lines = []
    for mistake in error.errors(include_url=False, include_input=False, include_context=False)[:20]:
        place = ".".join(str(part) for part in mistake["loc"])
        text = mistake["msg"]
        if mistake["type"] == "missing":
            text = f"missing{_nearest_key(data, mistake['loc'])}"
        lines.append(f"{place}: {text}" if place else text)
    return lines


def _nearest_key(data: bytes, place: tuple[int | str, ...]) -> str:
    """A hint at a misspelt key that stands where `place` was expected."""
    here = json.loads(data)
    for part in place[:-1]:
        here = here[part]
    close = get_close_matches(str(place[-1]), list(here), 1, 0.6)
    return f"; there is '{close[0]}': did you mean '{place[-1]}'?" if close else ""
