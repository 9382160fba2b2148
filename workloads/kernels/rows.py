"""STREAM rows of the arrivals of a piece, and how long each prompt and answer is."""

from __future__ import annotations

import numpy as np

from workloads.jit import compiler

from .numbers import Number, exp, power, uniform
from .play import EVENT_BITS

entry, kernel, _ = compiler(__name__)

_SEQUENCE = (1 << 32) - 1  # the part of a request_id that counts within the client
_EVENT = (1 << EVENT_BITS) - 1


@entry
def fill_rows(rows: np.ndarray, blank: np.ndarray, begin_ns: int, times: np.ndarray, events: np.ndarray) -> None:
    """Row i is blank[0] with the arrival times[i], counted from begin_ns, and what its EVENT says."""
    for i in range(len(rows)):
        event = events[times[i] & _EVENT]
        rows[i] = blank[0]
        rows[i]["arrival_ns"] = begin_ns + (times[i] >> EVENT_BITS)
        rows[i]["request_id"] = event["request_id"]
        rows[i]["client_id"] = event["request_id"] >> 32
        rows[i]["input_tokens"] = event["input_tokens"]
        rows[i]["output_tokens"] = event["output_tokens"]


@entry
def fill_lengths(
    lengths: np.ndarray,
    events: np.ndarray,
    keys: np.ndarray,
    sketches: np.ndarray,
    tails: np.ndarray,
    probabilities: np.ndarray,
    guide: np.ndarray,
) -> None:
    """Tokens of every EVENT go to the begin of `lengths`, at the uniform of its sequence number, from its client's sketch.

    keys: uint64 [clients]. sketches: float32 [clients, 97], ln(tokens + 1) at the 97 probabilities. tails: float64 [clients],
    the exponent of the last segment.
    guide: int64, one for each equal part of [0, 1): the segment between two probabilities in which the part begins.
    """
    last = len(probabilities) - 2
    for i in range(len(events)):
        client = events[i]["client"]
        u = uniform(keys[client], events[i]["request_id"] & _SEQUENCE)
        segment = guide[int(u * len(guide))]
        while segment < last and u >= probabilities[segment + 1]:
            segment += 1
        fraction = fraction_of(u, probabilities[segment], probabilities[segment + 1])
        if segment == last:
            fraction = power(fraction, tails[client])
        lengths[i] = tokens(sketches[client, segment], sketches[client, segment + 1], fraction)


@kernel
def fraction_of(u: Number, low: Number, high: Number) -> Number:
    """Where u lies between low (0) and high (1)."""
    return (u - low) / (high - low)


@kernel
def tokens(low: Number, high: Number, fraction: Number) -> Number:
    """Whole tokens, at least 1, at a fraction between two values of ln(tokens + 1)."""
    start = np.float64(low)
    return np.maximum(np.rint(exp(start + fraction * (np.float64(high) - start)) - 1.0), 1.0)
