"""The library of step costs: the tables that ship, the roofline where there is no table, and a folder of the user's own."""

import math
from dataclasses import dataclass
from pathlib import Path

from hwprofiles.bounds import broken_bounds
from hwprofiles.costmodel import StepCost
from hwprofiles.datasheet import Gpu, Model, known_gpus, load_gpu, load_model
from hwprofiles.profile_folder import MEASURED, named, own_step_cost, profile_name
from hwprofiles.records import ProfileError, load_record, profile_names
from hwprofiles.roofline import known_rooflines, roofline_step_cost

__all__ = ["ProfileRow", "list_profiles", "load_step_cost", "profile_name"]


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
    gpu: str | Path | Gpu,
    model: str | Path | Model,
    precision: str = "bf16",
    tp: int = 1,
    folder: str | Path | None = None,
) -> StepCost:
    """The step cost of a combination: the shipped table, else the GPU's roofline; with `folder`, by that folder alone.

    A model of the user's own has the tables of one that ships only if it has its shape.
    ProfileError where there is none, with the nearest combination; and for one that is faster than the data sheet allows.
    """
    gpu, model = load_gpu(gpu), load_model(model)
    if folder is None:
        cost = _shipped(gpu, model, precision, tp)
    else:
        cost = own_step_cost(Path(folder), gpu, model, precision, tp)
    if broken := list(broken_bounds(cost, gpu, model)):
        name = profile_name(gpu.id, model.id, precision, tp)
        raise ProfileError("\n".join(f"{name}.json: {sentence}" for sentence in broken))
    return cost


def list_profiles() -> list[ProfileRow]:
    """Every shipped step cost, sorted by GPU, model, precision and tp."""
    costs = [_load(name) for name in profile_names(MEASURED, ".json")]
    rows = [ProfileRow(c.gpu, c.model, c.precision, c.tp, c.grade, c.error_mape_frac) for c in costs]
    return sorted(rows, key=lambda row: (row.gpu, row.model, row.precision, row.tp))


def _shipped(gpu: Gpu, model: Model, precision: str, tp: int) -> StepCost:
    name = profile_name(gpu.id, model.id, precision, tp)
    if name in profile_names(MEASURED, ".json") and model.shape == load_model(model.id).shape:
        return _load(name)
    if gpu.id in known_rooflines():
        return roofline_step_cost(gpu, model, precision, tp)
    raise ProfileError(_nearest(gpu.id, model.id, precision, tp))


def _load(name: str) -> StepCost:
    return named(load_record(StepCost, MEASURED, name, ".json"), name, f"hwprofiles/{MEASURED}/{name}.json")


def _nearest(gpu: str, model: str, precision: str, tp: int) -> str:
    """What to say where there is no table."""
    rows = list_profiles()
    nearest = min(rows, key=lambda row: _distance(gpu, model, precision, tp, row))
    same = [row for row in rows if row.gpu == nearest.gpu and row.model == nearest.model]
    there = "\n".join(f"  {row.gpu} {row.model} {row.precision} tp {row.tp}" for row in same)
    advice = "" if gpu in known_gpus() else "; for a GPU of one's own give a folder that servecast profiles fit wrote"
    return (
        f"no step cost for {gpu} {model} {precision} tp {tp}; "
        f"the nearest is {nearest.gpu} {nearest.model} {nearest.precision} tp {nearest.tp}{advice}; "
        f"of that model there are:\n{there}"
    )


def _distance(gpu: str, model: str, precision: str, tp: int, row: ProfileRow) -> tuple[bool, bool, bool, float]:
    """How far a row is: another model is worse than another GPU, that than another precision, that than another tp."""
    ratio = abs(math.log2(row.tp / tp)) if tp > 0 else math.inf
    return row.model != model, row.gpu != gpu, row.precision != precision, ratio
