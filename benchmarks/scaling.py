"""`python -m benchmarks.scaling`: how the fast engine's cost grows with requests, instances, batch and load.

The workload and cluster of `benchmarks.engine`. Each line: name, x, us_per_request (CPU), steps_per_request. `--draw FILE`
makes a picture of all lines; `--day FILE --draw FILE` draws the memory of the day that `benchmarks.engine --day` printed.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.engine import H100, SATURATION_RPS, poisson
from sim import Cluster, Engine, simulate

REQUESTS = 300_000
LABELS = {
    "requests": "requests",
    "instances, power of two": "instances, power of two",
    "instances, shortest queue": "instances, shortest queue",
    "load": "load of 8 instances, %",
    "batch": "seats, all taken",
}


def settings() -> list[tuple[str, float, int, float, Cluster]]:
    """(name, x, requests, requests/s, cluster) of every point."""
    eight = replace(H100, instances=8)
    out: list[tuple[str, float, int, float, Cluster]] = []
    out += [("requests", n, n, 0.7 * SATURATION_RPS * 8, eight) for n in (10_000, 30_000, 100_000, 300_000, 1_000_000)]
    for router in ("power_of_two", "shortest_queue"):
        for count in (1, 4, 16, 64, 256):
            cluster = replace(H100, instances=count, router=router)
            out.append((f"instances, {router.replace('_', ' ')}", count, REQUESTS, 0.7 * SATURATION_RPS * count, cluster))
    out += [("load", 100 * load, REQUESTS, load * SATURATION_RPS * 8, eight) for load in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)]
    for seats in (8, 32, 128, 512):
        cluster = replace(H100, engine=Engine(max_num_seqs=seats))
        out.append(("batch", seats, REQUESTS // 10, 2 * SATURATION_RPS, cluster))
    return out


def measure(name: str, x: float, requests: int, rate_rps: float, cluster: Cluster) -> dict[str, Any]:
    """One point: the better of two runs."""
    stream = poisson(requests, rate_rps)
    spent = []
    for _ in range(2):
        start = time.process_time()
        result = simulate(stream, cluster, keep_steps=False, keep_records=False, engine="fast")
        spent.append(time.process_time() - start)
    us = 1e6 * min(spent) / requests
    return {"name": name, "x": x, "us_per_request": round(us, 3), "steps_per_request": round(result.step_count / requests, 2)}


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Small multiples on one scale of cost."""
    import matplotlib.pyplot as plt

    figure, all_axes = plt.subplots(1, len(LABELS), figsize=(14, 3), sharey=True, layout="constrained")
    for axes, (name, label) in zip(all_axes, LABELS.items()):
        mine = [point for point in points if point["name"] == name]
        axes.plot([p["x"] for p in mine], [p["us_per_request"] for p in mine], marker="o", color="#1f6f8b")
        axes.set(xlabel=label, ylim=(0, 1.1 * max(point["us_per_request"] for point in points)))
        if name != "load":
            axes.set_xscale("log")
        axes.grid(alpha=0.3)
    all_axes[0].set_ylabel("CPU µs per request")
    figure.savefig(path, metadata={"Date": None})


def draw_day(line: dict[str, Any], path: Path) -> None:
    """Memory at the end of each hour of the day."""
    import matplotlib.pyplot as plt

    rss_mb = line["rss_mb"][:-1]
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    axes.plot(range(1, len(rss_mb) + 1), rss_mb, marker="o", color="#1f6f8b")
    axes.set(xlabel="simulated hours", ylabel="memory of the process, MB", ylim=(0, 1.25 * max(rss_mb)))
    axes.set_title(f"{line['requests'] / 1e6:.1f} million requests in {line['cpu_s']:.0f} CPU s", fontsize=10)
    axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print the lines, draw them where asked."""
    parser = argparse.ArgumentParser(description="How the cost of the fast engine grows.")
    parser.add_argument("--draw", type=Path, help="an .svg or .png to draw")
    parser.add_argument("--day", type=Path, help="the lines of benchmarks.engine --day, to draw the memory of that day")
    asked = parser.parse_args()
    if asked.day is not None:
        lines = [json.loads(text) for text in asked.day.read_text(encoding="utf-8").splitlines()]
        draw_day(next(line for line in lines if "rss_mb" in line), asked.draw)
        return
    points = []
    for setting in settings():
        points.append(measure(*setting))
        print(json.dumps(points[-1]), flush=True)
    if asked.draw is not None:
        draw(points, asked.draw)


if __name__ == "__main__":
    main()
