"""`python -m benchmarks.engine`: how many requests per CPU second the engines play.

Poisson arrivals, log-normal lengths of mean 512 in and 256 out (sigma 0.8), every answer ending by a stop token,
Llama-3.1-8B on H100 by its shipped table, vLLM's default settings, at a share of the saturated rate. Then conversations
that share prompts, the general kernels on the first workload, a router in Python, and a tick of control in every
simulated second. `--day` plays a day of 86.4 million requests of 2,000 clients on 64 instances, generated and simulated, in
place of all that.

Each line: name, cpu_s, requests, requests_per_cpu_s, ratio_to_reference (of that to the reference engine's on one instance
at 70 % load, measured in the same run), peak_rss_mb, and the share of iterations on each path. Kernels are compiled
before the first line, which says how long that took.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np

from sim import Cluster, Engine, Result, simulate
from sim.router import ShortestQueue
from sim.warm import warm_all
from workloads import Stream, compose
from workloads.conversations import conversations
from workloads.stream import STREAM

SATURATION_RPS = 34.6
"""Of one instance in this setting, measured by this engine at an arrival rate of 60 requests/s."""
H100 = Cluster(gpu="h100", model="llama-3.1-8b")
GENERAL = Engine(long_prefill_token_threshold=8192)  # as large as the budget: it changes nothing but the kernels
INSTANCES = 64


def poisson(n: int, rate_rps: float, seed: int = 1) -> Stream:
    """The benchmark's workload."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, STREAM)
    rows["arrival_ns"] = (np.cumsum(rng.exponential(1.0 / rate_rps, n)) * 1e9).astype("i8")
    rows["request_id"] = np.arange(n)
    rows["session_id"], rows["turn"], rows["max_tokens"] = -1, 1, 4097
    for name, mean in (("input_tokens", 512), ("output_tokens", 256)):
        draws = rng.lognormal(np.log(mean) - 0.5 * 0.8**2, 0.8, n)
        rows[name] = np.clip(draws, 1, 4096).astype("i4")
    return Stream(float(rows["arrival_ns"][-1] + 1) / 1e9, partial(iter, [rows]), is_checked=True)


def multi_turn(n: int) -> Stream:
    """Conversations of four turns behind one system prompt: prompts of 1,675 tokens in the mean, answers of 200."""
    return conversations(n // 4, 4, 100.0, 1000, (50, 250), (50, 250), (100, 300), 20.0)


class Tick:
    """A control tick that does nothing."""

    period_s = 1.0

    def look(self, now_ns: int, views: object) -> None:
        """Nothing."""


class Bench:
    """The lines, and the reference that they are compared with."""

    def __init__(self, reference_requests: int):
        rows = poisson(reference_requests, 0.7 * SATURATION_RPS)
        self.reference_rps = 0.0
        self.reference_rps = self.line("reference, 1 instance, 70 % load", rows, H100, engine="reference")

    def line(self, name: str, stream: Any, cluster: Cluster, **options: Any) -> float:
        """Play a stream and print what it took; returns requests per CPU second."""
        start = time.process_time()
        result = simulate(stream, cluster, keep_steps=False, keep_records=False, **options)
        cpu_s = time.process_time() - start
        self.tell(name, cpu_s, result)
        return len(result.tally) / cpu_s

    def tell(self, name: str, cpu_s: float, result: Result, **more: Any) -> None:
        """Print a line."""
        rps = len(result.tally) / cpu_s
        line = {
            "name": name,
            "cpu_s": round(cpu_s, 3),
            "requests": len(result.tally),
            "requests_per_cpu_s": round(rps),
            "ratio_to_reference": round(rps / (self.reference_rps or rps), 1),
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "paths": {path: round(count / result.step_count, 3) for path, count in result.paths.items()},
        }
        print(json.dumps(line | more), flush=True)


def warm() -> None:
    """Have all kernels compiled, in a process of its own: the compiler's memory is not the engine's; then load them."""
    with get_context("spawn").Pool(1) as alone:
        spent = alone.apply(warm_all)
    told = {family: round(cpu_s, 2) for family, cpu_s in spent.items()}
    print(
        json.dumps({"name": "kernels compiled or loaded", "cpu_s": round(sum(spent.values()), 2), "families": told}), flush=True
    )
    warm_all()


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description="Requests per CPU second of the engines.")
    parser.add_argument("--requests", type=int, default=1_000_000, help="of each run of the fast engine")
    parser.add_argument("--reference-requests", type=int, default=5_000, help="of the run of the reference")
    parser.add_argument("--day", action="store_true", help="the day of 86.4 million requests, and nothing else")
    asked = parser.parse_args()
    n = asked.requests
    warm()
    bench = Bench(asked.reference_requests)
    if asked.day:
        day(bench)
        return
    for instances, router, load in ((1, "power_of_two", 0.7), (1, "power_of_two", 0.95), *_many()):
        cluster = replace(H100, instances=instances, router=router)
        name = f"{instances} instance{'s' * (instances > 1)}, {router}, {load:.0%} load"
        bench.line(name, poisson(n, load * SATURATION_RPS * instances), cluster, engine="fast")
    ticked = poisson(n, 0.7 * SATURATION_RPS * INSTANCES)
    cluster = replace(H100, instances=INSTANCES)
    bench.line(f"{INSTANCES} instances, 70 % load, a tick each second", ticked, cluster, engine="fast", watch=Tick())
    eight = replace(H100, instances=8)
    bench.line("multi-turn with shared prompts, 8 instances", multi_turn(n // 5), eight, engine="fast")
    rows = poisson(n // 10, 0.7 * SATURATION_RPS * 8)
    bench.line("general kernels, 8 instances, 70 % load", rows, replace(eight, engine=GENERAL), engine="fast")
    python = replace(eight, router=ShortestQueue())
    bench.line("a router in Python, 8 instances, 70 % load", rows, python, engine="fast")


def _many() -> Iterator[tuple[int, str, float]]:
    for router in ("power_of_two", "shortest_queue"):
        for load in (0.7, 0.95):
            yield INSTANCES, router, load


def day(bench: Bench) -> None:
    """Generated and simulated in one go; `rss_mb` is the memory at the end of every simulated hour."""
    from benchmarks.generate import many_clients

    rss_mb: list[int] = []

    def progress(now_s: float) -> None:
        if now_s >= 3600.0 * (len(rss_mb) + 1):
            rss_mb.append(_rss_mb())

    start = time.process_time()
    stream = compose(many_clients(), duration="24h")
    cluster = replace(H100, instances=INSTANCES)
    result = simulate(stream, cluster, keep_steps=False, keep_records=False, progress=progress, engine="fast")
    name = f"a day of 2,000 clients on {INSTANCES} instances, generated and simulated"
    bench.tell(name, time.process_time() - start, result, rss_mb=[*rss_mb, _rss_mb()])


def _rss_mb() -> int:
    """Memory that the process holds now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20


if __name__ == "__main__":
    main()
