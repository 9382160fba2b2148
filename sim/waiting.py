"""The queue of an instance: first come first served, or by priority.

Both have the same few methods: `push` an arrival, `give_back` one that was preempted, `head`, `pop`, `set_back` those that
were passed over, in their old order.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from sim.request import Request


class Waiting(Protocol):
    """What a scheduler needs of a queue."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Request]: ...

    def push(self, request: Request) -> None:
        """An arrival."""
        ...

    def give_back(self, request: Request) -> None:
        """A preempted request comes back."""
        ...

    def head(self) -> Request:
        """Whose turn it is."""
        ...

    def pop(self) -> Request:
        """Take the head out."""
        ...

    def set_back(self, requests: Sequence[Request]) -> None:
        """Put back requests that were popped and passed over."""
        ...

    def remove(self, request: Request) -> None:
        """A request leaves from the middle: it was preempted, and its last token came back after that."""
        ...


class FirstCome(deque):
    """In order of arrival; who was preempted goes to the front."""

    push = deque.append
    give_back = deque.appendleft
    pop = deque.popleft

    def head(self) -> Request:
        """The first."""
        return self[0]

    def set_back(self, requests: Sequence[Request]) -> None:
        """At the front, in their old order."""
        self.extendleft(reversed(requests))


class ByPriority:
    """The lowest (priority, arrival, request id as a text) first, wherever it comes from."""

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[int, int, str], Request]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Request]:
        return (request for _, request in sorted(self._heap, key=lambda entry: entry[0]))

    def push(self, request: Request) -> None:
        """By its rank."""
        heapq.heappush(self._heap, (request.rank, request))

    give_back = push

    def head(self) -> Request:
        """The lowest rank."""
        return self._heap[0][1]

    def pop(self) -> Request:
        """The lowest rank."""
        return heapq.heappop(self._heap)[1]

    def set_back(self, requests: Sequence[Request]) -> None:
        """By their ranks."""
        for request in requests:
            self.push(request)

    def remove(self, request: Request) -> None:
        """From wherever it stands."""
        self._heap = [entry for entry in self._heap if entry[1] is not request]
        heapq.heapify(self._heap)


POLICIES: dict[str, Callable[[], Waiting]] = {"fcfs": FirstCome, "priority": ByPriority}
