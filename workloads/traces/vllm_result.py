"""The result of `vllm bench serve --save-result --save-detailed`: a benchmark that was run, as the stream that it sent.

One JSON object. Used are the arrays `input_lens`, `output_lens`, `start_times` (s, when a request was sent), and where they
are there `queue_times` (s, how long it had waited for a slot of the client: it arrived that much earlier) and `errors`. A
request that failed has an error or no output: left out, counted and told. Measured times (`ttfts`, `itls`) are no part of
a stream. Requests need not be in order: they are sorted by arrival.
Source: vllm/benchmarks/serve.py; written from its documentation, no data at hand.

>>> import tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "result.json"
>>> _ = path.write_text('''{"backend": "vllm", "completed": 2, "input_lens": [100, 200], "output_lens": [3, 2],
... "start_times": [10.0, 11.5], "ttfts": [0.1, 0.2], "itls": [[0.05, 0.07], [0.1]]}''')
>>> read(path).collect()[["arrival_ns", "input_tokens", "output_tokens"]].tolist()
[(0, 100, 3), (1500000000, 200, 2)]
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from workloads.errors import MOST_MISTAKES, WorkloadError, raise_all
from workloads.files import unpacked
from workloads.files.coarse_clock import grid_notes
from workloads.stream import LONGEST_S, MAX_TOKENS, NS_PER_S, Stream, new_rows
from workloads.traces.format import Format, Head
from workloads.traces.json_lines import shown, unrepeated

_MOST_BYTES = 64 << 20  # json takes many times as much memory in the worst case; `generated_texts` are the bulk
_LENGTHS = ("input_lens", "output_lens")
_USED = (*_LENGTHS, "start_times", "queue_times", "errors")
_SIGNS = (b'"input_lens"', b'"total_input_tokens"', b'"request_throughput"')


def read(path: str | os.PathLike[str], max_bytes: int = _MOST_BYTES) -> Stream:
    """The stream that a benchmark sent, time from its first request. Raises WorkloadError with file and place."""
    source = Path(path)
    result = _object(source, max_bytes)
    arrays = {name: result[name] for name in _USED if result.get(name) is not None}
    missing = [name for name in _LENGTHS if name not in arrays]
    if missing:
        raise WorkloadError(f"{source}: no {' and no '.join(missing)}; run vllm bench serve with --save-result --save-detailed")
    if "start_times" not in arrays:
        raise WorkloadError(
            f"{source}: no start_times, so nobody knows when requests were sent; run vllm bench serve of a version that keeps "
            "them with --save-detailed, or generate arrivals at a rate of your own"
        )
    _check(source, arrays)
    return _stream(source, arrays, result)


def _object(source: Path, max_bytes: int) -> dict[str, Any]:
    """The object of a file."""
    parts, size = [], 0
    for block in unpacked.blocks(source, max_bytes):
        parts.append(block.data)
        size += len(block.data)
        if size > max_bytes:
            raise WorkloadError(f"{source}: more than {max_bytes} bytes; expected the result of one benchmark")
    text = b"".join(parts)
    try:
        result = json.loads(text.decode("utf-8-sig"), object_pairs_hook=unrepeated)
    except json.JSONDecodeError as error:
        hint = "; one result a file: split what --append-result has joined" if error.msg == "Extra data" else ""
        place = f"{source}, line {error.lineno}, column {error.colno}"
        raise WorkloadError(f"{place}: not a JSON object: {error.msg}{hint}") from error
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{source}: not a JSON object: {error}") from error
    if not isinstance(result, dict):
        raise WorkloadError(f"{source}: expected one JSON object, the result of a benchmark")
    return result


def _check(source: Path, arrays: dict[str, Any]) -> None:
    """Raises WorkloadError for arrays of other things than they should hold, or of different lengths."""
    raise_all([f"{source}, {n} = {shown(v)}: expected a list" for n, v in arrays.items() if not isinstance(v, list)])
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise WorkloadError(f"{source}: lists of different lengths ({told}); expected an entry of each for each request")
    mistakes = [
        f"{source}, {name}[{k}] = {shown(value)}: expected {expected}"
        for name, values in arrays.items()
        for k, value, expected in _misfits(name, values)
    ]
    raise_all(mistakes)


def _misfits(name: str, values: list[Any]) -> list[tuple[int, Any, str]]:
    if name in _LENGTHS:
        least = 0
        wrong = [k for k, v in enumerate(values) if type(v) is not int or not least <= v <= MAX_TOKENS]
        expected = f"a whole number from {least} to {MAX_TOKENS}"
    elif name == "errors":
        wrong = [k for k, v in enumerate(values) if not (v is None or isinstance(v, str))]
        expected = "a text, empty where there was none"
    else:
        most = LONGEST_S if name == "queue_times" else 2**32  # start_times are on a clock of their own
        wrong = [k for k, v in enumerate(values) if type(v) not in (int, float) or not -1 <= v <= most]
        expected = f"seconds, at most {most}"
    return [(k, values[k], expected) for k in wrong[: MOST_MISTAKES + 1]]


def _stream(source: Path, arrays: dict[str, Any], result: dict[str, Any]) -> Stream:
    lengths = {name: np.array(arrays[name], np.int64) for name in _LENGTHS}
    errors = arrays.get("errors") or [""] * len(lengths["output_lens"])
    failed = np.array([bool(error) for error in errors], bool) | (lengths["output_lens"] == 0) | (lengths["input_lens"] == 0)
    kept = np.flatnonzero(~failed)
    if not len(kept):
        raise WorkloadError(f"{source}: no requests in it that were answered")
    sent_s = np.array(arrays["start_times"], np.float64)
    waited_s = np.array(arrays.get("queue_times") or np.zeros(len(sent_s)), np.float64)
    at_s = (sent_s - waited_s)[kept]
    arrival_ns = np.rint((at_s - at_s.min()) * NS_PER_S).astype(np.int64)
    if arrival_ns.max() > LONGEST_S * NS_PER_S:
        raise WorkloadError(f"{source}: start_times span {arrival_ns.max() / NS_PER_S:g} s; expected at most {LONGEST_S}")
    order = np.argsort(arrival_ns, kind="stable")
    rows = new_rows(len(kept))
    rows["arrival_ns"], rows["request_id"] = arrival_ns[order], np.arange(len(rows))
    rows["input_tokens"] = lengths["input_lens"][kept][order]
    rows["output_tokens"] = rows["max_tokens"] = lengths["output_lens"][kept][order]
    failures = int(failed.sum())
    about: dict[str, Any] = {"source": "trace", "format": "vllm-result", "file": source.name}
    about |= {"requests": len(rows), "failures": failures}
    notes = _notes(arrays, result, failures, bool(np.any(order[1:] < order[:-1])))
    about["notes"] = notes + grid_notes(rows["arrival_ns"])
    return Stream(float(int(rows["arrival_ns"][-1]) // NS_PER_S + 1), lambda: (rows,), about, is_checked=True)


def _notes(arrays: dict[str, Any], result: dict[str, Any], failures: int, was_sorted: bool) -> list[str]:
    notes = []
    if failures:
        notes.append(f"{failures} requests of the benchmark failed and are left out")
    if was_sorted:
        notes.append("requests were not in the order of their arrival and have been sorted")
    if "queue_times" not in arrays:
        notes.append("no queue_times: a request arrives when it was sent, even if the benchmark had held it back")
    if "errors" not in arrays:
        notes.append("no errors: only requests without output count as failed")
    absent = [name for name in ("ttfts", "itls") if name not in result]
    if absent:
        notes.append(f"no {' and no '.join(absent)}: there are no measured latencies to compare with")
    return notes


def _looks_like(head: Head) -> bool:
    return head.data.lstrip().startswith(b"{") and any(sign in head.data for sign in _SIGNS)


FORMATS = (
    Format(
        "vllm-result",
        "a JSON object with input_lens, output_lens, start_times",
        _looks_like,
        read,
        is_documented_only=True,
    ),
)
