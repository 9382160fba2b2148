"""Routers: which instance gets a request.

A router has one method, `choose(head, views) -> index`. `head` is what may be known of the request; `views[i]` says how
instance i stands at this moment. Ties go to the lowest instance id. Randomness comes from `head.coin` alone, so that the
same request flips the same coin in every what-if.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from sim.engine import ClusterError
from sim.request import RequestHead


class InstanceView(NamedTuple):
    """An instance as a router sees it."""

    instance_id: int
    waiting: int  # requests in its queue
    running: int  # requests that hold KV blocks
    free_blocks: int
    usable_blocks: int

    @property
    def requests(self) -> int:
        """All that are there."""
        return self.waiting + self.running


class Views(Sequence[InstanceView]):
    """The instances as routers see them, each looked at when it is asked for."""

    def __init__(self, instances: Sequence[Any]):
        self._instances = instances

    def __len__(self) -> int:
        return len(self._instances)

    def __getitem__(self, index):
        instance = self._instances[index]
        scheduler, kv = instance.scheduler, instance.kv
        return InstanceView(index, len(scheduler.waiting), len(scheduler.running), kv.free_blocks, kv.usable_blocks)


class Router(Protocol):
    """What a cluster needs of a router."""

    def choose(self, head: RequestHead, views: Sequence[InstanceView]) -> int:
        """Index of the instance that gets the request."""
        ...


def new_router(router: Any) -> Router:
    """A router at the beginning of a run: of a name of ROUTERS, or a copy of an object, which may remember things."""
    return ROUTERS[router]() if isinstance(router, str) else copy.deepcopy(router)


def checked_choice(router: Router, head: RequestHead, views: Sequence[InstanceView]) -> int:
    """What the router chooses; ClusterError where that is no instance."""
    index = router.choose(head, views)
    if not 0 <= index < len(views):
        raise ClusterError(f"router {type(router).__name__} chose instance {index!r}: expected 0 to {len(views) - 1}")
    return index


class RoundRobin:
    """Each in turn, whatever its load."""

    def __init__(self) -> None:
        self.next = 0

    def choose(self, head: RequestHead, views: Sequence[InstanceView]) -> int:
        """The one after the last choice."""
        index = self.next % len(views)
        self.next = index + 1
        return index


class Random:
    """Any of them, by the request's coin."""

    def choose(self, head: RequestHead, views: Sequence[InstanceView]) -> int:
        """Uniform over the instances."""
        return head.coin * len(views) >> 64


class PowerOfTwo:
    """The less loaded of two different ones drawn at random (Mitzenmacher, IEEE TPDS 12(10), 2001)."""

    def choose(self, head: RequestHead, views: Sequence[InstanceView]) -> int:
        """The one with fewer requests of the two that the coin names."""
        n = len(views)
        if n == 1:
            return 0
        first = (head.coin >> 32) * n >> 32
        second = (head.coin & 0xFFFFFFFF) * (n - 1) >> 32
        second += second >= first
        first, second = sorted((first, second))
        return second if views[second].requests < views[first].requests else first


class ShortestQueue:
    """The one with the fewest requests, waiting and running."""

    def choose(self, head: RequestHead, views: Sequence[InstanceView]) -> int:
        """The least loaded of all."""
        return min(range(len(views)), key=lambda i: views[i].requests)


ROUTERS: dict[str, Callable[[], Router]] = {
    "round_robin": RoundRobin,
    "random": Random,
    "power_of_two": PowerOfTwo,
    "shortest_queue": ShortestQueue,
}
