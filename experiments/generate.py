"""Traffic as a file: what a pool sends, or its naive stand-in, in any format that is written."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.errors import UserError
from experiments.scenario_file import asked_of
from experiments.traffic import stream_of
from workloads import Stream, known_pools
from workloads.clients import is_pool_file
from workloads.traces import convert


def generate(
    pool: str, workload: dict[str, Any], overrides: Sequence[str], out: Path, format: str | None = None, force: bool = False
) -> None:
    """Write a stream of a pool to a file. `workload` holds keys of the scenario's table, None for those not given.

    Raises UserError or WorkloadError for a mistake of the user, and then leaves the file as it was.
    """
    if out.exists() and not force:
        raise UserError(f"--out {out}: exists already; --force replaces it")
    given = {key: value for key, value in workload.items() if value is not None and key != "seed"}
    tables = {"seed": workload["seed"], "workload": {_source_key(pool): pool, **given}}
    stream = stream_of(asked_of(tables, "workload generate", overrides))
    counted = _Counted(stream)
    lost = convert(counted.stream, out, format, overwrite=force)
    for note in stream.description.get("notes", []):
        print(f"note: {note}")
    for sentence in lost:
        print(f"lost: {sentence}")
    print(f"{out}: {counted.requests:,} requests over {stream.duration_s:g} s")


def _source_key(pool: str) -> str:
    """Which key of `[workload]` names the pool: a path that is no pool's file holds published client data."""
    is_data = pool not in known_pools() and not is_pool_file(pool) and Path(pool).exists()
    return "servegen" if is_data else "pool"


class _Counted:
    """A stream that counts its requests as it is gone through, so that a long one is not made twice."""

    def __init__(self, stream: Stream) -> None:
        self._of, self.requests = stream, 0
        self.stream = Stream(
            stream.duration_s,
            self._blocks,
            stream.description,
            lambda: stream.segments,
            lambda: stream.items,
            stream.is_checked,
        )

    def _blocks(self) -> Iterator[np.ndarray]:
        self.requests = 0
        for rows in self._of.blocks():
            self.requests += len(rows)
            yield rows
