"""BurstGPT's CSV: requests to ChatGPT and GPT-4 over months, one line each, columns known by their names.

`Timestamp` is in s from midnight of the first day, `Model` a name, `Request tokens` and `Response tokens` are lengths; 0
response tokens are a failure. `Session ID`, of newer files, is empty outside conversations; its lines are turns in their
order. `Elapsed time`, `Total tokens` and `Log Type` are not kept, and nothing tells clients apart: all are client 0.
Source: HPMLL/BurstGPT, README.md; written from its documentation, no data at hand.

>>> import tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "burst.csv"
>>> _ = path.write_text('''Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
... 5,ChatGPT,472,18,490,Conversation log
... 45.5,GPT-4,1087,0,1087,API log
... 118,GPT-4,417,276,693,API log
... ''')
>>> stream = read(path)
>>> stream.collect()[["arrival_ns", "model", "input_tokens"]].tolist(), stream.description["models"]
([(0, 0, 472), (113000000000, 1, 417)], ['ChatGPT', 'GPT-4'])
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from workloads.errors import WorkloadError
from workloads.files.csv_cells import SECONDS, WHOLE, Cells, Kind, texts
from workloads.files.rows_in_chunks import MAX_ROWS
from workloads.stream import NS_PER_S, Stream
from workloads.traces.csv_log import Columns, Extra, Log, read_log
from workloads.traces.format import Format, Head

_LOG = Log("burstgpt", "Timestamp", SECONDS, "Request tokens", "Response tokens")
_MODEL, _SESSION = "Model", "Session ID"
_MOST_MODELS = 1000
_NO_SESSION = ("", "nan", "none", "null", "-1")


def read(path: str | os.PathLike[str], max_rows: int = MAX_ROWS) -> Stream:
    """The stream of a BurstGPT trace, time from its first line. Raises WorkloadError with file and line.

    `description["models"]` has the name of each `model`. A session that is no number gets one of 62 bits by BLAKE2b. What
    a session remembers is one number, some 150 bytes.
    """
    source = Path(path)
    return read_log(source, _LOG, lambda: _Pass(source).extra(), lambda start_ns: start_ns / NS_PER_S, max_rows)


class _Pass:
    """What one pass over a file has met: the models by number, and the turns of each session so far."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._models: dict[str, int] = {}
        self._turns: dict[int, int] = {}

    def extra(self) -> Extra:
        model = Kind(self._models_of_all, self._model_of, "the name of a model")
        session = Kind(_sessions_of_all, _session_of, "a session, or nothing")
        return Extra({_MODEL: model, _SESSION: session}, self._fill, self._about)

    def _model_of(self, text: str) -> int | None:
        return self._number(text) if text.strip() else None

    def _number(self, text: str) -> int:
        name = text.strip()
        if name not in self._models and len(self._models) == _MOST_MODELS:
            raise WorkloadError(f"{self._source}: more than {_MOST_MODELS} models in column {_MODEL}")
        return self._models.setdefault(name, len(self._models))

    def _models_of_all(self, cells: Cells) -> np.ndarray | None:
        names = texts(cells)
        if names is None:
            return None
        numbers = np.full(len(names), -1, np.int64)
        while len(unknown := np.flatnonzero(numbers < 0)):  # a pass for each model, in the order in which they appear
            name = names[unknown[0]]
            if not name.isascii() or not name.strip():
                return None
            numbers[names == name] = self._number(name.decode())
        return numbers

    def _fill(self, rows: np.ndarray, columns: Columns) -> None:
        if _MODEL in columns:
            rows["model"] = columns[_MODEL]
        if _SESSION not in columns:
            return
        rows["session_id"] = columns[_SESSION]
        for row in np.flatnonzero((rows["session_id"] >= 0) & (rows["output_tokens"] > 0) & (rows["input_tokens"] > 0)):
            session = int(rows["session_id"][row])
            rows["turn"][row] = self._turns[session] = self._turns.get(session, 0) + 1

    def _about(self) -> dict[str, Any]:
        return {"models": list(self._models)}


def _sessions_of_all(cells: Cells) -> np.ndarray | None:
    """Whole numbers and empty cells."""
    given = cells.end > cells.start
    sessions = np.full(len(given), -1, np.int64)
    if given.any():
        numbers = WHOLE.of_all(Cells(cells.data, cells.start[given], cells.end[given]))
        if numbers is None or numbers.min() < -1:
            return None
        sessions[given] = numbers
    return sessions


def _session_of(text: str) -> int | None:
    name = text.strip()
    if name.lower() in _NO_SESSION:
        return -1
    number = WHOLE.of_one(name.removesuffix(".0"))
    if number is not None and number >= 0:
        return number
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 2


def _looks_like(head: Head) -> bool:
    return bool({_LOG.time, _LOG.input, _LOG.output} & set(head.header))


FORMATS = (Format("burstgpt", f"columns {_LOG.time}, {_LOG.input}, {_LOG.output}", _looks_like, read, is_documented_only=True),)
