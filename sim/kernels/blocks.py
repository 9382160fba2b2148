"""The KV blocks of an instance: who holds them, the queue of those that nobody holds, and the table that finds them by key.

The rules are those of `sim.kvcache`, where the order of the free queue is told. Without prefix caching blocks are counted.

The free queue is a ring of block numbers from QUEUE_HEAD to QUEUE_TAIL; a block that is taken out of the middle leaves NONE.
The table chains the blocks of a bucket in the order in which they were entered, so that of equal blocks the oldest is found.
"""

import numpy as np

from . import layout as at
from .compiler import kernel


@kernel
def open_blocks(me, world):
    """Nobody holds a block, and none can be found."""
    settings = world.settings
    usable = settings[at.USABLE]
    me[at.FREE] = usable
    if not settings[at.CACHES]:
        return
    blocks = world.blocks[me[at.ID]]
    me[settings[at.BUCKETS] : settings[at.BUCKETS] + settings[at.BUCKETS_SIZE]] = at.NONE
    me[at.QUEUE_HEAD], me[at.QUEUE_TAIL] = 0, usable
    for block in range(usable):
        blocks[block]["references"] = 0
        blocks[block]["chain"] = at.NAMELESS
        blocks[block]["place"] = block
        me[settings[at.FREE_QUEUE] + block] = block


@kernel
def find(me, world, slot):
    """The longest chain of cached full blocks that a request begins with, short of its last token.

    Writes them where it holds blocks, which it does not yet; returns how many there are and how many nobody holds.
    """
    found = unheld = 0
    if world.settings[at.CACHES]:
        blocks, keys, held = world.blocks[me[at.ID]], world.keys[slot], world.held[slot]
        for index in range((world.slots[slot, at.TOKENS] - 1) // world.settings[at.BLOCK_SIZE]):
            block = me[world.settings[at.BUCKETS] + _bucket(world, keys, index)]
            while block != at.NONE and blocks[block]["key"] != keys[index]:
                block = blocks[block]["chain"]
            if block == at.NONE:
                break
            held[index] = block
            unheld += blocks[block]["references"] == 0
            found += 1
    return found, unheld


@kernel
def touch(me, world, slot, hit):
    """Give a request the blocks that `find` has just written."""
    size, request = world.settings[at.BLOCK_SIZE], world.slots[slot]
    blocks, held = world.blocks[me[at.ID]], world.held[slot]
    for index in range(hit):
        block = blocks[held[index]]
        if block["references"] == 0:
            me[world.settings[at.FREE_QUEUE] + block["place"]] = at.NONE
            me[at.FREE] -= 1
        block["references"] += 1
    request[at.HELD] = request[at.COMMITTED] = hit
    request[at.COMMIT_AT] = (hit + 1) * size
    request[at.ROOM] = hit * size


@kernel
def grow(me, world, slot, tokens):
    """Give a request room for `tokens` in all. False, and nothing changed, where the free blocks do not suffice."""
    settings, request = world.settings, world.slots[slot]
    need = (tokens - request[at.ROOM] + settings[at.BLOCK_SIZE] - 1) // settings[at.BLOCK_SIZE]
    if need > me[at.FREE]:
        return False
    if need > 0:
        if settings[at.CACHES]:
            blocks, held = world.blocks[me[at.ID]], world.held[slot]
            for index in range(request[at.HELD], request[at.HELD] + need):
                held[index] = take_block(me, world, blocks)
        me[at.FREE] -= need
        request[at.HELD] += need
        request[at.ROOM] += need * settings[at.BLOCK_SIZE]
    return True


@kernel
def commit(me, world, slot, tokens):
    """Enter the full blocks of the first `tokens` tokens under their keys."""
    size, request = world.settings[at.BLOCK_SIZE], world.slots[slot]
    full = tokens // size
    if full > request[at.COMMITTED]:
        keys, held = world.keys[slot], world.held[slot]
        for index in range(request[at.COMMITTED], full):
            _enter(me, world, held[index], keys[index], _bucket(world, keys, index))
        request[at.COMMITTED] = full
        request[at.COMMIT_AT] = (full + 1) * size


@kernel
def release(me, world, slot):
    """Take back all that a request holds: blocks without a key to the front, those with one to the end from the last on."""
    settings, request = world.settings, world.slots[slot]
    held_blocks, keyed = request[at.HELD], request[at.COMMITTED]
    if settings[at.CACHES]:
        _make_room_in_queue(me, world, held_blocks)
        blocks, held = world.blocks[me[at.ID]], world.held[slot]
        for index in range(keyed, held_blocks):  # nobody else can have found these
            me[at.QUEUE_HEAD] -= 1
            _put(me, settings, blocks[held[index]], held[index], me[at.QUEUE_HEAD])
        for index in range(keyed - 1, -1, -1):
            block = blocks[held[index]]
            block["references"] -= 1
            if block["references"] == 0:
                _put(me, settings, block, held[index], me[at.QUEUE_TAIL])
                me[at.QUEUE_TAIL] += 1
    else:
        me[at.FREE] += held_blocks
    request[at.HELD] = request[at.COMMITTED] = request[at.ROOM] = 0


@kernel
def take_block(me, world, blocks):
    """The block at the head of the free queue, which has one; if it has a key it loses it. FREE is the caller's to lower."""
    settings, block = world.settings, at.NONE
    while block == at.NONE:
        block = me[settings[at.FREE_QUEUE] + (me[at.QUEUE_HEAD] & (settings[at.FREE_QUEUE_SIZE] - 1))]
        me[at.QUEUE_HEAD] += 1
    if blocks[block]["chain"] != at.NAMELESS:
        _forget(me, world, block)
    blocks[block]["references"] = 1
    return block


@kernel
def _put(me, settings, block, number, position):
    """A block into the free queue."""
    place = position & (settings[at.FREE_QUEUE_SIZE] - 1)
    me[settings[at.FREE_QUEUE] + place] = number
    block["place"] = place
    block["references"] = 0
    me[at.FREE] += 1


@kernel
def _make_room_in_queue(me, world, count):
    """Close the gaps of the free queue where so many more would not fit."""
    settings = world.settings
    size, start = settings[at.FREE_QUEUE_SIZE], settings[at.FREE_QUEUE]
    if me[at.QUEUE_TAIL] - me[at.QUEUE_HEAD] + count <= size:
        return
    blocks, to = world.blocks[me[at.ID]], me[at.QUEUE_TAIL]
    for position in range(me[at.QUEUE_TAIL] - 1, me[at.QUEUE_HEAD] - 1, -1):
        block = me[start + (position & (size - 1))]
        if block != at.NONE:
            to -= 1
            me[start + (to & (size - 1))] = block
            blocks[block]["place"] = to & (size - 1)
    me[at.QUEUE_HEAD] = to


@kernel
def _enter(me, world, number, key, bucket):
    """A block can be found by its key, after those that are there already."""
    blocks, place = world.blocks[me[at.ID]], world.settings[at.BUCKETS] + bucket
    block, before = blocks[number], me[place]
    if before == at.NONE:
        me[place] = number
    else:
        while blocks[before]["chain"] != at.NONE:
            before = blocks[before]["chain"]
        blocks[before]["chain"] = number
    block["key"] = key
    block["bucket"] = bucket
    block["chain"] = at.NONE


@kernel
def _forget(me, world, number):
    """A block that is given out is found no longer."""
    blocks = world.blocks[me[at.ID]]
    block = blocks[number]
    place = world.settings[at.BUCKETS] + block["bucket"]
    before = me[place]
    if before == number:
        me[place] = block["chain"]
    else:
        while blocks[before]["chain"] != number:
            before = blocks[before]["chain"]
        blocks[before]["chain"] = block["chain"]
    block["chain"] = at.NAMELESS


@kernel
def _bucket(world, keys, index):
    """Which chain block `index` of a prompt is in: all bits of keys are mixed well, so the low ones."""
    return np.int64(keys[index] & np.uint64(world.settings[at.BUCKETS_SIZE] - 1))
