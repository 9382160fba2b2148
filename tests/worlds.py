"""A run of the compiled general family, from a cluster and a stream to sorted tables: the harness of its tests."""

import importlib

import numpy as np

from sim.kernels import layout as at
from sim.request import FAILED, RECORD, REJECTED, STEP, mix64
from workloads import jit
from workloads.stream import ITEMS, SEGMENTS

ROUTERS = ("round_robin", "random", "power_of_two", "shortest_queue")


def power_of_two(least):
    return 1 << max(least - 1, 1).bit_length()


def cost_of(step_cost, engine):
    """The looked-up terms and the prices of products, in ticks."""
    budget, seats = engine.max_num_batched_tokens, engine.max_num_seqs
    cost, prices = np.zeros((4, budget + seats + 2), np.int64), [0, 0, 0, 0]
    if hasattr(step_cost, "arrays"):
        arrays = step_cost.arrays()
        for row, name in zip(cost, ("by_tokens", "by_samples", "by_prefill_tokens", "by_decodes")):
            row[: len(arrays[name])] = arrays[name]
        return cost, [arrays["prefill_work_ticks"], arrays["decode_context_ticks"], 0, 0]
    context = getattr(step_cost, "per_context_token_ns", getattr(step_cost, "per_kv_token_ns", 0)) << 16
    cost[0] = (step_cost.base_ns + step_cost.per_token_ns * np.arange(cost.shape[1])) << 16
    has_batch = hasattr(step_cost, "batch_ns")
    prices = [0, context, context if has_batch else 0, step_cost.per_encoder_token_ns << 16 if has_batch else 0]
    return cost, prices


def world_of(plan, cluster, seed, segments, items, longest, most_items, room=4, keeps_traces=False):
    engine = plan.engine
    settings = np.zeros(at.SETTINGS, np.int64)
    usable = plan.num_blocks - 1
    settings[at.DEPTH] = 2 if engine.async_scheduling else 1
    settings[at.SEATS] = engine.max_num_seqs
    settings[at.BUDGET] = engine.max_num_batched_tokens
    settings[at.BLOCK_SIZE] = engine.block_size
    settings[at.BLOCK_SHIFT] = engine.block_size.bit_length() - 1
    settings[at.WATERMARK] = int(engine.watermark * plan.num_blocks)
    settings[at.RESERVES] = engine.scheduler_reserve_full_isl
    settings[at.CACHES] = engine.enable_prefix_caching
    settings[at.MAX_LEN] = engine.max_model_len
    settings[at.USABLE] = usable
    settings[at.BY_PRIORITY] = engine.policy == "priority"
    settings[at.CHUNKS] = engine.enable_chunked_prefill
    settings[at.THRESHOLD] = engine.long_prefill_token_threshold
    settings[at.ENCODER_BUDGET] = engine.max_num_encoder_input_tokens
    settings[at.ENCODER_CACHE] = engine.encoder_cache_size
    settings[at.ROUTER] = ROUTERS.index(cluster.router)
    settings[at.SEED_BITS] = np.uint64(mix64(seed)).astype(np.int64)
    settings[at.KEEPS_STEPS] = 1
    settings[at.TRACES] = keeps_traces
    cost, prices = cost_of(plan.step_cost, engine)
    settings[at.WORK_TICKS : at.WORK_TICKS + 4] = prices
    place = at.INSTANCE_COLUMNS
    for where, size_at, size in (
        (at.RING, at.RING_SIZE, power_of_two(engine.max_num_seqs)),
        (at.BUCKETS, at.BUCKETS_SIZE, power_of_two(usable)),
        (at.FREE_QUEUE, at.FREE_QUEUE_SIZE, power_of_two(2 * usable)),
    ):
        settings[where], settings[size_at] = place, size
        place += size
    n, blocks = cluster.instances, longest // engine.block_size + 2
    counts = np.zeros(at.COUNTS, np.int64)
    slots = np.zeros((room, at.WIDE_SLOT_COLUMNS), np.int64)
    slots[:, at.NEXT] = np.arange(1, room + 1)
    slots[-1, at.NEXT] = at.NONE
    world = at.World(
        settings,
        cost,
        np.zeros((n, place), np.int64),
        np.zeros((n, 2), np.int64),
        slots,
        np.zeros((room, at.RARE_COLUMNS), np.int64),
        np.zeros(room, RECORD),
        np.zeros(room, RECORD),
        np.zeros(room, STEP),
        np.zeros((room, at.TRACE_COLUMNS), np.int64),
        np.zeros(64 * 128, np.int64),
        counts,
        segments,
        items,
        np.zeros((room, blocks), np.uint64),
        np.zeros((room, blocks), np.int32),
        np.zeros((n, plan.num_blocks, at.BLOCK_COLUMNS), np.int64),
        np.zeros((n, 2, engine.max_num_seqs, at.BATCH_COLUMNS), np.int64),
        np.zeros((n, min(len(np.unique(items["item_id"])), engine.encoder_cache_size), at.ENCODER_COLUMNS), np.int64),
        np.zeros((room, most_items, at.MARK_COLUMNS), np.int64),
    )
    return world


def doubled(array):
    out = np.zeros((2 * len(array), *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out


def grown(world, status):
    if status == at.NEEDS_SLOTS:
        room = len(world.slots)
        world = world._replace(**{n: doubled(getattr(world, n)) for n in ("slots", "rare", "lives", "keys", "held", "marks")})
        world.slots[room:, at.NEXT] = np.arange(room + 1, 2 * room + 1)
        world.slots[-1, at.NEXT] = at.NONE
        world.counts[at.FREE_SLOT] = room
        return world
    name = {at.NEEDS_RECORDS: "records", at.NEEDS_STEPS: "steps", at.NEEDS_TRACES: "traces"}[status]
    return world._replace(**{name: doubled(getattr(world, name))})


def family(name, is_plain):
    package = jit.plain("sim.kernels").__name__ if is_plain else "sim.kernels"
    return importlib.import_module(f"{package}.{name}")


class Played:
    def __init__(self, stream, cluster, cuts=(), seed=1, keeps_traces=False, is_plain=False, room=4):
        kernels = family("general", is_plain)
        plan = cluster.plan()
        rows = stream if isinstance(stream, np.ndarray) else stream.collect()
        segments = getattr(stream, "segments", np.empty(0, SEGMENTS))
        items = getattr(stream, "items", np.empty(0, ITEMS))
        most_items = int(rows["items_count"].max(initial=0))
        longest = int((rows["input_tokens"].astype("i8") + rows["output_tokens"]).max(initial=0))
        self.world = world_of(plan, cluster, seed, segments, items, longest, most_items, room, keeps_traces)
        with np.errstate(over="ignore"):
            kernels.open_general(self.world)
            windows = np.split(rows, np.searchsorted(rows["arrival_ns"], cuts))
            for window, until in zip(windows, [*cuts, at.NEVER], strict=True):
                self.world.counts[at.CURSOR] = 0
                self._play(lambda: kernels.play_general(self.world, window, until))
            self._end_stuck(kernels)
        counts = self.world.counts
        records, steps = self.world.records[: counts[at.RECORD_COUNT]], self.world.steps[: counts[at.STEP_COUNT]]
        rank = np.select([records["finish_reason"] == REJECTED, records["finish_reason"] == FAILED], [1, 2], 0)
        self.records = records[np.lexsort((records["instance_id"], rank, records["finish_ns"]))]
        self.steps = steps[np.lexsort((steps["instance_id"], steps["start_ns"] + steps["duration_ns"]))]
        self.gaps = {int(i): int(self.world.gaps[i]) for i in np.flatnonzero(self.world.gaps)}
        self.traces = self.world.traces[: counts[at.TRACE_COUNT]]

    def _play(self, call):
        while (status := call()) != at.DONE:
            self.world = grown(self.world, status)

    def _end_stuck(self, kernels):
        for index in range(len(self.world.instances)):
            me = self.world.instances[index]
            attempts = 1 + me[at.RUNNING] + me[at.WAITING]
            while me[at.RUNNING] + me[at.WAITING] and attempts:
                formed = self.world.counts[at.FORMED]
                kernels.nudge(me, self.world)
                self._play(lambda: kernels.advance_general(me, self.world, at.NEVER))
                attempts -= self.world.counts[at.FORMED] == formed
            self._play(lambda: kernels.give_up(me, self.world))
