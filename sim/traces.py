"""What each iteration of a compiled run computed for whom, told to a probe as the reference engine tells it."""

from typing import NamedTuple

import numpy as np

from sim.kernels import layout as at
from sim.probes import Probe


class TracedRequest(NamedTuple):
    """What is known of a request in a trace."""

    request_id: int


class TracedBatch(NamedTuple):
    """A batch as `sim.batch.Batch` has it, without its sums: requests and their tokens, in order; who lost its seat for it;
    (request, index of its item) for what was encoded."""

    requests: list[TracedRequest]
    tokens: list[int]
    preempted: list[TracedRequest]
    encoded: list[tuple[TracedRequest, int]]


class Traces:
    """Lines of the kernels' trace that have not been told yet."""

    def __init__(self, probe: Probe):
        self._probe = probe
        self._lines: list[np.ndarray] = []

    def add(self, lines: np.ndarray) -> None:
        """Lines in the order in which an instance wrote them; the array may be used again."""
        self._lines.append(lines.copy())

    def tell(self, until_ns: int) -> None:
        """Tell all iterations that ended by then, by end and instance."""
        if not self._lines:
            return
        lines = np.concatenate(self._lines)
        lines = lines[np.lexsort((lines[:, at.TRACE_INSTANCE], lines[:, at.TRACE_END]))]
        count = int(np.searchsorted(lines[:, at.TRACE_END], until_ns, "right"))
        told, self._lines = lines[:count], [lines[count:]]
        key = told[:, [at.TRACE_END, at.TRACE_INSTANCE]]
        edges = np.flatnonzero(np.any(key[1:] != key[:-1], axis=1)) + 1
        for part in np.split(told, edges):
            if len(part):
                first = part[0].tolist()
                batch = _batch(part.tolist())
                self._probe.step_ended(first[at.TRACE_INSTANCE], first[at.TRACE_START], first[at.TRACE_END], batch)


def _batch(lines: list[list[int]]) -> TracedBatch:
    batch = TracedBatch([], [], [], [])
    for line in lines:
        request, kind, value = TracedRequest(line[at.TRACE_REQUEST]), line[at.TRACE_KIND], line[at.TRACE_VALUE]
        if kind == at.COMPUTED:
            batch.requests.append(request)
            batch.tokens.append(value)
        elif kind == at.PREEMPTED:
            batch.preempted.append(request)
        else:
            batch.encoded.append((request, value))
    return batch
