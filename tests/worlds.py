"""A run of the general family of kernels, from a cluster and a stream to sorted tables: the harness of its tests."""

import importlib
from dataclasses import replace

import numpy as np

from sim.kernels import layout as at
from sim.request import FAILED, REJECTED
from sim.world import Wish, more_rows, more_slots, new_world
from workloads import jit
from workloads.stream import ITEMS, SEGMENTS

ROUTERS = ("round_robin", "random", "power_of_two", "shortest_queue")


class Priced:
    """The step cost of the tests in the terms of the kernels."""

    def __init__(self, cost):
        self.cost = cost

    def arrays(self, most_tokens):
        cost, nothing = self.cost, np.zeros(most_tokens + 1, np.int64)
        by_tokens = (cost.base_ns + cost.per_token_ns * np.arange(most_tokens + 1)) << 16
        others = dict.fromkeys(("by_samples", "by_prefill_tokens", "by_decodes"), nothing)
        return {"by_tokens": by_tokens, **others, "decode_context_ticks": cost.per_context_token_ns << 16}


def power_of_two(least):
    return 1 << max(least - 1, 1).bit_length()


def general_world(plan, wish, rows):
    """A world in which the general family can play these rows."""
    world, engine, n = new_world(plan, wish), plan.engine, wish.instances
    settings, width = world.settings, world.instances.shape[1]
    usable = plan.num_blocks - 1
    if engine.enable_prefix_caching:
        for place, size_at, size in (
            (at.BUCKETS, at.BUCKETS_SIZE, power_of_two(usable)),
            (at.FREE_QUEUE, at.FREE_QUEUE_SIZE, power_of_two(2 * usable)),
        ):
            settings[place], settings[size_at] = width, size
            width += size
    room, blocks = len(world.slots), 0
    if engine.enable_prefix_caching:
        blocks = int((rows["input_tokens"].astype("i8") + rows["output_tokens"]).max(initial=0)) // engine.block_size + 2
    items = min(len(np.unique(wish.items["item_id"])), engine.encoder_cache_size)
    most_items = int(rows["items_count"].max(initial=0)) if engine.encoder_cache_size else 0
    slots = np.zeros((room, at.WIDE_SLOT_COLUMNS), np.int64)
    slots[:, at.NEXT] = world.slots[:, at.NEXT]
    return world._replace(
        instances=np.zeros((n, width), np.int64),
        slots=slots,
        keys=np.zeros((room, blocks), np.uint64),
        held=np.zeros((room, blocks), np.int32),
        blocks=np.zeros((n, usable if engine.enable_prefix_caching else 0, at.BLOCK_COLUMNS), np.int64),
        batches=np.zeros((n, 2, engine.max_num_seqs, at.BATCH_COLUMNS), np.int64),
        encoders=np.zeros((n, items, at.ENCODER_COLUMNS), np.int64),
        marks=np.zeros((room, most_items, at.MARK_COLUMNS), np.int64),
    )


def grown(world, status):
    """More room for what there was none."""
    if status == at.NEEDS_SLOTS:
        marks = np.concatenate([world.marks, np.zeros_like(world.marks)])
        return more_slots(world)._replace(marks=marks)
    return more_rows(world, {at.NEEDS_RECORDS: "records", at.NEEDS_STEPS: "steps", at.NEEDS_TRACES: "traces"}[status])


class Played:
    """Records, steps, gaps and traces of a run, sorted as the reference sorts them."""

    def __init__(self, stream, cluster, cuts=(), seed=1, keep_traces=False, is_plain=False, keep_steps=True):
        package = jit.plain("sim.kernels").__name__ if is_plain else "sim.kernels"
        self.kernels = importlib.import_module(f"{package}.general")
        plan = cluster.plan()
        if not hasattr(plan.step_cost, "arrays"):
            plan = replace(plan, step_cost=Priced(plan.step_cost))
        rows = stream if isinstance(stream, np.ndarray) else stream.collect()
        tables = getattr(stream, "segments", np.empty(0, SEGMENTS)), getattr(stream, "items", np.empty(0, ITEMS))
        wish = Wish(cluster.instances, ROUTERS.index(cluster.router), seed, keep_steps, keep_traces, *tables)
        self.world = general_world(plan, wish, rows)
        with np.errstate(over="ignore"):
            self.kernels.open_instances(self.world)
            windows = np.split(rows, np.searchsorted(rows["arrival_ns"], cuts))
            for window, until in zip(windows, [*cuts, at.NEVER], strict=True):
                self.world.counts[at.CURSOR] = 0
                self._play(lambda: self.kernels.play_general(self.world, window, until))
            self._end_stuck()
        counts = self.world.counts
        records, steps = self.world.records[: counts[at.RECORD_COUNT]], self.world.steps[: counts[at.STEP_COUNT]]
        rank = np.select([records["finish_reason"] == REJECTED, records["finish_reason"] == FAILED], [1, 2], 0)
        self.records = records[np.lexsort((records["instance_id"], rank, records["finish_ns"]))]
        self.steps = steps[np.lexsort((steps["instance_id"], steps["start_ns"] + steps["duration_ns"]))]
        self.gaps = {int(i): int(self.world.gaps[i]) for i in np.flatnonzero(self.world.gaps)}
        self.step_count = int(counts[at.FORMED])
        self.traces = self.world.traces[: counts[at.TRACE_COUNT]]

    def _play(self, call):
        while (status := call()) != at.DONE:
            self.world = grown(self.world, status)

    def _end_stuck(self):
        """Those who could not go on are tried until nothing helps, then given up."""
        for index in range(len(self.world.instances)):
            me = self.world.instances[index]
            attempts = 1 + me[at.RUNNING] + me[at.WAITING]
            while me[at.RUNNING] + me[at.WAITING] and attempts:
                formed = self.world.counts[at.FORMED]
                self.kernels.nudge(me, self.world)
                self._play(lambda: self.kernels.advance_general(me, self.world, at.NEVER))
                attempts -= self.world.counts[at.FORMED] == formed
            self._play(lambda: self.kernels.give_up(me, self.world))
