"""The requests of a setting: its load as a closed loop or a stream, with the part of the prompt that was cached."""

import numpy as np

from experiments.validate.harness import harness_of
from experiments.validate.point import Setting
from workloads import SEGMENTS, Stream, WorkloadError
from workloads.closed import Concurrency
from workloads.numerics import Purpose, log, stream_key, uniforms
from workloads.stream import LONGEST_S, NS_PER_S, new_rows

ROUNDS = 10
"""Requests of a closed loop for each one in flight, where a point does not say how many there were."""
OPEN_REQUESTS = 2_000
"""Requests of an open loop, where a point does not say."""
SATURATED_REQUESTS = 3_000
"""Requests sent at once to saturate, where neither a point nor its harness says."""


def traffic_of(setting: Setting, seed: int) -> "ClientLoop | Stream":
    """What is sent. `setting` has lengths and a load; `seed` is of Poisson arrivals and of lengths that vary."""
    if setting.load_kind == "closed_concurrency":
        n = int(setting.load or 0)
        count = setting.requests or ROUNDS * n
        requests = _requests(setting, count, seed)
        return ClientLoop(n, requests, _named(setting, requests))
    return _stream(setting, _arrivals_ns(setting, seed), seed)


class ClientLoop(Concurrency):
    """A closed loop that sends the rows of `requests` one after another; `segments` name their text."""

    def __init__(self, n: int, requests: np.ndarray, segments: np.ndarray):
        super().__init__(n, int(requests["input_tokens"].max()), int(requests["output_tokens"].max()), None, len(requests))
        self.segments = segments
        self._requests, self._taken = requests, 0

    def first(self) -> np.ndarray:
        """The rows of time 0, one per slot."""
        self._taken = 0
        return super().first()

    def _rows(self, count: int) -> np.ndarray:
        self._taken += count
        return self._requests[self._taken - count : self._taken].copy()


def _requests(setting: Setting, count: int, seed: int) -> np.ndarray:
    """Rows without arrivals: lengths as the harness has them."""
    assert setting.input_tokens is not None and setting.output_tokens is not None
    rows = new_rows(count)
    least = harness_of(setting).shortest_frac
    for name, longest, purpose in (
        ("input_tokens", setting.input_tokens, Purpose.INPUT),
        ("output_tokens", setting.output_tokens, Purpose.OUTPUT),
    ):
        shortest = max(1, int(longest * least))
        share = uniforms(stream_key(seed, 0, purpose), np.arange(count)) if shortest < longest else np.zeros(count)
        rows[name] = longest - np.floor(share * (longest - shortest + 1)).astype(np.int64)
    rows["max_tokens"] = rows["output_tokens"]
    return rows


def _stream(setting: Setting, arrival_ns: np.ndarray, seed: int) -> Stream:
    rows = _requests(setting, len(arrival_ns), seed)
    rows["arrival_ns"] = arrival_ns
    rows["request_id"] = np.arange(len(rows))
    duration_s = max(int(arrival_ns[-1]), 1) / NS_PER_S
    return Stream(duration_s, lambda: (rows,), segments=_named(setting, rows))


def _arrivals_ns(setting: Setting, seed: int) -> np.ndarray:
    """When requests arrive: all at once, or at a rate, the first after one gap. WorkloadError for a run of years."""
    if setting.load_kind != "poisson_rate":
        at_once = {"single": 1, "static_batch": int(setting.load or 0), "saturated": _saturating(setting)}
        return np.zeros(at_once[setting.load_kind], np.int64)
    assert setting.load is not None
    number = np.arange(1, (setting.requests or OPEN_REQUESTS) + 1)
    if setting.arrivals == "poisson":
        number = np.cumsum(-log(uniforms(stream_key(seed, 0, Purpose.GAP), number)))
    arrival_s = number / setting.load
    if arrival_s[-1] > LONGEST_S:
        raise WorkloadError(f"at {setting.load:g} requests/s its requests would arrive over more than {LONGEST_S:,} s")
    return np.rint(arrival_s * NS_PER_S).astype(np.int64)


def _saturating(setting: Setting) -> int:
    return setting.requests or harness_of(setting).saturated_requests or SATURATED_REQUESTS


def _named(setting: Setting, rows: np.ndarray) -> np.ndarray:
    """SEGMENTS of prompts of which a share is the same text for all, written into the rows; empty where nothing was cached.

    At least one token is a prompt's own, as vLLM computes the last one even of a prompt it has seen.
    """
    shared = np.minimum(np.rint(setting.cached_prompt_frac * rows["input_tokens"]), rows["input_tokens"] - 1).astype(np.int64)
    if shared.max(initial=0) < 1:
        return np.empty(0, SEGMENTS)
    pieces = np.zeros(2 * len(rows), SEGMENTS)
    pieces["tokens"][0::2], pieces["tokens"][1::2] = shared, rows["input_tokens"] - shared
    pieces["segment_id"][1::2] = np.arange(1, len(rows) + 1)
    rows["segments_start"], rows["segments_count"] = 2 * np.arange(len(rows)), 2
    return pieces
