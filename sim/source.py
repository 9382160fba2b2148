"""What a cluster needs of the traffic that it is to play: an open loop or a closed one."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from workloads import WorkloadError, check_stream

MOST_NS = 1 << 61
"""Arrivals must be before it: sums of times stay far from what 64 bits hold."""


@runtime_checkable
class Source(Protocol):
    """A closed loop: what its clients send first, and what follows a request that finished."""

    duration_s: float | None

    def first(self) -> np.ndarray:
        """STREAM rows, by (arrival_ns, request_id)."""
        ...

    def follow(self, finish_ns: int, request_id: int) -> np.ndarray | None:
        """The STREAM row that follows, not before `finish_ns`, when the client has its answer; None where nothing does."""
        ...


class Stream(Protocol):
    """An open loop: requests that arrive whatever the cluster does."""

    duration_s: float

    def windows(self) -> Iterable[np.ndarray]:
        """STREAM rows in windows of time, by (arrival_ns, request_id)."""
        ...


def checked(
    windows: Iterable[np.ndarray], progress: Callable[[float], None] | None, are_sound: bool = False
) -> Iterator[np.ndarray]:
    """The windows, each checked before it is played; WorkloadError for one that is no stream or begins too early.

    are_sound: the rows are known to be right, and only the windows' order is looked at.
    """
    last_ns = 0
    for window in windows:
        if not are_sound:
            check_stream(window)
        if len(window):
            if window["arrival_ns"][0] < last_ns:
                raise WorkloadError(f"a window begins at {window['arrival_ns'][0]} ns, before the last request at {last_ns} ns")
            last_ns = int(window["arrival_ns"][-1])
            if last_ns > MOST_NS:
                raise WorkloadError(f"a request arrives at {last_ns} ns: expected at most {MOST_NS}, some 73 years")
        yield window
        if progress is not None:
            progress(last_ns / 1e9)
