"""The keys of a request's blocks: the chain hash of `sim.prompt.BlockKeys`, for the whole of its prompt and answer at once."""

import numpy as np

from . import layout as at
from .compiler import kernel

PRIVATE = 1 << 62
"""sim.prompt.PRIVATE: text that nobody shares is the segment PRIVATE + request id."""


@kernel
def write_keys(world, slot, row):
    """The key of every block that the request of a STREAM row can fill, into its row of `keys`."""
    block_size, keys = world.settings[at.BLOCK_SIZE], world.keys[slot]
    piece, offset, key = 0, 0, np.uint64(0)
    segment, tokens = piece_of(world, row, piece)
    for index in range(world.slots[slot, at.LIMIT] // block_size):
        need = block_size
        while need:
            length = min(tokens - offset, need)
            key = key_after(key, segment, offset, length)
            need -= length
            offset += length
            if offset == tokens:
                piece, offset = piece + 1, 0
                segment, tokens = piece_of(world, row, piece)
        keys[index] = key


@kernel
def key_after(key, segment, offset, length):
    """The chain goes on by a run of tokens: spread over all bits, added in, and mixed as splitmix64 mixes."""
    run = np.uint64(segment) * np.uint64(0x9E3779B97F4A7C15) + np.uint64((offset << 24) + length)
    key ^= run
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@kernel
def piece_of(world, row, number):
    """Segment and length of a piece of what a request computes: its prompt, then its answer, which has no end."""
    count = row["segments_count"]
    if number < count:
        piece = world.segments[row["segments_start"] + number]
        return np.int64(piece["segment_id"]), np.int64(piece["tokens"])
    if count == 0 and number == 0:
        return np.int64(PRIVATE + row["request_id"]), np.int64(row["input_tokens"])
    return np.int64(-1 - row["request_id"]), np.int64(at.NEVER)
