"""A judgement: measured figures beside predicted ones, their errors by group, and both printed and written as JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from experiments.console import Console
from experiments.errors import UserError
from experiments.folder import write_json
from experiments.validate.point import Setting
from workloads.whole_file import written_whole


@dataclass(frozen=True)
class Group:
    """What points have in common whose errors are averaged. derived: their figures were computed from other measured ones."""

    gpu: str
    model: str
    precision: str
    tp: int | None
    software: str
    load_kind: str
    metric: str
    derived: bool = False


@dataclass(frozen=True)
class Judged:
    """A figure and what became of it. predicted is None, and skipped says why, where it was not simulated.

    measured: the median of `rows` repeats, which span spread_frac of it. is_capped: see `Prediction`. setting: None for a
    recorded run, whose requests are all different.
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
    setting: Setting | None = None

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


def judgement(judged: Sequence[Judged], derived: Sequence[Judged] = ()) -> dict[str, Any]:
    """{points, groups, skipped}: every figure, the errors of those simulated by group, and how many were skipped why.

    derived: figures computed from others, which make groups of their own and are no points.
    """
    groups: dict[Group, list[Judged]] = {}
    for one in (*judged, *derived):
        if one.error_frac is not None:
            groups.setdefault(one.group, []).append(one)
    reasons = Counter(one.skipped for one in judged if one.skipped is not None)
    return {
        "points": [one.plain() for one in judged],
        "groups": [_plain(group, groups[group]) for group in sorted(groups, key=_order)],
        "skipped": [{"reason": reason, "n": n} for reason, n in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))],
    }


def tell(console: Console, judged: Sequence[Judged], told: dict[str, Any], with_groups: bool = True) -> None:
    """Print each figure simulated, then the groups and knees, then what was skipped and why."""
    simulated = [one for one in judged if one.skipped is None]
    if simulated:
        rows = [
            [one.id, one.group.metric, f"{one.measured:.5g}", f"{one.predicted:.5g}", percent(one.error_frac), one.grade]
            for one in simulated
        ]
        console.table(["id", "metric", "measured", "predicted", "error", "grade"], rows)
        console.say()
    if with_groups and told["groups"]:
        _tell_groups(console, told["groups"])
    if told.get("knee_groups"):
        _tell_knees(console, told["knee_groups"])
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


def metric_of(group: dict[str, Any]) -> str:
    """A group's metric as tables name it."""
    return f"{group['metric']} (derived)" if group["derived"] else str(group["metric"])


def percent(value: float | None, sign: str = "+") -> str:
    """A share for a table, one decimal; `sign` "+" shows both signs."""
    return "–" if value is None else f"{100 * value:{sign}.1f}%"


def mean(values: Sequence[float]) -> float | None:
    """None of no values."""
    return sum(values) / len(values) if values else None


def errors_of(error_fracs: Sequence[float]) -> dict[str, Any]:
    """{n, mape_frac, bias_frac}: mean of |error| and mean error, None of none."""
    return {"n": len(error_fracs), "mape_frac": mean([abs(error) for error in error_fracs]), "bias_frac": mean(error_fracs)}


def _tell_groups(console: Console, groups: Sequence[dict[str, Any]]) -> None:
    names = ["gpu", "model", "precision", "tp", "software", "load_kind"]
    rows = [
        [
            *("–" if g[name] is None else g[name] for name in names),
            metric_of(g),
            f"{g['n']}" + (f" (+{g['capped_n']} queueing)" if g["capped_n"] else ""),
            percent(g["mape_frac"], ""),
            percent(g["bias_frac"]),
        ]
        for g in groups
    ]
    console.table([*names, "metric", "n", "MAPE", "bias"], rows)
    console.say()


def _tell_knees(console: Console, groups: Sequence[dict[str, Any]]) -> None:
    names = ["gpu", "model", "precision", "tp", "software", "n", "beyond_n"]
    rows = [[*(g[name] for name in names), percent(g["mape_frac"], ""), percent(g["bias_frac"])] for g in groups]
    console.table([*names[:-2], "knees", "beyond", "MAPE", "bias"], rows)
    console.say()


def _plain(group: Group, judged: Sequence[Judged]) -> dict[str, Any]:
    """A group's errors; those of points that queue for KV blocks or seats apart, as queueing magnifies any error.

    spread_frac is the mean over the figures that were measured more than once, of which there are repeated_n.
    """
    errors = [(one.error_frac, one.is_capped) for one in judged if one.error_frac is not None]
    spreads = [one.spread_frac for one in judged if one.rows > 1]
    capped = errors_of([error for error, is_capped in errors if is_capped])
    return {
        **{field.name: getattr(group, field.name) for field in fields(Group)},
        **errors_of([error for error, is_capped in errors if not is_capped]),
        **{f"capped_{name}": value for name, value in capped.items()},
        "repeated_n": len(spreads),
        "spread_frac": mean(spreads),
    }


def _order(group: Group) -> tuple[str, ...]:
    return tuple(str(getattr(group, field.name)).rjust(4) for field in fields(Group))
