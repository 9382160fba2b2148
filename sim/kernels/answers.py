"""The blocks of answers that are being decoded, in constant time per batch: without a name until somebody could look for them.

A decode takes a block every so many batches. Which block it is matters only once it can be found, or goes back to the free
queue: so decodes take their blocks from the queue into one list of an instance, UNNAMED, and a request gets its own from
there when it leaves. Its answer can be found before that only by a prompt that contains it; such a prompt, when it looks for
blocks or enters some, first has those of the answer named and entered (`commit_answers`). For that the table ANSWERS finds
those who decode by their request id.
"""

from . import layout as at
from .blocks import commit, find, grow, release, take_block, touch
from .cache import Cache
from .compiler import kernel


@kernel
def needs(me, world, most):
    """Nothing."""
    return at.DONE


@kernel
def find_shared(me, world, slot):
    """The cached blocks that a prompt begins with, and how many of them nobody holds."""
    commit_answers(me, world, slot)
    return find(me, world, slot)


@kernel
def grow_shared(me, world, slot, tokens):
    """Blocks for so many tokens of a prompt; those it fills can be found at once."""
    if me[at.PARTIAL] == slot:  # goes on with a prompt: it did not look for blocks in this batch
        commit_answers(me, world, slot)
    grow(me, world, slot, tokens)
    commit(me, world, slot, tokens)


@kernel
def take_unnamed(me, world, count):
    """Blocks for decodes, whichever."""
    blocks = world.blocks[me[at.ID]]
    me[at.FREE] -= count
    for _ in range(count):
        block = take_block(me, world, blocks)
        blocks[block]["place"] = me[at.UNNAMED]
        me[at.UNNAMED] = block


@kernel
def join_answers(me, world, slot):
    """A request decodes from the next batch on."""
    bucket = _bucket(world, world.lives[slot]["request_id"])
    world.rare[slot, at.NEXT_ANSWER] = me[bucket]
    me[bucket] = slot


@kernel
def give_back(me, world, slot, held, keyed):
    """A request gives back all its blocks, of which so many are full and known."""
    _name(me, world, slot, held)
    commit(me, world, slot, keyed << world.settings[at.BLOCK_SHIFT])
    release(me, world, slot)
    _leave_answers(me, world, slot)


@kernel
def commit_answers(me, world, slot):
    """Make the answers in a prompt findable as far as they have been decoded here."""
    rare, segments = world.rare, world.segments
    start = rare[slot, at.PIECES_START]
    for piece in range(start, start + rare[slot, at.PIECES_COUNT]):
        segment = segments[piece]["segment_id"]
        if segment < 0:
            request_id = -1 - segment
            author = me[_bucket(world, request_id)]
            while author != at.NONE and world.lives[author]["request_id"] != request_id:
                author = rare[author, at.NEXT_ANSWER]
            if author != at.NONE:
                _commit_answer(me, world, author)


@kernel
def _commit_answer(me, world, slot):
    """Enter the blocks of one who decodes that are full and known when the batch being formed is planned.

    With asynchronous scheduling the token of the batch in flight is not known, else the one being computed is.
    """
    settings, request = world.settings, world.slots[slot]
    if request[at.FLAGS] & at.ENDED:
        known = request[at.LIMIT] - 2
    else:
        known = me[at.BATCH] - request[at.OFFSET] + 2 - settings[at.DEPTH]
    if known >> settings[at.BLOCK_SHIFT] > request[at.COMMITTED]:
        _name(me, world, slot, known >> settings[at.BLOCK_SHIFT])
        commit(me, world, slot, known)


@kernel
def _name(me, world, slot, count):
    """Give a request its first `count` blocks, as far as it has not got them."""
    request, held, blocks = world.slots[slot], world.held[slot], world.blocks[me[at.ID]]
    for index in range(request[at.HELD], count):
        block = me[at.UNNAMED]
        me[at.UNNAMED] = blocks[block]["place"]
        held[index] = block
    request[at.HELD] = max(request[at.HELD], count)


@kernel
def _leave_answers(me, world, slot):
    """Out of the table of those who decode; who was preempted in its prompt is not there."""
    rare, bucket = world.rare, _bucket(world, world.lives[slot]["request_id"])
    before, author = at.NONE, me[bucket]
    while author != at.NONE and author != slot:
        before, author = author, rare[author, at.NEXT_ANSWER]
    if author == at.NONE:
        return
    if before == at.NONE:
        me[bucket] = rare[slot, at.NEXT_ANSWER]
    else:
        rare[before, at.NEXT_ANSWER] = rare[slot, at.NEXT_ANSWER]


@kernel
def _bucket(world, request_id):
    """Where a request stands in ANSWERS: its number within the client, spread by the client's."""
    return world.settings[at.ANSWERS] + ((request_id ^ (request_id >> 32) * 40503) & (world.settings[at.ANSWERS_SIZE] - 1))


BLOCKS = Cache(needs, find_shared, touch, grow_shared, take_unnamed, join_answers, give_back, is_fixed=False)
