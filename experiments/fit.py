"""fit_trace: a trace made into a client pool's file, and what is to be known of it on the screen."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from experiments.console import Console
from experiments.errors import UserError
from experiments.sources import source_of
from workloads.fit import fit
from workloads.pool_data import PoolData
from workloads.pool_file import write_pool

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def fit_trace(trace: str, out: Path, name: str | None = None, max_clients: int = 10_000, force: bool = False) -> Path:
    """Fit a trace (or any other source) and write OUT, a `.npz` or a folder that gets NAME.npz; returns the file written.

    UserError for a place that is taken or cannot be, before anything is read.
    """
    target = _target(trace, out, name, force)
    source = source_of(trace)
    pool = fit(source, target.stem, max_clients)
    told = {
        **pool.provenance,
        "source": Path(trace).name,
        "command": f"servecast workload fit {Path(trace).name} --out {target.name}",
        "notes": [*_notes(source.description.get("notes")), *pool.provenance["notes"]],
    }
    size = write_pool(pool, target, told)
    _tell(dataclasses.replace(pool, provenance=told), target, size)
    return target


def _target(trace: str, out: Path, name: str | None, force: bool) -> Path:
    """The file to write: OUT itself, or in it one named like the trace."""
    if out.suffix == ".npz" and not out.is_dir():
        if name is not None and name != out.stem:
            raise UserError(f"--name {name}: a pool is named by its file; {out} would be '{out.stem}'")
        target = out
    else:
        target = out / f"{Path(trace).name.split('.')[0] if name is None else name}.npz"
    named = target.stem if name is None else name
    if not _NAME.fullmatch(named):
        raise UserError(f"--name {named[:40]!r}: expected up to 64 letters, digits, '.', '_' or '-'")
    if not target.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {target.parent}")
    if target.exists() and not force:
        raise UserError(f"--out {target}: exists already; --force replaces it")
    return target


def _notes(value: object) -> list[str]:
    return [str(note) for note in value] if isinstance(value, (list, tuple)) else []


def _tell(pool: PoolData, target: Path, size: int) -> None:
    """A summary: who, how much, told by what."""
    console, fitted = Console(), pool.provenance["fit"]
    share = fitted["arrivals"]["law_of_frac"]
    requests = pool.count.sum()
    console.say(f"{target}: {len(pool.client_ids):,} clients, {round(requests):,} requests, {size / 1000:,.0f} kB")
    console.say(f"rate: {requests / pool.duration_s:.4g} requests/s in the mean over {pool.duration_s / 3600:g} h")
    console.say(
        f"gaps: law of the window for {share['window']:.0%} of requests, of the 6 h block for {share['block']:.0%}, "
        f"of the whole for {share['period']:.0%}; {fitted['arrivals']['beyond_bulk_frac']:.0%} with pauses"
    )
    for field, errors in sorted(fitted["lengths"].items()):
        console.say(f"{field}: KS of the sketches {errors['ks_p50']:.4f} at the median request, {errors['ks_p90']:.4f} at p90")
    for note in pool.provenance["notes"]:
        console.say(f"note: {note}")
