"""What it takes to learn a client pool: CPU and memory of `servecast workload fit`, one JSON object.

    python -m benchmarks.fit --rows 20000000 --file big.parquet

Without a file the stream of 2,000 clients of `benchmarks.generate` is fitted as it is composed; with one it is written there
first, as another process, and read back. Keys: name, cpu_s, rows, rows_per_cpu_s, peak_rss_mb.
"""

from __future__ import annotations

import argparse
import json
import resource
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.generate import RATE_RPS, many_clients
from workloads import Stream, compose, fit, read_trace
from workloads.stream_file import save


def stream_of(rows: int) -> Stream:
    """About so many requests of the many clients."""
    return compose(many_clients(), 0, rows / RATE_RPS, rate=RATE_RPS)


def write(rows: int, path: Path) -> None:
    """The stream as a file."""
    save(stream_of(rows), path, overwrite=True)


def measure(rows: int, path: Path | None) -> dict[str, Any]:
    """Fit it, in a process of its own."""
    begin_s = process_time()
    pool = fit(stream_of(rows) if path is None else read_trace(path))
    cpu_s, fitted = process_time() - begin_s, round(pool.count.sum())
    return {
        "name": f"fit of {len(pool.client_ids)} clients" + (f" from {path.suffix}" if path is not None else ""),
        "cpu_s": round(cpu_s, 2),
        "rows": fitted,
        "rows_per_cpu_s": round(fitted / cpu_s),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--file", type=Path, help="a new .parquet or .csv to write, and then to fit")
    asked = parser.parse_args()
    if asked.file is not None and asked.file.exists():
        parser.error(f"--file {asked.file}: exists already")
    for function, arguments in ((write, (asked.rows, asked.file)), (measure, (asked.rows, asked.file))):
        if function is measure or asked.file is not None:
            with get_context("spawn").Pool(1) as alone:
                result = alone.apply(function, arguments)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
