"""`python -m benchmarks.engine`: how many requests per CPU second the engine plays, and what an iteration costs.

Poisson arrivals, lognormal lengths of mean 512 in and 256 out (sigma 0.8), every answer ending by a stop token,
Llama-3.1-8B on H100 by its shipped table, at a share of the saturated rate, with vLLM's default settings unless the name
says "plain" (no prefix cache, no asynchronous scheduling). `ratio_to_reference` compares with the same run without
stretches, every iteration formed by the scheduler. Each line: name, cpu_s, requests, requests_per_cpu_s,
ratio_to_reference, peak_rss_mb; the last lines: microseconds of CPU per iteration, scheduler and bookkeeping together, at a
number of running requests.
"""

import argparse
import json
import resource
import time

import numpy as np

from sim import Cluster, Engine, simulate
from workloads import concurrency
from workloads.stream import STREAM

SATURATION_RPS = 34.6
"""Of one instance in this setting, measured by this engine at an arrival rate of 60 requests/s."""
PLAIN = Engine(enable_prefix_caching=False, async_scheduling=False)


def stream(n: int, rate_rps: float, seed: int = 1) -> np.ndarray:
    """STREAM rows of the benchmark's workload."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, STREAM)
    rows["arrival_ns"] = (np.cumsum(rng.exponential(1.0 / rate_rps, n)) * 1e9).astype("i8")
    rows["request_id"] = np.arange(n)
    rows["session_id"], rows["turn"], rows["max_tokens"] = -1, 1, 4097
    for name, mean in (("input_tokens", 512), ("output_tokens", 256)):
        draws = rng.lognormal(np.log(mean) - 0.5 * 0.8**2, 0.8, n)
        rows[name] = np.clip(draws, 1, 4096).astype("i4")
    return rows


def measure(n: int, cluster: Cluster, load: float, use_stretches: bool) -> tuple[float, int]:
    """CPU seconds and steps of one run."""
    rows = stream(n, load * SATURATION_RPS * cluster.instances)
    start = time.process_time()
    result = simulate(rows, cluster, keep_steps=False, use_stretches=use_stretches)
    return time.process_time() - start, result.step_count


def step_us(running: int) -> float:
    """CPU microseconds of an iteration with so many running, without stretches."""
    source = concurrency(running, 512, 256, duration=20.0)
    start = time.process_time()
    result = simulate(source, Cluster(gpu="h100", model="llama-3.1-8b"), keep_steps=False, use_stretches=False)
    return 1e6 * (time.process_time() - start) / result.step_count


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description="Requests per CPU second of the engine.")
    parser.add_argument("--requests", type=int, default=10_000, help="of each run")
    n = parser.parse_args().requests
    settings = [("plain, ", PLAIN, 1, 0.7), ("", Engine(), 1, 0.7), ("", Engine(), 1, 0.95), ("", Engine(), 8, 0.7)]
    for what, engine, instances, load in settings:
        cluster = Cluster(gpu="h100", model="llama-3.1-8b", instances=instances, engine=engine)
        cpu_s, steps = measure(n, cluster, load, True)
        formed_s, _ = measure(n, cluster, load, False)
        line = {
            "name": f"{what}{instances} instance{'s' * (instances > 1)}, {load:.0%} load",
            "cpu_s": round(cpu_s, 3),
            "requests": n,
            "requests_per_cpu_s": round(n / cpu_s),
            "steps": steps,
            "ratio_to_reference": round(formed_s / cpu_s, 2),
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        print(json.dumps(line), flush=True)
    for running in (30, 256):
        print(json.dumps({"name": f"iteration with {running} running", "step_us": round(step_us(running), 1)}), flush=True)


if __name__ == "__main__":
    main()
