"""Reader of published ServeGen client data: `chunk-N-trace.csv` and `chunk-N-dataset.json` of one pool.

The source is a folder or a `.tar.gz`, whose members are read one after the other and never extracted. Nothing is
evaluated: the tables `{tokens: probability}`, Python literals inside JSON texts, must match a strict grammar. What the
columns mean: docs/workloads.md. All mistakes of a source (ten at most) are told at once, with file and line or key.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np

from workloads.arrivals import GAMMA, WEIBULL, WINDOW_S
from workloads.errors import MOST_MISTAKES, nearest, raise_all
from workloads.fields import LENGTHS, REASON, REASON_PARTS, TEXT, count_of, is_shifted, tokens_of
from workloads.files.archive import members
from workloads.lengths import BLOCK_S
from workloads.pmf import Pmf
from workloads.stream import MAX_TOKENS, MODALITIES

TRACE = np.dtype([("count", "f8"), ("cv", "f8"), ("family", "i1"), ("shape", "f8")])

_CHUNK = re.compile(r"chunk-([0-9]{1,6})-(trace\.csv|dataset\.json)")
_FAMILIES = {"": GAMMA, "Gamma": GAMMA, "Weibull": WEIBULL}
_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?"
_PAIR = rf"[0-9]{{1,9}}: ?{_NUMBER}"
_TABLE = re.compile(rf"\{{(?:{_PAIR}(?:, ?{_PAIR})*+)?\}}")
_SHARE_PAIR = rf"{_NUMBER}: ?{_NUMBER}"
_SHARE_TABLE = re.compile(rf"\{{(?:{_SHARE_PAIR}(?:, ?{_SHARE_PAIR})*+)?\}}")
_MAX_WINDOWS = 60_000  # more than a year
_MAX_RATE_RPS = 1e6


@dataclass(frozen=True)
class ServegenData:
    """One pool as published: per client its TRACE row per window and, where present, PMFs per 6 h block and field."""

    name: str
    traces: dict[int, np.ndarray]
    lengths: dict[int, dict[int, dict[str, Pmf]]]


@dataclass
class _Reading:
    """What has been read so far, and what was wrong with it."""

    traces: dict[int, np.ndarray] = field(default_factory=dict)
    lengths: dict[int, dict[int, dict[str, Pmf]]] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    mistakes: list[str] = field(default_factory=list)


def read_servegen(path: str | os.PathLike[str]) -> ServegenData:
    """Reads a folder or a `.tar.gz` that holds one pool; clients come in numeric order. Raises WorkloadError."""
    source = Path(path)
    reading = _Reading()
    for name, content in members(source, _CHUNK):
        found = _CHUNK.fullmatch(PurePosixPath(name).name)
        if not found:
            continue
        client = int(found[1])
        reading.folders.add(str(PurePosixPath(name).parent))
        _store(reading, client, found[2], name, content)
        if len(reading.mistakes) > MOST_MISTAKES:
            break
    _check_whole(reading, source)
    folder = PurePosixPath(next(iter(reading.folders))).name or source.name.removesuffix(".tar.gz")
    return ServegenData(
        folder,
        {client: reading.traces[client] for client in sorted(reading.traces)},
        {client: reading.lengths[client] for client in sorted(reading.lengths)},
    )


def _store(reading: _Reading, client: int, kind: str, name: str, content: bytes) -> None:
    target: dict[int, Any] = reading.traces if kind == "trace.csv" else reading.lengths
    if client in target:
        reading.mistakes.append(f"{name}: client {client} occurs twice; name the folder of one pool")
        return
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        reading.mistakes.append(f"{name}: not UTF-8 text at byte {error.start}")
        return
    parse = _parse_trace if kind == "trace.csv" else _parse_dataset
    target[client] = parse(text, name, reading.mistakes)


def _check_whole(reading: _Reading, source: Path) -> None:
    """Mistakes that show only when everything has been read."""
    if not reading.mistakes and not reading.traces:
        reading.mistakes.append(f"{source}: no chunk-N-trace.csv in it")
    if not reading.mistakes and len(reading.folders) > 1:
        listed = ", ".join(sorted(reading.folders))
        reading.mistakes.append(f"{source}: holds several pools ({listed}); name the folder of one")
    if not reading.mistakes:
        reading.mistakes.extend(_misfits(reading))
    raise_all(reading.mistakes)


def _misfits(reading: _Reading) -> Iterator[str]:
    """Clients whose files do not go together."""
    rows = max(len(trace) for trace in reading.traces.values())
    for client, trace in sorted(reading.traces.items()):
        if len(trace) != rows:
            yield f"chunk-{client}-trace.csv: {len(trace)} rows, expected {rows} as in the longest"
    for client, blocks in sorted(reading.lengths.items()):
        if client not in reading.traces:
            yield f"chunk-{client}-dataset.json: there is no chunk-{client}-trace.csv"
            continue
        active = np.flatnonzero(reading.traces[client]["count"] > 0)
        for block in sorted({int(window * WINDOW_S // BLOCK_S) for window in active} - set(blocks)):
            yield f"chunk-{client}-dataset.json: key {block * BLOCK_S:.0f}: no lengths, yet the client is active then"


def _parse_trace(text: str, name: str, mistakes: list[str]) -> np.ndarray:
    """Rows `t,rate,cv,pattern,arg1,arg2` without a header; the window's scale (arg2) follows from its rate."""
    lines = text.splitlines()
    rows = np.zeros(min(len(lines), _MAX_WINDOWS), TRACE)
    if not 1 <= len(lines) <= _MAX_WINDOWS:
        mistakes.append(f"{name}: {len(lines)} rows, expected 1 to {_MAX_WINDOWS}")
        return rows
    for index, line in enumerate(lines):
        try:
            rows[index] = _parse_trace_row(line, index)
        except ValueError as error:
            mistakes.append(f"{name}, line {index + 1}: {error}")
            if len(mistakes) > MOST_MISTAKES:
                break
    return rows


def _parse_trace_row(line: str, index: int) -> tuple[float, float, int, float]:
    cells = line.split(",")
    if len(cells) != 6:
        raise ValueError(f"{len(cells)} cells, expected 6: t,rate,cv,pattern,arg1,arg2")
    start, rate, cv, shape = (_number(cells[i], column) for i, column in ((0, "t"), (1, "rate"), (2, "cv"), (4, "arg1")))
    if start != index * WINDOW_S:
        raise ValueError(f"t = {cells[0]}, expected {index * WINDOW_S:.0f} (windows of 600 s, from 0)")
    if cells[3] not in _FAMILIES:
        raise ValueError(
            f"pattern = {cells[3][:20]!r}, expected Gamma, Weibull or empty{nearest(cells[3], ('Gamma', 'Weibull'))}"
        )
    if rate > _MAX_RATE_RPS:
        raise ValueError(f"rate = {cells[1]}, expected at most {_MAX_RATE_RPS:g} requests/s")
    if rate > 0 and not (cells[3] and cv > 0 and shape > 0):
        raise ValueError("an active window needs a pattern, and cv and arg1 above 0")
    return round(rate * WINDOW_S), cv, _FAMILIES[cells[3]], shape


def _number(cell: str, column: str) -> float:
    if not re.fullmatch(_NUMBER, cell.strip()):
        raise ValueError(f"{column} = {cell[:20]!r}, expected a number of at least 0")
    return float(cell)


def _parse_dataset(text: str, name: str, mistakes: list[str]) -> dict[int, dict[str, Pmf]]:
    """{block: {field: PMF}}, without the empty blocks and placeholders in which the client has no traffic."""
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        mistakes.append(f"{name}: not JSON: {error}")
        return {}
    if not isinstance(content, dict):
        mistakes.append(f"{name}: expected an object of blocks")
        return {}
    blocks = {}
    for key, fields in content.items():
        try:
            start = _block_start(key)
            pmfs = _parse_lengths(fields)
        except ValueError as error:
            mistakes.append(f"{name}, key {key[:20]!r}: {error}")
            continue
        if not all(pmf.is_empty for pmf in pmfs.values()):
            blocks[start] = {name: pmf if is_shifted(name) else pmf.at_least_one() for name, pmf in pmfs.items()}
    return blocks


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def _block_start(key: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", key) or int(key) % BLOCK_S:
        raise ValueError(f"expected the begin of a 6 h block, a multiple of {BLOCK_S:.0f}")
    return int(int(key) // BLOCK_S)


def _parse_lengths(fields: Any) -> dict[str, Pmf]:
    """PMFs by field of fields.py, as published: counts and shares are not shifted yet."""
    if isinstance(fields, dict) and "text_tokens" in fields and "input_tokens" not in fields:
        return _parse_multimodal(fields)
    pmfs = {name: _parse_field(fields, name) for name in LENGTHS}
    if "reason_ratio" in fields:
        pmfs[REASON] = _parse_field(fields, "reason_ratio", parse_share_table)
    return pmfs


def _parse_multimodal(fields: dict[str, Any]) -> dict[str, Pmf]:
    """Text, answer, and the modalities that there are; one whose items are all none is none."""
    pmfs = {name: _parse_field(fields, name) for name in (TEXT, "output_tokens")}
    for modality in MODALITIES:
        count, tokens = _parse_field(fields, count_of(modality)), _parse_field(fields, tokens_of(modality))
        if not count.is_empty:
            pmfs |= {count_of(modality): count, tokens_of(modality): tokens.at_least_one()}
    return pmfs


def _parse_field(fields: Any, name: str, parse: Callable[[Any], Pmf] | None = None) -> Pmf:
    if not isinstance(fields, dict) or name not in fields:
        known = ", ".join(fields) if isinstance(fields, dict) else type(fields).__name__
        hint = nearest(name, fields) if isinstance(fields, dict) else ""
        raise ValueError(f"expected a field {name}, found {known[:100]}{hint}")
    try:
        return (parse or parse_table)(fields[name])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def parse_table(text: Any) -> Pmf:
    """The PMF of a text `{4: 7.2e-05, 5: 0.0016}`. Raises ValueError for anything else, code above all."""
    values, probabilities = _parse_pairs(text, _TABLE, "{tokens: probability}")
    if len(values) and values[-1] > MAX_TOKENS:
        raise ValueError(f"expected tokens of at most {MAX_TOKENS}")
    return Pmf(values.astype(np.int64), probabilities)


def parse_share_table(text: Any) -> Pmf:
    """The PMF of a text `{0.0: 0.1, 0.25: 0.9}` of shares, in whole 501sts. Raises ValueError for anything else."""
    shares, probabilities = _parse_pairs(text, _SHARE_TABLE, "{share: probability}")
    if len(shares) and shares[-1] > 1.0:
        raise ValueError(f"expected shares of at most 1, got {shares[-1]:g}")
    values, inverse = np.unique(np.rint(shares * REASON_PARTS).astype(np.int64), return_inverse=True)
    return Pmf(values, np.bincount(inverse, probabilities, len(values)))


def _parse_pairs(text: Any, grammar: re.Pattern[str], expected: str) -> tuple[np.ndarray, np.ndarray]:
    """Ascending keys and probabilities above 0 that sum to 1, or none at all."""
    if not isinstance(text, str) or not grammar.fullmatch(text):
        raise ValueError(f"expected a table {expected}, got {str(text)[:40]!r}")
    flat = np.array(json.loads("[" + text[1:-1].replace(":", ",") + "]"), np.float64)
    keys, probabilities = flat[0::2], flat[1::2]
    if np.any(np.diff(keys) <= 0):
        raise ValueError("expected ascending keys")
    total = math.fsum(probabilities.tolist())
    if len(keys) and abs(total - 1.0) > 1e-6:
        raise ValueError(f"the probabilities sum to {total:.9g}, expected 1")
    return keys[probabilities > 0.0], probabilities[probabilities > 0.0]
