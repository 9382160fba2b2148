"""A closed source: N requests always in flight, as a load generator with a concurrency limit sends them.

Slot s sends its next request the moment its last one finishes, so arrivals follow from the cluster's speed.
request_id = slot << 32 | sequence within the slot; client_id is the slot.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from workloads.errors import WorkloadError
from workloads.stream import CLIENT_SHIFT, MAX_TOKENS, NS_PER_S, new_rows
from workloads.units import parse_duration_s

_MOST_SLOTS = 10_000_000


def concurrency(
    n: int,
    input_tokens: int,
    output_tokens: int,
    duration: float | str | None = None,
    requests: int | None = None,
) -> Concurrency:
    """N requests of fixed lengths always in flight, until `duration` has passed or `requests` in all have been sent.

    At least one of the two ends must be given. Raises WorkloadError.
    """
    _whole("concurrency", n, _MOST_SLOTS)
    _whole("input_tokens", input_tokens, MAX_TOKENS)
    _whole("output_tokens", output_tokens, MAX_TOKENS)
    if duration is None and requests is None:
        raise WorkloadError("concurrency: expected a duration, a number of requests, or both; it would never end")
    if requests is not None:
        _whole("requests", requests, 1 << 62)
    duration_s = None if duration is None else parse_duration_s(duration)
    if duration_s == 0.0:
        raise WorkloadError("duration: expected more than 0 s")
    return Concurrency(n, input_tokens, output_tokens, duration_s, requests)


@dataclass
class Concurrency:
    """What a finished request is followed by. `first()` starts a run over; `sent` counts the requests of this run."""

    n: int
    input_tokens: int
    output_tokens: int
    duration_s: float | None = None
    requests: int | None = None
    sent: int = field(default=0, init=False)

    def first(self) -> np.ndarray:
        """The STREAM rows of time 0, one per slot, in the order of slots."""
        slots = self.n if self.requests is None else min(self.n, self.requests)
        self.sent = slots
        rows = self._rows(slots)
        rows["client_id"] = np.arange(slots)
        rows["request_id"] = np.arange(slots, dtype=np.int64) << CLIENT_SHIFT
        return rows

    def follow(self, finish_ns: int, request_id: int) -> np.void | None:
        """The STREAM row that arrives when `request_id` finishes, or None where the run's end forbids another."""
        if self.duration_s is not None and finish_ns >= round(self.duration_s * NS_PER_S):
            return None
        if self.requests is not None and self.sent >= self.requests:
            return None
        self.sent += 1
        rows = self._rows(1)
        rows["arrival_ns"] = finish_ns
        rows["client_id"] = request_id >> CLIENT_SHIFT
        rows["request_id"] = request_id + 1
        return rows[0]

    @property
    def description(self) -> dict[str, object]:
        """Where the requests come from, in plain values."""
        return {
            "source": "concurrency",
            "concurrency": self.n,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "duration_s": self.duration_s,
            "requests": self.requests,
        }

    def _rows(self, count: int) -> np.ndarray:
        rows = new_rows(count)
        rows["input_tokens"] = self.input_tokens
        rows["output_tokens"] = self.output_tokens
        rows["max_tokens"] = self.output_tokens
        return rows


def _whole(name: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= most:
        raise WorkloadError(f"{name}: expected a whole number from 1 to {most}, got {value!r}")
