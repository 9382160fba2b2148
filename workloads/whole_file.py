"""Files that are there whole or not at all: written beside their target under another name, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workloads.errors import WorkloadError


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A path to write to; it replaces the target when the block ends well, and is removed when it does not."""
    if not target.parent.is_dir():
        raise WorkloadError(f"{target}: there is no folder {target.parent}")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
