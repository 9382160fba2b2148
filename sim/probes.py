"""What watches a run and changes nothing: the tables RECORD and STEP as they grow, and those who take their rows."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from sim.request import RECORD, STEP

CHUNK_ROWS = 1 << 16


class Sink(Protocol):
    """Whoever wants the RECORD rows of a run while it goes on. The arrays are its to keep, not to change."""

    def add(self, records: np.ndarray) -> None:
        """Requests that have left, in order of leaving: CHUNK_ROWS of them, at the end fewer."""
        ...

    def close(self) -> None:
        """The run has ended, well or not; nothing comes after."""
        ...


class Probe(Protocol):
    """What a user's own observer looks like."""

    def step_ended(self, instance_id: int, start_ns: int, end_ns: int, batch: Any) -> None:
        """An iteration ended; `batch` is a `sim.scheduler.Batch`."""
        ...


class Watch(Protocol):
    """Who looks at the instances at equal intervals of simulated time, for as long as requests arrive."""

    period_s: float

    def look(self, now_ns: int, views: Sequence[Any]) -> None:
        """The instances as routers see them (`sim.router.InstanceView`), after what ended at this instant."""
        ...


class Looks:
    """When a watch looks: at whole multiples of its period, up to an arrival that is known to come."""

    def __init__(self, watch: Watch | None):
        self._watch = watch
        self._period_ns = round(watch.period_s * 1e9) if watch is not None else 0
        self._next_ns = self._period_ns
        if watch is not None and self._period_ns < 1:
            raise ValueError(f"a watch with a period of {watch.period_s!r} s: at least a nanosecond is needed")

    def until(self, arrival_ns: int) -> Iterator[int]:
        """The instants not after an arrival at which to look, each once."""
        while self._watch is not None and self._next_ns <= arrival_ns:
            self._next_ns += self._period_ns
            yield self._next_ns - self._period_ns

    def look(self, now_ns: int, views: Sequence[Any]) -> None:
        """Let the watch look."""
        assert self._watch is not None
        self._watch.look(now_ns, views)


class Rows:
    """Rows of a dtype, gathered one by one or many at once and handed on in arrays of CHUNK_ROWS, whoever made them."""

    __slots__ = ("_chunk", "_fill", "_pending", "dtype", "hand_on")

    def __init__(self, dtype: np.dtype, hand_on: Callable[[np.ndarray], None]):
        self.dtype = dtype
        self.hand_on = hand_on
        self._pending: list[tuple] = []
        self._chunk = np.empty(0, dtype)
        self._fill = 0

    def append(self, row: tuple) -> None:
        """One more row."""
        self._pending.append(row)
        if len(self._pending) >= CHUNK_ROWS:
            self._pack()

    def extend(self, rows: np.ndarray) -> None:
        """Many more rows, copied: the array may be used again."""
        self._pack()
        self._fill_up(rows)

    def flush(self) -> None:
        """Hand on what is left; the last thing to be done."""
        self._pack()
        if self._fill:
            self.hand_on(self._chunk[: self._fill])
        self._chunk, self._fill = np.empty(0, self.dtype), 0

    def _pack(self) -> None:
        if self._pending:
            self._fill_up(np.array(self._pending, self.dtype))
            self._pending.clear()

    def _fill_up(self, rows: np.ndarray) -> None:
        while len(rows):
            if not len(self._chunk):
                self._chunk = np.empty(CHUNK_ROWS, self.dtype)
            taken = rows[: CHUNK_ROWS - self._fill]
            self._chunk[self._fill : self._fill + len(taken)] = taken
            self._fill += len(taken)
            rows = rows[len(taken) :]
            if self._fill == CHUNK_ROWS:
                full, self._chunk, self._fill = self._chunk, np.empty(0, self.dtype), 0
                self.hand_on(full)


class Kept:
    """A sink that keeps everything."""

    def __init__(self, dtype: np.dtype):
        self._chunks = [np.empty(0, dtype)]

    def add(self, rows: np.ndarray) -> None:
        """Keep them."""
        self._chunks.append(rows)

    def close(self) -> None:
        """Nothing to be done."""

    def array(self) -> np.ndarray:
        """All rows, in the order in which they came."""
        return np.concatenate(self._chunks)


class Tables:
    """Where an engine puts what happens: rows of requests go to a tally and to sinks, rows of steps are kept if asked for.

    `gaps` counts token gaps by histogram bin, `step_count` the iterations, `paths` those on each path of an engine. An
    engine adds rows one by one or in arrays; sinks and tables see the same chunks either way. Of arrays the tally, to which
    order is nothing, is told at once; where there are no sinks they need not be in order.
    """

    def __init__(self, keep_steps: bool, tally: Sink, sinks: Sequence[Sink] = ()):
        self.keep_steps = keep_steps
        self.wants_order = bool(sinks)
        self.gaps: dict[int, int] = {}
        self.step_count = 0
        self.paths: dict[str, int] = {}
        self._tally = tally
        self._sinks = sinks
        self._kept_steps = Kept(STEP)
        self._requests = Rows(RECORD, self._hand_on)
        self._single = Rows(RECORD, tally.add)
        self._steps = Rows(STEP, self._kept_steps.add)

    def request_left(self, row: tuple) -> None:
        """A request finished or was rejected: its RECORD row."""
        self._single.append(row)
        if self._sinks:
            self._requests.append(row)

    def requests_left(self, rows: np.ndarray) -> None:
        """The same of many, in order of leaving where somebody wants it."""
        self._tally.add(rows)
        if self._sinks:
            self._requests.extend(rows)

    def step_ended(self, row: tuple) -> None:
        """An iteration ended: its STEP row, where steps are kept."""
        self._steps.append(row)

    def steps_ended(self, rows: np.ndarray) -> None:
        """The same of many, in order of their ends."""
        self._steps.extend(rows)

    def flush(self) -> None:
        """The last row has come: hand on what is left."""
        self._single.flush()
        self._requests.flush()
        self._steps.flush()

    def steps(self) -> np.ndarray:
        """The STEP rows kept so far, in the order in which iterations ended; all of them after `flush`."""
        return self._kept_steps.array()

    def _hand_on(self, records: np.ndarray) -> None:
        for sink in self._sinks:
            sink.add(records)
