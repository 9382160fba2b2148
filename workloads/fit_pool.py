"""Makes a shipped client pool from published ServeGen data, and measures it.

    python -m workloads.fit_pool SOURCE --name deepseek-r1 --out workloads/pools
    python -m workloads.fit_pool SOURCE --name deepseek-r1 --check

The first writes OUT/NAME.npz with its provenance and sketch errors inside; the second compares the pool of that name
with the source and prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workloads.clients import ClientPool
from workloads.errors import WorkloadError
from workloads.pool_check import composed_errors, count_bias, sketch_errors
from workloads.pool_file import read_pool, write_pool
from workloads.servegen import read_servegen
from workloads.servegen_pool import pool_of

SOURCE = {
    "source": "alibaba/ServeGen",
    "commit": "f891d1189eb32b3868dfc443800c4150548c282a",
    "licence": "Apache-2.0",
    "notice": (
        "Derived from ServeGen client data, Copyright Alibaba Cloud, Apache License 2.0; "
        "reduced to quantile sketches and per-window arrival parameters."
    ),
    "paper": "Y. Xiang et al., ServeGen, arXiv 2505.09999",
}

GRADES = {
    "rates": "fitted: requests of each client in each 600 s window, as published",
    "gaps": "fitted: CV, family and shape of each client in each window, as published",
    "lengths": "fitted: a sketch of each client's published distributions in each 6 h block",
    "imputed clients": (
        "assumed: their rates and gaps are published, their lengths are not; each has those of the client that is nearest in "
        "log mean rate, log mean CV and share of windows with traffic, each over its standard deviation"
    ),
    "input-output correlation": "assumed: none within a client (marginals alone are published; the paper finds it weak)",
    "max_tokens": "assumed: the longest answer published for the pool",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 where the source or the command is wrong."""
    parser = argparse.ArgumentParser(prog="python -m workloads.fit_pool", description="Fit a client pool, or check one.")
    parser.add_argument("source", help="folder or .tar.gz of one published pool")
    parser.add_argument("--name", required=True, help="name of the pool")
    parser.add_argument("--out", type=Path, help="folder to write NAME.npz into")
    parser.add_argument("--check", action="store_true", help="compare the pool NAME with the source")
    parser.add_argument("--seed", type=int, default=1, help="seed of --check")
    given = parser.parse_args(arguments)
    if given.check == (given.out is not None):
        parser.error("expected either --out FOLDER or --check")
    try:
        result = check(given.source, given.name, given.seed) if given.check else fit(given.source, given.name, given.out)
    except WorkloadError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(result, indent=1))
    return 0


def fit(source: str, name: str, out: Path) -> dict[str, Any]:
    """Writes the pool; returns what was written, its size and the sketch errors (which are shipped inside, too)."""
    if not out.is_dir():
        raise WorkloadError(f"{out}: no such folder")
    data = read_servegen(source)
    pool = pool_of(data, "impute")
    target = out / f"{name}.npz"
    provenance: dict[str, Any] = {
        **SOURCE,
        "grades": {what: said for what, said in GRADES.items() if what != "imputed clients" or pool.imputed_ids},
        "command": f"python -m workloads.fit_pool {Path(source).name} --name {name} --out {out.name}",
    }
    write_pool(pool, target, provenance)
    errors = sketch_errors(read_pool(target), data)
    size = write_pool(pool, target, {**provenance, "sketch_errors": errors})
    return {"file": str(target), "bytes": size, "sketch_errors": errors}


def check(source: str, name: str, seed: int) -> dict[str, Any]:
    """Sketch errors, and composed against published, of a shipped pool."""
    data = read_servegen(source)
    pool = ClientPool.load(name)
    return {
        "pool": name,
        "sketch": sketch_errors(pool, data),
        "composed": composed_errors(pool.published(), data, seed),
        "counts": count_bias(pool, seed=seed),
    }


if __name__ == "__main__":
    sys.exit(main())
