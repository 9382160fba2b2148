"""Runs by one engine or the other, with the kernels named: what the tests of equality play and compare."""

import random
from dataclasses import replace

import numpy as np
import pytest

import sim.cluster
from sim import Engine, simulate
from sim.choice import Choice, Kernels
from tests.cases import AffineCost, ServedCluster, rows
from workloads.jit import can_compile
from workloads.stream import ITEMS, SEGMENTS, Stream, out_segment

COMPILED = [False, True] if can_compile() else [False]
ROUTERS = ("round_robin", "random", "power_of_two", "shortest_queue")


def play(stream, cluster, kernels=None, seed=1, **options):
    """A run by these kernels, or by the reference for none."""
    if kernels is None:
        return simulate(stream, cluster, seed, engine="reference", **options)
    choose = sim.cluster.choose_engine

    def chosen(*asked):
        return Choice("fast", "named", kernels), choose(*asked)[1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sim.cluster, "choose_engine", chosen)
        return simulate(stream, cluster, seed, **options)


def assert_same(one, other):
    """Every row, every count and every number of the summary, to the byte."""
    assert one.records.tobytes() == other.records.tobytes()
    assert one.steps.tobytes() == other.steps.tobytes()
    assert one.gaps == other.gaps
    assert one.step_count == other.step_count
    assert repr(one.summary("ttft:10ms e2el.p90:1s")) == repr(other.summary("ttft:10ms e2el.p90:1s"))


def families(cluster, stream):
    """Names of all families that claim to play this."""
    family, _ = sim.choice.family_of(replace(cluster.plan().engine), stream)
    return sorted({family, "general"})


def kernels_for(cluster, stream, is_compiled):
    """All kernels that claim to play this."""
    return [Kernels(family, is_compiled) for family in families(cluster, stream)]


class Windows:
    """A stream in windows of some length; some of them empty."""

    def __init__(self, stream, window_ns):
        self.requests = stream if isinstance(stream, np.ndarray) else stream.collect()
        self.segments = getattr(stream, "segments", np.empty(0, SEGMENTS))
        self.items = getattr(stream, "items", np.empty(0, ITEMS))
        self.window_ns, self.duration_s = window_ns, max(int(self.requests["arrival_ns"][-1]), 1) / 1e9

    def windows(self):
        index = self.requests["arrival_ns"] // self.window_ns
        return [self.requests[index == i] for i in range(int(index[-1]) + 1)]


def tiny_case(seed, *, shares=False, shows=False):
    """A burst on a small cluster with any of vLLM's switches; prompts that share text, or have images, where asked."""
    rnd = random.Random(seed)
    any_switch = shares or shows or rnd.random() < 0.3
    cost = AffineCost(rnd.choice([1_000_000, 500_000, 1]), rnd.choice([0, 1_000_000, 7]), rnd.choice([0, 1000]))
    engine = _tiny_engine(rnd, any_switch, shows)
    cluster = ServedCluster(step_cost=cost, instances=rnd.randint(1, 4), router=rnd.choice(ROUTERS), engine=engine)
    return _tiny_stream(rnd, shares, shows), replace(cluster, api_ns=rnd.choice([0, 4_400_000]))


def _tiny_engine(rnd, any_switch, shows):
    seats, block_size, context = rnd.randint(1, 8), rnd.choice([1, 2, 4, 16]), rnd.randint(16, 96)
    settings = {
        "max_num_seqs": seats,
        "max_num_batched_tokens": rnd.randint(seats, 64),
        "max_model_len": context,
        "block_size": block_size,
        "num_gpu_blocks_override": rnd.randint(4, rnd.choice([20, 90])) if block_size > 1 else rnd.randint(30, 150),
        "enable_prefix_caching": rnd.random() < 0.6,
        "async_scheduling": rnd.random() < 0.6,
        "scheduler_reserve_full_isl": rnd.random() < 0.4,
        "watermark": rnd.choice([0.0, 0.0, 0.1]),
    }
    if any_switch:
        settings |= {
            "policy": rnd.choice(["fcfs", "priority"]),
            "enable_chunked_prefill": rnd.random() < 0.6,
            "long_prefill_token_threshold": rnd.choice([0, 0, 7]),
            "block_size": rnd.choice([block_size, 3]),
        }
        if not settings["enable_chunked_prefill"]:
            settings["max_num_batched_tokens"] = max(settings["max_num_batched_tokens"], context)
    if shows:
        settings |= {"max_num_encoder_input_tokens": rnd.randint(4, 16), "encoder_cache_size": rnd.randint(4, 24)}
    return Engine(**settings)


def _tiny_stream(rnd, shares, shows):
    grid, span = rnd.choice([1_000_000, 1_000_000, 333_333]), rnd.choice([5, 60, 200])
    longest = rnd.choice([3, 20, 40])
    requests = []
    for _ in range(rnd.randint(1, 40)):
        output = rnd.randint(1, longest)
        requests.append((rnd.randint(0, span) * grid, rnd.randint(1, 40), output, output + rnd.choice([0, 0, 1, 3, 12])))
    table, segments, items = rows(requests), [], []
    for i, row in enumerate(table):
        row["priority"] = rnd.randint(0, 2)
        if shares:
            pieces = _pieces(rnd, table[:i], i, int(row["input_tokens"]))
            row["segments_start"], row["segments_count"] = len(segments), len(pieces)
            segments += pieces
        if shows:
            found = _items(rnd, int(row["input_tokens"]))
            row["items_start"], row["items_count"] = len(items), len(found)
            items += found
    if not (shares or shows):
        return table
    tables = {"segments": np.array(segments, SEGMENTS), "items": np.array(items, ITEMS)}
    return Stream(float(table["arrival_ns"][-1] + 1) / 1e9, lambda: iter([table]), **tables)


def _pieces(rnd, earlier, number, tokens):
    """A prompt that begins with one of two texts, or with an earlier answer, or with nothing that anybody shares."""
    kind = rnd.choice(["own", "text", "answer"])
    shared, name = 0, 0
    if kind == "answer" and len(earlier):
        request = earlier[rnd.randrange(len(earlier))]
        shared, name = min(int(request["output_tokens"]), tokens), out_segment(int(request["request_id"]))
    elif kind == "text":
        shared, name = min(40, tokens), rnd.randint(0, 1)
    own = [(1000 + number, tokens - shared)] if tokens > shared else []
    return ([(name, shared)] if shared else []) + own


def _items(rnd, tokens):
    """Images in a prompt: few tokens each, of three pictures."""
    found, offset = [], rnd.randint(0, 3)
    while offset < tokens and len(found) < 4:
        picture = rnd.randint(0, 2)
        size = 2 + 2 * picture
        if offset + size <= tokens and rnd.random() < 0.6:
            found.append((0, offset, size, size, picture))
        offset += size + rnd.randint(0, 4)
    return found
