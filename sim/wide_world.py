"""The arrays that the general kernels need besides: blocks with their keys, batches row by row, encoder caches."""

import numpy as np

from sim.kernels import layout as at
from sim.plan import Plan

_FEWEST_COLUMNS = 8


def widened(world: at.World, plan: Plan) -> at.World:
    """A world in which requests are looked at one by one; `more_columns` makes room for what each of them holds."""
    engine, n = plan.engine, len(world.instances)
    has_blocks = engine.enable_prefix_caching
    items = _most_items(world.items, engine.encoder_cache_size)
    slots = np.zeros((len(world.slots), at.WIDE_SLOT_COLUMNS), np.int64)
    slots[:, at.NEXT] = world.slots[:, at.NEXT]
    return world._replace(
        slots=slots,
        keys=np.zeros((len(slots), 0), np.uint64),
        held=np.zeros((len(slots), 0), np.int32),
        blocks=np.zeros((n, plan.num_blocks - 1 if has_blocks else 0), at.BLOCK),
        batches=np.zeros((n, 2, engine.max_num_seqs, at.BATCH_COLUMNS), np.int64),
        encoders=np.zeros((n, items, at.ENCODER_COLUMNS), np.int64),
        marks=np.zeros((len(slots), 0, at.MARK_COLUMNS), np.int64),
    )


def more_columns(world: at.World, plan: Plan, rows: np.ndarray) -> at.World:
    """Room for the blocks and items of any of these STREAM rows."""
    engine = plan.engine
    blocks = items = 0
    if len(rows) and engine.enable_prefix_caching:
        tokens = rows["input_tokens"].astype(np.int64) + np.minimum(rows["output_tokens"], rows["max_tokens"])
        blocks = min(int(tokens.max()), engine.max_model_len) // engine.block_size + 2
    if len(rows) and engine.encoder_cache_size:
        items = int(rows["items_count"].max())
    return world._replace(keys=_wider(world.keys, blocks), held=_wider(world.held, blocks), marks=_wider(world.marks, items))


def _most_items(items: np.ndarray, cache_size: int) -> int:
    """Different items that an encoder cache of so many tokens can hold: any number, where one item has several sizes."""
    identities, first, same = np.unique(items["item_id"], return_index=True, return_inverse=True)
    has_one_size = np.array_equal(items["tokens"][first][same], items["tokens"])
    return min(len(identities), cache_size) if has_one_size or not cache_size else len(identities)


def _wider(table: np.ndarray, columns: int) -> np.ndarray:
    """The table with at least so many columns; twice as many as before where it has to grow."""
    if columns <= table.shape[1]:
        return table
    wide = np.zeros((len(table), max(columns, 2 * table.shape[1], _FEWEST_COLUMNS), *table.shape[2:]), table.dtype)
    wide[:, : table.shape[1]] = table
    return wide
