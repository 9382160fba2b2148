"""A folder of step costs: tables in `measured`, and in `rooflines` what prices a model without a table.

The package is such a folder; `servecast profiles fit` writes those of the user's own.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hwprofiles.costmodel import StepCost
from hwprofiles.datasheet import Gpu, Model
from hwprofiles.own_file import read_file, shown
from hwprofiles.records import ProfileError, did_you_mean, parse_record
from hwprofiles.roofline import FOLDER as ROOFLINES
from hwprofiles.roofline import Roofline, roofline_step_cost

MEASURED = "measured"

MOST_NAMED = 20
"""Files that a mistake names."""


def profile_name(gpu: str, model: str, precision: str, tp: int) -> str:
    """Name of the file of a combination, without its suffix."""
    return f"{gpu}_{model}_{precision}_tp{tp}"


def own_step_cost(folder: Path, gpu: Gpu, model: Model, precision: str, tp: int) -> StepCost:
    """The step cost of a combination by the user's folder: its table, else its roofline of the GPU, both of grade `user`.

    ProfileError with what is there where it has neither, as a folder that is not read would be a mistake unnoticed.
    """
    if precision not in gpu.peak_tflops:
        raise ProfileError(f"no precision {precision!r} on {gpu.id}; its data sheet has {', '.join(gpu.peak_tflops)}")
    name = profile_name(gpu.id, model.id, precision, tp)
    path = folder / MEASURED / f"{name}.json"
    if path.is_file():
        cost = named(parse_record(StepCost, read_file(path, "a step table"), shown(path)), name, shown(path))
        if cost.layers != model.layers:
            raise ProfileError(
                f"{shown(path)}: layers is {cost.layers}; {model.id} has {model.layers}, so it is of another model"
            )
    elif (roofline := own_roofline(folder, gpu)) is not None:
        cost = roofline_step_cost(gpu, model, precision, tp, roofline)
    else:
        raise ProfileError(_nothing(folder, gpu, name))
    return replace(cost, grade="user")


def own_roofline(folder: Path, gpu: Gpu) -> Roofline | None:
    """The folder's roofline of a GPU, None where it has none; ProfileError where the file is wrong."""
    path = folder / ROOFLINES / f"{gpu.id}.json"
    if not path.is_file():
        return None
    roofline = parse_record(Roofline, read_file(path, "a roofline"), shown(path))
    if roofline.gpu != gpu.id:
        raise ProfileError(f"{shown(path)}: its contents belong in {roofline.gpu}.json")
    return roofline


def named(cost: StepCost, name: str, place: str) -> StepCost:
    """The step cost, if it is of the combination that its file is named after; else ProfileError."""
    if (about := profile_name(cost.gpu, cost.model, cost.precision, cost.tp)) != name:
        raise ProfileError(f"{place}: its contents belong in {about}.json")
    return cost


def _nothing(folder: Path, gpu: Gpu, name: str) -> str:
    """What to say where a folder has no price for a combination."""
    if not folder.is_dir():
        return f"profiles folder {shown(folder)}: no such folder; expected one that servecast profiles fit wrote"
    files = list(_files(folder))
    if not files:
        there_should_be = f"{MEASURED}/*.json or {ROOFLINES}/*.json"
        return f"profiles folder {shown(folder)}: no {there_should_be}; expected what servecast profiles fit wrote"
    hint = did_you_mean(f"{MEASURED}/{name}.json", files)
    more = f" and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else ""
    return (
        f"profiles folder {shown(folder)}: neither {MEASURED}/{name}.json nor {ROOFLINES}/{gpu.id}.json{hint or ';'} "
        f"there are {', '.join(files[:MOST_NAMED])}{more}"
    )


def _files(folder: Path) -> Iterator[str]:
    for kind in (MEASURED, ROOFLINES):
        yield from sorted(f"{kind}/{shown(Path(path.name))}" for path in (folder / kind).glob("*.json"))
