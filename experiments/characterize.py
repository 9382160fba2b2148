"""characterize_source: what a source of requests is like, as tables on the screen, and as figures and JSON in a folder."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from experiments.character_tables import tell, tell_differences
from experiments.console import Console
from experiments.folder import MARK, check_free, new_folder, version_of, write_json
from experiments.sources import Part, is_trace, source_of
from workloads.characterize import characterize, differences

FILE = "characterize.json"
_PACKAGES = ("servecast", "numpy", "scipy", "matplotlib")


def characterize_source(
    source: str,
    against: str | None = None,
    out_dir: Path | None = None,
    part: Part | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Print the character of a source, and with `against` how far another is from it; returns what the JSON holds.

    `out_dir` gets `characterize.json` and a PNG for each figure, whole or not at all. `part` is of whichever is
    a pool, and a mistake where none is. UserError or WorkloadError for what cannot be read, or a folder in use.
    """
    if out_dir is not None:
        check_free(out_dir, force)
    begin_s, console = time.monotonic(), Console()
    texts = [source] if against is None else [source, against]
    are_traces = all(map(is_trace, texts))
    given = [(text, part if are_traces or not is_trace(text) else None) for text in texts]
    characters = {_label(text, number, given): characterize(source_of(text, of)) for number, (text, of) in enumerate(given)}
    labels = list(characters)
    result: dict[str, Any] = {"schema_version": 1, "characters": characters}
    for name, character in characters.items():
        tell(console, name, character)
    if against is not None:
        result["differences"] = differences(characters[labels[1]], characters[labels[0]])
        tell_differences(console, labels[1], labels[0], result["differences"])
    if out_dir is not None:
        _write(out_dir, force, result, {"sources": [text for text, _ in given], "wall_s": round(time.monotonic() - begin_s, 3)})
        console.say(f"figures and {FILE}: {out_dir}")
    return result


def _label(text: str, number: int, given: list[tuple[str, Part | None]]) -> str:
    """A source's name in tables and figures: its file's, numbered where both are called the same."""
    names = [Path(text).name for text, _ in given]
    return names[number] if names.count(names[number]) == 1 else f"{names[number]} ({number + 1})"


def _write(out_dir: Path, force: bool, result: dict[str, Any], told: dict[str, Any]) -> None:
    from experiments.character_figures import figures
    from experiments.report.svg import style

    versions = {"python": sys.version.split()[0], **{name: version_of(name) for name in _PACKAGES}}
    with new_folder(out_dir, force) as folder, style():
        write_json(folder / FILE, result)
        for name, figure in figures(result["characters"]).items():
            figure.savefig(folder / f"{name}.png", metadata={"Software": None})
        write_json(folder / MARK, {**told, "versions": versions})
