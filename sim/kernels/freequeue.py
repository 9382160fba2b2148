"""The free queue of an instance where no two requests share text: positions in place of blocks.

Blocks without a key are at the front and are all alike, so they are a number, KEYLESS. The rest is a sequence of positions
from QUEUE_HEAD to QUEUE_TAIL: blocks are taken at its head, and the keyed blocks of a request go to its end, the tail of
its prompt first. A preempted request can find again what is left of its positions; when it takes them they become a hole,
over which the head jumps. Holes stand in order. Without prefix caching only their number, FREE, is kept.
"""

from . import layout as at
from .cache import Cache
from .compiler import kernel


@kernel
def needs(me, world, most):
    """Room for the holes of so many admissions."""
    settings = world.settings
    return at.NEEDS_HOLES if settings[at.CACHES] and me[at.HOLE_COUNT] + most > settings[at.HOLES_SIZE] else at.DONE


@kernel
def blocks_for(world, tokens):
    """ceil(tokens / block size)."""
    settings = world.settings
    return (tokens + settings[at.BLOCK_SIZE] - 1) >> settings[at.BLOCK_SHIFT]


@kernel
def take(me, world, count):
    """Take blocks from the head of the queue; so many are free."""
    me[at.FREE] -= count
    if world.settings[at.CACHES] == 0:
        return
    alike = min(me[at.KEYLESS], count)
    me[at.KEYLESS] -= alike
    count -= alike
    holes = world.settings[at.HOLES]
    while me[at.HOLE_COUNT] and me[at.QUEUE_HEAD] + count >= me[holes + 2 * me[at.HOLE_FIRST]]:
        hole = holes + 2 * me[at.HOLE_FIRST]
        count -= me[hole] - me[at.QUEUE_HEAD]
        me[at.QUEUE_HEAD] = me[hole + 1]
        me[at.HOLE_FIRST] += 1
        me[at.HOLE_COUNT] -= 1
    me[at.QUEUE_HEAD] += count


@kernel
def give_back(me, world, slot, held, keyed):
    """A request gives back its blocks, of which so many have a key; of one that comes back, where these go to is noted."""
    me[at.FREE] += held
    if world.settings[at.CACHES]:
        me[at.KEYLESS] += held - keyed
        if world.slots[slot, at.FLAGS] & at.PREEMPTED_ONCE:
            rare = world.rare[slot]
            rare[at.CHAIN_FROM], rare[at.CHAIN_TO] = me[at.QUEUE_TAIL], me[at.QUEUE_TAIL] + keyed
        me[at.QUEUE_TAIL] += keyed


@kernel
def find(me, world, slot):
    """What a request that was preempted finds of what it gave back, all of it unheld: what was given out since was its tail."""
    if world.slots[slot, at.FLAGS] & at.PREEMPTED_ONCE == 0:
        return 0, 0
    rare = world.rare[slot]
    left = max(rare[at.CHAIN_TO] - max(rare[at.CHAIN_FROM], me[at.QUEUE_HEAD]), 0)
    return left, left


@kernel
def grow(me, world, slot, tokens):
    """Blocks of a prompt are like any others."""
    take(me, world, blocks_for(world, tokens) - blocks_for(world, world.slots[slot, at.OFFSET]))


@kernel
def join(me, world, slot):
    """And so are those of an answer."""


@kernel
def take_chain(me, world, slot, count):
    """Take the blocks that `find` found out of the middle of the queue; there must be room for a hole."""
    me[at.FREE] -= count
    rare, holes = world.rare[slot], world.settings[at.HOLES]
    start, stop = rare[at.CHAIN_TO] - count, rare[at.CHAIN_TO]
    rare[at.CHAIN_FROM] = rare[at.CHAIN_TO] = 0
    if me[at.HOLE_FIRST] + me[at.HOLE_COUNT] == world.settings[at.HOLES_SIZE]:
        _move_to_front(me, holes)
    place = me[at.HOLE_FIRST] + me[at.HOLE_COUNT]
    while place > me[at.HOLE_FIRST] and me[holes + 2 * place - 2] > start:
        me[holes + 2 * place], me[holes + 2 * place + 1] = me[holes + 2 * place - 2], me[holes + 2 * place - 1]
        place -= 1
    me[holes + 2 * place], me[holes + 2 * place + 1] = start, stop
    me[at.HOLE_COUNT] += 1
    take(me, world, 0)  # the head may stand at the hole


@kernel
def _move_to_front(me, holes):
    """The list of holes has moved to the end of its room."""
    for k in range(2 * me[at.HOLE_COUNT]):
        me[holes + k] = me[holes + 2 * me[at.HOLE_FIRST] + k]
    me[at.HOLE_FIRST] = 0


POSITIONS = Cache(needs, find, take_chain, grow, take, join, give_back, is_fixed=True)
