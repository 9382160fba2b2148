"""The bytes of a text file, plain or gzipped, in bounded memory: as lines, or as blocks that end where a line does.

Whether a file is packed is told by its first two bytes, not by its name. A gzip bomb ends at a ratio that no text of
requests reaches.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from workloads.errors import WorkloadError

BLOCK_BYTES = 1 << 20  # what numpy goes through in the processor's cache
_GZIP = b"\x1f\x8b"  # RFC 1952, 2.3.1
_MARK = b"\xef\xbb\xbf"  # a byte order mark, as spreadsheets write it, is no part of the text
_MOST_RATIO = 200  # our own CSV packs 3 to 10 times
_FREE_BYTES = 64 << 20  # that much may come out of any file


class Block(NamedTuple):
    """Whole lines, the last one ended, and the number of the first, from 1."""

    data: bytes
    line: int


def head(source: Path, size: int = 1 << 20) -> bytes:
    """The first `size` bytes of a file's text, or all of it. Raises WorkloadError where it cannot be read."""
    with _opened(source) as file:
        return file.read(size).removeprefix(_MARK)


def blocks(source: Path, longest_line: int) -> Iterator[Block]:
    """The text in blocks of about `BLOCK_BYTES`. Raises WorkloadError where it cannot be read, or for a longer line."""
    with _opened(source) as file:
        line, rest, is_first = 1, b"", True
        for piece in _pieces(source, file):
            text = rest + (piece.removeprefix(_MARK) if is_first else piece)
            is_first = False
            cut = text.rfind(b"\n") + 1
            if len(text) - cut > longest_line:
                newlines = text.count(b"\n")
                raise WorkloadError(f"{source}, line {line + newlines}: longer than {longest_line} bytes")
            if cut:
                yield Block(text[:cut], line)
                line += text.count(b"\n", 0, cut)
            rest = text[cut:]
        if rest:
            yield Block(rest + b"\n", line)


def lines(source: Path, longest_line: int) -> Iterator[tuple[int, bytes]]:
    """(number from 1, text) of each line that is not blank. Raises WorkloadError as `blocks` does."""
    for block in blocks(source, longest_line):
        if not block.data.strip():
            continue
        for number, line in enumerate(block.data.split(b"\n")[:-1], start=block.line):
            if len(line) > longest_line:
                raise WorkloadError(f"{source}, line {number}: longer than {longest_line} bytes")
            if line.strip():
                yield number, line


def _pieces(source: Path, file: BinaryIO) -> Iterator[bytes]:
    packed_bytes, bytes_out = source.stat().st_size, 0
    while piece := file.read(BLOCK_BYTES):
        bytes_out += len(piece)
        if bytes_out > _FREE_BYTES + _MOST_RATIO * packed_bytes:
            raise WorkloadError(f"{source}: unpacks to more than {_MOST_RATIO} times its size; expected a file of requests")
        yield piece


@contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    """The unpacked bytes; what goes wrong in reading them is told as the user's."""
    if not source.is_file():
        raise WorkloadError(f"{source}: no such file")
    try:
        with source.open("rb") as raw:
            is_packed = raw.read(2) == _GZIP
            raw.seek(0)
            yield gzip.GzipFile(fileobj=raw) if is_packed else raw  # type: ignore[misc]
    except (OSError, EOFError, zlib.error) as error:
        raise WorkloadError(f"{source}: not readable: {error}") from error
