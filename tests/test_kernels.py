"""Small kernels against their twins: the functions of the reference engine that they restate, and what a list would do."""

from importlib import import_module

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles import load_step_cost
from sim import histogram
from sim.affine import AffineCost
from sim.engine import FullEngine
from sim.kernels import layout as at
from sim.plan import Plan
from sim.request import mix64
from sim.world import Wish, new_world, wider_instances
from workloads.jit import plain

PACKAGE = plain("sim.kernels").__name__
steps, play, gaps, running, waiting, freequeue = (
    import_module(f"{PACKAGE}.{name}") for name in ("steps", "play", "gaps", "running", "waiting", "freequeue")
)
ENGINE = FullEngine(max_num_seqs=8, max_num_batched_tokens=64, max_model_len=4096)
PLAN = Plan(ENGINE, AffineCost(1000), 64)


@given(st.integers(-5, 2**62))
def test_bin_of_is_that_of_the_histogram(value):
    assert steps.bin_of(value) == histogram.bin_of(value)


@given(st.integers(1, 2**61))
def test_bin_floor_is_the_smallest_integer_of_its_bin(value):
    floor = steps.bin_floor(histogram.bin_of(value))
    assert (
        floor <= value
        and steps.bin_of(floor) == steps.bin_of(value)
        and (floor <= 1 or steps.bin_of(floor - 1) < steps.bin_of(value))
    )


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**62))
def test_coin_of_is_the_coin_of_the_request(seed, request_id):
    seed_bits = np.array([mix64(seed & (2**64 - 1))], np.uint64).view(np.int64)[0]
    with np.errstate(over="ignore"):
        assert int(play.coin_of(seed_bits, np.int64(request_id))) == mix64(mix64(seed & (2**64 - 1)) ^ request_id)


@given(st.integers(0, 4000), st.integers(0, 10**6), st.integers(0, 200), st.integers(0, 10**6), st.integers(0, 256))
def test_step_ns_is_that_of_the_step_table(prefill_tokens, work, decodes, context, samples):
    table = load_step_cost("h100", "llama-3.1-8b").table(8192, 256, 8192, 400_000)
    plan = Plan(FullEngine(max_num_seqs=256, max_num_batched_tokens=8192, max_model_len=8192), table, 25_000)
    world = new_world(plan, Wish(1, 0, 1, False))
    wanted = table.step_ns(prefill_tokens, work, decodes, context, samples)
    assert steps.step_ns(world, prefill_tokens, work, 7, decodes, context, samples, 9) == wanted


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_text_comes_before_as_texts_do(one, other):
    assert bool(waiting.text_comes_before(one, other)) == (str(one) < str(other))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(0, 45))
def test_longest_gap_since_is_the_largest_of_a_list(lengths, since):
    world = wider_instances(new_world(PLAN, Wish(1, 0, 1, False)), PLAN, at.STACK_SIZE)
    me = world.instances[0]
    for batch, gap_ns in enumerate(lengths):
        gaps.push_gap(me, world, batch, gap_ns)
    assert gaps.longest_gap_since(me, world, since) == max(lengths[since:], default=at.NONE)
    gaps.drop_old_gaps(me, world, since)
    assert gaps.longest_gap_since(me, world, since) == max(lengths[since:], default=at.NONE)


@given(st.lists(st.sampled_from(["append", "drop", "pop"]), max_size=120), st.randoms(use_true_random=False))
def test_the_ring_of_those_who_run_is_a_list(moves, random):
    world = new_world(PLAN, Wish(1, 0, 1, False))
    world.settings[at.RING_SIZE] = 16
    me, twin, unused = world.instances[0], [], list(range(8))
    for move in moves:
        if move == "append" and unused:
            twin.append(unused.pop())
            running.append_running(me, world, twin[-1])
        elif move == "drop" and twin:
            unused.append(twin.pop(random.randrange(len(twin))))
            running.drop_running(me, world, unused[-1])
        elif move == "pop" and twin:
            unused.append(twin.pop())
            assert running.pop_running(me, world) == unused[-1]
        ring = [me[world.settings[at.RING] + (seat & 15)] for seat in range(me[at.RING_HEAD], me[at.RING_TAIL])]
        assert [slot for slot in ring if slot != at.NONE] == twin and me[at.RUNNING] == len(twin)


@given(st.lists(st.tuples(st.sampled_from(["take", "give", "find"]), st.integers(1, 12)), max_size=60))
def test_positions_in_the_free_queue_are_the_blocks_of_a_list(moves):
    """The twin keeps every block: which are free, in order, and whose key each carries."""
    world = new_world(PLAN, Wish(1, 0, 1, False))
    me, queue, out, given = world.instances[0], [None] * 63, [], {}
    for number, (move, count) in enumerate(moves):
        slot = number % len(world.slots)
        if move == "take" and count <= len(queue):
            freequeue.take(me, world, count)
            out += [None] * count
            del queue[:count]
        elif move == "give" and count <= len(out):
            keyed = count // 2
            world.slots[slot, at.FLAGS] = at.PREEMPTED_ONCE
            freequeue.give_back(me, world, slot, count, keyed)
            queue = [None] * (count - keyed) + queue + [(slot, keyed - 1 - k) for k in range(keyed)]
            del out[:count]
            given[slot] = keyed
        elif move == "find" and given:
            slot = next(iter(given))
            mine = [block for block in queue if block and block[0] == slot]
            found = next((k for k in range(given[slot]) if (slot, k) not in mine), given[slot])
            assert freequeue.find(me, world, slot) == (found, found)
            if found:
                freequeue.take_chain(me, world, slot, found)
                queue = [block for block in queue if not (block and block[0] == slot and block[1] < found)]
                out += [None] * found
            del given[slot]
        assert me[at.FREE] == len(queue)
