"""What a format cannot hold of a stream, in sentences: found while the rows pass on their way into the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from workloads.stream import Stream
from workloads.traces.format import FEATURES, Format

_MS: Final = 1_000_000
_TOLD: Final = {
    "request_ids": "request ids: requests are numbered from 0",
    "clients": "clients: all requests are of one client",
    "sessions": "sessions and turns: every request stands alone",
    "models": "models: all requests are for one",
    "max_tokens": "max_tokens: it reads back as the true answer length",
    "priority": "priorities: all are 0",
    "reason_tokens": "thinking tokens: answers keep their length",
    "segments": "what prompts share: each is private text",
    "items": "images, audio and video: their tokens count as text",
    "nanoseconds": "fractions of a millisecond: arrivals are rounded to it",
    "duration": "the duration: it ends with the first whole second after the last arrival",
}


class Watched:
    """A stream that notes, while somebody goes through it, which FEATURES its rows have."""

    def __init__(self, stream: Stream, target: Format) -> None:
        self._source, self._target = stream, target
        self._seen: set[str] = set()
        self._rows = self._last_ns = 0
        # How many of the first pieces of SEGMENTS do not fill the format's blocks.
        self._cut = np.concatenate(([0], np.cumsum(stream.segments["tokens"] % (target.block_tokens or 1) != 0)))

    def stream(self) -> Stream:
        """The stream to hand to a writer."""
        source = self._source
        return Stream(source.duration_s, self._blocks, source.description, lambda: source.segments, lambda: source.items)

    def losses(self) -> list[str]:
        """A sentence for each feature that the stream has and the format does not hold."""
        seen, target = set(self._seen), self._target
        if self._source.duration_s != float(self._last_ns // 1_000_000_000 + 1):
            seen.add("duration")
        told = [f"{target.name} has no place for {_TOLD[name]}" for name in FEATURES if name in seen - target.holds]
        block = target.block_tokens
        if "cut" in seen:
            told.append(
                f"{target.name} tells what prompts share in whole blocks of {block} tokens: shorter common ends are lost"
            )
        return told

    def _blocks(self) -> Iterator[np.ndarray]:
        self._rows = 0
        for rows in self._source.blocks():
            if len(rows):
                self._seen |= {name for name, has in _HAS.items() if name not in self._seen and has(rows)}
                if np.any(rows["request_id"] != np.arange(self._rows, self._rows + len(rows))):
                    self._seen.add("request_ids")
                named = rows[rows["segments_count"] > 0]
                start, last = named["segments_start"], named["segments_start"] + named["segments_count"] - 1
                if np.any(self._cut[last] > self._cut[start]):
                    self._seen.add("cut")
                self._rows += len(rows)
                self._last_ns = int(rows["arrival_ns"][-1])
            yield rows


_HAS: dict[str, Callable[[np.ndarray], bool]] = {
    "clients": lambda rows: bool(np.any(rows["client_id"])),
    "sessions": lambda rows: bool(np.any(rows["session_id"] != -1) or np.any(rows["turn"] != 1)),
    "models": lambda rows: bool(np.any(rows["model"])),
    "max_tokens": lambda rows: bool(np.any(rows["max_tokens"] != rows["output_tokens"])),
    "priority": lambda rows: bool(np.any(rows["priority"])),
    "reason_tokens": lambda rows: bool(np.any(rows["reason_tokens"])),
    "segments": lambda rows: bool(np.any(rows["segments_count"])),
    "items": lambda rows: bool(np.any(rows["items_count"])),
    "nanoseconds": lambda rows: bool(np.any(rows["arrival_ns"] % _MS)),
}
