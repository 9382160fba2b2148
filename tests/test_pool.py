"""The pool kernels where they differ from the others: an answer is found while it is decoded, and no table is too short."""

import random
from dataclasses import replace

import numpy as np
import pytest

import sim.wide_world
import sim.world
from sim import Cluster, Engine
from sim.choice import Kernels, family_of
from tests.cases import AffineCost, rows
from tests.engines import COMPILED, assert_same, families, play, tiny_case
from workloads.stream import SEGMENTS, Stream, out_segment

ROUTERS = ("round_robin", "power_of_two")


def early_turns(seed):
    """Conversations whose turns do not wait for the answer before them, on few blocks."""
    rnd = random.Random(seed)
    requests = [(rnd.randint(0, rnd.choice([10, 60])) * 1_000_000, 1, rnd.randint(2, 30), 0) for _ in range(rnd.randint(2, 24))]
    table, segments, histories = rows(requests), [], []
    for i, row in enumerate(table):
        row["max_tokens"] = row["output_tokens"] + rnd.choice([0, 0, 5])
        history = rnd.choice([[], *histories]) if rnd.random() < 0.8 else []
        own = rnd.randint(0 if history else 1, 8)
        pieces = [*history, (1000 + i, own)] if own else [*history[:-1], (history[-1][0], rnd.randint(1, history[-1][1]))]
        if own and len(pieces) < 7:
            histories.append([*pieces, (out_segment(int(row["request_id"])), int(row["output_tokens"]))])
        row["input_tokens"] = sum(tokens for _, tokens in pieces)
        row["segments_start"], row["segments_count"] = len(segments), len(pieces)
        segments += pieces
    stream = Stream(1.0, lambda: iter([table]), segments=np.array(segments, SEGMENTS))
    seats, block_size = rnd.randint(2, 8), rnd.choice([1, 2, 4, 8])
    longest = int((table["input_tokens"] + table["max_tokens"]).max())
    engine = Engine(
        max_num_seqs=seats,
        max_num_batched_tokens=rnd.choice([seats, 16, 64]),
        max_model_len=max(longest + rnd.choice([-3, 0, 50]), 4),
        block_size=block_size,
        num_gpu_blocks_override=int(longest / block_size * rnd.choice([1, 1.5, 3])) + 3,
        async_scheduling=rnd.random() < 0.6,
        scheduler_reserve_full_isl=rnd.random() < 0.5,
        watermark=rnd.choice([0.0, 0.0, 0.2]),
    )
    cost = AffineCost(1_000_000, rnd.choice([0, 250_000]), rnd.choice([0, 1000]))
    return stream, Cluster(step_cost=cost, instances=rnd.randint(1, 2), router=rnd.choice(ROUTERS), engine=engine)


@pytest.mark.parametrize("is_compiled", COMPILED, ids=lambda flag: "compiled" if flag else "plain")
def test_a_turn_finds_what_has_been_decoded_of_the_answer_before_it(is_compiled):
    early = preemptions = 0
    for seed in range(300 if is_compiled else 60):
        stream, cluster = early_turns(seed)
        assert family_of(cluster.plan().engine, stream)[0] == "pool"
        reference = play(stream, cluster)
        for family in ("pool", "general"):
            assert_same(play(stream, cluster, Kernels(family, is_compiled)), reference)
        preemptions += int(reference.records["preemptions"].sum())
        early += _early_hits(stream, reference.records)
    assert early > 5 and preemptions > 20  # or the cases are not what they are meant to be


def _early_hits(stream, records):
    """Requests that found more cached than the prompt before the last answer in theirs, which had not ended."""
    left = {int(record["request_id"]): record for record in records}
    count = 0
    for row in stream.collect():
        pieces = stream.segments[row["segments_start"] :][: row["segments_count"]]
        answers = np.flatnonzero(pieces["segment_id"] < 0)
        if len(answers):
            author, found = left[-1 - int(pieces["segment_id"][answers[-1]])], left[int(row["request_id"])]
            is_early = found["scheduled_ns"] < author["finish_ns"] and found["instance_id"] == author["instance_id"]
            count += is_early and found["cached_tokens"] > author["input_tokens"]
    return count


@pytest.mark.parametrize("kind", [{}, {"shares": True}, {"shares": True, "shows": True}], ids=["text", "shared", "images"])
def test_tables_that_begin_too_short_grow_and_nothing_else_changes(kind, monkeypatch):
    monkeypatch.setattr(sim.world, "FEWEST_ROWS", 1)
    monkeypatch.setattr(sim.world, "_FIRST_SIZES", dict.fromkeys(sim.world._FIRST_SIZES, 2))
    monkeypatch.setattr(sim.wide_world, "_FEWEST_COLUMNS", 1)
    for seed in range(60):
        stream, cluster = tiny_case(f"{kind} {seed}", **kind)
        cluster = replace(cluster, engine=replace(cluster.engine, max_num_seqs=min(8, cluster.engine.max_num_batched_tokens)))
        reference = play(stream, cluster)
        for family in families(cluster, stream):
            assert_same(play(stream, cluster, Kernels(family, False)), reference)
