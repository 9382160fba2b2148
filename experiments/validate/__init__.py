"""Validation: what real servers were measured to do, beside what a simulation of them predicts.

Reading order: points (a table of measured figures, judged), point and rows (how the table is read), shipped (what of it can be
simulated), traffic and prediction (one configuration played), judgement (errors, groups, what is printed and written),
request_time and knee (what follows from several figures together), table and picture; then replay and run_folder, for a run
that was recorded request by request.
"""

from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.validate.points import validate_points
from experiments.validate.replay import validate_run

__all__ = ["validate", "validate_points", "validate_run"]


def validate(path: Path, json_out: Path | None = None, quiet: bool = False, picture: Path | None = None) -> dict[str, Any]:
    """`validate_run` for a folder, `validate_points` for anything else."""
    if not path.is_dir():
        return validate_points(path, json_out, quiet=quiet, picture=picture)
    if picture is not None:
        raise UserError(f"--picture {picture}: expected with a file of points; {path} is a folder")
    return validate_run(path, json_out, quiet=quiet)
