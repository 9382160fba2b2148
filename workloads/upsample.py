"""Upsampling: a stream's requests in less time, with the times between the turns of a conversation divided too, or kept.

Both are compared in the ServeGen paper (2025, its figure on upsampling multi-turn requests): dividing all times crowds the
turns of one conversation together, as if people thought faster; keeping them overlaps more conversations, as more people do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from workloads.errors import WorkloadError, nearest, raise_all
from workloads.segments import check_segments
from workloads.stream import LONGEST_S, NS_PER_S, Stream

_ALONE: Final = -1  # the session of requests that are of none


def upsample(stream: Stream, factor: float, method: str = "keep_turns") -> Stream:
    """The stream's requests at `factor` times their rate, over its duration / factor, in memory; below 1 at a lower rate.

    `method` is a key of METHODS. "keep_turns": conversations begin factor times as often, and their turns are as far apart as
    they were; what comes after the new end is left out, and said in the description. As the beginning of the stream is the
    beginning of all its conversations, and many end after the new end, the rate is lower in the first and last minutes.
    "compress": all times are divided. Prompts and items are those of the stream. Raises WorkloadError for a factor that
    cannot be, and where prompts would hold answers that come later, as sessions do not tell all that is said before a turn.
    """
    raise_all(_mistakes(stream, factor, method))
    rows, duration_s = stream.collect(), stream.duration_s / factor
    moved = METHODS[method](rows, float(factor))
    kept = moved[moved["arrival_ns"] < round(duration_s * NS_PER_S)]
    _check_answers(stream, kept, method)
    about: dict[str, Any] = {"source": "upsampled", "method": method, "factor": factor, "duration_s": duration_s}
    cut = len(rows) - len(kept)
    notes = [f"{cut} of {len(rows)} requests come after the end and are left out"] if cut else []
    about |= {"requests": len(kept), "cut_requests": cut, "notes": notes, "upsampled_from": stream.description}
    return Stream(duration_s, lambda: (kept,), about, stream.segments, stream.items, stream.is_checked)


def keep_turns(rows: np.ndarray, factor: float) -> np.ndarray:
    """A session moves to its first arrival / factor as a whole; a request of no session moves alone."""
    arrival_ns = rows["arrival_ns"]
    alone = rows["session_id"] == _ALONE
    _, first, session = np.unique(rows["session_id"], return_index=True, return_inverse=True)
    begin_ns = np.where(alone, arrival_ns, arrival_ns[first][session])
    moved = rows.copy()
    moved["arrival_ns"] = _divided(begin_ns, factor) + (arrival_ns - begin_ns)
    return moved[np.lexsort((moved["request_id"], moved["arrival_ns"]))]


def compress(rows: np.ndarray, factor: float) -> np.ndarray:
    """All arrivals / factor, in the order they had.

    Where a later request with a lower number would come at the same nanosecond, it and what follows come one later.
    """
    moved, request = rows.copy(), rows["request_id"]
    descents = np.cumsum(np.concatenate(([False], request[1:] < request[:-1]))[: len(rows)])
    moved["arrival_ns"] = np.maximum.accumulate(_divided(rows["arrival_ns"], factor) - descents) + descents
    return moved


METHODS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {"keep_turns": keep_turns, "compress": compress}


def _divided(times_ns: np.ndarray, factor: float) -> np.ndarray:
    return np.floor(times_ns / factor).astype(np.int64)


def _check_answers(stream: Stream, rows: np.ndarray, method: str) -> None:
    """Raises WorkloadError where a prompt holds an answer that now comes later, or not at all."""
    if not np.any(stream.segments["segment_id"] < 0):
        return
    try:
        check_segments(rows, stream.segments, stream.items)
    except WorkloadError as error:
        raise WorkloadError(
            f"upsample {method}: prompts hold answers of other sessions, which would come later or not at all; "
            f"expected a stream whose sessions stand alone\n{error}"
        ) from None


def _mistakes(stream: Stream, factor: object, method: object) -> list[str]:
    mistakes = []
    if not isinstance(factor, (int, float)) or isinstance(factor, bool) or not (math.isfinite(factor) and factor > 0.0):
        mistakes.append(f"factor: expected a number above 0, got {factor!r}")
    elif (longer_s := stream.duration_s / factor) > LONGEST_S:
        mistakes.append(f"factor: {factor!r} makes {longer_s:g} s of {stream.duration_s:g} s, expected at most {LONGEST_S} s")
    if method not in METHODS:
        mistakes.append(f"method: unknown {method!r}{nearest(str(method), METHODS)}; known: {', '.join(METHODS)}")
    return mistakes
