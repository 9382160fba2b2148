"""Streams that do not move: sha256 of whole compositions, played by numpy and by the compiled kernels.

The digests are those of the plain numpy walk of each client. They change only where the model of arrivals or lengths, or a
shipped pool, is meant to change; then CHANGELOG says so.
"""

import functools
import hashlib
import importlib
import math

import numpy as np
import pytest

from workloads import ClientPool, compose, naive
from workloads.arrivals import EXPONENTIAL, GAMMA, WEIBULL, gap_cv
from workloads.jit import is_plain
from workloads.lengths import PROBABILITIES, LengthTable
from workloads.pool_data import PoolData
from workloads.stream import STREAM

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
    cv = gap_cv(family, shape) * np.where((family == WEIBULL) & (client % 3 == 0), 1.0 + (window % 9) / 4.0, 1.0)
    blocks = -(-WINDOWS // 36)
    rows = np.arange(CLIENTS * blocks)
    knots = np.rint(np.cumsum(1.0 + (rows[:, None] * 7 + np.arange(len(PROBABILITIES))) % 11, axis=1) ** 2 / 8.0) / 8.0
    tables = {
        name: LengthTable.of(knots + more, (knots + more).mean(axis=1))
        for name, more in (("input_tokens", 0), ("output_tokens", 9))
    }
    return PoolData(
        name="odd", client_ids=np.arange(CLIENTS) * 3 + 2, count=count, cv=cv, family=family, shape=shape,
        length_row=rows.reshape(CLIENTS, blocks).astype(np.int32), lengths=tables, max_output_tokens=9999,
        absent_ids=(), absent_count=np.zeros(WINDOWS), gap=np.arange(WINDOWS) // 3 == 17,
    )  # fmt: skip


POOLS = {"odd": odd_pool, "deepseek-r1": lambda: ClientPool.load("deepseek-r1"), "m-mid": lambda: ClientPool.load("m-mid")}
GOLDEN = [  # pool, start, duration, seed, what else; requests, first 16 digits of sha256
    ("odd", 0, "13h", 1, {}, 206_609, "e1f5dc7057d3577c"),
    ("odd", 599.9999999, 30_000, 2**70, {"rate": 2.0}, 60_037, "792b3509a74b090f"),
    ("odd", 3000, 1200, 4, {"scale": 400.0, "clients": [2, 11, 38]}, 299_649, "7b2b6c92f678daef"),
    ("odd", 29_000, 1000, 5, {"scale": 5.0}, 25_575, "cbd6f10237d23feb"),
    ("deepseek-r1", "20h", "30min", 3, {"scale": 0.2}, 7_184, "f548b942cb9f107f"),
    ("deepseek-r1", 0, "1d", 1, {"rate": 0.5}, 43_646, "51625f990709579a"),
    ("deepseek-r1", "8h", "2h", 5, {"rate": 12}, 86_381, "72370f9c3c177b2a"),
    ("deepseek-r1", 71_234.5, 1777.7, 2**63, {"scale": 2}, 55_545, "fef935876c697171"),
    ("deepseek-r1", 0, "1d", 9, {"clients": [35, 63, 0]}, 408_237, "f9efad1ba7903938"),
    ("deepseek-r1", "9h", "10min", 11, {"rate": 300.0}, 180_409, "c5dc057062d09cf7"),
    ("m-mid", "50h", "20min", 1, {"rate": 100}, 120_492, "7fc1c2f873bb4463"),
    ("m-mid", 312_000, "1h", 2, {"rate": 5}, 18_047, "84848f7c386a7c51"),
    ("m-mid", "3d", "3h", 8, {"rate": 4.0}, 43_248, "a0b415bc793d038b"),
    ("m-mid", 190_000, 100, 6, {}, 104_291, "ac6abf18e725f58b"),
]
NAIVE = [("poisson", "34b07c4da40ec1e4"), ("n_hour", "bfb014a0c9c177a6")]


FIRST_COLUMNS = np.dtype([(name, STREAM[name]) for name in STREAM.names or () if name != "reason_tokens"])


def digest_of(rows: np.ndarray) -> str:
    """Of the columns that streams had when the digests were recorded."""
    return hashlib.sha256(rows[list(FIRST_COLUMNS.names or ())].astype(FIRST_COLUMNS).tobytes()).hexdigest()[:16]


@pytest.fixture(params=["numpy", "kernels"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two plays the stream, however short it is."""
    if request.param == "kernels" and is_plain("workloads.kernels"):
        pytest.skip("kernels are not compiled: too slow for whole streams")
    for name in ("FEW_REQUESTS", "MANY_REQUESTS"):
        monkeypatch.setattr(
            importlib.import_module("workloads.compose"), name, {"numpy": math.inf, "kernels": 0}[request.param]
        )
    return request.param


@pytest.mark.parametrize(("pool", "start", "duration", "seed", "more", "requests", "digest"), GOLDEN)
def test_a_stream_has_the_bytes_it_had_at_first(path, pool, start, duration, seed, more, requests, digest) -> None:
    rows = compose(POOLS[pool](), start, duration, seed=seed, **more).collect()
    assert (len(rows), digest_of(rows)) == (requests, digest)


@pytest.mark.parametrize(("kind", "digest"), NAIVE)
def test_a_naive_stream_has_the_bytes_it_had_at_first(kind: str, digest: str) -> None:
    rows = naive(compose(ClientPool.load("deepseek-r1"), "8h", "150min", rate=12.0, seed=5), kind, seed=2).collect()
    assert digest_of(rows) == digest
