"""The last section: what was simulated, on which numbers, by which program, and how to do it again."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from experiments.report.load import Run
from experiments.report.markup import Html, join, tag
from experiments.report.schema import Environment, Profile
from experiments.report.words import NOTHING, number, seconds, share

_MAX_FACTS = 60
_MAX_TEXT = 400

Facts = Iterable[tuple[str, object]]


def trust(run: Run) -> Html:
    """Seeds, scenario, stream, profile with its error, program and command, notes, and links to the files."""
    facts: list[tuple[str, object]] = [("simulated", "yes: no latency in this report was measured on a GPU")]
    facts += _seeds(run)
    told = run.summary or run.compare
    if told:
        facts += _profile(told.profile) if told.profile else []
        facts += _named("stream", {key: value for key, value in told.workload.items() if key != "notes"})
    found = {"cluster.instances"} if run.plan or run.compare else set()
    for part in ("workload", "cluster", "engine"):
        facts += ((name, value) for name, value in _named(part, run.scenario.get(part)) if name not in found)
    facts += _program(run.environment) if run.environment else []
    notes = [*told.notes, *_texts(told.workload.get("notes"))] if told else []
    listed = tag("ul", *(tag("li", _clip(note)) for note in notes[:_MAX_FACTS]))
    links = (part for name in run.files for part in (tag("a", name, href=quote(name)), " "))
    return join(
        [
            tag("dl", *(tag(name, part) for fact in facts if fact[1] != "" for name, part in zip(("dt", "dd"), fact))),
            *([tag("h3", "Notes"), listed] if notes else []),
            tag("h3", "Files of this run"),
            tag("p", *links, class_="links"),
        ]
    )


def _seeds(run: Run) -> Facts:
    judged = run.plan or run.compare
    if run.compare and run.compare.fit_seed is not None:
        yield "naive traffic", f"fitted on seed {run.compare.fit_seed}"
    if judged:
        yield "judged on seeds", ", ".join(map(str, judged.seeds[:_MAX_FACTS]))
    if run.summary:
        yield "seed of the tables" if judged else "seed", str(run.summary.seed)
    elif run.environment and run.environment.seed is not None and not judged:
        yield "seed", str(run.environment.seed)


def _profile(profile: Profile) -> Facts:
    error = profile.error_mape_frac
    known = "error not known" if error is None else f"mean absolute error {share(error)}"
    yield "step times", f"{profile.grade or 'grade not known'}, {known}"
    yield "their source", _clip(profile.source)
    if profile.extrapolated:
        yield "extrapolated", _clip("; ".join(profile.extrapolated))


def _program(environment: Environment) -> Facts:
    reason = f" ({environment.engine_reason})" if environment.engine_reason else ""
    yield "simulation engine", _clip(environment.engine + reason)
    if environment.wall_s is not None or environment.cpu_s is not None:
        yield "made in", f"{seconds(environment.wall_s)} of wall time, {seconds(environment.cpu_s)} of CPU time"
    yield "platform", _clip(environment.platform)
    yield "versions", _clip(", ".join(f"{name} {version}" for name, version in environment.versions.items()))
    if environment.command:
        yield "command", tag("code", environment.command)


def _named(part: str, value: Any) -> Facts:
    """A tree of plain values as dotted names and texts."""
    if isinstance(value, Mapping):
        for key, inner in list(value.items())[:_MAX_FACTS]:
            yield from _named(f"{part}.{key}", inner)
    elif value is not None:
        yield part, _clip(_plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, 6)
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value[:_MAX_FACTS])
    return NOTHING if value is None else str(value)


def _texts(value: Any) -> list[str]:
    return [str(note) for note in value] if isinstance(value, list | tuple) else [value] if isinstance(value, str) else []


def _clip(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"
