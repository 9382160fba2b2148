"""`python -m benchmarks.engine`: how many requests per CPU second the engine plays.

Poisson arrivals, lognormal lengths of mean 512 in and 256 out (sigma 0.8), Llama-3.1-8B on H100 by its shipped table, at a
share of the saturated rate. `ratio_to_reference` compares with the same run without stretches, every iteration formed by
the scheduler. Each line: name, cpu_s, requests, requests_per_cpu_s, ratio_to_reference, peak_rss_mb.
"""

import argparse
import json
import resource
import time

import numpy as np

from sim import Cluster, simulate
from workloads.stream import STREAM

SATURATION_RPS = 34.6
"""Of one instance in this setting: beyond it the queue of a long run grows (facts of the shipped table)."""


def stream(n: int, rate_rps: float, seed: int = 1) -> np.ndarray:
    """STREAM rows of the benchmark's workload."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, STREAM)
    rows["arrival_ns"] = (np.cumsum(rng.exponential(1.0 / rate_rps, n)) * 1e9).astype("i8")
    rows["request_id"] = np.arange(n)
    rows["session_id"], rows["turn"], rows["max_tokens"] = -1, 1, 4096
    for name, mean in (("input_tokens", 512), ("output_tokens", 256)):
        draws = rng.lognormal(np.log(mean) - 0.5 * 0.8**2, 0.8, n)
        rows[name] = np.clip(draws, 1, 4096).astype("i4")
    return rows


def measure(n: int, instances: int, load: float, router: str, use_stretches: bool) -> tuple[float, int]:
    """CPU seconds and steps of one run."""
    rows = stream(n, load * SATURATION_RPS * instances)
    cluster = Cluster(gpu="h100", model="llama-3.1-8b", instances=instances, router=router)
    start = time.process_time()
    result = simulate(rows, cluster, keep_steps=False, use_stretches=use_stretches)
    return time.process_time() - start, result.step_count


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description="Requests per CPU second of the engine.")
    parser.add_argument("--requests", type=int, default=10_000, help="of each run")
    n = parser.parse_args().requests
    for instances, load, router in ((1, 0.7, "round_robin"), (1, 0.95, "round_robin"), (8, 0.7, "power_of_two")):
        cpu_s, steps = measure(n, instances, load, router, True)
        plain_s, _ = measure(n, instances, load, router, False)
        line = {
            "name": f"{instances} instance{'s' * (instances > 1)}, {load:.0%} load, {router}",
            "cpu_s": round(cpu_s, 3),
            "requests": n,
            "requests_per_cpu_s": round(n / cpu_s),
            "steps": steps,
            "ratio_to_reference": round(plain_s / cpu_s, 2),
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
