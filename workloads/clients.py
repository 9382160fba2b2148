"""Client pools by name or path: many clients, each with its own rate, burstiness and lengths over days.

A reader of files is imported where it is used, so that naming the pools is quick.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workloads.arrivals import WINDOW_S
from workloads.describe import describe
from workloads.errors import WorkloadError, nearest
from workloads.pool_data import PoolData
from workloads.selection import published, replicate, resample, select

POOLS = Path(__file__).parent / "pools"
SUFFIXES = (".npz", ".toml")  # fitted pools, and recipes
MISSING = ("drop", "impute")


class Client(NamedTuple):
    """One client of a pool: its number in the data, its mean rate in each window, and whether lengths are borrowed."""

    client_id: int
    rate_rps: np.ndarray
    imputed: bool


@dataclass(frozen=True)
class ClientPool(PoolData):
    """A pool as users meet it: the arrays and rates of PoolData, where to get one, and how to describe it."""

    @classmethod
    def load(cls, name: str | os.PathLike[str]) -> ClientPool:
        """A pool shipped with the package, by name, or one's own: the path of a `.npz` (fitted) or a `.toml` (a recipe).

        Raises WorkloadError: for an unknown name with the nearest, for a file with all that is wrong in it.
        """
        path = _file_of(name)
        if path.suffix == ".toml":
            from workloads.recipe import read_recipe_pool

            return cls(**vars(read_recipe_pool(path)))
        from workloads.pool_file import read_pool

        return cls(**vars(read_pool(path)))

    @classmethod
    def from_servegen(cls, path: str | os.PathLike[str], missing: str = "drop") -> ClientPool:
        """Reads published ServeGen data, a folder or a `.tar.gz` with one pool.

        Clients without a length file are left out and said (`missing="drop"`), or borrow the lengths of the most
        similar client and are marked (`missing="impute"`). Raises WorkloadError with file and line.
        """
        from workloads.servegen import read_servegen
        from workloads.servegen_pool import pool_of

        if missing not in MISSING:
            raise WorkloadError(f"missing: expected one of {', '.join(MISSING)}, got {missing!r}{nearest(missing, MISSING)}")
        return cls(**vars(pool_of(read_servegen(path), missing)))

    @property
    def clients(self) -> list[Client]:
        """The clients by ascending number."""
        return [
            Client(int(number), self.count[index] / WINDOW_S, int(number) in self.imputed_ids)
            for index, number in enumerate(self.client_ids)
        ]

    def published(self) -> ClientPool:
        """The pool without clients whose lengths are borrowed."""
        return published(self)

    def select(self, **ranges: Any) -> list[int]:
        """Numbers of the clients within ranges of rate, CV, lengths and time, for `compose(clients=…)`: selection.select."""
        return select(self, **ranges)

    def replicate(self, copies: int, spread_blocks: int = 0, seed: int = 1) -> ClientPool:
        """So many independent copies of every client: selection.replicate."""
        return replicate(self, copies, spread_blocks, seed)

    def resample(self, clients: int, seed: int = 1) -> ClientPool:
        """So many clients drawn with replacement: selection.resample."""
        return resample(self, clients, seed)

    def describe(self) -> dict[str, Any]:
        """Plain values that characterise the pool: who, how much, how long, what is missing, from where."""
        return describe(self)


def known_pools() -> list[str]:
    """Names of the pools shipped with the package."""
    return sorted(path.stem for path in POOLS.iterdir() if path.suffix in SUFFIXES)


def is_pool_file(name: str | os.PathLike[str]) -> bool:
    """Whether a name is the path of a pool's file rather than the name of a shipped pool."""
    return Path(name).suffix in SUFFIXES


def _file_of(name: str | os.PathLike[str]) -> Path:
    if is_pool_file(name):
        return Path(name)
    for path in POOLS.iterdir():
        if path.stem == str(name) and path.suffix in SUFFIXES:
            return path
    known = known_pools()
    raise WorkloadError(
        f"no client pool {str(name)!r}{nearest(str(name), known)}; known: {', '.join(known)}, and paths that end in "
        f"{' or '.join(SUFFIXES)}"
    )
