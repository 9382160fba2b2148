"""Sources of requests as a command line names them: a pool that ships, published client data, a pool's file, a trace."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from experiments.errors import UserError, unknown
from workloads import ClientPool, Stream, compose, known_pools, parse_duration_s, read_trace
from workloads.clients import is_pool_file


class Part(NamedTuple):
    """Which part of a pool is to be sent: texts as the user wrote them, None for what was not said."""

    start: str | None = None
    duration: str | None = None
    rate: float | None = None
    scale: float | None = None
    seed: int = 1


def source_of(text: str, part: Part | None = None) -> Stream:
    """The stream of a shipped pool's name, a ServeGen folder or `.tar.gz`, a pool's `.npz`, or a trace.

    A pool is composed over the whole of its data unless `part` says otherwise, which a trace has no use for. UserError or
    WorkloadError for what is none of these.
    """
    part = part or Part()
    pool = pool_at(text)
    if pool is not None:
        start_s = parse_duration_s(part.start or 0.0, "--start")
        rest_s = pool.duration_s - start_s
        if part.duration is None and rest_s <= 0.0:
            raise UserError(f"--start {part.start}: pool {pool.name} has {pool.duration_s / 3600:g} h of data")
        duration_s = rest_s if part.duration is None else parse_duration_s(part.duration, "--duration")
        return compose(pool, start_s, duration_s, part.rate, part.scale, part.seed)
    useless = [f"--{name}" for name in ("start", "duration", "rate", "scale") if getattr(part, name) is not None]
    if useless:
        raise UserError(f"{', '.join(useless)}: {text} is a trace, and is taken as it is")
    return read_trace(text)


def pool_at(text: str) -> ClientPool | None:
    """The pool that is meant: a shipped one, a pool's file, or published data; None for a trace. UserError for neither."""
    if text not in known_pools() and not Path(text).exists():
        raise UserError(f"{unknown('pool', text, known_pools())}, and no such path")
    if is_trace(text):
        return None
    return ClientPool.load(text) if text in known_pools() or is_pool_file(text) else ClientPool.from_servegen(text)


def is_trace(text: str) -> bool:
    """Whether what is named is, or would be, a trace: no shipped pool, no pool's file, and no client data."""
    is_data = Path(text).is_dir() or text.endswith((".tar.gz", ".tgz"))
    return text not in known_pools() and not is_pool_file(text) and not is_data
