"""A run folder: what a real server did, request by request, with its engine's settings.

`meta.json` says GPU, model and settings; `requests.csv` when each request arrived, was scheduled and got its tokens;
`timeseries.csv`, where there is one, how many requests ran and waited at each second, and the share of KV blocks they held.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from experiments.errors import UserError
from experiments.validate.rows import Mistakes, Row, read_rows
from hwprofiles.memory import KV_CACHE_PRECISION
from hwprofiles.records import did_you_mean
from workloads.stream import LONGEST_S, MAX_SEGMENT_ID, MAX_TOKENS

BLOCK_TOKENS = 16
"""Tokens of each block that `block16_ids` names."""

TIMES = ("arrival_s", "queued_s", "scheduled_s", "first_token_s", "last_token_s")
REQUEST = np.dtype([("request_id", "i8"), ("input_tokens", "i4"), ("output_tokens", "i4"), *((name, "f8") for name in TIMES)])
"""One row per request of the run; seconds from its first arrival."""

LOOK = np.dtype([("t_s", "f8"), ("running", "i8"), ("waiting", "i8"), ("kv_frac", "f8")])
"""One row per moment at which the server was looked at. kv_frac: of all blocks but the null block those that a request holds,
so that cached blocks of nobody are free (vLLM's `BlockPool.get_usage`); nan where it is not recorded."""

_MOST_META_BYTES = 1 << 20
_UNUSED = ("prompt_throughput", "gen_throughput")
_SETTINGS = {"max_num_seqs": 65_536, "max_num_batched_tokens": 1 << 20, "max_model_len": MAX_TOKENS, "block_size": 4096}


@dataclass(frozen=True)
class Served:
    """What served: names as recorded, and the engine's settings that were given, under vLLM's names."""

    gpu: str
    model: str
    precision: str
    tp: int
    software: str
    instances: int
    has_expert_parallel: bool
    engine: dict[str, int | float | bool | str]


@dataclass(frozen=True)
class RunFolder:
    """A recorded run. blocks: of each request the ids of the full blocks of its prompt; none where they are not recorded."""

    served: Served
    requests: np.ndarray
    blocks: list[list[int]]
    looks: np.ndarray


def read_run(folder: Path) -> RunFolder:
    """The folder's files. UserError with the mistakes in all of them."""
    for name in ("meta.json", "requests.csv"):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no {name}; expected a folder with meta.json and requests.csv")
    readers: dict[str, Callable[[Path], Any]] = {
        "meta.json": _read_meta,
        "requests.csv": _read_requests,
        "timeseries.csv": _read_looks,
    }
    found: dict[str, Any] = {"timeseries.csv": np.empty(0, LOOK)}
    mistakes: list[str] = []
    for name, read in readers.items():
        try:
            if (folder / name).exists():
                found[name] = read(folder / name)
        except UserError as error:
            mistakes += error.mistakes
    if mistakes:
        raise UserError(mistakes)
    requests, blocks = found["requests.csv"]
    return RunFolder(found["meta.json"], requests, blocks, found["timeseries.csv"])


def _read_requests(path: Path) -> tuple[np.ndarray, list[list[int]]]:
    mistakes, seen, found, blocks = Mistakes(path), dict[int, int](), [], []
    needed = ("request_id", "arrival_s", "input_tokens", "output_tokens", "first_token_s", "last_token_s")
    for row in read_rows(mistakes, needed, ("queued_s", "scheduled_s", "block16_ids")):
        request, ids = _request(row), _block_ids(row)
        if request is None or ids is None:
            continue
        if (before := seen.setdefault(request[0], row.line)) != row.line:
            row.wrong("request_id", f"an id of its own; it is that of line {before}")
        if len(ids) * BLOCK_TOKENS > request[1]:
            row.wrong("block16_ids", f"at most {request[1] // BLOCK_TOKENS} full blocks in {request[1]} input tokens")
        found.append(request)
        blocks.append(ids)
    mistakes.raise_any()
    if not found:
        raise UserError(f"{path}: no requests; expected at least one line below the header")
    return np.array(found, REQUEST), blocks


def _request(row: Row) -> tuple[Any, ...] | None:
    """A REQUEST row; None where something is wrong with it. Times that are not recorded stand at the next that is."""
    numbers = (
        row.whole("request_id", 0, 2**53),
        row.whole("input_tokens", 1, MAX_TOKENS),
        row.whole("output_tokens", 1, MAX_TOKENS),
    )
    times = {name: row.number(name, 0.0, LONGEST_S, name not in ("queued_s", "scheduled_s")) for name in TIMES}
    given = [(name, at_s) for name, at_s in times.items() if at_s is not None]
    for (before, earlier_s), (name, at_s) in pairwise(given):
        if at_s < earlier_s:
            row.wrong(name, f"not before {before} = {earlier_s:g}")
            return None
    needed = (times["arrival_s"], times["first_token_s"], times["last_token_s"])
    if None in numbers or None in needed:
        return None
    scheduled_s = times["first_token_s"] if times["scheduled_s"] is None else times["scheduled_s"]
    queued_s = times["arrival_s"] if times["queued_s"] is None else times["queued_s"]
    return *numbers, times["arrival_s"], queued_s, scheduled_s, times["first_token_s"], times["last_token_s"]


def _block_ids(row: Row) -> list[int] | None:
    words = row.text("block16_ids", False).split()
    if all(word.isascii() and word.isdigit() and len(word) < 20 and int(word) <= MAX_SEGMENT_ID >> 1 for word in words):
        return [int(word) for word in words]
    row.wrong("block16_ids", f"whole numbers from 0 to {MAX_SEGMENT_ID >> 1}, parted by spaces")
    return None


def _read_looks(path: Path) -> np.ndarray:
    mistakes, last_s = Mistakes(path), -1.0
    found: list[tuple[float | None, ...]] = []
    for row in read_rows(mistakes, ("t", "running", "waiting"), (*_UNUSED, "kv_cache_pct")):
        t_s, kv_pct = row.number("t", 0.0, LONGEST_S), row.number("kv_cache_pct", 0.0, 100.0, False)
        kv_frac = np.nan if kv_pct is None else kv_pct / 100.0
        found.append((t_s, row.whole("running", 0, 2**31), row.whole("waiting", 0, 2**31), kv_frac))
        if t_s is not None and t_s <= last_s:
            row.wrong("t", f"a time after that of the line before, {last_s:g}")
        last_s = last_s if t_s is None else t_s
    mistakes.raise_any()
    looks = np.array(found, LOOK)
    if not np.nan_to_num(looks["kv_frac"]).any():
        looks["kv_frac"] = np.nan  # recorders that do not find the figure write 0 for all of a run
    return looks


def _read_meta(path: Path) -> Served:
    """Unknown keys are passed over: the file holds whatever its recorder knew."""
    meta = _json_table(path)
    mistakes: list[str] = []
    settings = meta.get("engine_kwargs", {})
    if not isinstance(settings, dict):
        mistakes.append(f"engine_kwargs = {str(settings)[:40]!r}: expected a table")
        settings = {}
    served = Served(
        gpu=_text(meta, "gpu", None, mistakes),
        model=_text(meta, "model", None, mistakes),
        precision={"bfloat16": "bf16", "float16": "fp16"}.get(dtype := _text(settings, "dtype", "bfloat16", mistakes), dtype),
        tp=_whole(settings, "tensor_parallel_size", 4096, mistakes) or 1,
        software=f"vLLM {_text(meta, 'vllm_version', 'version not recorded', mistakes)}",
        instances=_whole(settings, "data_parallel_size", 4096, mistakes) or 1,
        has_expert_parallel=settings.get("enable_expert_parallel", False) is not False,
        engine=_engine(settings, mistakes),
    )
    if mistakes:
        raise UserError(f"{path}: {mistake}" for mistake in mistakes)
    return served


def _engine(settings: dict[str, Any], mistakes: list[str]) -> dict[str, int | float | bool | str]:
    """The settings that are given and that the simulated engine has, under the same names."""
    found: dict[str, int | float | bool | str] = {}
    for name, most in _SETTINGS.items():
        value = _whole(settings, name, most, mistakes)
        if value is not None:
            found[name] = value
    caching, share = settings.get("enable_prefix_caching"), settings.get("gpu_memory_utilization")
    if caching is not None and not isinstance(caching, bool):
        mistakes.append(f"enable_prefix_caching = {str(caching)[:40]!r}: expected true or false")
    elif caching is not None:
        found["enable_prefix_caching"] = caching
    if share is not None and (isinstance(share, bool) or not isinstance(share, (int, float)) or not 0.0 < share <= 1.0):
        mistakes.append(f"gpu_memory_utilization = {str(share)[:40]!r}: expected a share above 0 and at most 1")
    elif share is not None:
        found["gpu_memory_utilization"] = float(share)
    kv_type = settings.get("kv_cache_dtype")
    if kv_type is not None and kv_type not in tuple(KV_CACHE_PRECISION):
        hint = did_you_mean(str(kv_type)[:40], KV_CACHE_PRECISION)
        mistakes.append(f"kv_cache_dtype = {str(kv_type)[:40]!r}: expected {', '.join(KV_CACHE_PRECISION)}, or null{hint}")
    elif kv_type is not None:
        found["kv_cache_dtype"] = kv_type
    return found


def _json_table(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MOST_META_BYTES:
        raise UserError(f"{path}: larger than {_MOST_META_BYTES} bytes; expected settings")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(f"{path}: not readable as JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: {type(value).__name__}; expected a table of settings")
    return value


def _text(table: dict[str, Any], name: str, default: str | None, mistakes: list[str]) -> str:
    value = table.get(name, default)
    if isinstance(value, str) and value.strip():
        return value.strip()
    near = get_close_matches(name, [key for key in table if key != name], 1)
    hint = f"; did you mean {near[0]!r}?" if near and name not in table else ""
    mistakes.append(f"{name} = {str(value)[:40]!r}: expected a text{hint}")
    return ""


def _whole(table: dict[str, Any], name: str, most: int, mistakes: list[str]) -> int | None:
    value = table.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most):
        return value
    mistakes.append(f"{name} = {str(value)[:40]!r}: expected a whole number from 1 to {most}, or null")
    return None
