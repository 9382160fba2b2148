"""The library of step costs: the tables that ship, those of a user's folder, and the roofline where there is no table."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from hwprofiles.bounds import broken_bounds
from hwprofiles.costmodel import StepCost
from hwprofiles.datasheet import Gpu, Model, load_gpu, load_model
from hwprofiles.records import ProfileError, load_record, parse_record, profile_names
from hwprofiles.roofline import known_rooflines, roofline_step_cost

FOLDER = "measured"


@dataclass(frozen=True)
class ProfileRow:
    """One line of the catalogue of step costs."""

    gpu: str
    model: str
    precision: str
    tp: int
    grade: str
    error_mape_frac: float


def load_step_cost(
    gpu: str | Gpu, model: str | Model, precision: str = "bf16", tp: int = 1, folder: Path | None = None
) -> StepCost:
    """The step cost of a combination: from `folder`, if it has one, else the shipped table, else the GPU's roofline.

    A model of the user's own is priced by the roofline, whatever its name is. ProfileError where there is none, with the
    nearest combination; and for a table that is faster than the data sheet allows.
    """
    gpu, model = load_gpu(gpu), load_model(model)
    name = profile_name(gpu.id, model.id, precision, tp)
    if folder is not None and (path := folder / f"{name}.json").is_file():
        cost = replace(_named(parse_record(StepCost, path.read_bytes(), str(path)), name, str(path)), grade="user")
    elif name in profile_names(FOLDER, ".json") and model == load_model(model.id):
        cost = _load(name)
    elif gpu.id in known_rooflines():
        cost = roofline_step_cost(gpu, model, precision, tp)
    else:
        raise ProfileError(_nearest(gpu.id, model.id, precision, tp))
    if broken := list(broken_bounds(cost, gpu, model)):
        raise ProfileError("\n".join(f"{name}.json: {sentence}" for sentence in broken))
    return cost


def list_profiles() -> list[ProfileRow]:
    """Every shipped step cost, sorted by GPU, model, precision and tp."""
    costs = [_load(name) for name in profile_names(FOLDER, ".json")]
    rows = [ProfileRow(c.gpu, c.model, c.precision, c.tp, c.grade, c.error_mape_frac) for c in costs]
    return sorted(rows, key=lambda row: (row.gpu, row.model, row.precision, row.tp))


def profile_name(gpu: str, model: str, precision: str, tp: int) -> str:
    """Name of the file of a combination, without its suffix."""
    return f"{gpu}_{model}_{precision}_tp{tp}"


def _load(name: str) -> StepCost:
    return _named(load_record(StepCost, FOLDER, name, ".json"), name, f"hwprofiles/{FOLDER}/{name}.json")


def _named(cost: StepCost, name: str, place: str) -> StepCost:
    if (about := profile_name(cost.gpu, cost.model, cost.precision, cost.tp)) != name:
        raise ProfileError(f"{place}: its contents belong in {about}.json")
    return cost


def _nearest(gpu: str, model: str, precision: str, tp: int) -> str:
    """What to say where there is no table."""
    rows = list_profiles()
    nearest = min(rows, key=lambda row: _distance(gpu, model, precision, tp, row))
    same = [row for row in rows if row.gpu == nearest.gpu and row.model == nearest.model]
    there = "\n".join(f"  {row.gpu} {row.model} {row.precision} tp {row.tp}" for row in same)
    return (
        f"no step cost for {gpu} {model} {precision} tp {tp}; "
        f"the nearest is {nearest.gpu} {nearest.model} {nearest.precision} tp {nearest.tp}; of that model there are:\n{there}"
    )


def _distance(gpu: str, model: str, precision: str, tp: int, row: ProfileRow) -> tuple[bool, bool, bool, float]:
    """How far a row is: another model is worse than another GPU, that than another precision, that than another tp."""
    ratio = abs(math.log2(row.tp / tp)) if tp > 0 else math.inf
    return row.model != model, row.gpu != gpu, row.precision != precision, ratio
