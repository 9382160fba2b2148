"""The folder of one GPU's kernel tables: written beside its place and moved there, whole or not at all."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hwprofiles.datasheet import ProfileError
from hwprofiles.measure.tables import BACKEND, Table

META = "collection_meta.json"
OPERATIONS = {"gemm", "attention", "comm"}
"""What such a folder may hold."""


def check_target(folder: Path, force: bool) -> None:
    """ProfileError where the tables could not be written at the end: before anything is timed.

    `force` lets a folder be replaced that holds nothing but tables of this module.
    """
    if find_spec("pyarrow") is None:
        raise ProfileError("writing kernel tables needs pyarrow: pip install 'servecast[parquet]'")
    if (folder.exists() or folder.is_symlink()) and not force:
        raise ProfileError(f"{folder} exists; expected a new folder, or --force to replace measured tables")
    if folder.exists() and not _is_ours(folder):
        raise ProfileError(f"{folder} holds other things than measured tables, so --force does not replace it")
    above = folder.parent
    above.mkdir(parents=True, exist_ok=True)
    if not os.access(above, os.W_OK | os.X_OK):
        raise ProfileError(f"{above}: cannot be written to")


def write_folder(folder: Path, tables: Sequence[Table], version: str, about: Mapping[str, Any]) -> None:
    """Write the tables, and beside each operation's `about` with its clocks, as `folder`; replaces what is there."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        for operation in sorted({table.operation for table in tables}):
            _write_operation(beside / operation / BACKEND / version, operation, tables, about)
        _move(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_operation(target: Path, operation: str, tables: Sequence[Table], about: Mapping[str, Any]) -> None:
    import pandas as pd

    target.mkdir(parents=True)
    its = [table for table in tables if table.operation == operation]
    for table in its:
        frame = pd.DataFrame(table.rows or [table.columns]).head(len(table.rows))
        frame.to_parquet(target / f"{table.name}_perf.parquet", index=False)
    files = {f"{table.name}_perf": {"rows": len(table.rows), "clocks": table.clocks} for table in its}
    (target / META).write_text(json.dumps({**about, "tables": files}, indent=2) + "\n", encoding="utf-8")


def _move(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`; what was there goes only once the new one is in place."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether every entry is an operation that carries our note; a link is somebody else's business."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    entries = list(folder.iterdir())
    return bool(entries) and all(entry.name in OPERATIONS and any(entry.glob(f"*/*/{META}")) for entry in entries)
