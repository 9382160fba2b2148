"""The queue of an instance: first come first served, or by priority, as in `sim.waiting`.

First come is a list from HEAD to TAIL. By priority it is a pairing heap (Fredman, Sedgewick, Sleator, Tarjan, Algorithmica
1, 1986) whose root is HEAD: a request comes before its CHILD, NEXT leads from child to child, BACK to the child before or,
for the first, to the parent.
"""

from . import layout as at
from .compiler import kernel
from .play import pop_front, push_back, push_front


@kernel
def push(me, world, slot):
    """An arrival."""
    if world.settings[at.BY_PRIORITY]:
        _push_rank(me, world, slot)
    else:
        push_back(me, world, slot)


@kernel
def give_back(me, world, slot):
    """A preempted request comes back."""
    if world.settings[at.BY_PRIORITY]:
        _push_rank(me, world, slot)
    else:
        push_front(me, world, slot)


@kernel
def pop(me, world):
    """Take the head out; there is one."""
    if not world.settings[at.BY_PRIORITY]:
        return pop_front(me, world)
    slot = me[at.HEAD]
    me[at.HEAD] = _merged_children(world, slot)
    return slot


@kernel
def set_back(me, world, first, last):
    """Put back requests that were popped and passed over: a list by NEXT, in their old order."""
    slots = world.slots
    if first == at.NONE:
        return
    if not world.settings[at.BY_PRIORITY]:
        slots[last, at.NEXT] = me[at.HEAD]
        if me[at.HEAD] == at.NONE:
            me[at.TAIL] = last
        me[at.HEAD] = first
        return
    while first != at.NONE:
        following = slots[first, at.NEXT]
        _push_rank(me, world, first)
        first = following


@kernel
def remove(me, world, slot):
    """A request leaves from the middle: it was preempted, and its last token came back after that."""
    slots = world.slots
    if me[at.HEAD] == slot:
        pop(me, world)
    elif world.settings[at.BY_PRIORITY]:
        _cut_out(world, slot)
        children = _merged_children(world, slot)
        if children != at.NONE:
            me[at.HEAD] = _merged(world, me[at.HEAD], children)
    else:
        before = me[at.HEAD]
        while slots[before, at.NEXT] != slot:
            before = slots[before, at.NEXT]
        slots[before, at.NEXT] = slots[slot, at.NEXT]
        if me[at.TAIL] == slot:
            me[at.TAIL] = before


@kernel
def comes_before(world, one, other):
    """Whether the rank of a request is the lower: (priority, arrival, request id as a text)."""
    first, second = world.lives[one], world.lives[other]
    if first["priority"] != second["priority"]:
        return first["priority"] < second["priority"]
    if first["arrival_ns"] != second["arrival_ns"]:
        return first["arrival_ns"] < second["arrival_ns"]
    return text_comes_before(first["request_id"], second["request_id"])


@kernel
def text_comes_before(one, other):
    """str(one) < str(other), for numbers from 0: the longer is cut to the shorter's length, which is first of equals."""
    short, cut = min(one, other), max(one, other)
    extra = _digits(cut) - _digits(short)
    for _ in range(extra):
        cut //= 10
    is_short_first = short < cut or (short == cut and extra > 0)
    return is_short_first == (one < other) and one != other


@kernel
def _digits(number):
    digits = 1
    while number >= 10:
        number //= 10
        digits += 1
    return digits


@kernel
def _push_rank(me, world, slot):
    world.slots[slot, at.NEXT] = world.rare[slot, at.CHILD] = at.NONE
    me[at.HEAD] = slot if me[at.HEAD] == at.NONE else _merged(world, me[at.HEAD], slot)


@kernel
def _merged(world, one, other):
    """The root of two heaps made one: the root of the higher rank becomes the first child of the other."""
    slots, rare = world.slots, world.rare
    if comes_before(world, other, one):
        one, other = other, one
    child = rare[one, at.CHILD]
    slots[other, at.NEXT] = child
    if child != at.NONE:
        rare[child, at.BACK] = other
    rare[other, at.BACK] = one
    rare[one, at.CHILD] = other
    slots[one, at.NEXT] = at.NONE
    return one


@kernel
def _merged_children(world, slot):
    """The children of a root that goes, made one heap: in pairs from the first on, then pair by pair from the last on."""
    slots, pairs, child = world.slots, at.NONE, world.rare[slot, at.CHILD]
    while child != at.NONE:
        other = slots[child, at.NEXT]
        following = at.NONE if other == at.NONE else slots[other, at.NEXT]
        pair = child if other == at.NONE else _merged(world, child, other)
        slots[pair, at.NEXT] = pairs
        pairs, child = pair, following
    root = at.NONE
    while pairs != at.NONE:
        following = slots[pairs, at.NEXT]
        slots[pairs, at.NEXT] = at.NONE
        root = pairs if root == at.NONE else _merged(world, root, pairs)
        pairs = following
    return root


@kernel
def _cut_out(world, slot):
    """Take a request that is not the root, and all below it, out of its place among the children of another."""
    slots, rare = world.slots, world.rare
    back, following = rare[slot, at.BACK], slots[slot, at.NEXT]
    if rare[back, at.CHILD] == slot:
        rare[back, at.CHILD] = following
    else:
        slots[back, at.NEXT] = following
    if following != at.NONE:
        rare[following, at.BACK] = back
