"""Files of a folder or a `.tar.gz`, read one after the other, never extracted, and bounded: it may be anybody's."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from workloads.errors import WorkloadError

_MAX_FILE_BYTES: Final = 64 << 20
_MAX_TOTAL_BYTES: Final = 4 << 30
_MAX_FILES: Final = 20_000


def members(source: Path, name: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """(path, content) of every file whose name matches, bounded in number and bytes. Raises WorkloadError."""
    if source.is_dir():
        yield from _of_folder(source, name)
    elif source.is_file():
        yield from _of_archive(source, name)
    else:
        raise WorkloadError(f"{source}: no such folder or archive")


def _of_folder(source: Path, name: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    files = [path for path in sorted(source.rglob("*")) if name.fullmatch(path.name) and path.is_file()]
    total = 0
    if len(files) > _MAX_FILES:
        raise WorkloadError(f"{source}: {len(files)} files, expected at most {_MAX_FILES}")
    for path in files:
        total = _checked_size(str(path), path.stat().st_size, total)
        yield str(PurePosixPath(*path.parts)), path.read_bytes()


def _of_archive(source: Path, name: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Regular members only. A name that leaves the archive, or a link, is refused before anything of it is read."""
    total = 0
    try:
        with tarfile.open(source, "r|gz") as archive:
            for number, member in enumerate(archive):
                _check_member(source, member, number)
                total = _checked_size(f"{source}: {member.name}", member.size, total)  # who is skipped is unpacked, too
                if member.isfile() and name.fullmatch(PurePosixPath(member.name).name):
                    content = archive.extractfile(member)
                    if content is not None:
                        yield member.name, content.read()
    except RecursionError as error:  # a file that is a chain of headers, thousands deep
        raise WorkloadError(f"{source}: not a whole .tar.gz archive: headers without end") from error
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
        raise WorkloadError(f"{source}: not a whole .tar.gz archive: {error}") from error


def _check_member(source: Path, member: tarfile.TarInfo, number: int) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise WorkloadError(f"{source}: member {member.name!r} leaves the archive")
    if not (member.isfile() or member.isdir()):
        raise WorkloadError(f"{source}: member {member.name!r} is neither a file nor a folder")
    if number > 2 * _MAX_FILES:
        raise WorkloadError(f"{source}: more than {2 * _MAX_FILES} members")


def _checked_size(name: str, size: int, total: int) -> int:
    if size > _MAX_FILE_BYTES or total + size > _MAX_TOTAL_BYTES:
        raise WorkloadError(f"{name}: {size} bytes, expected at most {_MAX_FILE_BYTES} a file, {_MAX_TOTAL_BYTES} in all")
    return total + size
