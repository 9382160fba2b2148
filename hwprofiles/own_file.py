"""A file of the user's own: how its place is told from a name, how it is read, and what its contents are called."""

import re
from pathlib import Path

from hwprofiles.records import MAX_FILE_BYTES, ProfileError


def is_path(name: str | Path) -> bool:
    """Whether this is meant as a place rather than a name: a slash, or the ending of a file."""
    return isinstance(name, Path) or "/" in name or "\\" in name or name.endswith((".toml", ".json"))


def read_file(file: Path, expected: str) -> bytes:
    """At most one byte more than a profile may have, so that a reader sees where there is too much; ProfileError."""
    try:
        if not file.is_file():
            raise ProfileError(f"{shown(file)}: no such file; expected {expected}")
        with file.open("rb") as opened:
            return opened.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError for a zero byte in the path
        if isinstance(error, ProfileError):
            raise
        raise ProfileError(f"{shown(file)}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def file_id(name: str, otherwise: str) -> str:
    """A name that is safe in that of a file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:80].strip("-.") or otherwise


def shown(file: Path) -> str:
    """The path as it was given, on one line."""
    return "".join(character if character.isprintable() else "?" for character in str(file))
