"""The parts of the general kernels are those of the reference engine: keys, queue, blocks, encoder cache."""

import importlib
from collections import deque
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import AffineCost, Cluster, Engine
from sim.choice import Kernels
from sim.encoder import EncoderCache, plan_items
from sim.engine import FullEngine
from sim.kernels import layout as at
from sim.kvcache import PrefixCache
from sim.plan import Plan
from sim.prompts import Prompts
from sim.request import FAILED
from sim.wide_world import _most_items, more_columns, widened
from sim.world import Wish, new_world
from tests.cases import rows
from tests.engines import assert_same, play
from workloads.jit import plain
from workloads.stream import ITEMS, SEGMENTS, Stream

BLOCK = 4
LIMITS = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "max_model_len": 500}


def kernels(module):
    """The plain bodies of a module of kernels."""
    return importlib.import_module(f"{plain('sim.kernels').__name__}.{module}")


def new_run(engine, num_blocks, requests, segments=(), items=()):
    """A world in which these rows wait for nothing yet, its instance, and the same rows as requests of the reference."""
    tables = np.array(list(segments), SEGMENTS), np.array(list(items), ITEMS)
    plan = Plan(engine, AffineCost(1000), num_blocks)
    world = widened(new_world(plan, Wish(1, at.ROUND_ROBIN, 1, False, False, True, *tables)), plan)
    world = more_columns(world, plan, requests)
    kernels("general").open_instances(world)
    me, prompts = world.instances[0], Prompts(engine, *tables)
    with np.errstate(over="ignore"):
        for slot, row in enumerate(requests):
            kernels("play").begin_life(world, slot, row)
            world.slots[slot, at.TOKENS] = row["input_tokens"]
            world.slots[slot, at.LIMIT] = row["input_tokens"] + row["output_tokens"]
            kernels("general").accept(me, world, slot, row)
    return world, me, [prompts.request(row) for row in requests.tolist()]


# Keys


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 9)), max_size=5), st.integers(1, 30), st.integers(1, 7))
def test_keys_are_those_of_the_reference(segments, output_tokens, block_size):
    tokens = sum(tokens for _, tokens in segments) or 11
    requests = rows([(0, tokens, output_tokens, output_tokens)])
    requests[0]["request_id"], requests[0]["segments_count"] = 3 << 32, len(segments)
    world, _, (request,) = new_run(FullEngine(block_size=block_size, **LIMITS), 300, requests, segments)
    count = (tokens + output_tokens) // block_size
    assert world.keys[0, :count].tolist() == [request.keys.at(index) for index in range(count)]


# The queue


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.integers(0, 18))
def test_ids_are_compared_as_texts(one, other, digits):
    comes_before = kernels("waiting").text_comes_before
    for first, second in ((one, other), (one, one), (one, one // 10**digits), (one // 10**digits, one)):
        assert comes_before(first, second) == (str(first) < str(second))


WHAT = ["push", "push", "give_back", "pop", "remove", "remove", "set_back"]
moves = st.lists(st.tuples(st.sampled_from(WHAT), st.integers(0, 11)), min_size=30, max_size=60)


class Sorted(list):
    """The queue by priority, sorted anew each time: of (rank, slot)."""

    def push(self, entry):
        self.append(entry)
        self.sort()

    append_left = push

    def set_back(self, entries):
        for entry in entries:
            self.push(entry)


class InOrder(deque):
    """The queue of first come first served."""

    push = deque.append
    append_left = deque.appendleft

    def set_back(self, entries):
        self.extendleft(reversed(entries))


@settings(max_examples=200)
@given(st.sampled_from(["fcfs", "priority"]), st.lists(st.integers(0, 2), min_size=12, max_size=12), moves)
def test_a_queue_serves_in_the_order_of_its_twin(policy, priorities, steps):
    requests = rows([(i // 4, 1, 1, 1) for i in range(12)])
    requests["priority"], requests["request_id"] = priorities, [9, 10, 11, 80, 8, 81, 100, 101, 7, 70, 700, 71]
    world, me, twins = new_run(FullEngine(policy=policy, enable_prefix_caching=False, **LIMITS), 9, requests)
    me[at.HEAD] = me[at.TAIL] = at.NONE
    queue, twin = kernels("waiting"), Sorted() if policy == "priority" else InOrder()
    entries = [(request.rank, slot) for slot, request in enumerate(twins)]
    for what, slot in steps:
        entry = entries[slot]
        if what in ("push", "give_back") and entry not in twin:
            getattr(queue, what)(me, world, slot)
            (twin.push if what == "push" else twin.append_left)(entry)
        elif what == "remove" and entry in twin:
            queue.remove(me, world, slot)
            twin.remove(entry)
        elif what == "pop" and twin:
            assert queue.pop(me, world) == twin[0][1]
            twin.remove(twin[0])
        elif what == "set_back" and twin:
            aside = [queue.pop(me, world) for _ in range(min(slot, len(twin)))]
            for first, second in pairwise(aside):
                world.slots[first, at.NEXT] = second
            if aside:
                world.slots[aside[-1], at.NEXT] = at.NONE
            queue.set_back(me, world, *((aside[0], aside[-1]) if aside else (at.NONE, at.NONE)))
            popped = [entry for entry in twin if entry[1] in aside]
            for entry in popped:
                twin.remove(entry)
            twin.set_back(popped)
        assert me[at.HEAD] == (twin[0][1] if twin else at.NONE)
    assert [queue.pop(me, world) for _ in range(len(twin))] == [slot for _, slot in twin]


# Blocks


uses = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["grow", "grow", "release"]), st.integers(1, 30)), min_size=20, max_size=60
)


@settings(max_examples=200)
@given(st.integers(3, 40), st.sampled_from([1, 3, 4, 16]), st.lists(st.integers(0, 1), min_size=5, max_size=5), uses)
def test_blocks_go_and_come_as_in_the_reference(num_blocks, block_size, texts, steps):
    requests = rows([(0, 48, 20, 20)] * 5)
    segments = [piece for i, text in enumerate(texts) for piece in ((text, 24), (100 + i, 24))]
    requests["segments_start"], requests["segments_count"] = range(0, 10, 2), 2
    world, me, twins = new_run(FullEngine(block_size=block_size, **LIMITS), num_blocks, requests, segments)
    kv, blocks = PrefixCache(num_blocks, block_size), kernels("blocks")
    world.settings[at.FREE_QUEUE_SIZE] //= 2  # so that it has to be squeezed
    world.settings[at.BUCKETS_SIZE] = 8  # so that many share a bucket
    for slot, what, tokens in steps:
        request, row = twins[slot], world.slots[slot]
        if what == "release":
            kv.release(request)
            blocks.release(me, world, slot)
            request.computed = 0
        else:
            if not request.blocks:
                hit = kv.find(request)
                assert blocks.find(me, world, slot) == (len(hit), kv.unheld(hit))
                kv.touch(request, hit)
                blocks.touch(me, world, slot, len(hit))
                request.computed = len(hit) * block_size
            after = request.computed + min(tokens, request.tokens - request.computed)
            assert kv.grow(request, after) == blocks.grow(me, world, slot, after)
            if request.kv_slots >= after:
                request.computed = after
                kv.commit(request, after)
                blocks.commit(me, world, slot, after)
        assert [block - 1 for block in request.blocks] == world.held[slot, : row[at.HELD]].tolist()
        assert (row[at.ROOM], row[at.COMMITTED]) == (request.kv_slots, request.committed)
        assert [block - 1 for block in kv._free] == free_queue(world, me)
        assert me[at.FREE] == kv.free_blocks


def free_queue(world, me):
    """The free queue without its holes."""
    start, size = world.settings[at.FREE_QUEUE], world.settings[at.FREE_QUEUE_SIZE]
    queue = [me[start + position % size] for position in range(me[at.QUEUE_HEAD], me[at.QUEUE_TAIL])]
    return [block for block in queue if block != at.NONE]


# Images


LOOKS = ["plan", "plan", "plan", "end", "finish"]
looks = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(LOOKS), st.integers(6, 20)), min_size=20, max_size=40)
pictures = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 7)), min_size=2, max_size=6)


@settings(max_examples=200)
@given(st.lists(pictures, min_size=4, max_size=4), st.integers(4, 12), st.integers(4, 12), looks)
def test_items_are_planned_and_kept_as_in_the_reference(prompts, size, budget, steps):
    items, requests = [], rows([(0, 60, 1, 1)] * 4)
    for row, placed in zip(requests, prompts):
        row["items_start"], offset = len(items), 0
        for gap, picture in placed:
            items.append((0, offset + gap, 1 + picture % 4, 1, picture))
            offset += gap + 1 + picture % 4
        row["items_count"] = len(placed)
    engine = FullEngine(max_num_encoder_input_tokens=budget, encoder_cache_size=size, enable_prefix_caching=False, **LIMITS)
    world, me, twins = new_run(engine, 99, requests, (), items)
    cache, kernel = EncoderCache(size), kernels("items")
    for slot, what, tokens in steps:
        request = twins[slot]
        if what == "plan":
            me[at.ENCODER_LEFT] = budget
            allowed, chosen = plan_items(cache, request, request.computed, tokens, budget)
            assert kernel.plan_items(me, world, slot, request.computed, tokens) == allowed
            if allowed:
                for index in chosen:
                    cache.store(request, request.items[index])
                assert kernel.encode(me, world, slot) == sum(request.items[index].tokens for index in chosen)
                request.computed += allowed
                world.slots[slot, at.HAS_COMPUTED] = request.computed
        elif what == "finish":
            cache.let_go_finished(request)
            kernel.let_go_finished(me, world, slot)
        else:
            cache.let_go_all(request)
            kernel.let_go_all(me, world, slot)
            request.computed = world.slots[slot, at.HAS_COMPUTED] = 0
        assert (me[at.UNUSED], me[at.REACHABLE]) == (cache.unused, cache.reachable)
        kept = world.encoders[0, : me[at.ENTRIES]]
        assert dict(kept[:, [at.IDENTITY, at.HOLDERS]].tolist()) == {k: len(held) for k, held in cache._holders.items()}


def test_a_picture_that_comes_in_several_sizes_is_kept_as_in_the_reference():
    """An item let go in a larger size than it was stored in leaves more room than there was."""
    requests = rows([(i * 10_000_000, 20, 2, 2) for i in range(12)])
    requests["items_start"], requests["items_count"] = range(0, 24, 2), 2
    items = np.array([(0, 8 * (i % 2), 1 + i % 7, 1, (i * 5) % 9) for i in range(24)], ITEMS)
    engine = Engine(max_num_encoder_input_tokens=7, encoder_cache_size=7, num_gpu_blocks_override=99, **LIMITS)
    cluster = Cluster(step_cost=AffineCost(1000, 10, 0, 100), engine=engine)
    stream = Stream(1.0, lambda: iter([requests]), items=items)
    assert_same(play(stream, cluster, Kernels("general", False)), play(stream, cluster))
    assert _most_items(items, 7) == 9 and _most_items(items[:2], 1) == 1 and _most_items(items, 0) == 0


# The end


def test_who_is_given_up_leaves_in_the_order_of_seats_and_then_of_the_queue():
    requests = rows([(0, 9, 5, 9)] * 4)
    world, me, _ = new_run(FullEngine(**LIMITS | {"max_num_seqs": 2}, block_size=BLOCK), 30, requests)
    world.counts[at.LATEST], me[at.WAITING] = 77, 4
    with np.errstate(over="ignore"):
        kernels("round").plan_round(me, world)
    assert (me[at.RUNNING], me[at.WAITING]) == (2, 2)
    assert kernels("general").give_up(me, world) == at.DONE
    records = world.records[: world.counts[at.RECORD_COUNT]]
    assert records["request_id"].tolist() == [0, 1, 2, 3]
    assert set(records["finish_reason"]) == {FAILED} and set(records["finish_ns"]) == {77}
    assert me[at.RUNNING] == me[at.WAITING] == 0
