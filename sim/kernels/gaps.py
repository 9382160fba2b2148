"""The largest gap between two tokens of a request, from a stack that an instance keeps for all.

All who decode in a batch have the same gap, from the end of the last batch to the end of this. The stack holds (batch, gap)
with falling gaps: an entry goes once a later gap is as large. So the largest gap since batch b is that of the first entry
not before b.
"""

from . import layout as at
from .compiler import kernel


@kernel
def push_gap(me, world, batch, gap_ns):
    """Enter the gap of a batch; there must be room for one entry."""
    stack, top = world.settings[at.STACK], me[at.STACK_TOP]
    while top > me[at.STACK_BOTTOM] and me[stack + 2 * top - 1] <= gap_ns:
        top -= 1
    me[stack + 2 * top], me[stack + 2 * top + 1] = batch, gap_ns
    me[at.STACK_TOP] = top + 1


@kernel
def longest_gap_since(me, world, batch):
    """The largest gap entered for `batch` or later, NONE for no entry: by bisection."""
    stack, low, high = world.settings[at.STACK], me[at.STACK_BOTTOM], me[at.STACK_TOP]
    while low < high:
        middle = (low + high) >> 1
        if me[stack + 2 * middle] < batch:
            low = middle + 1
        else:
            high = middle
    return me[stack + 2 * low + 1] if low < me[at.STACK_TOP] else at.NONE


@kernel
def drop_old_gaps(me, world, oldest):
    """Forget the entries before batch `oldest`, which nobody will ask for, and move the rest to the beginning."""
    stack, bottom = world.settings[at.STACK], me[at.STACK_BOTTOM]
    while bottom < me[at.STACK_TOP] and me[stack + 2 * bottom] < oldest:
        bottom += 1
    for k in range(2 * (me[at.STACK_TOP] - bottom)):
        me[stack + k] = me[stack + 2 * bottom + k]
    me[at.STACK_TOP] -= bottom
    me[at.STACK_BOTTOM] = 0
