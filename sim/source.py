"""What a cluster needs of the traffic that it is to play: an open loop or a closed one."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from workloads import WorkloadError, check_stream


@runtime_checkable
class Source(Protocol):
    """A closed loop: what its clients send first, and what follows a request that finished."""

    duration_s: float | None

    def first(self) -> np.ndarray:
        """STREAM rows, by (arrival_ns, request_id)."""
        ...

    def follow(self, finish_ns: int, request_id: int) -> np.ndarray | None:
        """The STREAM row that follows, not before `finish_ns`; None where nothing does."""
        ...


class Stream(Protocol):
    """An open loop: requests that arrive whatever the cluster does."""

    duration_s: float

    def windows(self) -> Iterable[np.ndarray]:
        """STREAM rows in windows of time, by (arrival_ns, request_id)."""
        ...


def checked(windows: Iterable[np.ndarray], progress: Callable[[float], None] | None) -> Iterator[np.ndarray]:
    """The windows, each checked before it is played; WorkloadError for one that is no stream or begins too early."""
    last_ns = 0
    for window in windows:
        check_stream(window)
        if len(window):
            if window["arrival_ns"][0] < last_ns:
                raise WorkloadError(f"a window begins at {window['arrival_ns'][0]} ns, before the last request at {last_ns} ns")
            last_ns = int(window["arrival_ns"][-1])
        yield window
        if progress is not None:
            progress(last_ns / 1e9)
