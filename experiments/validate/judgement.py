"""A judgement: measured figures beside predicted ones, their errors by group, and both printed and written as JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from experiments.console import Console
from experiments.errors import UserError
from experiments.folder import write_json
from workloads.whole_file import written_whole


@dataclass(frozen=True)
class Group:
    """What points have in common whose errors are averaged."""

    gpu: str
    model: str
    precision: str
    tp: int | None
    software: str
    load_kind: str
    metric: str


@dataclass(frozen=True)
class Judged:
    """A figure and what became of it. predicted is None, and skipped says why, where it was not simulated.

    measured: the median of `rows` repeats, which span spread_frac of it. is_capped: see `Prediction`.
    """

    id: str
    group: Group
    measured: float
    predicted: float | None = None
    grade: str | None = None
    skipped: str | None = None
    rows: int = 1
    spread_frac: float = 0.0
    is_capped: bool = False

    @property
    def error_frac(self) -> float | None:
        """(predicted - measured) / measured; None where there is nothing to compare with."""
        return None if self.predicted is None or not self.measured else self.predicted / self.measured - 1.0

    def plain(self) -> dict[str, Any]:
        """As an entry of the JSON file."""
        return {
            "id": self.id,
            "metric": self.group.metric,
            "measured": self.measured,
            "predicted": self.predicted,
            "error_frac": self.error_frac,
            "grade": self.grade,
            "skipped": self.skipped,
            "rows": self.rows,
            "spread_frac": self.spread_frac,
            "capped": self.is_capped,
        }


def judgement(judged: Sequence[Judged]) -> dict[str, Any]:
    """{points, groups, skipped}: every figure, the errors of those simulated by group, and how many were skipped why."""
    groups: dict[Group, list[Judged]] = {}
    for one in judged:
        if one.error_frac is not None:
            groups.setdefault(one.group, []).append(one)
    reasons = Counter(one.skipped for one in judged if one.skipped is not None)
    return {
        "points": [one.plain() for one in judged],
        "groups": [_plain(group, groups[group]) for group in sorted(groups, key=_order)],
        "skipped": [{"reason": reason, "n": n} for reason, n in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))],
    }


def tell(console: Console, judged: Sequence[Judged], told: dict[str, Any], with_groups: bool = True) -> None:
    """Print each figure simulated, then the groups, then what was skipped and why."""
    simulated = [one for one in judged if one.skipped is None]
    if simulated:
        rows = [
            [one.id, one.group.metric, f"{one.measured:.5g}", f"{one.predicted:.5g}", _percent(one.error_frac), one.grade]
            for one in simulated
        ]
        console.table(["id", "metric", "measured", "predicted", "error", "grade"], rows)
        console.say()
    if with_groups and told["groups"]:
        _tell_groups(console, told["groups"])
    skipped = sum(entry["n"] for entry in told["skipped"])
    console.say(f"{len(simulated):,} simulated, {skipped:,} skipped{':' if skipped else ''}")
    if skipped:
        console.table(["skipped", "because"], [[entry["n"], entry["reason"]] for entry in told["skipped"]])


def check_target(json_out: Path | None) -> None:
    """UserError, before any work, for a place where no file can be written."""
    if json_out is None:
        return
    if json_out.is_dir():
        raise UserError(f"--json {json_out}: a folder; expected a file to write")
    if not json_out.parent.is_dir():
        raise UserError(f"--json {json_out}: there is no folder {json_out.parent}")


def write(told: dict[str, Any], json_out: Path | None) -> None:
    """Write the JSON file, whole or not at all; nothing where none is wanted."""
    if json_out is None:
        return
    try:
        with written_whole(json_out) as part:
            write_json(part, told)
    except OSError as error:
        raise UserError(f"--json {json_out}: {error.strerror}") from None


def _tell_groups(console: Console, groups: Sequence[dict[str, Any]]) -> None:
    names = [field.name for field in fields(Group)]
    rows = [
        [
            *("–" if g[name] is None else g[name] for name in names),
            _count(g),
            _percent(g["mape_frac"], ""),
            _percent(g["bias_frac"]),
        ]
        for g in groups
    ]
    console.table([*names, "n", "MAPE", "bias"], rows)
    console.say()


def _plain(group: Group, judged: Sequence[Judged]) -> dict[str, Any]:
    """A group's errors; those of points that queue for KV blocks or seats apart, as queueing magnifies any error."""
    free = [one.error_frac for one in judged if one.error_frac is not None and not one.is_capped]
    capped = [one.error_frac for one in judged if one.error_frac is not None and one.is_capped]
    return {
        **{field.name: getattr(group, field.name) for field in fields(Group)},
        "n": len(free),
        "mape_frac": _mean([abs(error) for error in free]),
        "bias_frac": _mean(free),
        "capped_n": len(capped),
        "capped_mape_frac": _mean([abs(error) for error in capped]),
        "capped_bias_frac": _mean(capped),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _order(group: Group) -> tuple[str, ...]:
    return tuple(str(getattr(group, field.name)).rjust(4) for field in fields(Group))


def _count(group: dict[str, Any]) -> str:
    return f"{group['n']}" + (f" (+{group['capped_n']} queueing)" if group["capped_n"] else "")


def _percent(value: float | None, sign: str = "+") -> str:
    return "–" if value is None else f"{100 * value:{sign}.1f}%"
