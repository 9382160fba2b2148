"""The kernels for prompts that share no text: batches in constant time (`forming`), blocks as positions (`freequeue`)."""

from . import layout as at
from .clock import advance
from .compiler import entry, kernel, routine
from .forming import form_batch
from .freequeue import POSITIONS
from .leaving import end_batch
from .play import play, push_back
from .stretch import play_stretch


@entry
def play_aggregate(world, rows, until_ns):
    """Arrivals with this family's functions (`play`)."""
    return play(advance_aggregate, accept, world, rows, until_ns)


@routine
def advance_aggregate(me, world, until_ns):
    """The clock with this family's functions (`clock`)."""
    return advance(stretch, form, finish, me, world, until_ns)


@kernel
def accept(me, world, slot, row):
    """A request joins the queue."""
    world.slots[slot, at.FLAGS] = at.OVERRUNS if overruns(world, slot, row) else 0
    push_back(me, world, slot)


@kernel
def overruns(world, slot, row):
    """Whether a request is computed once more after its end: nobody knows of a stop token that is in flight."""
    settings, limit = world.settings, world.slots[slot, at.LIMIT]
    is_known = limit >= min(row["input_tokens"] + row["max_tokens"], settings[at.MAX_LEN])
    return not is_known and settings[at.DEPTH] > 1


@kernel
def stretch(me, world, until_ns):
    """Runs of decodes."""
    return play_stretch(POSITIONS, me, world, until_ns)


@kernel
def form(me, world):
    """The next batch."""
    return form_batch(POSITIONS, me, world)


@kernel
def finish(me, world):
    """The end of the oldest batch in flight."""
    return end_batch(POSITIONS, me, world)
