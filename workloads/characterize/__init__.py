"""characterize: what any stream is like, in plain values: when, how long, who, in what order, and of what.

Reading order: over_time.py (rates, burstiness, gaps, counts), lengths.py (tokens, thinking, items), clients.py (skew),
correlation.py (of prompt and answer), turns.py (conversations); differences.py puts two characters side by side. One pass,
in memory that grows with windows and clients, not with requests.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workloads.arrivals import WINDOW_S
from workloads.characterize.clients import Clients
from workloads.characterize.correlation import Correlation
from workloads.characterize.differences import differences
from workloads.characterize.lengths import Lengths
from workloads.characterize.over_time import OverTime
from workloads.characterize.turns import Turns
from workloads.errors import WorkloadError
from workloads.stream import NS_PER_S, Stream, check_stream

__all__ = ["characterize", "differences"]


def characterize(stream: Stream) -> dict[str, Any]:
    """The character of a stream: numbers, texts, lists of them, and None for what it cannot tell; as JSON keeps them.

    `over_time`, `gaps`, `dispersion`; `lengths` by field, `reasoning`, `items`; `clients`; `correlation`; `turns`. Units
    are in the names; shares end in `_frac`. Raises WorkloadError for a stream without requests, or rows that are not STREAM's.
    """
    over_time, lengths, clients, correlation, turns = OverTime(), Lengths(stream.items), Clients(), Correlation(), Turns()
    requests, duration_ns = 0, round(stream.duration_s * NS_PER_S)
    for number, rows in enumerate(stream.windows(WINDOW_S)):
        if not stream.is_checked:
            check_stream(rows)
        requests += len(rows)
        begin_ns = number * round(WINDOW_S * NS_PER_S)
        length_ns = max(min(round(WINDOW_S * NS_PER_S), duration_ns - begin_ns), 1)
        offset_ns = rows["arrival_ns"] - begin_ns
        over_time.add(rows, offset_ns, length_ns)
        clients.add(rows, offset_ns, length_ns)
        for part in (lengths, correlation, turns):
            part.add(rows)
    if not requests:
        raise WorkloadError("the stream has no requests: there is nothing to characterize")
    return {
        "requests": requests,
        "duration_s": float(stream.duration_s),
        "rate_rps": requests / stream.duration_s,
        **over_time.told(),
        **lengths.told(),
        "clients": clients.told(),
        "correlation": correlation.told(),
        "turns": turns.told(),
        "notes": [str(note) for note in np.atleast_1d(stream.description.get("notes", []))],
    }
