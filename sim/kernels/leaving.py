"""How requests leave those who run: at their end, or preempted."""

from . import layout as at
from .compiler import kernel
from .freequeue import blocks_for
from .gaps import longest_gap_since
from .play import push_front
from .running import drop_running, pop_running
from .steps import leave


@kernel
def stop_decoding(me, world, slot):
    """Take a request out of the sums; it would have computed its next token in the batch being formed."""
    settings, offset = world.settings, world.slots[slot, at.OFFSET]
    me[at.DECODES] -= 1
    me[at.CONTEXT] -= me[at.BATCH] - offset
    me[settings[at.PHASES] + (-offset & (settings[at.BLOCK_SIZE] - 1))] -= 1


@kernel
def end_with(me, world, slot, batch):
    """A request ends when `batch` does."""
    ending = at.ENDING + (batch & 1)
    world.slots[slot, at.NEXT] = me[ending]
    me[ending] = slot


@kernel
def note_longest_gap(me, world, slot, gap_ns):
    """Keep a gap that is the largest of a request so far."""
    life = world.lives[slot]
    if gap_ns > life["itl_max_ns"]:
        life["itl_max_ns"] = gap_ns


@kernel
def end_batch(cache, me, world):
    """The oldest batch in flight ends: who ends with it gives back seat and blocks, in the order in which they run."""
    settings, slots, ending = world.settings, world.slots, at.ENDING + ((me[at.BATCH] - me[at.FLIGHTS]) & 1)
    if me[ending] == at.NONE:
        return at.DONE
    if len(world.records) - world.counts[at.RECORD_COUNT] < settings[at.SEATS]:
        return at.NEEDS_RECORDS
    _sort_by_seat(me, world, ending)
    while me[ending] != at.NONE:
        slot = me[ending]
        me[ending] = slots[slot, at.NEXT]
        limit, flags = slots[slot, at.LIMIT], slots[slot, at.FLAGS]
        if flags & at.GONE:
            me[at.WAITING] -= 1
        else:
            held = blocks_for(world, limit if flags & at.OVERRUNS else limit - 1)
            cache.give_back(me, world, slot, held, (limit - 1) >> settings[at.BLOCK_SHIFT])
            drop_running(me, world, slot)
        leave(me, world, slot, me[at.END], limit - world.lives[slot]["input_tokens"])
    return at.DONE


@kernel
def _sort_by_seat(me, world, ending):
    """Put a list, which rarely has more than one entry, into the order of seats: by insertion."""
    slots, slot = world.slots, me[ending]
    me[ending] = at.NONE
    while slot != at.NONE:
        following, before, place = slots[slot, at.NEXT], at.NONE, me[ending]
        while place != at.NONE and slots[place, at.SEAT] < slots[slot, at.SEAT]:
            before, place = place, slots[place, at.NEXT]
        slots[slot, at.NEXT] = place
        if before == at.NONE:
            me[ending] = slot
        else:
            slots[before, at.NEXT] = slot
        slot = following


@kernel
def preempt_last(cache, me, world):
    """The last of those who run loses its blocks and goes back to the head of the queue. Returns its slot.

    Whose last token is in flight does not come back: it counts as waiting until that batch ends. Keyed are the blocks
    whose tokens were known when they were last planned for.
    """
    settings, slots = world.settings, world.slots
    slot = pop_running(me, world)
    me[at.WAITING] += 1
    world.lives[slot]["preemptions"] += 1
    slots[slot, at.FLAGS] |= at.PREEMPTED_ONCE
    flags = slots[slot, at.FLAGS]
    if flags & at.ENDED:
        computed = slots[slot, at.LIMIT] - 1
        known = computed if flags & at.WAS_PREFILL else computed - 1
        slots[slot, at.FLAGS] = flags | at.GONE
    elif slot == me[at.PARTIAL]:
        computed = known = slots[slot, at.OFFSET]
        me[at.PARTIAL] = at.NONE
        push_front(me, world, slot)
    else:
        computed = me[at.BATCH] - slots[slot, at.OFFSET]
        is_fresh = slots[slot, at.FIRST_GAP] == me[at.BATCH]
        known = computed - 1 if settings[at.DEPTH] == 2 and not is_fresh else computed
        _preempt_decode(me, world, slot, computed)
    cache.give_back(me, world, slot, blocks_for(world, computed), known >> settings[at.BLOCK_SHIFT])
    return slot


@kernel
def _preempt_decode(me, world, slot, computed):
    """What is in flight counts: it comes back before the request can be admitted again."""
    slots, batch = world.slots, me[at.BATCH]
    note_longest_gap(me, world, slot, longest_gap_since(me, world, slots[slot, at.FIRST_GAP]))
    _leave_wheel(me, world, slot)
    stop_decoding(me, world, slot)
    if slots[slot, at.FLAGS] & at.OVERRUNS and slots[slot, at.LAST_BATCH] == batch:
        slots[slot, at.FLAGS] |= at.GONE
        end_with(me, world, slot, batch - 1)
    else:
        slots[slot, at.TOKENS] = computed + 1
        world.rare[slot, at.LAST_TOKEN] = me[at.LAST_END]
        push_front(me, world, slot)


@kernel
def _leave_wheel(me, world, slot):
    """Out of the bucket of its last batch."""
    slots = world.slots
    wheel, bucket = world.wheels[me[at.ID]], slots[slot, at.LAST_BATCH] & (at.WHEEL_SIZE - 1)
    before = int(wheel[bucket])
    if before == slot:
        wheel[bucket] = slots[slot, at.NEXT]
        return
    while slots[before, at.NEXT] != slot:
        before = slots[before, at.NEXT]
    slots[before, at.NEXT] = slots[slot, at.NEXT]
