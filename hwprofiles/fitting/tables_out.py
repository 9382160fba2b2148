"""Step tables and rooflines as files: all of them are there at the end, or none."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from hwprofiles.costmodel import StepCost
from hwprofiles.own_file import shown
from hwprofiles.profile_folder import MEASURED, MOST_NAMED, ROOFLINES, profile_name
from hwprofiles.records import ProfileError
from hwprofiles.roofline import Roofline


def cost_file(gpu: str, model: str, precision: str, tp: int) -> str:
    """Where the table of a combination lies in a folder of profiles."""
    return f"{MEASURED}/{profile_name(gpu, model, precision, tp)}.json"


def roofline_file(gpu: str) -> str:
    """Where the roofline of a GPU lies in a folder of profiles."""
    return f"{ROOFLINES}/{gpu}.json"


def check_free(out: Path, names: Iterable[str], force: bool) -> None:
    """ProfileError where files of these names could not be written into a folder, or only by replacing some without `force`."""
    above = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not above.is_dir():
        raise ProfileError(f"--out {shown(out)}: {shown(above)} is a file; expected a folder, or the name of a new one")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ProfileError(f"--out {shown(out)}: {shown(above)} cannot be written to")
    there = [name for name in names if (out / name).exists() or (out / name).is_symlink()]
    if odd := [name for name in there if not (out / name).is_file() or (out / name).is_symlink()]:
        raise ProfileError(f"--out {shown(out)}: {odd[0]} is no plain file, so it is left as it is")
    if there and not force:
        more = f" and {len(there) - MOST_NAMED} more" if len(there) > MOST_NAMED else ""
        raise ProfileError(
            f"--out {shown(out)} already has {', '.join(there[:MOST_NAMED])}{more}; "
            "--force replaces them, --out chooses another folder"
        )


def write_profiles(out: Path, costs: Iterable[StepCost], rooflines: Iterable[Roofline], force: bool) -> list[Path]:
    """Write a folder of profiles, or add to one: every file or none of them. ProfileError where that cannot be.

    What is there under other names stays.
    """
    files = {cost_file(c.gpu, c.model, c.precision, c.tp): record_json(c) for c in costs}
    files |= {roofline_file(roofline.gpu): record_json(roofline) for roofline in rooflines}
    check_free(out, files, force)
    try:
        made = _made_folders(out)
        draft = Path(tempfile.mkdtemp(prefix=".profiles-", dir=out))
        try:
            _write(draft / "new", files)
            _swap(draft, out, list(files))
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            for folder in made:  # those that hold nothing: all where writing failed, else none
                if not any(folder.iterdir()):
                    folder.rmdir()
    except OSError as error:
        raise ProfileError(f"--out {shown(out)}: {error.strerror or error}; nothing was written") from error
    return [out / name for name in files]


def record_json(record: StepCost | Roofline) -> str:
    """The JSON of a record, a key a line and a list of numbers on one; the same record gives the same text."""
    text = json.dumps(asdict(record), indent=2) + "\n"
    return re.sub(r"\[\n[\d\s,]+\]", lambda numbers: re.sub(r"\s+", "", numbers[0]).replace(",", ", "), text)


def _made_folders(out: Path) -> list[Path]:
    """Make the folders that are missing; those made, the innermost first."""
    wanted = [out / MEASURED, out / ROOFLINES, out, *out.absolute().parents]
    missing = [folder for folder in wanted if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
    return missing


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _swap(draft: Path, out: Path, names: list[str]) -> None:
    """Move new files into their place and old ones into the draft; where a move fails, all go back."""
    moved: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
        moved.append((source, target))

    try:
        for name in names:
            if (out / name).exists():
                move(out / name, draft / "old" / name)
            move(draft / "new" / name, out / name)
    except BaseException:  # Ctrl-C too
        for source, target in reversed(moved):
            os.replace(target, source)
        raise
