"""The fast engine is the reference engine, to the byte."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import sim
import sim.choice
import sim.fast
import sim.router
import sim.world
from sim import Cluster, ClusterError, Engine, simulate
from sim.choice import Kernels
from sim.kernels import layout as at
from sim.router import PowerOfTwo, Random, RoundRobin, ShortestQueue
from tests.cases import PLAIN, AffineCost
from tests.engines import COMPILED, ROUTERS, Windows, assert_same, kernels_for, play, tiny_case
from workloads import WorkloadError, concurrency
from workloads.stream import new_rows

KINDS = {"text": {}, "shared": {"shares": True}, "images": {"shows": True}, "both": {"shares": True, "shows": True}}


@pytest.mark.parametrize("is_compiled", COMPILED, ids=lambda flag: "compiled" if flag else "plain")
@pytest.mark.parametrize("kind", KINDS)
def test_engines_are_equal_on_tiny_clusters(kind, is_compiled):
    """Where mistakes show: a few blocks, a few seats, bursts and exact ties; whole and in windows."""
    preemptions = hits = 0
    for seed in range(700 if is_compiled else 100):
        stream, cluster = tiny_case((kind, seed).__repr__(), **KINDS[kind])
        reference = play(stream, cluster, seed=seed)
        preemptions += int(reference.records["preemptions"].sum())
        hits += int(reference.records["cached_tokens"].sum())
        rnd = random.Random(seed)
        asked = Windows(stream, rnd.randint(500_000, 50_000_000)) if rnd.random() < 0.5 else stream
        for kernels in kernels_for(cluster, stream, is_compiled):
            found = play(asked, cluster, kernels, seed=seed)
            assert found.records.tobytes() == reference.records.tobytes(), (kind, seed, kernels)
            if asked is stream:
                assert_same(found, reference)
    assert preemptions > 50  # or the cases are not what they are meant to be
    assert (hits > 0) == (kind in ("shared", "both"))


class Spread:
    """A router of a user's own: the instance with the most free blocks, by the request's coin where several have them."""

    def choose(self, head, views):
        free = [view.free_blocks - view.waiting for view in views]
        best = [index for index, blocks in enumerate(free) if blocks == max(free)]
        return best[head.coin % len(best)]


@pytest.mark.parametrize(
    "router", [Spread(), RoundRobin(), Random(), PowerOfTwo(), ShortestQueue()], ids=lambda r: type(r).__name__
)
def test_a_router_in_python_sees_and_chooses_the_same(router):
    for seed in range(60):
        stream, cluster = tiny_case(seed, shows=seed % 3 == 0)
        cluster = replace(cluster, router=router)
        reference = play(stream, cluster, seed=seed)
        for kernels in kernels_for(cluster, stream, False):
            assert_same(play(stream, cluster, kernels, seed=seed), reference)


def test_a_router_that_is_added_to_the_dict_alone_is_played_from_there(monkeypatch):
    monkeypatch.setitem(sim.router.ROUTERS, "spread", Spread)
    stream, cluster = tiny_case(3)
    result = simulate(stream, replace(cluster, router="spread"))
    assert result.choice.engine == "fast" and "Python chooses" in result.choice.reason
    assert_same(result, play(stream, replace(cluster, router=Spread())))


class Looker:
    """A watch that remembers what it saw."""

    def __init__(self, period_s):
        self.period_s, self.seen = period_s, []

    def look(self, now_ns, views):
        self.seen.append((now_ns, list(views)))


@pytest.mark.parametrize("period_s", [0.001, 0.0007, 0.013])
def test_a_watch_sees_the_same_and_changes_nothing(period_s):
    looks = 0
    for seed in range(40):
        stream, cluster = tiny_case(seed)
        unwatched, one = play(stream, cluster, seed=seed), Looker(period_s)
        assert_same(play(stream, cluster, seed=seed, watch=one), unwatched)
        for kernels in kernels_for(cluster, stream, False):
            other = Looker(period_s)
            assert_same(play(stream, cluster, kernels, seed=seed, watch=other), unwatched)
            assert other.seen == one.seen
        assert all(now_ns <= int(stream["arrival_ns"][-1]) for now_ns, _ in one.seen)
        looks += len(one.seen)
    assert looks > 100


class Seen:
    """A probe that notes who computed how many tokens in which iteration."""

    def __init__(self):
        self.steps = []

    def step_ended(self, instance_id, start_ns, end_ns, batch):
        rows = [(request.request_id, tokens) for request, tokens in zip(batch.requests, batch.tokens, strict=True)]
        encoded = sorted((request.request_id, index) for request, index in batch.encoded)
        self.steps.append((instance_id, start_ns, end_ns, rows, sorted(r.request_id for r in batch.preempted), encoded))


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_is_told_the_same_of_every_iteration(kind):
    for seed in range(40):
        stream, cluster = tiny_case((kind, seed).__repr__(), **KINDS[kind])
        one = Seen()
        play(stream, cluster, seed=seed, probe=one)
        for kernels in kernels_for(cluster, stream, False):
            other = Seen()
            play(stream, cluster, kernels, seed=seed, probe=other)
            assert sorted(other.steps) == sorted(one.steps)
            assert [step[2] for step in other.steps] == [step[2] for step in one.steps]


@pytest.mark.parametrize("kind", KINDS)
def test_tables_that_are_full_grow_and_nothing_is_lost(kind, monkeypatch):
    monkeypatch.setattr(sim.world, "FEWEST_ROWS", 2)
    monkeypatch.setattr(sim.world, "_FIRST_SIZES", {at.RING_SIZE: 2, at.STACK_SIZE: 2, at.HOLES_SIZE: 1})
    monkeypatch.setattr(sim.fast, "PIECE_ROWS", 3)
    for seed in range(80):
        stream, cluster = tiny_case((kind, seed).__repr__(), **KINDS[kind])
        reference = play(stream, cluster, seed=seed)
        for kernels in kernels_for(cluster, stream, False):
            assert_same(play(stream, cluster, kernels, seed=seed), reference)


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize(
    "engine", [Engine(), Engine(**PLAIN), Engine(num_gpu_blocks_override=600)], ids=["default", "plain", "short"]
)
def test_engines_are_equal_with_measured_step_tables(router, engine):
    cluster = Cluster(gpu="h100", model="llama-3.1-8b", instances=3, router=router, engine=engine)
    stream = lognormal(600, 90.0)
    reference = play(stream, cluster)
    assert (reference.records["preemptions"].sum() > 0) == (engine.num_gpu_blocks_override is not None)
    for kernels in kernels_for(cluster, stream, COMPILED[-1]):
        assert_same(play(stream, cluster, kernels), reference)


def lognormal(n, rate_rps):
    rng = np.random.default_rng(7)
    table = new_rows(n)
    table["arrival_ns"] = np.cumsum(rng.exponential(1e9 / rate_rps, n)).astype("i8")
    table["request_id"] = np.arange(n)
    for name, mean in (("input_tokens", 512), ("output_tokens", 256)):
        table[name] = np.clip(rng.lognormal(np.log(mean), 0.8, n), 1, 4000)
    table["max_tokens"] = table["output_tokens"] + rng.integers(0, 2, n) * 500
    return table


def test_threads_at_once_give_the_bytes_of_one():
    cluster = Cluster(gpu="h100", model="llama-3.1-8b", instances=2)
    kernels = [Kernels("aggregate", COMPILED[-1])] * 4
    stream = lognormal(2000, 40.0)
    alone = [play(stream, cluster, one, seed=seed) for seed, one in enumerate(kernels)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: simulate(stream, cluster, seed, engine="fast"), range(4)))
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)


def test_a_short_run_is_played_by_plain_python_and_says_so(monkeypatch):
    monkeypatch.setattr(sim.choice, "is_loaded", lambda *names: False)
    stream, cluster = tiny_case(1)
    choice = simulate(stream, cluster).choice
    assert choice.engine == "fast" and not choice.kernels.is_compiled


class OwnCost:
    def step_ns(self, prefill_tokens, prefill_work, decodes, decode_context_tokens, samples):
        return 1_000_000


class Dearer(AffineCost):
    """A subclass that changes the price and leaves the tables as they were."""

    def step_ns(self, *sums):
        return 2 * super().step_ns(*sums)


@pytest.mark.parametrize("cost", [OwnCost(), Dearer()], ids=lambda cost: type(cost).__name__)
def test_a_cost_in_python_is_played_by_the_reference(cost):
    stream, cluster = tiny_case(1)
    cluster = replace(cluster, step_cost=cost)
    choice = simulate(stream, cluster).choice
    assert choice.engine == "reference" and "step cost" in choice.reason
    with pytest.raises(ClusterError, match="engine 'fast': the step cost is Python"):
        simulate(stream, cluster, engine="fast")


def test_a_closed_loop_is_played_by_the_reference():
    cluster = Cluster(gpu="h100", model="llama-3.1-8b")
    assert "closed loop" in simulate(concurrency(2, 10, 10, duration=1.0), cluster).choice.reason


def test_an_unknown_engine_is_named():
    stream, cluster = tiny_case(1)
    with pytest.raises(ClusterError, match=r"no engine 'fats'.*did you mean 'fast'"):
        simulate(stream, cluster, engine="fats")


class Falling(AffineCost):
    def arrays(self, most_tokens):
        tables = super().arrays(most_tokens)
        tables["by_tokens"] = tables["by_tokens"][::-1].copy()
        return tables


def test_a_cost_that_decreases_is_an_error():
    stream, cluster = tiny_case(1)
    with pytest.raises(ClusterError, match="by_tokens must never decrease"):
        simulate(stream, replace(cluster, step_cost=Falling(1_000_000, 1_000_000)))


def test_a_step_longer_than_64_bits_is_an_error():
    stream, cluster = tiny_case(1)
    with pytest.raises(ClusterError, match="64 bits"):
        simulate(stream, replace(cluster, step_cost=sim.AffineCost(1 << 61)))


def test_arrivals_beyond_time_and_out_of_order_are_errors():
    stream, cluster = tiny_case(1)
    late = stream.copy()
    late["arrival_ns"] += 1 << 61
    with pytest.raises(WorkloadError, match="73 years"):
        simulate(late, cluster)
    with pytest.raises(WorkloadError, match="sorted by arrival"):
        simulate(stream[::-1].copy(), cluster)


def test_a_run_that_never_ends_is_an_error():
    limits = {"max_num_seqs": 1, "max_num_batched_tokens": 8, "max_model_len": 100_000, "num_gpu_blocks_override": 100_000}
    stream = new_rows(1)
    stream["input_tokens"], stream["output_tokens"], stream["max_tokens"] = 1, 90_000, 90_000
    with pytest.raises(ClusterError, match="simulated seconds"):
        simulate(stream, Cluster(step_cost=sim.AffineCost(1 << 45), engine=Engine(**limits)))


def test_a_router_that_names_no_instance_is_an_error():
    class Lost:
        def choose(self, head, views):
            return len(views)

    stream, cluster = tiny_case(1)
    for engine in ("reference", "auto"):
        with pytest.raises(ClusterError, match="router Lost chose instance"):
            simulate(stream, replace(cluster, router=Lost()), engine=engine)
