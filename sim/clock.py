"""The order of things that happen at one instant, given to SimPy as priorities.

At the same nanosecond iterations end first, by instance id; then who watches or controls the cluster looks at it; then
requests arrive, by (arrival, request id), each routed before the next; then idle instances form their next iteration, by
id. So what a router sees, and who makes it into a batch, never depends on the order in which events were put into the
calendar.
"""

from typing import Any

import simpy

# Classes of DESIGN section 6; what is between them (transfers, boots, controllers) has its place kept free.
STEP_ENDS = 1 << 20
CONTROL = 3 << 20
ARRIVALS = 4 << 20
STEP_BEGINS = 5 << 20


class Clock(simpy.Environment):
    """SimPy's environment with a clock of integer nanoseconds that starts at zero."""

    def __init__(self) -> None:
        super().__init__(initial_time=0)

    @property
    def now_ns(self) -> int:
        """The time."""
        return self._now  # type: ignore[return-value]

    def is_busy_now(self) -> bool:
        """Whether something else is due at this instant."""
        return bool(self._queue) and self._queue[0][0] <= self._now


class Moment(simpy.Event):
    """An event `delay_ns` from now with a place in the order of its instant (SimPy's Timeout has no priority)."""

    __slots__ = ()

    def __init__(self, env: Clock, delay_ns: int, priority: int, value: Any = None):
        self.env = env
        self.callbacks = []
        self._value = value
        self._ok = True
        env.schedule(self, priority, delay_ns)  # type: ignore[arg-type]
