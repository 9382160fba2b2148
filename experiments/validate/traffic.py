"""The requests of a setting: its load as a closed loop or a stream, with the part of the prompt that was cached."""

import numpy as np

from experiments.validate.point import Setting
from workloads import SEGMENTS, Stream, WorkloadError
from workloads.closed import Concurrency, concurrency
from workloads.numerics import Purpose, log, stream_key, uniforms
from workloads.stream import LONGEST_S, NS_PER_S, new_rows

ROUNDS = 10
"""Requests of a closed loop for each one in flight, where a point does not say how many there were."""
OPEN_REQUESTS = 2_000
"""Requests of an open loop, where a point does not say."""
SATURATED_REQUESTS = 10_000
"""Requests sent at once to saturate, where a point does not say: some ten times what an instance seats."""


def traffic_of(setting: Setting, seed: int) -> "Concurrency | Stream":
    """What is sent. `setting` has fixed lengths and a load; `seed` is of Poisson arrivals alone."""
    assert setting.input_tokens is not None and setting.output_tokens is not None
    n = int(setting.load or 0)
    if setting.load_kind == "closed_concurrency":
        count = setting.requests or ROUNDS * n
        loop = concurrency(n, setting.input_tokens, setting.output_tokens, requests=count)
        pieces = _pieces(setting, count)
        return CachedLoop(loop, pieces) if len(pieces) else loop
    return _stream(setting, _arrivals_ns(setting, seed))


class CachedLoop(Concurrency):
    """A closed loop whose prompts begin alike: every request has the next pair of `segments`, the shared piece and its own."""

    def __init__(self, loop: Concurrency, segments: np.ndarray):
        super().__init__(loop.n, loop.input_tokens, loop.output_tokens, loop.duration_s, loop.requests)
        self.segments = segments
        self._named = 0

    def first(self) -> np.ndarray:
        """The rows of time 0, one per slot."""
        self._named = 0
        return super().first()

    def _rows(self, count: int) -> np.ndarray:
        rows = super()._rows(count)
        rows["segments_start"] = 2 * np.arange(self._named, self._named + count)
        rows["segments_count"] = 2
        self._named += count
        return rows


def _stream(setting: Setting, arrival_ns: np.ndarray) -> Stream:
    rows = new_rows(len(arrival_ns))
    rows["arrival_ns"] = arrival_ns
    rows["request_id"] = np.arange(len(rows))
    rows["input_tokens"] = setting.input_tokens
    rows["output_tokens"] = rows["max_tokens"] = setting.output_tokens
    pieces = _pieces(setting, len(rows))
    if len(pieces):
        rows["segments_start"], rows["segments_count"] = 2 * np.arange(len(rows)), 2
    duration_s = max(int(arrival_ns[-1]), 1) / NS_PER_S
    return Stream(duration_s, lambda: (rows,), segments=pieces)


def _arrivals_ns(setting: Setting, seed: int) -> np.ndarray:
    """When requests arrive: all at once, or at a rate, the first after one gap. WorkloadError for a run of years."""
    if setting.load_kind != "poisson_rate":
        at_once = {"single": 1, "static_batch": int(setting.load or 0), "saturated": setting.requests or SATURATED_REQUESTS}
        return np.zeros(at_once[setting.load_kind], np.int64)
    assert setting.load is not None
    number = np.arange(1, (setting.requests or OPEN_REQUESTS) + 1)
    if setting.arrivals == "poisson":
        number = np.cumsum(-log(uniforms(stream_key(seed, 0, Purpose.GAP), number)))
    arrival_s = number / setting.load
    if arrival_s[-1] > LONGEST_S:
        raise WorkloadError(f"at {setting.load:g} requests/s its requests would arrive over more than {LONGEST_S:,} s")
    return np.rint(arrival_s * NS_PER_S).astype(np.int64)


def _pieces(setting: Setting, requests: int) -> np.ndarray:
    """SEGMENTS of prompts of which a share is the same text for all; empty where nothing was cached.

    At least one token is a prompt's own, as vLLM computes the last one even of a prompt it has seen.
    """
    assert setting.input_tokens is not None
    shared = min(round(setting.cached_prompt_frac * setting.input_tokens), setting.input_tokens - 1)
    if shared < 1:
        return np.empty(0, SEGMENTS)
    pieces = np.zeros(2 * requests, SEGMENTS)
    pieces["tokens"][0::2], pieces["tokens"][1::2] = shared, setting.input_tokens - shared
    pieces["segment_id"][1::2] = np.arange(1, requests + 1)
    return pieces
