"""What a cluster needs of the traffic that it is to play: an open loop or a closed one."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np


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
