"""The arrays of a compiled run: made for a plan, and made larger when they are full."""

from typing import Any, NamedTuple

import numpy as np

from sim.engine import ClusterError
from sim.kernels import layout as at
from sim.plan import Plan
from sim.request import RECORD, STEP, mix64
from workloads.stream import ITEMS, SEGMENTS

FEWEST_ROWS = 1 << 10
_GAP_BINS = 63 << 7  # sim.histogram, of any int64
_LOOKED_UP = ("by_tokens", "by_samples", "by_prefill_tokens", "by_decodes")
_CONTEXT = "by_decodes_context"
_FACTORS = {
    at.WORK_TICKS: "prefill_work_ticks",
    at.CHUNK_CONTEXT_TICKS: "chunk_context_ticks",
    at.ENCODE_TICKS: "encode_ticks",
}
_FIRST_SIZES = {at.RING_SIZE: 256, at.STACK_SIZE: 64, at.HOLES_SIZE: 64}
_LINE = 8  # int64 in a cache line


class Wish(NamedTuple):
    """What a run is to do, besides its plan: instances, the code of its router, the seed of the coins, tables to keep."""

    instances: int
    router: int
    seed: int
    keep_steps: bool
    keep_traces: bool = False
    is_wide: bool = False
    segments: np.ndarray = np.empty(0, SEGMENTS)
    items: np.ndarray = np.empty(0, ITEMS)


def new_world(plan: Plan, wish: Wish) -> at.World:
    """The arrays at the beginning of a run. ClusterError where the step cost cannot be played from tables.

    The table of those who run has its full size where `wish.is_wide`, as the general kernels want it.
    """
    cost, factors = _prices(plan)
    settings = _settings(plan, wish)
    for column, value in factors.items():
        settings[column] = value
    sizes = _FIRST_SIZES | ({at.RING_SIZE: 1 << plan.engine.max_num_seqs.bit_length()} if wish.is_wide else {})
    has_blocks = wish.is_wide and plan.engine.enable_prefix_caching
    instances = _aligned(wish.instances, _lay_out(settings, _regions(plan, sizes, has_blocks)), at.NONE)
    instances[:, : at.INSTANCE_COLUMNS] = 0
    instances[:, settings[at.PHASES] : settings[at.PHASES] + plan.engine.block_size] = 0
    instances[:, at.ID] = np.arange(wish.instances)
    instances[:, [at.ENDING, at.ENDING + 1, at.HEAD, at.TAIL, at.PARTIAL, at.COMPLETING]] = at.NONE
    instances[:, at.FREE] = instances[:, at.QUEUE_TAIL] = plan.num_blocks - 1
    queues = np.zeros((wish.instances, 2), np.int64)
    queues[:, 0] = at.NEVER
    counts = np.zeros(at.COUNTS, np.int64)
    counts[at.FREE_SLOT] = at.NONE
    world = at.World(
        settings=settings,
        cost=cost,
        instances=instances,
        queues=queues,
        wheels=np.full((wish.instances, at.WHEEL_SIZE), at.NONE, np.int32),
        slots=np.empty((0, at.SLOT_COLUMNS), np.int64),
        rare=np.empty((0, at.RARE_COLUMNS), np.int64),
        lives=np.empty(0, RECORD),
        records=np.empty(max(FEWEST_ROWS, 2 * plan.engine.max_num_seqs), RECORD),
        steps=np.empty(FEWEST_ROWS if wish.keep_steps else 0, STEP),
        traces=np.empty((_trace_rows(plan) if wish.keep_traces else 0, at.TRACE_COLUMNS), np.int64),
        gaps=np.zeros(_GAP_BINS, np.int64),
        counts=counts,
        segments=wish.segments,
        items=wish.items,
        keys=np.empty((0, 0), np.uint64),
        held=np.empty((0, 0), np.int32),
        blocks=np.empty((0, 0), at.BLOCK),
        batches=np.empty((0, 0, 0, 0), np.int64),
        encoders=np.empty((0, 0, 0), np.int64),
        marks=np.empty((0, 0, 0), np.int64),
    )
    return more_slots(world)


def _trace_rows(plan: Plan) -> int:
    """Room for the trace of a batch, several times."""
    return max(FEWEST_ROWS, 4 * (plan.engine.max_num_seqs + plan.engine.max_num_encoder_input_tokens))


def more_slots(world: at.World) -> at.World:
    """Twice as many slots; the new ones are free."""
    old = len(world.slots)
    new = max(2 * old, FEWEST_ROWS)
    grown = {name: _longer(getattr(world, name), new) for name in ("slots", "rare", "lives", "keys", "held", "marks")}
    grown["slots"][old:, at.NEXT] = np.arange(old + 1, new + 1)
    grown["slots"][-1, at.NEXT] = world.counts[at.FREE_SLOT]
    world.counts[at.FREE_SLOT] = old
    return world._replace(**grown)


def more_rows(world: at.World, name: str) -> at.World:
    """Twice the room in `records` or `steps`."""
    table = getattr(world, name)
    return world._replace(**{name: _longer(table, 2 * len(table))})


def wider_instances(world: at.World, plan: Plan, grows: int) -> at.World:
    """Twice the room in the table of an instance whose size stands in the setting `grows`."""
    settings = world.settings.copy()
    sizes = {size: int(settings[size]) for size in _FIRST_SIZES}
    sizes[grows] *= 2
    has_blocks = bool(settings[at.BUCKETS_SIZE])
    regions = _regions(plan, sizes, has_blocks)
    instances = _aligned(len(world.instances), _lay_out(settings, regions), at.NONE)
    instances[:, : at.INSTANCE_COLUMNS] = world.instances[:, : at.INSTANCE_COLUMNS]
    for place, size, columns in _regions(plan, {size: int(world.settings[size]) for size in _FIRST_SIZES}, has_blocks):
        old, new = int(world.settings[place]), int(settings[place])
        if grows == size == at.RING_SIZE:
            _spread_ring(world.instances[:, old : old + columns], instances[:, new : new + 2 * columns])
        else:
            instances[:, new : new + columns] = world.instances[:, old : old + columns]
    return world._replace(settings=settings, instances=instances)


def _spread_ring(old: np.ndarray, new: np.ndarray) -> None:
    """A position stands at its remainder by the ring's size: of the two in the longer ring that one had, both are right
    until the position is written, and only those between head and tail are read."""
    new[:, : old.shape[1]] = new[:, old.shape[1] :] = old


def _longer(table: np.ndarray, rows: int) -> np.ndarray:
    is_plain_table = table.ndim == 2 and table.dtype == np.int64
    longer = _aligned(rows, table.shape[1], 0) if is_plain_table else np.zeros((rows, *table.shape[1:]), table.dtype)
    longer[: len(table)] = table
    return longer


def _prices(plan: Plan) -> tuple[np.ndarray, dict[int, int]]:
    """The looked-up terms of a step and the price of context, one row each; the factors of the products by setting."""
    arrays: dict[str, Any] = plan.step_cost.arrays(plan.engine.max_num_batched_tokens)  # type: ignore[attr-defined]
    names = (*_LOOKED_UP, _CONTEXT)
    cost = np.zeros((len(names), max(len(arrays[name]) for name in names)), np.int64)
    for row, name in zip(cost, names):
        row[: len(arrays[name])] = arrays[name]
        row[len(arrays[name]) :] = arrays[name][-1]
    factors = {column: int(arrays.get(name, 0)) for column, name in _FACTORS.items()}
    falls = [name for row, name in zip(cost, _LOOKED_UP) if np.any(np.diff(row) < 0)]
    falls += [_FACTORS[column] for column, factor in factors.items() if factor < 0]
    falls += [_CONTEXT] if cost[-1].min() < 0 else []
    if falls:
        raise ClusterError(f"step cost: {', '.join(falls)} must never decrease: more work is never faster")
    if cost[0, 1] + 32768 >> 16 < 1:
        raise ClusterError("step cost: a step of one token must take at least a nanosecond")
    _check_sum(plan, cost, factors)
    return cost, factors


def _check_sum(plan: Plan, cost: np.ndarray, factors: dict[int, int]) -> None:
    """ClusterError where the largest step would not fit an int64."""
    engine = plan.engine
    context = min(engine.max_num_seqs * engine.max_model_len, max(engine.max_num_seqs, plan.num_blocks) * engine.block_size)
    chunk_context = engine.max_num_seqs * engine.max_model_len
    most = {
        at.WORK_TICKS: engine.max_num_batched_tokens * (engine.max_num_batched_tokens + 2 * engine.max_model_len),
        at.CHUNK_CONTEXT_TICKS: chunk_context,
        at.ENCODE_TICKS: engine.max_num_encoder_input_tokens,
    }
    largest = sum(int(row[-1]) for row in cost[:-1]) + int(cost[-1].max()) * max(context, chunk_context)
    largest += sum(factors[column] * count for column, count in most.items())
    if largest >= 1 << 62:
        raise ClusterError("step cost: the largest step takes more than 64 bits of time; lower it or max_model_len")


def _settings(plan: Plan, wish: Wish) -> np.ndarray:
    engine, settings = plan.engine, np.zeros(at.SETTINGS, np.int64)
    values = {
        at.DEPTH: 2 if engine.async_scheduling else 1,
        at.SEATS: engine.max_num_seqs,
        at.BUDGET: engine.max_num_batched_tokens,
        at.BLOCK_SIZE: engine.block_size,
        at.BLOCK_SHIFT: engine.block_size.bit_length() - 1,
        at.WATERMARK: int(engine.watermark * plan.num_blocks),
        at.RESERVES: engine.scheduler_reserve_full_isl,
        at.CACHES: engine.enable_prefix_caching,
        at.MAX_LEN: engine.max_model_len,
        at.USABLE: plan.num_blocks - 1,
        at.BY_PRIORITY: engine.policy == "priority",
        at.CHUNKS: engine.enable_chunked_prefill,
        at.THRESHOLD: engine.long_prefill_token_threshold,
        at.ENCODER_BUDGET: engine.max_num_encoder_input_tokens,
        at.ENCODER_CACHE: engine.encoder_cache_size,
        at.ROUTER: wish.router,
        at.KEEPS_STEPS: wish.keep_steps,
        at.TRACES: wish.keep_traces,
        at.API: plan.api_ns,
    }
    settings[list(values)] = list(values.values())
    settings[at.SEED_BITS] = np.array([mix64(wish.seed)], np.uint64).view(np.int64)[0]
    return settings


def _regions(plan: Plan, sizes: dict[int, int], has_blocks: bool) -> list[tuple[int, int, int]]:
    """(setting of its place, setting of its size or NONE, columns) of every table in an instance's row."""
    usable, seats = plan.num_blocks - 1, plan.engine.max_num_seqs
    with_blocks = [
        (at.BUCKETS, at.BUCKETS_SIZE, _power_of_two(2 * usable)),
        (at.FREE_QUEUE, at.FREE_QUEUE_SIZE, _power_of_two(2 * usable)),
        (at.ANSWERS, at.ANSWERS_SIZE, _power_of_two(seats)),
    ]
    return [
        (at.PHASES, at.NONE, plan.engine.block_size),
        (at.RING, at.RING_SIZE, sizes[at.RING_SIZE]),
        (at.STACK, at.STACK_SIZE, 2 * sizes[at.STACK_SIZE]),
        (at.HOLES, at.HOLES_SIZE, 2 * sizes[at.HOLES_SIZE]),
        *(with_blocks if has_blocks else []),
    ]


def _power_of_two(least: int) -> int:
    """The first power of two that is not below."""
    return 1 << max(least - 1, 1).bit_length()


def _lay_out(settings: np.ndarray, regions: list[tuple[int, int, int]]) -> int:
    """Write places and sizes into the settings; returns the width of an instance's row."""
    width = at.INSTANCE_COLUMNS
    for place, size, columns in regions:
        settings[place] = width
        if size != at.NONE:
            settings[size] = columns // 2 if place in (at.STACK, at.HOLES) else columns
        width += -(-columns // _LINE) * _LINE
    return width


def _aligned(rows: int, columns: int, value: int) -> np.ndarray:
    """An int64 table that begins with a cache line."""
    memory = np.full(rows * columns + _LINE, value, np.int64)
    skip = -memory.ctypes.data // memory.itemsize % _LINE
    return memory[skip : skip + rows * columns].reshape(rows, columns)
