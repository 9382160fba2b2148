"""Images and clips: the encoder's budget and cache, by the rules of `sim.encoder`.

The cache of an instance is a short list of items, searched from its beginning. What a request has to do with its items
stands in its row of `marks`: which of them it holds, and which the round that is being planned has chosen for encoding.
"""

from . import layout as at
from .compiler import kernel
from .steps import note_trace


@kernel
def open_items(me, world):
    """The encoder cache is empty."""
    me[at.ENTRIES] = me[at.CLOCK] = 0
    me[at.UNUSED] = me[at.REACHABLE] = world.settings[at.ENCODER_CACHE]


@kernel
def accept_items(world, slot, row):
    """A request's items are looked through once: which of them are the same."""
    rare, marks, items = world.rare[slot], world.marks[slot], world.items
    start, count = row["items_start"], row["items_count"]
    rare[at.ITEMS_START], rare[at.ITEMS_COUNT] = start, count
    for index in range(count):
        first = 0
        while items[start + first]["item_id"] != items[start + index]["item_id"]:
            first += 1
        marks[index, at.FIRST], marks[index, at.STATE] = first, 0
    if count and world.settings[at.ENCODER_CACHE]:
        world.slots[slot, at.FLAGS] |= at.HAS_ITEMS


@kernel
def plan_items(me, world, slot, computed, tokens):
    """How many of `tokens` may be computed from `computed` on; marks the items to be encoded for them.

    References to items already in the cache are taken, and marked as new; room is made for others, which `encode` takes
    once the request is planned.
    """
    marks, start, count = world.marks[slot], world.rare[slot, at.ITEMS_START], world.rare[slot, at.ITEMS_COUNT]
    for index in range(count):
        marks[index, at.STATE] &= at.IS_HELD
    budget, size = me[at.ENCODER_LEFT], 0
    for index in range(count):
        item, first = world.items[start + index], marks[index, at.FIRST]
        offset, length = item["offset"], item["tokens"]
        if offset + length <= computed or marks[first, at.STATE] & at.IS_SEEN:
            continue
        if offset >= computed + tokens:
            break
        if _refer(me, world, marks[first], item["item_id"]):
            continue
        if length > budget or not _make_room(me, world, size + length):
            return max(offset - computed, 0)
        budget -= length
        size += length
        marks[first, at.STATE] |= at.IS_SEEN
        marks[index, at.STATE] |= at.IS_CHOSEN
    return tokens


@kernel
def encode(me, world, slot):
    """Store the items marked by `plan_items` for a request that is planned; returns their tokens."""
    marks, start = world.marks[slot], world.rare[slot, at.ITEMS_START]
    cache, total = world.encoders[me[at.ID]], 0
    for index in range(world.rare[slot, at.ITEMS_COUNT]):
        if not marks[index, at.STATE] & at.IS_CHOSEN:
            continue
        item = world.items[start + index]
        entry = cache[me[at.ENTRIES]]
        entry[at.IDENTITY], entry[at.ITEM_TOKENS], entry[at.HOLDERS] = item["item_id"], item["tokens"], 1
        marks[marks[index, at.FIRST], at.STATE] |= at.IS_HELD
        me[at.ENTRIES] += 1
        me[at.UNUSED] -= item["tokens"]
        me[at.REACHABLE] -= item["tokens"]
        me[at.ENCODER_LEFT] -= item["tokens"]
        total += item["tokens"]
        if world.settings[at.TRACES]:
            note_trace(me, world, at.ENCODED, slot, index)
    return total


@kernel
def let_go_all(me, world, slot):
    """The request ended or was preempted."""
    for index in range(world.rare[slot, at.ITEMS_COUNT]):
        if world.marks[slot, index, at.STATE] & at.IS_HELD:
            _let_go(me, world, slot, index)


@kernel
def let_go_new(me, world, slot):
    """The request could not be admitted: what it referred to for that is referred to no longer."""
    for index in range(world.rare[slot, at.ITEMS_COUNT]):
        if world.marks[slot, index, at.STATE] & at.IS_NEW:
            _let_go(me, world, slot, index)


@kernel
def let_go_finished(me, world, slot):
    """Items of which an occurrence is computed; a later one in the prompt refers to the item again when it comes."""
    marks, start = world.marks[slot], world.rare[slot, at.ITEMS_START]
    computed = world.slots[slot, at.HAS_COMPUTED] - world.slots[slot, at.AHEAD]
    for index in range(world.rare[slot, at.ITEMS_COUNT]):
        item, first = world.items[start + index], marks[index, at.FIRST]
        if item["offset"] + item["tokens"] <= computed and marks[first, at.STATE] & at.IS_HELD:
            _let_go(me, world, slot, first)


@kernel
def _entry(me, world, identity):
    """Where an item stands in the cache; NONE for one that is not there."""
    cache = world.encoders[me[at.ID]]
    for index in range(me[at.ENTRIES]):
        if cache[index, at.IDENTITY] == identity:
            return index
    return at.NONE


@kernel
def _refer(me, world, mark, identity):
    """If the item is there, keep it for the request; `mark` is that of the first item of the request that is the same."""
    if mark[at.STATE] & at.IS_HELD:
        return True
    index = _entry(me, world, identity)
    if index == at.NONE:
        return False
    entry = world.encoders[me[at.ID], index]
    if entry[at.HOLDERS] == 0:
        me[at.REACHABLE] -= entry[at.ITEM_TOKENS]
    entry[at.HOLDERS] += 1
    mark[at.STATE] |= at.IS_HELD | at.IS_NEW
    return True


@kernel
def _make_room(me, world, tokens):
    """Room for so many tokens, by evicting what nobody holds, oldest first; False, and nothing changed, if there is none."""
    if tokens > me[at.REACHABLE]:
        return False
    cache = world.encoders[me[at.ID]]
    while tokens > me[at.UNUSED]:
        oldest = at.NONE
        for index in range(me[at.ENTRIES]):
            if cache[index, at.HOLDERS] == 0 and (oldest == at.NONE or cache[index, at.AGE] < cache[oldest, at.AGE]):
                oldest = index
        me[at.UNUSED] += cache[oldest, at.ITEM_TOKENS]
        me[at.ENTRIES] -= 1
        for column in range(at.ENCODER_COLUMNS):
            cache[oldest, column] = cache[me[at.ENTRIES], column]
    return True


@kernel
def _let_go(me, world, slot, first):
    """The request refers to its item `first`, and all that are the same, no longer."""
    item = world.items[world.rare[slot, at.ITEMS_START] + first]
    world.marks[slot, first, at.STATE] &= ~at.IS_HELD
    entry = world.encoders[me[at.ID], _entry(me, world, item["item_id"])]
    entry[at.HOLDERS] -= 1
    if entry[at.HOLDERS] == 0:
        entry[at.ITEM_TOKENS] = item["tokens"]
        entry[at.AGE] = me[at.CLOCK]
        me[at.CLOCK] += 1
        me[at.REACHABLE] += item["tokens"]
