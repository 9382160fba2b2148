"""All clients through a piece of time: their arrivals one client after the other, then all in the order of time.

An arrival is one int64, the nanoseconds since the piece began << EVENT_BITS | the number of its event, so that sorting the
numbers sorts the arrivals and leaves those at one instant in the order of clients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workloads.jit import compiler

from .gaps import gap
from .numbers import Number

entry, kernel, _ = compiler(__name__)

EVENT_BITS = 23  # 8 million events in a piece; the 40 bits above hold the nanoseconds of a 600 s window
_CLIENT_SHIFT = 32  # request_id = client number << 32 | sequence within the client
DIGIT_BITS = 11
_NS_PER_S = 1e9
_WINDOW_S = 600.0


@entry
def play(
    renewals: np.ndarray,
    flows: np.ndarray,
    first: int,
    begin_ns: int,
    until_ns: int,
    last_ns: int,
    times: np.ndarray,
    events: np.ndarray,
    filled: int,
) -> tuple[int, int]:
    """Clients from `first` on send what arrives before `until_ns` in their window, from event `filled` on.

    renewals [clients] RENEWAL and flows [clients] FLOW; the waits of renewals are from the begin of the flows, and move on.
    times int64 and events EVENT hold the arrivals; those at `last_ns`, the window's end, or later are put there, those before
    begin_ns at it. Returns (clients done, events filled): with fewer clients than there are, the room was short; go on there.
    """
    for index in range(first, len(flows)):
        renewal, flow = renewals[index], flows[index]
        wait, number, sent = renewal["wait"], renewal["next_gap"], renewal["sent"]
        length = flow["length"]
        room = True
        while wait < length:
            seconds = seconds_of(flow, flow["before"] + wait)
            arrival = max(offset_ns(seconds, last_ns), begin_ns)
            room = filled < len(times)
            if arrival >= until_ns or not room:
                break
            times[filled] = ((arrival - begin_ns) << EVENT_BITS) | filled
            events[filled]["client"] = index
            events[filled]["request_id"] = (flow["client_id"] << _CLIENT_SHIFT) + sent
            filled += 1
            sent += 1
            wait += gap(renewal, number)
            number += 1
        renewal["wait"] = wait
        renewal["next_gap"] = number
        renewal["sent"] = sent
        if not room:
            return index, filled
    return len(flows), filled


@entry
def in_time_order(times: np.ndarray, spare: np.ndarray, counts: np.ndarray, digits: int) -> None:
    """Sort the first len(spare) of `times` by their `digits` lowest digits above the event number: radix sort, stable.

    counts: int64 [2048], room for counting one digit of 11 bits.
    """
    count = len(spare)
    for digit in range(digits):
        shift = EVENT_BITS + digit * DIGIT_BITS
        counts[:] = 0
        for i in range(count):
            counts[(times[i] >> shift) & (len(counts) - 1)] += 1
        place = 0
        for value in range(len(counts)):
            place, counts[value] = place + counts[value], place
        for i in range(count):
            value = (times[i] >> shift) & (len(counts) - 1)
            spare[counts[value]] = times[i]
            counts[value] += 1
        for i in range(count):
            times[i] = spare[i]


@kernel
def seconds_of(flow: Any, operational: Number) -> Number:
    """Seconds into the window at which the cumulative rate of a FLOW row is `operational`."""
    if flow["begin"] == 1.0 and flow["end"] == 1.0:
        return to_seconds(operational, flow["seconds_per_request"], flow["pause_at_s"], flow["pause_s"])
    return to_curved_seconds(
        operational, flow["seconds_per_request"], flow["pause_at_s"], flow["pause_s"], flow["begin"], flow["end"]
    )


@kernel
def to_curved_seconds(
    operational: Number, seconds_per_request: Number, pause_at_s: Number, pause_s: Number, begin: Number, end: Number
) -> Number:
    """The same where the rate goes from `begin` times its mean to `end` times it."""
    sending_s = _WINDOW_S - pause_s
    sending = sending_s * curved(np.minimum(operational * seconds_per_request / sending_s, 1.0), begin, end)
    return sending + pause_s * (sending >= pause_at_s)


@kernel
def curved(area: Number, begin: Number, end: Number) -> Number:
    """The share of a window's sending time in which `area`, of 1 in the window, is sent.

    The rate is straight from `begin` to m = 2 - (begin + end)/2 in the middle, and on to `end`. With s the time from the
    nearer edge, whose rate is a, the area from there is a s + (m - a) s², so that s = 2 x / (a + √(a² + 4 (m - a) x)).
    """
    middle = 2.0 - 0.5 * (begin + end)
    first = 1.0 * (area <= 0.25 * (begin + middle))
    a = first * begin + (1.0 - first) * end
    x = first * area + (1.0 - first) * (1.0 - area)
    root = np.sqrt(np.maximum(a * a + 4.0 * (middle - a) * x, 0.0))
    s = 2.0 * x / np.maximum(a + root, 1e-300)
    return first * s + (1.0 - first) * (1.0 - s)


@kernel
def to_seconds(operational: Number, seconds_per_request: Number, pause_at_s: Number, pause_s: Number) -> Number:
    """Seconds into a window at which its cumulative rate is `operational`: the pause, in which it is flat, comes on top."""
    sending = operational * seconds_per_request
    return sending + pause_s * (sending >= pause_at_s)


@kernel
def offset_ns(seconds: Number, last_ns: int) -> Number:
    """Whole nanoseconds, at most last_ns."""
    return np.int64(np.minimum(np.floor(seconds * _NS_PER_S), last_ns))
