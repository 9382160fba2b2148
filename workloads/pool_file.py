"""The file of a fitted client pool: an `.npz` of small integer arrays, and the provenance as JSON beside them.

Requests are exact. CV and Weibull shape are kept as logarithms in steps of 1/100 (0.5 % at most off), knots as
differences, the exponents of last segments as base-2 logarithms in steps of 1/2000; integers are split into byte
planes, which LZMA shortens best. The pause of a window is not stored: it follows from requests, CV and shape. No
pickle, and the bytes depend on the content alone.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np

from workloads.arrivals import GAMMA, WEIBULL, held_shape
from workloads.errors import WorkloadError
from workloads.fields import FIELDS, TEXT
from workloads.lengths import COARSE_STEP, KNOTS, PER_TOKEN, LengthTable, filled_in
from workloads.numerics import exp, log
from workloads.pool_data import BLOCK_WINDOWS, PoolData, block_of
from workloads.stream import MAX_TOKENS
from workloads.whole_file import written_whole

FORMAT_VERSION: Final = 2
QUANTISATION: Final = {
    "requests": "exact",
    "cv, Weibull shape": "logarithm in steps of 1/100",
    "knots": "1/64 token below 16, 1/16 below 128, else 1/8; every third of a client below 0.6 % of a block's requests",
    "mean": "float32",
    "last segment's exponent": "base-2 logarithm in steps of 1/2000",
}

FINE_SHARE: Final = 0.006
_LOG_STEP: Final = 1.0 / 100.0
_LOG_ZERO: Final = 2000  # code of 1: codes reach from e^-20
_TAIL_STEP: Final = 0.6931471805599453 / 2000.0  # ln 2 / 2000
_TAIL_ZERO: Final = 20_000
_MAX_BYTES: Final = 256 << 20
_BROKEN: Final = (
    OSError,
    MemoryError,
    ValueError,
    KeyError,
    IndexError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
)


def write_pool(pool: PoolData, path: str | os.PathLike[str], provenance: dict[str, Any]) -> int:
    """Writes the pool, whole or not at all, over an earlier file of that name; returns the bytes written."""
    target = Path(path)
    with written_whole(target) as part:
        part.write_bytes(_packed(_encoded(pool, provenance)))
    return target.stat().st_size


def read_pool(path: str | os.PathLike[str]) -> PoolData:
    """The pool of a file, named by the file. Raises WorkloadError for anything that is not one."""
    source = Path(path)
    try:
        with zipfile.ZipFile(source) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MAX_BYTES:
                raise WorkloadError(f"{source}: larger than {_MAX_BYTES} bytes when unpacked")
        with np.load(source, allow_pickle=False) as content:
            return _decoded({name: content[name] for name in content.files}, source.stem)
    except WorkloadError:
        raise
    except _BROKEN as error:
        raise WorkloadError(f"{source}: not a client pool: {error}") from error


def _encoded(pool: PoolData, provenance: dict[str, Any]) -> dict[str, np.ndarray]:
    active = pool.count > 0
    weibull = active & (pool.family == WEIBULL)
    about = {
        "format": FORMAT_VERSION,
        "max_output_tokens": pool.max_output_tokens,
        "absent_ids": list(pool.absent_ids),
        "imputed_ids": list(pool.imputed_ids),
        "quantisation": QUANTISATION,
        **provenance,
    }
    arrays = {
        "about": np.frombuffer(json.dumps(about, sort_keys=True).encode(), np.uint8),
        "client_ids": pool.client_ids.astype("<i4"),
        "requests": _planes(pool.count),
        "cv": _planes(np.rint(log(pool.cv[active]) / _LOG_STEP) + _LOG_ZERO),
        "weibull": np.packbits(weibull[active]),
        "shape": _planes(np.rint(log(pool.shape[weibull]) / _LOG_STEP) + _LOG_ZERO),
        "absent_requests": _planes(pool.absent_count),
        "gap": np.packbits(pool.gap),
        "windows": np.array([pool.windows], "<i4"),
        "length_row": pool.length_row.astype("<i4"),
    }
    is_fine = _fine_rows(pool)
    arrays["fine"] = np.packbits(is_fine)
    for name, table in pool.lengths.items():
        arrays[f"{name}_knots"] = _differences(table.knots[is_fine])
        arrays[f"{name}_coarse"] = _differences(table.knots[~is_fine, ::COARSE_STEP])
        arrays[f"{name}_mean"] = table.mean.astype("<f4").view(np.uint8).reshape(-1, 4).T.copy()
        arrays[f"{name}_tail"] = _planes(np.rint(log(table.tail_shape) / _TAIL_STEP) + _TAIL_ZERO)
    return arrays


def _decoded(arrays: dict[str, np.ndarray], name: str) -> PoolData:
    about = json.loads(arrays["about"].tobytes())
    if about.get("format") != FORMAT_VERSION:
        raise ValueError(f"format {about.get('format')!r}, expected {FORMAT_VERSION}")
    windows, clients = int(arrays["windows"][0]), len(arrays["client_ids"])
    count = _whole(arrays["requests"]).reshape(clients, windows).astype(np.float64)
    pool = PoolData(
        name=name,
        client_ids=arrays["client_ids"].astype(np.int32),
        count=count,
        **_decoded_arrivals(arrays, count),
        length_row=arrays["length_row"].astype(np.int32),
        lengths={field: _decoded_lengths(arrays, field) for field in FIELDS if f"{field}_knots" in arrays},
        max_output_tokens=int(about["max_output_tokens"]),
        absent_ids=tuple(about["absent_ids"]),
        absent_count=_whole(arrays["absent_requests"]).astype(np.float64),
        gap=np.unpackbits(arrays["gap"], count=windows).astype(bool),
        imputed_ids=tuple(about["imputed_ids"]),
        provenance={key: value for key, value in about.items() if key not in ("absent_ids", "imputed_ids")},
    )
    _check(pool)
    return pool


def _check(pool: PoolData) -> None:
    """ValueError where arrays, each readable, do not make a pool together."""
    blocks = block_of(pool.windows - 1) + 1 if pool.windows else 0
    rows = min((len(table.mean) for table in pool.lengths.values()), default=0)
    laws = {
        "client_ids: expected ascending numbers from 0": np.all(np.diff(pool.client_ids, prepend=-1) > 0),
        "windows: expected at least one, and a client": min(pool.count.shape) > 0,
        "length_row: expected a row for each client and block": pool.length_row.shape == (len(pool.client_ids), blocks),
        "length_row: expected rows of the tables": np.all((pool.length_row >= -1) & (pool.length_row < rows)),
        "lengths: expected input (or text) and output": "output_tokens" in pool.lengths
        and bool({"input_tokens", TEXT} & set(pool.lengths)),
        "lengths: expected as many rows in every table": all(len(table.mean) == rows for table in pool.lengths.values()),
        "knots: expected ascending tokens": all(_are_sound(table) for table in pool.lengths.values()),
        "absent_requests: expected one for each window": pool.absent_count.shape == (pool.windows,),
        "length_row: expected lengths wherever requests are": _have_lengths(pool),
    }
    wrong = [what for what, holds in laws.items() if not holds]
    if wrong:
        raise ValueError("; ".join(wrong))


def _are_sound(table: LengthTable) -> bool:
    """Whether knots rise, to rounding, from above -1 to the longest length."""
    rise, knots = np.diff(table.knots, axis=1), table.knots
    return bool(
        np.all(rise >= -1e-9) and np.all((knots > -1.0) & (knots <= MAX_TOKENS + 1)) and np.all(np.isfinite(table.mean))
    )


def _have_lengths(pool: PoolData) -> bool:
    if pool.length_row.shape[1] * BLOCK_WINDOWS < pool.windows:
        return False
    return bool(np.all((pool.window_rows() >= 0) | (pool.count == 0.0)))


def _decoded_arrivals(arrays: dict[str, np.ndarray], count: np.ndarray) -> dict[str, Any]:
    active = count > 0
    cv, shape, family = np.zeros(count.shape), np.ones(count.shape), np.full(count.shape, GAMMA, np.int8)
    cv[active] = exp((_whole(arrays["cv"]) - _LOG_ZERO) * _LOG_STEP)
    family[active] = np.where(np.unpackbits(arrays["weibull"], count=int(active.sum())), WEIBULL, GAMMA)
    weibull = family == WEIBULL
    shape[active] = held_shape(1.0 / (cv[active] * cv[active]))
    shape[weibull] = exp((_whole(arrays["shape"]) - _LOG_ZERO) * _LOG_STEP)
    return {"cv": cv, "family": family, "shape": shape}


def _decoded_lengths(arrays: dict[str, np.ndarray], name: str) -> LengthTable:
    is_fine = np.unpackbits(arrays["fine"], count=arrays[f"{name}_mean"].shape[1]).astype(bool)
    knots = np.empty((len(is_fine), KNOTS))
    knots[is_fine] = _cumulated(arrays[f"{name}_knots"], KNOTS)
    knots[~is_fine] = filled_in(_cumulated(arrays[f"{name}_coarse"], KNOTS // COARSE_STEP + 1))
    mean = np.ascontiguousarray(arrays[f"{name}_mean"].T).view("<f4").ravel()
    tail = exp((_whole(arrays[f"{name}_tail"]) - _TAIL_ZERO) * _TAIL_STEP)
    return LengthTable.of(knots, mean, tail)


def _fine_rows(pool: PoolData) -> np.ndarray:
    """Which rows of the tables are worth all their knots: those of at least FINE_SHARE of some block's requests."""
    share = np.zeros(len(next(iter(pool.lengths.values())).mean))
    for block, requests in enumerate(pool.block_requests().T):
        used = np.flatnonzero((pool.length_row[:, block] >= 0) & (requests > 0.0))
        np.maximum.at(share, pool.length_row[used, block], requests[used] / max(requests.sum(), 1.0))
    return share >= FINE_SHARE


def _differences(knots: np.ndarray) -> np.ndarray:
    return _planes(np.diff(np.rint(knots * PER_TOKEN), axis=1, prepend=0))


def _cumulated(planes: np.ndarray, knots: int) -> np.ndarray:
    return np.cumsum(_whole(planes).reshape(-1, knots), axis=1) / PER_TOKEN


def _planes(values: np.ndarray) -> np.ndarray:
    """Whole numbers below 2^32 as byte planes [bytes, values], the lowest first."""
    whole = np.asarray(values).ravel().astype("<u4")
    return whole.view(np.uint8).reshape(-1, 4).T.copy()


def _whole(planes: np.ndarray) -> np.ndarray:
    """The inverse of _planes, as int64."""
    return np.ascontiguousarray(planes.T).view("<u4").ravel().astype(np.int64)


def _packed(arrays: dict[str, np.ndarray]) -> bytes:
    """An .npz whose bytes have no clock in them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in sorted(arrays.items()):
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_LZMA
            archive.writestr(info, member.getvalue())
    return buffer.getvalue()
