"""A coarse clock: arrivals that a trace keeps only to the nearest tick, so that they come in bursts nobody sent."""

from __future__ import annotations

import numpy as np

from workloads.errors import WorkloadError
from workloads.numerics import Purpose, stream_key, uniforms
from workloads.stream import NS_PER_S, Stream

_LEAST_TICK_NS = 10_000_000  # ticks shorter than the shortest engine steps, some 10 ms, make no bursts worth a word
_FEWEST_GAPS = 10  # with fewer, gaps that only look alike are too likely
_TOLERANCE_FRAC = 0.01  # the published Mooncake conversation trace ticks every 3 s within 3 ms
_SHARE_ON_GRID = 0.99
_SHARE_TOGETHER = 0.01  # a steady source ticks as well, but then no two of its requests share an instant


def tick_ns(arrival_ns: np.ndarray) -> int | None:
    """The tick of the clock that wrote these sorted arrivals; None where they are fine, or too few to tell.

    The tick is the greatest common divisor of the gaps between different instants, or else their median; nearly all
    gaps must be multiples of it, to 1 %, and some requests must share an instant.
    """
    gaps = np.diff(np.unique(arrival_ns))
    if len(gaps) < _FEWEST_GAPS or len(gaps) + 1 > (1.0 - _SHARE_TOGETHER) * len(arrival_ns):
        return None
    for tick in (int(np.gcd.reduce(gaps)), int(np.median(gaps))):
        if tick >= _LEAST_TICK_NS and _share_on_grid(gaps, tick) >= _SHARE_ON_GRID:
            return tick
    return None


def grid_notes(arrival_ns: np.ndarray) -> list[str]:
    """A sentence for the reader of a report where the clock is coarse; empty where it is not."""
    tick = tick_ns(arrival_ns)
    if tick is None:
        return []
    together = len(arrival_ns) / len(np.unique(arrival_ns))
    return [
        f"the trace's clock ticks every {tick / NS_PER_S:g} s and {together:.1f} requests share each instant of it: "
        "waiting times, TTFT above all, are mostly these bursts"
    ]


def spread_over_ticks(stream: Stream) -> Stream:
    """The stream with its arrivals spread evenly over the ticks of its coarse clock, its rows in memory.

    A request that arrived at a tick now arrives at a uniform moment until the next one: the same moment in every run, by a
    hash of its id. Raises WorkloadError where the clock is not coarse, as then there is nothing to spread.
    """
    rows = stream.collect()
    tick = tick_ns(rows["arrival_ns"])
    if tick is None:
        raise WorkloadError("dejitter: the trace's clock is not coarse; leave the option out")
    coarse = grid_notes(rows["arrival_ns"])
    shift = np.minimum(uniforms(stream_key(0, 0, Purpose.GAP), rows["request_id"]) * tick, tick - 1).astype(np.int64)
    rows["arrival_ns"] += shift
    rows = rows[np.lexsort((rows["request_id"], rows["arrival_ns"]))]
    told = f"the trace's clock ticks every {tick / NS_PER_S:g} s; arrivals are spread evenly over each tick"
    duration_s = max(stream.duration_s, float(int(rows["arrival_ns"][-1]) // NS_PER_S + 1))
    kept = [note for note in stream.description.get("notes", []) if note not in coarse]
    about = {**stream.description, "notes": [*kept, told]}
    return Stream(duration_s, lambda: (rows,), about, stream.segments, stream.items)


def _share_on_grid(gaps_ns: np.ndarray, tick: int) -> float:
    ticks = np.rint(gaps_ns / tick)
    return float(np.mean((ticks >= 1) & (np.abs(gaps_ns - ticks * tick) <= _TOLERANCE_FRAC * tick)))
