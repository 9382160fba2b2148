"""Streams that do not move: sha256 of whole compositions, as the plain numpy walk of each client made them at first.

The digests were recorded before streams could be played by compiled kernels, with commit 951fb8a, and are the proof that
neither the kernels nor the pieces in which blocks are made moved a bit. They change only where the model is meant to change.
"""

import functools
import hashlib
import importlib
import math

import numpy as np
import pytest

from workloads import ClientPool, compose
from workloads.arrivals import EXPONENTIAL, GAMMA, WEIBULL
from workloads.jit import is_plain
from workloads.lengths import PROBABILITIES, LengthTable
from workloads.pool_data import PoolData

CLIENTS, WINDOWS = 24, 80


@functools.cache
def odd_pool() -> PoolData:
    """Every kind of gap, in shapes from 0.005 to 10000; pauses, idle windows, a gap in the data, lengths by block."""
    window, client = np.meshgrid(np.arange(WINDOWS), np.arange(CLIENTS))
    family = np.array([GAMMA, WEIBULL, EXPONENTIAL, GAMMA], np.int8)[(client + window // 7) % 4]
    shapes = np.array([0.3, 0.7, 1.0, 0.9, 0.05, 2.5, 1.0, 40.0, 1e4, 0.005])[(client + window // 3) % 10]
    shape = np.where(family == EXPONENTIAL, 1.0, np.where(family == WEIBULL, np.clip(shapes, 0.2, 9.0), shapes))
    count = np.array([0.0, 3.0, 0.25, 700.0, 40.0, 0.0, 9.0])[(client * client + window // 2) % 7]
    count[:, 50:53] = 0.0
    pause_s = np.where((family == WEIBULL) & (client % 3 == 0), 100.0 + 5.0 * (window % 90), 0.0)
    blocks = -(-WINDOWS // 36)
    rows = np.arange(CLIENTS * blocks)
    knots = np.rint(np.cumsum(1.0 + (rows[:, None] * 7 + np.arange(len(PROBABILITIES))) % 11, axis=1) ** 2 / 8.0) / 8.0
    tables = {
        name: LengthTable.of(knots + more, (knots + more).mean(axis=1))
        for name, more in (("input_tokens", 0), ("output_tokens", 9))
    }
    return PoolData(
        name="odd", client_ids=np.arange(CLIENTS) * 3 + 2, count=count, cv=np.ones(count.shape), family=family, shape=shape,
        pause_s=pause_s, length_row=rows.reshape(CLIENTS, blocks).astype(np.int32), lengths=tables, max_output_tokens=9999,
        absent_ids=(), absent_count=np.zeros(WINDOWS), gap=np.arange(WINDOWS) // 3 == 17,
    )  # fmt: skip


POOLS = {"odd": odd_pool, "deepseek-r1": lambda: ClientPool.load("deepseek-r1"), "m-mid": lambda: ClientPool.load("m-mid")}
GOLDEN = [
    ("odd", {"start": 0, "duration": "13h"}, 208_501, "62f0722ca36a33a9c5d24aecf9c706d6"),
    (
        "odd",
        {"start": 599.9999999, "duration": 30000, "rate": 2.0, "seed": 1180591620717411303424},
        59_289,
        "d65da131b92b86125f2b6a2d29c4ac48",
    ),
    (
        "odd",
        {"start": 3000, "duration": 1200, "scale": 400.0, "seed": 4, "clients": [2, 11, 38]},
        300_195,
        "60020cf3a925d9105ab686a904dae866",
    ),
    ("odd", {"start": 29000, "duration": 1000, "scale": 5.0, "seed": 5}, 26_538, "c080e297dc89c8c1d9736e1a310b6088"),
    ("deepseek-r1", {"start": "20h", "duration": "30min", "scale": 0.2, "seed": 3}, 7_224, "7c5d78e067d977a5608ab4ed31d809bf"),
    ("deepseek-r1", {"start": 0, "duration": "1d", "rate": 0.5}, 43_748, "24da1d69dcca420f88fa253f4aacc2e8"),
    ("deepseek-r1", {"start": "8h", "duration": "2h", "rate": 12, "seed": 5}, 86_348, "68ed1a5248b04a5b5df847a61dfb215c"),
    (
        "deepseek-r1",
        {"start": 71234.5, "duration": 1777.7, "scale": 2, "seed": 9223372036854775808},
        55_022,
        "a10a950fa119a7deb27968c7ae6c1728",
    ),
    (
        "deepseek-r1",
        {"start": 0, "duration": "1d", "clients": [35, 63, 0], "seed": 9},
        409_389,
        "0c0cde23c917d94d67a5ebf51987fa1b",
    ),
    (
        "deepseek-r1",
        {"start": "9h", "duration": "10min", "rate": 300.0, "seed": 11},
        180_807,
        "c1a8e2f4ee4b7f9eb59070727eb39670",
    ),
    ("m-mid", {"start": "50h", "duration": "20min", "rate": 100, "seed": 1}, 123_958, "c10901e869b30cc2be56703b0474316d"),
    ("m-mid", {"start": 312000, "duration": "1h", "rate": 5, "seed": 2}, 18_035, "0ab874bc31f50c11cf9e6ac575de045f"),
    ("m-mid", {"start": "3d", "duration": "3h", "rate": 4.0, "seed": 8}, 43_059, "a9969b438d6c990272fbe8598a89577e"),
    ("m-mid", {"start": 190000, "duration": 100, "seed": 6}, 77_994, "cc3dc586d48d2d661387f426d21946dd"),
]


@pytest.fixture(params=["numpy", "kernels"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two plays the stream, however short it is."""
    if request.param == "kernels" and is_plain("workloads.kernels"):
        pytest.skip("kernels are not compiled: too slow for whole streams")
    monkeypatch.setattr(
        importlib.import_module("workloads.compose"), "FEW_REQUESTS", {"numpy": math.inf, "kernels": 0}[request.param]
    )
    return request.param


@pytest.mark.parametrize(("pool", "settings", "requests", "digest"), GOLDEN, ids=lambda value: str(value).replace(" ", "")[:60])
def test_a_stream_has_the_bytes_it_had_at_first(path, pool: str, settings: dict, requests: int, digest: str) -> None:
    rows = compose(POOLS[pool](), **settings).collect()
    assert (len(rows), hashlib.sha256(rows.tobytes()).hexdigest()[:32]) == (requests, digest)
