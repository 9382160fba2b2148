"""Traces in, traces out: a file of requests in one format as a file in another, and what is lost on the way."""

from pathlib import Path

from experiments.errors import UserError
from workloads import upsample
from workloads.traces import convert as write_as
from workloads.traces import read_trace


def convert(
    source: str,
    target: Path,
    format: str | None = None,
    force: bool = False,
    source_format: str | None = None,
    dejitter: bool = False,
    factor: float | None = None,
    method: str | None = None,
) -> None:
    """Write the requests of a file in another format; print the notes of its reader and what the format cannot hold.

    With a `factor` the requests come so many times as fast, by a `method` of workloads.upsample. `format` is that of the
    target, told by its name if not said; `source_format` that of the source, told by what is in it.
    Raises UserError or WorkloadError for a mistake of the user, and then leaves the target as it was.
    """
    if target.exists() and not force:
        raise UserError(f"{target}: exists already; --force replaces it")
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise UserError(f"{target}: is the source itself; expected another file")
    stream = read_trace(source, source_format, dejitter)
    if factor is not None:
        stream = upsample(stream, factor, method or "keep_turns")
    elif method is not None:
        raise UserError("--method does nothing without --upsample")
    lost = write_as(stream, target, format, overwrite=force)
    for note in stream.description.get("notes", []):
        print(f"note: {note}")
    for sentence in lost:
        print(f"lost: {sentence}")
    requests = stream.description["requests"] if factor is None else len(stream.collect())
    print(f"{target}: {requests:,} requests over {stream.duration_s:g} s")
