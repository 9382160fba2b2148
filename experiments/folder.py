"""A run's folder: made whole or not at all, and never over something of the user's.

Everything is first written to a folder beside it; only when all of it is there does it take its place.
"""

import hashlib
import json
import math
import os
import platform
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.scenario import Scenario
from experiments.scenario_file import to_toml
from sim.choice import Choice

SCHEMA_VERSION = 1
MARK = "environment.json"
PACKAGES = ("servecast", "numpy", "scipy", "simpy", "numba", "pandas", "matplotlib")


def default_folder(verb: str, scenario: Scenario) -> Path:
    """runs/<name>-<hash>: the hash is of the question, so another question never lands in the same folder."""
    text = verb + "\n" + to_toml(scenario.resolved())
    return Path("runs") / f"{scenario.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def check_free(folder: Path, force: bool) -> None:
    """UserError for a folder that is in use, or that --force may not replace because no run made it."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"--result-dir {folder}: a file; expected a folder")
    if any(folder.iterdir()) and not force:
        raise UserError(f"{folder} already holds results; --force replaces them, --result-dir chooses another folder")
    if any(folder.iterdir()) and not (folder / MARK).is_file():
        raise UserError(f"--force {folder}: it was not made by servecast (it has no {MARK}), so it is left as it is")


@contextmanager
def new_folder(folder: Path, force: bool) -> Iterator[Path]:
    """A folder to write into that becomes `folder` when the block ends well, and vanishes when it does not."""
    check_free(folder, force)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UserError(f"--result-dir {folder}: {error.strerror}") from None
    try:
        draft.chmod(0o755)
        yield draft
        _replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _replace(draft: Path, folder: Path) -> None:
    """Put the draft in the folder's place; the old one goes only once the new one is there."""
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
        os.replace(folder, old / "run")
        os.replace(draft, folder)
        shutil.rmtree(old)
    else:
        os.replace(draft, folder)


def write_json(path: Path, value: Any) -> None:
    """Strict JSON, one key a line: what is not finite becomes null."""
    path.write_text(json.dumps(finite(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """The value with None for every number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value


def environment(command: str, seed: int, wall_s: float, cpu_s: float, workers: int, choices: Counter[Choice]) -> dict[str, Any]:
    """What a run was made with, apart from its results. choices: how many runs each engine played, and why it."""
    told = choices.most_common()
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "seed": seed,
        "engine": " and ".join(dict.fromkeys(choice.engine for choice, _ in told)),
        "engine_reason": "; ".join(choice.reason + (f" ({runs} runs)" if len(told) > 1 else "") for choice, runs in told),
        "workers": workers,
        "wall_s": round(wall_s, 3),
        "cpu_s": round(cpu_s, 3),
        "versions": {"python": sys.version.split()[0], **{name: version_of(name) for name in PACKAGES}},
        "platform": platform.platform(),
    }


def version_of(name: str) -> str:
    """The version of an installed package; "unknown" for what is not installed."""
    try:
        return version(name)
    except Exception:  # an import from a source tree has no metadata
        return "unknown"
