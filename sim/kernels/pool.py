"""The family of kernels for prompts that share text: batches in constant time (`forming`), over real blocks (`answers`)."""

from . import layout as at
from .aggregate import overruns
from .answers import BLOCKS
from .blocks import open_blocks
from .clock import advance
from .compiler import entry, kernel, routine
from .forming import form_batch
from .keys import write_keys
from .leaving import end_batch
from .play import play, push_back
from .stretch import play_stretch


@entry
def play_pool(world, rows, until_ns):
    """Arrivals with this family's functions (`play`)."""
    return play(advance_pool, accept, world, rows, until_ns)


@routine
def advance_pool(me, world, until_ns):
    """The clock with this family's functions (`clock`)."""
    return advance(stretch, form, finish, me, world, until_ns)


@entry
def open_instances(world):
    """All instances are idle and empty."""
    for index in range(len(world.instances)):
        me = world.instances[index]
        me[at.UNNAMED] = at.NONE
        open_blocks(me, world)


@kernel
def accept(me, world, slot, row):
    """A request joins the queue."""
    request, rare = world.slots[slot], world.rare[slot]
    request[at.HELD] = request[at.COMMITTED] = request[at.ROOM] = 0
    rare[at.PIECES_START], rare[at.PIECES_COUNT] = row["segments_start"], row["segments_count"]
    request[at.FLAGS] = at.OVERRUNS if overruns(world, slot, row) else 0
    write_keys(world, slot, row)
    push_back(me, world, slot)


@kernel
def stretch(me, world, until_ns):
    """Runs of decodes."""
    return play_stretch(BLOCKS, me, world, until_ns)


@kernel
def form(me, world):
    """The next batch."""
    return form_batch(BLOCKS, me, world)


@kernel
def finish(me, world):
    """The end of the oldest batch in flight."""
    return end_batch(BLOCKS, me, world)
