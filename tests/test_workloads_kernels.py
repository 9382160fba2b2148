"""Kernels of workloads: whether compiled or plain, in pieces or whole, they make the very bits that numpy makes."""

import importlib
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import naive_workloads as twins
from workloads import ClientPool, WorkloadError, check_stream, compiled, compose, kernels_warm, numerics, walk, warm_kernels
from workloads.arrival_models import MODELS
from workloads.arrivals import EXPONENTIAL, GAMMA, WEIBULL, gap_cv
from workloads.fields import LENGTHS
from workloads.jit import is_plain, plain
from workloads.lengths import PROBABILITIES, LengthTable
from workloads.numerics import Purpose, uniforms
from workloads.players import FLOW, Composition, Players
from workloads.pool_data import WINDOW_NS, PoolData
from workloads.renewal import Renewals
from workloads.stream import STREAM, new_rows
from workloads.traffic_model import RATES, TrafficModel

PLAIN = plain("workloads.kernels")
MODULES = [PLAIN] if is_plain("workloads.kernels") else [PLAIN, compiled.kernels]
each_module = pytest.mark.parametrize("kernels", MODULES, ids=lambda module: module.__name__)
PIECES = ("gap", "log", "exp", "power", "normal_quantile", "uniform")
FAMILIES = {EXPONENTIAL: (1.0, 1.0), GAMMA: (0.005, 200.0), WEIBULL: (0.2, 9.0)}


@cache
def pieces(kernels: ModuleType) -> SimpleNamespace:
    """Pieces of kernels so that they can be called from here: compiled ones are only a part of what calls them."""
    names = {name: getattr(kernels, name) for name in PIECES}
    if not kernels.__name__.startswith(PLAIN.__name__) and not is_plain(kernels.__name__):
        numba = pytest.importorskip("numba")
        names = {name: numba.njit(_calling(piece, name in ("log", "exp", "normal_quantile"))) for name, piece in names.items()}
    return SimpleNamespace(**names)


def _calling(piece: Any, has_one_argument: bool) -> Any:
    if has_one_argument:
        return lambda x: piece(x)
    return lambda x, y: piece(x, y)


@contextmanager
def played_by(kernels: ModuleType, block_rows: int) -> Iterator[None]:
    """compiled.py with these kernels, and pieces of so many rows in the mean; plain uint64 warn where they wrap."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore"):
        patch.setattr(compiled, "kernels", kernels)
        patch.setattr(compiled, "BLOCK_ROWS", block_rows)
        yield


@st.composite
def compositions(draw: st.DrawFn) -> Composition:
    """A few clients over up to four windows: idle ones, pauses, all kinds of gaps, a start and an end inside a window."""
    clients, windows = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    shape = (clients, windows)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    family = rng.integers(0, 3, shape)
    low, high = (np.array([FAMILIES[code][end] for code in range(3)])[family] for end in (0, 1))
    gap_shape = np.where(rng.random(shape) < 0.3, 1.0, low * (high / low) ** rng.random(shape))
    count = rng.choice([0.0, 0.01, 3.0, 40.0], shape)
    pool = PoolData(
        name="random", client_ids=np.sort(rng.choice(100, clients, replace=False)), count=count, family=family.astype(np.int8),
        cv=gap_cv(family, gap_shape) * np.where(rng.random(shape) < 0.5, 1.0 + 3.0 * rng.random(shape), 1.0),
        shape=np.where(family == EXPONENTIAL, 1.0, gap_shape),
        length_row=np.arange(clients, dtype=np.int32)[:, None], lengths={name: sketches(rng, clients) for name in LENGTHS},
        max_output_tokens=7, absent_ids=(), absent_count=np.zeros(windows), gap=np.zeros(windows, bool),
    )  # fmt: skip
    start_s = draw(st.floats(0.0, 600.0 * windows - 1.0))
    duration_s = draw(st.floats(0.5, 600.0 * (windows + 2) - start_s))
    scale, seed, arrivals = draw(st.sampled_from([0.2, 1.0, 3.0])), draw(st.integers(0)), draw(st.sampled_from(list(MODELS)))
    model = TrafficModel(arrivals, draw(st.sampled_from(RATES)))
    return Composition(pool, np.arange(clients), scale, start_s, duration_s, seed, model)


def sketches(rng: np.random.Generator, rows: int) -> LengthTable:
    knots = np.cumsum(rng.integers(0, 80, (rows, len(PROBABILITIES))), axis=1) / 8.0
    return LengthTable.of(knots, knots.mean(axis=1))


def renewal_of(family: int, shape: float, seed: int = 3) -> Renewals:
    renewals = Renewals(seed, np.array([5]))
    renewals.enter(np.array([0]), np.array([family]), np.array([shape]))
    return renewals


@each_module
@given(compositions(), st.sampled_from([1, 3, 50, 10_000]))
@settings(max_examples=25)
def test_kernels_in_any_pieces_make_the_rows_that_numpy_makes(kernels: ModuleType, composition, block_rows: int) -> None:
    wanted = [*walk.blocks(Players(composition)), np.empty(0, STREAM)]
    with played_by(kernels, block_rows):
        rows = np.concatenate(list(compiled.blocks(Players(composition))))
    assert rows.tobytes() == np.concatenate(wanted).tobytes()


@each_module
@pytest.mark.parametrize(
    ("wait", "begin_ns", "sent"), [(1.0, 0, [1.0]), (1.0, 1_500_000_000, [1.5]), (2.0, 0, []), (700.0, 0, [])]
)
def test_a_piece_holds_its_begin_and_not_its_end(kernels: ModuleType, wait: float, begin_ns: int, sent: list[float]) -> None:
    """One client, a request a second in the mean, in a piece that ends at 2 s; what rounding puts before the begin is at it."""
    renewals, flows = renewal_of(EXPONENTIAL, 1.0), np.zeros(1, FLOW)
    flows["length"], flows["seconds_per_request"], renewals.state["wait"] = 600.0, 1.0, wait
    flows["begin"] = flows["end"] = 1.0
    renewals.state["next_gap"] = next(k for k in range(99) if twins.gap(renewals.state[0], k) > 1.0)
    times, events = np.empty(4, np.int64), np.empty(4, compiled.EVENT)
    with np.errstate(over="ignore"):
        done, count = kernels.play(renewals.state, flows, 0, begin_ns, 2 * 10**9, WINDOW_NS - 1, times, events, 0)
    assert done == 1 and [(begin_ns + (t >> kernels.EVENT_BITS)) / 1e9 for t in times[:count]] == sent
    assert renewals.state["sent"].tolist() == [count] and (renewals.state["wait"][0] >= 2.0) == (sent != [] or wait >= 2.0)


@each_module
def test_what_rounding_puts_past_the_window_is_in_its_last_nanosecond(kernels: ModuleType) -> None:
    renewals, flows = renewal_of(EXPONENTIAL, 1.0), np.zeros(1, FLOW)
    flows["length"], flows["seconds_per_request"], renewals.state["wait"] = (
        600.0,
        np.nextafter(1.0, 2.0),
        np.nextafter(600.0, 0.0),
    )
    flows["begin"] = flows["end"] = 1.0

    times, events = np.empty(4, np.int64), np.empty(4, compiled.EVENT)
    with np.errstate(over="ignore"):
        _, count = kernels.play(renewals.state, flows, 0, 0, WINDOW_NS, WINDOW_NS - 1, times, events, 0)
    assert (times[:count] >> kernels.EVENT_BITS).tolist() == [WINDOW_NS - 1]


@given(compositions())
@settings(max_examples=15)
def test_every_client_sends_what_one_gap_after_the_other_gives(composition) -> None:
    players, wanted = Players(composition), []
    for window in players.windows():
        for client, flow in enumerate(window.flows):
            state = players.renewals.state[client]
            wanted += [window.start_ns + offset for offset in twins.arrivals(state, flow, window.begin_ns, window.end_ns)]
            players.renewals.advance(client, flow["length"])
    blocks = list(walk.blocks(Players(composition)))
    assert sorted(wanted) == [int(ns) for block in blocks for ns in block["arrival_ns"]]


@each_module
@given(st.sampled_from(list(FAMILIES)), st.floats(0.0, 1.0), st.integers(0, 2**64))
@settings(max_examples=30)
def test_a_gap_is_that_of_its_definition(kernels: ModuleType, family: int, place: float, seed: int) -> None:
    low, high = FAMILIES[family]
    state = renewal_of(family, low * (high / low) ** place, seed).state
    with np.errstate(over="ignore"):
        assert [pieces(kernels).gap(state[0], k) for k in range(12)] == [twins.gap(state[0], k) for k in range(12)]


@given(st.floats(-8.0, 8.0), st.floats(2.0 / 3.0, 1e4))
def test_the_squeeze_accepts_nothing_that_the_test_would_not(x: float, d: float) -> None:
    root = PLAIN.proposal(x, d)
    if root > 0.0:
        assert PLAIN.squeeze(x) + 0.0005 <= math.exp(PLAIN.acceptance(x, d, root**3))


@each_module
@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=30), st.integers(0, 2**63))
@settings(max_examples=40)
def test_formulas_of_one_number_have_the_bits_of_those_of_arrays(kernels: ModuleType, values: list[float], key: int) -> None:
    x = np.array(values)
    u, index = uniforms(np.uint64(key), np.arange(len(x))), np.arange(len(x))
    with np.errstate(over="ignore"):
        assert [pieces(kernels).log(v) for v in x] == numerics.log(x).tolist()
        assert [pieces(kernels).exp(v) for v in numerics.log(x)] == numerics.exp(numerics.log(x)).tolist()
        assert [pieces(kernels).power(v, 3.7) for v in u] == numerics.power(u, 3.7).tolist()
        assert [pieces(kernels).normal_quantile(v) for v in u] == numerics.normal_quantile(u).tolist()
        assert [pieces(kernels).uniform(np.uint64(key), k) for k in index] == u.tolist()


@pytest.mark.parametrize("name", ["exp", "log", "normal_quantile"])
def test_compiled_formulas_have_numpys_bits_over_their_whole_range(name: str) -> None:
    domain = {"exp": np.linspace(-720.0, 720.0, 4001), "log": np.exp(np.linspace(-690.0, 690.0, 4001))}
    x = domain.get(name, (np.arange(4000) + 0.5) / 4000 * 10.0 ** np.linspace(-15, 0, 4000))
    assert [getattr(pieces(compiled.kernels), name)(v) for v in x] == getattr(numerics, name)(x).tolist()


@each_module
@given(st.integers(0, 2**32), st.integers(0, 300), st.sampled_from([1, 7, 25, 40]), st.sampled_from([0, 38]))
@settings(max_examples=30)
def test_arrivals_are_sorted_by_time_and_then_by_event(
    kernels: ModuleType, seed: int, count: int, bits: int, coarse: int
) -> None:
    offsets = np.random.default_rng(seed).integers(0, 1 << bits, count) >> coarse << coarse
    times = (offsets << kernels.EVENT_BITS) | np.arange(count)
    wanted = twins.in_time_order(times)
    kernels.in_time_order(times, np.empty_like(times), np.empty(1 << kernels.DIGIT_BITS, np.int64), 4)
    assert np.array_equal(times, wanted)


@each_module
@given(st.integers(0, 2**32), st.integers(1, 4))
@settings(max_examples=25)
def test_lengths_are_those_of_the_clients_sketch(kernels: ModuleType, seed: int, clients: int) -> None:
    rng = np.random.default_rng(seed)
    table, events = sketches(rng, clients), np.zeros(200, compiled.EVENT)
    events["client"], events["request_id"] = rng.integers(0, clients, 200), rng.integers(0, 2**40, 200)
    keys = numerics.stream_keys(seed, np.arange(clients), Purpose.INPUT)
    with np.errstate(over="ignore"):
        kernels.fill_lengths(
            events["input_tokens"], events, keys, table.log_knots, table.tail_shape, PROBABILITIES, compiled._GUIDE
        )
    u = uniforms(keys[events["client"]], events["request_id"] % 2**32)
    assert events["input_tokens"].tolist() == table.sample(events["client"], u).tolist()
    assert events["input_tokens"].tolist() == [
        twins.tokens(table, int(event["client"]), PROBABILITIES, v) for event, v in zip(events, u)
    ]


@each_module
def test_probabilities_on_a_knot_belong_to_the_segment_above(kernels: ModuleType) -> None:
    part = np.arange(1 << 12) / (1 << 12)
    for u in [*PROBABILITIES[:-1], *np.nextafter(PROBABILITIES[1:], 0.0), *part]:
        begins = compiled._GUIDE[int(u * len(compiled._GUIDE))]
        assert PROBABILITIES[begins] <= u


@each_module
def test_rows_have_what_their_event_says(kernels: ModuleType) -> None:
    events = np.array([(7 << 32 | 3, 0, 11, 12), (9 << 32, 1, 21, 22), (7 << 32 | 4, 0, 31, 32)], compiled.EVENT)
    times = np.array([(50 << kernels.EVENT_BITS) | 1, (60 << kernels.EVENT_BITS) | 0])
    rows, blank = np.empty(2, STREAM), new_rows(1)
    blank["max_tokens"] = 99
    kernels.fill_rows(rows, blank, 1000, times, events)
    wanted = new_rows(2)
    wanted["arrival_ns"], wanted["request_id"], wanted["client_id"] = [1050, 1060], [9 << 32, 7 << 32 | 3], [9, 7]
    wanted["input_tokens"], wanted["output_tokens"], wanted["max_tokens"] = [21, 11], [22, 12], 99
    assert rows.tobytes() == wanted.tobytes()


@each_module
def test_room_that_is_short_grows_and_loses_nothing(kernels: ModuleType) -> None:
    """Gaps of CV 14 come in bursts of dozens, where a piece of 4 rows in the mean has room for 8."""
    burst = {"count": np.full((3, 1), 300.0), "shape": np.full((3, 1), 0.005), "family": np.full((3, 1), GAMMA, np.int8)}
    composition = Composition(pool_of(3, 1, **burst), np.arange(3), 1.0, 0.0, 600.0, 4, TrafficModel("published"))
    with played_by(kernels, 4):
        blocks = list(compiled.blocks(Players(composition)))
    assert max(map(len, blocks)) > 32
    assert np.concatenate(blocks).tobytes() == np.concatenate(list(walk.blocks(Players(composition)))).tobytes()


def pool_of(clients: int, windows: int, **columns: Any) -> PoolData:
    shape, rng = (clients, windows), np.random.default_rng(1)
    return PoolData(
        name="few", client_ids=np.arange(clients), cv=np.ones(shape),
        length_row=np.zeros(shape, np.int32), lengths={name: sketches(rng, 1) for name in LENGTHS},
        max_output_tokens=7, absent_ids=(), absent_count=np.zeros(windows), gap=np.zeros(windows, bool), **columns,
    )  # fmt: skip


def test_more_than_can_be_numbered_at_once_is_refused() -> None:
    buffers = compiled._Buffers(1 << PLAIN.EVENT_BITS)
    with pytest.raises(WorkloadError, match="arrive almost at once"):
        buffers.double()


@pytest.mark.skipif(is_plain("workloads.kernels"), reason="kernels are not compiled: too slow for whole streams")
def test_blocks_stay_short_however_high_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("workloads.compose"), "MANY_REQUESTS", 500_000)
    stream = compose(ClientPool.load("m-mid"), "60h", "2min", rate=5000.0, seed=2)
    blocks = list(stream.blocks())
    assert sum(map(len, blocks)) > 500_000 and max(map(len, blocks)) <= 2 * compiled.BLOCK_ROWS
    check_stream(np.concatenate(blocks))


def test_numpys_blocks_stay_short_too() -> None:
    blocks = list(compose(ClientPool.load("m-mid"), "60h", "1min", rate=4000.0, seed=2).blocks())
    assert sum(map(len, blocks)) > 200_000 and max(map(len, blocks)) <= compiled.BLOCK_ROWS


def test_kernels_are_taken_where_they_are_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("workloads.compose")
    monkeypatch.setattr(module, "is_plain", lambda name: False)
    for warm in (True, False):
        monkeypatch.setattr(compiled, "kernels_warm", lambda warm=warm: warm)
        assert [module._is_for_kernels(n) for n in (1e3, 499_999.0, 5e5, 3.9e6, 4e6)] == [False, False, warm, warm, True]
    monkeypatch.setattr(module, "is_plain", lambda name: True)
    assert not module._is_for_kernels(1e9)


def test_a_short_stream_does_not_wait_for_numba() -> None:
    code = """if True:
        import sys
        from workloads import ClientPool, compose
        rows = compose(ClientPool.load("deepseek-r1"), "20h", "1h", rate=10_000 / 3600).collect()
        print(len(rows) > 9000, sorted({"numba", "scipy", "pandas"} & set(sys.modules)))"""
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "True []"


def test_kernels_are_warm_once_warmed() -> None:
    warm_kernels()
    assert kernels_warm()


@pytest.mark.skipif(is_plain("workloads.kernels"), reason="kernels are not compiled")
def test_what_is_warmed_is_what_every_stream_needs() -> None:
    """Another signature would be a compiler's wait in the midst of a run."""
    warm_kernels()
    for clients, requests in ((1, 0.01), (1, 1.0), (3, 500.0)):
        pool = pool_of(
            clients, 1, **dict.fromkeys(("count", "shape"), np.full((clients, 1), requests)), family=np.ones((clients, 1))
        )
        assert len(list(compiled.blocks(Players(Composition(pool, np.arange(clients), 1.0, 0.0, 600.0, 4))))) == 1
    for name in ("play", "in_time_order", "fill_lengths", "fill_rows"):
        assert len(getattr(compiled.kernels, name).signatures) == 1
