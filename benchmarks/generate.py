"""`python -m benchmarks.generate`: how fast streams are composed, in CPU seconds and memory, each in a process of its own.

The shipped pools, an hour each; and 2,000 clients at 1,000 requests/s in the mean: Zipf rates over a daily cycle, gaps of
mixed burstiness, log-normal lengths of mean 512 in and 256 out. `--hours 24` is the day of 86.4 million requests; `--moving`
changes every client's burstiness from window to window, which costs a table of its excess each time.

Each line: name, cpu_s, requests, requests_per_cpu_s, peak_rss_mb (of the whole process), compile_cpu_s (numba's start, and the
compiler where the cache is cold; not in cpu_s).
"""

from __future__ import annotations

import argparse
import json
import resource
from multiprocessing import get_context
from time import process_time
from typing import Any

import numpy as np

from workloads import ClientPool, Stream, compose, naive, sessions, warm_kernels
from workloads.arrivals import EXPONENTIAL, GAMMA, WEIBULL, WINDOW_S, weibull_shape
from workloads.lengths import BLOCK_S, PROBABILITIES, LengthTable
from workloads.naive import KINDS
from workloads.numerics import Purpose, exp, normal_quantile, stream_key, uniforms

CLIENTS, RATE_RPS, ZIPF = 2000, 1000.0, 1.1
DAY_WINDOWS = round(86_400 / WINDOW_S)
MEAN_TOKENS = {"input_tokens": (512.0, 1.0), "output_tokens": (256.0, 0.8)}  # and the standard deviation of their logarithm
MAX_TOKENS = 8192  # longer than any answer: every request ends by its stop token
CONSUMED_S = 10.0
FEW = ("deepseek-r1, 10,000 requests",)  # what numpy plays without numba


def many_clients(moving: bool = False, clients: int = CLIENTS) -> ClientPool:
    """A day of `clients` clients, RATE_RPS in all: PoolData made of arrays. Each has a busiest hour of its own, most by day."""
    rank = np.arange(clients)
    weight = exp(-ZIPF * np.log(rank + 1.0))
    hour = np.arange(DAY_WINDOWS) * (WINDOW_S / 3600.0)
    busiest = 14.0 + 3.0 * normal_quantile(_drawn(clients, Purpose.GAP))
    cycle = 1.0 + 0.6 * np.cos((hour - busiest[:, None]) * (np.pi / 12.0))
    count = weight[:, None] * cycle
    family = np.array([GAMMA, GAMMA, GAMMA, WEIBULL, EXPONENTIAL], np.int8)[rank % 5]
    cv = np.where(family == EXPONENTIAL, 1.0, 0.6 + 2.4 * _drawn(clients, Purpose.EXCESS))[:, None] * np.ones(DAY_WINDOWS)
    if moving:
        cv *= np.where(family == EXPONENTIAL, 0.0, 0.2)[:, None] * _drawn(cv.size, Purpose.BOOST).reshape(cv.shape) + 1.0
    shape = 1.0 / (cv * cv)
    shape[family == WEIBULL] = weibull_shape(cv[family == WEIBULL])
    return ClientPool(
        name=f"{clients} clients",
        client_ids=rank,
        count=count * (RATE_RPS * 86_400 / count.sum()),
        cv=cv,
        family=np.repeat(family[:, None], DAY_WINDOWS, axis=1),
        shape=shape,
        length_row=np.repeat(rank[:, None], round(86_400 / BLOCK_S), axis=1).astype(np.int32),
        lengths={name: _lengths(clients, mean, sd) for name, (mean, sd) in MEAN_TOKENS.items()},
        max_output_tokens=MAX_TOKENS,
        absent_ids=(),
        absent_count=np.zeros(DAY_WINDOWS),
        gap=np.zeros(DAY_WINDOWS, bool),
    )


def _lengths(clients: int, mean: float, sd: float) -> LengthTable:
    """The same log-normal sketch for every client; its outer knots lie at 3.5 standard deviations."""
    z = normal_quantile(np.clip(PROBABILITIES, 2.3e-4, 1.0 - 2.3e-4))
    knots = np.maximum(np.rint(exp(np.log(mean) - sd * sd / 2.0 + sd * z) * 8.0) / 8.0, 1.0)
    return LengthTable.of(np.tile(knots, (clients, 1)), np.full(clients, mean))


def _drawn(count: int, purpose: Purpose) -> np.ndarray:
    return uniforms(stream_key(0, 0, purpose), np.arange(count))


def _stream(name: str, hours: float, moving: bool) -> Stream:
    """What is measured under a name of NAMES."""
    if name.startswith("many clients"):
        return compose(many_clients(moving), 0, hours * 3600.0, rate=RATE_RPS)
    if name == "deepseek-r1, 10,000 requests":
        return compose(ClientPool.load("deepseek-r1"), "20h", "1h", rate=10_000 / 3600)
    if name == "m-mid, an hour":
        return compose(ClientPool.load("m-mid"), "60h", "1h")
    if name == "mm-image, a day":
        return compose(ClientPool.load("mm-image"), 0, "1d")
    if name == "chat of deepseek-r1, a day":
        return sessions(ClientPool.load("deepseek-r1"), 0, "1d")
    day = compose(ClientPool.load("deepseek-r1"), 0, "1d")
    return day if name == "deepseek-r1, a day" else naive(day, name.split()[0])


NAMES = (
    "deepseek-r1, 10,000 requests",
    "deepseek-r1, a day",
    "mm-image, a day",
    "m-mid, an hour",
    "chat of deepseek-r1, a day",
    *(f"{kind} of deepseek-r1, a day" for kind in KINDS),
    "many clients",
)


def measure(name: str, hours: float, moving: bool) -> dict[str, Any]:
    """Go through one stream in windows of 10 s."""
    stream = _stream(name, hours, moving)
    begin_s = process_time()
    if name not in FEW:
        warm_kernels()
    warm_s = process_time()
    requests = sum(map(len, stream.windows(CONSUMED_S)))
    cpu_s = process_time() - warm_s
    return {
        "name": f"{CLIENTS} clients, {hours:g} h" + ", moving" * moving if name == "many clients" else name,
        "cpu_s": round(cpu_s, 2),
        "requests": requests,
        "requests_per_cpu_s": round(requests / cpu_s),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "compile_cpu_s": round(warm_s - begin_s, 2),
    }


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0, help="of the many clients, up to 24 (default 1)")
    parser.add_argument("--moving", action="store_true", help="their burstiness changes from window to window")
    parser.add_argument("names", nargs="*", default=NAMES, help=f"which of: {'; '.join(NAMES)} (default: all)")
    options = parser.parse_args()
    for name in options.names:
        with get_context("spawn").Pool(1) as alone:
            print(json.dumps(alone.apply(measure, (name, options.hours, options.moving))), flush=True)


if __name__ == "__main__":
    main()
