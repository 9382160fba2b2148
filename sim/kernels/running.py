"""Those who run, in order of admission: a ring of slots in which who left leaves NONE behind."""

from . import layout as at
from .compiler import kernel
from .steps import note_trace


@kernel
def append_running(me, world, slot):
    """A request is admitted: it stands last."""
    settings, slots, tail = world.settings, world.slots, me[at.RING_TAIL]
    if tail - me[at.RING_HEAD] == settings[at.RING_SIZE]:
        _squeeze(me, world)
        tail = me[at.RING_TAIL]
    me[settings[at.RING] + (tail & (settings[at.RING_SIZE] - 1))] = slot
    slots[slot, at.SEAT] = tail
    me[at.RING_TAIL] = tail + 1
    me[at.RUNNING] += 1


@kernel
def drop_running(me, world, slot):
    """A request leaves from wherever it stands."""
    settings = world.settings
    ring, mask = settings[at.RING], settings[at.RING_SIZE] - 1
    me[ring + (world.slots[slot, at.SEAT] & mask)] = at.NONE
    while me[at.RING_HEAD] < me[at.RING_TAIL] and me[ring + (me[at.RING_HEAD] & mask)] == at.NONE:
        me[at.RING_HEAD] += 1
    me[at.RUNNING] -= 1


@kernel
def pop_running(me, world):
    """The last one leaves; there is one."""
    settings = world.settings
    ring, mask = settings[at.RING], settings[at.RING_SIZE] - 1
    slot = at.NONE
    while slot == at.NONE:
        me[at.RING_TAIL] -= 1
        slot = me[ring + (me[at.RING_TAIL] & mask)]
    me[at.RUNNING] -= 1
    return slot


@kernel
def _squeeze(me, world):
    """Close the places of those who left; at least half of the ring is empty."""
    settings, slots = world.settings, world.slots
    ring, mask = settings[at.RING], settings[at.RING_SIZE] - 1
    place = me[at.RING_HEAD]
    for position in range(me[at.RING_HEAD], me[at.RING_TAIL]):
        slot = me[ring + (position & mask)]
        if slot != at.NONE:
            me[ring + (place & mask)] = slot
            slots[slot, at.SEAT] = place
            place += 1
    me[at.RING_TAIL] = place


@kernel
def trace_decodes(me, world):
    """A line of the trace for everyone who decodes, in order."""
    settings, slots = world.settings, world.slots
    for position in range(me[at.RING_HEAD], me[at.RING_TAIL]):
        slot = me[settings[at.RING] + (position & (settings[at.RING_SIZE] - 1))]
        if slot != at.NONE and slot != me[at.PARTIAL] and not slots[slot, at.FLAGS] & at.ENDED:
            note_trace(me, world, at.COMPUTED, slot, 1)
