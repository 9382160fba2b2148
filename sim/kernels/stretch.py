"""A stretch: batches in a row in which everyone who runs decodes and nobody comes or goes, played from sums.

Nothing is in such a batch but D decodes; each adds D to the context, and the step time follows. It ends before a batch in
which somebody ends, at a shortage of blocks, and where the time is up.
"""

from . import layout as at
from .compiler import kernel
from .freequeue import blocks_for
from .gaps import push_gap
from .running import trace_decodes
from .steps import bin_floor, bin_of, note_step, stamp_traces, step_ticks


@kernel
def play_stretch(cache, me, world, until_ns):
    """Play as many such batches as there are up to `until_ns`; the state is that between the end of one and the next plan.

    Asynchronous, one of them stays in flight: planned at `now`, it begins when the last one ends.
    """
    settings, counts = world.settings, world.counts
    if not _is_closed(cache, me, world):
        return at.DONE
    is_async, decodes, batch, context = settings[at.DEPTH] == 2, me[at.DECODES], me[at.BATCH], me[at.CONTEXT]
    now_ns, last_ns, free, gap_ns = me[at.NOW], me[at.LAST_END], me[at.FREE], 0
    flat, per_token = step_ticks(world, 0, decodes, decodes), world.cost[4, decodes]
    phases, mask, keeps = settings[at.PHASES], settings[at.BLOCK_SIZE] - 1, settings[at.KEEPS_STEPS] or settings[at.TRACES]
    bin_, next_bin_ns, times = 0, 0, 0
    while now_ns < until_ns and not (is_async and last_ns > until_ns):
        need = me[phases + (-batch & mask)]
        gap_next_ns = (flat + per_token * (context + decodes) + 32768) >> 16
        if need > free or _somebody_ends(me, world, batch) or (not is_async and last_ns + gap_next_ns > until_ns):
            break
        gap_ns, free = gap_next_ns, free - need
        if keeps and not _keep(me, world, last_ns, last_ns + gap_ns, free):
            free += need
            break
        if gap_ns >= next_bin_ns:  # gaps only grow here
            world.gaps[bin_] += times * decodes
            bin_, times = bin_of(gap_ns), 0
            next_bin_ns = bin_floor(bin_ + 1)
        times += 1
        now_ns = last_ns if is_async else last_ns + gap_ns
        last_ns += gap_ns
        context += decodes
        batch += 1
    world.gaps[bin_] += times * decodes
    if batch > me[at.BATCH]:
        counts[at.STRETCHED] += batch - me[at.BATCH]
        push_gap(me, world, batch - 1, gap_ns)
        cache.take(me, world, me[at.FREE] - free)
        me[at.BATCH], me[at.CONTEXT], me[at.NOW] = batch, context, now_ns
        me[at.END] = me[at.LAST_END] = last_ns
    return at.DONE


@kernel
def _is_closed(cache, me, world):
    """Whether all who run decode, nobody is about to end, and nobody can join before somebody leaves."""
    settings, decodes = world.settings, me[at.DECODES]
    if decodes == 0 or me[at.PARTIAL] != at.NONE or me[at.ENDING] != at.NONE or me[at.ENDING + 1] != at.NONE:
        return False
    if me[at.STACK_TOP] == settings[at.STACK_SIZE] or me[at.LAST_END] > at.LATEST_TIME:
        return False
    if me[at.HEAD] == at.NONE or me[at.RUNNING] >= settings[at.SEATS] or decodes >= settings[at.BUDGET]:
        return True
    if not cache.is_fixed:
        return False
    # Blocks go to the decodes, and what they take of the head's own cached ones raises its need by as much.
    hit, unheld = cache.find(me, world, me[at.HEAD])
    return not has_room(me, world, me[at.HEAD], hit, hit - unheld, settings[at.BUDGET] - decodes)


@kernel
def _somebody_ends(me, world, batch):
    """Whether this batch is the last of anybody."""
    slot = int(world.wheels[me[at.ID], batch & (at.WHEEL_SIZE - 1)])
    while slot != at.NONE:
        if world.slots[slot, at.LAST_BATCH] == batch:
            return True
        slot = world.slots[slot, at.NEXT]
    return False


@kernel
def _keep(me, world, start_ns, end_ns, free):
    """The STEP row and the trace of a batch of a stretch, where they are kept; False where there is no room."""
    settings, counts, decodes = world.settings, world.counts, me[at.DECODES]
    if settings[at.KEEPS_STEPS] and counts[at.STEP_COUNT] == len(world.steps):
        return False
    if settings[at.TRACES]:
        if len(world.traces) - counts[at.TRACE_COUNT] < 2 * settings[at.SEATS]:
            return False
        first = counts[at.TRACE_COUNT]
        trace_decodes(me, world)
        stamp_traces(world, first, start_ns, end_ns)
    if settings[at.KEEPS_STEPS]:
        before, me[at.FREE] = me[at.FREE], free
        note_step(me, world, start_ns, end_ns, 0, decodes, 0, decodes, 0)
        me[at.FREE] = before
    return True


@kernel
def has_room(me, world, slot, hit, held, budget):
    """The admission gate. Of the blocks of a hit, those that others hold help; those that nobody holds leave the free queue."""
    settings, tokens = world.settings, world.slots[slot, at.TOKENS]
    if settings[at.RESERVES] == 0:
        computed = hit << settings[at.BLOCK_SHIFT]
        tokens = computed + min(tokens - computed, budget)
    spare = settings[at.WATERMARK] if me[at.RUNNING] else 0
    return blocks_for(world, tokens) - held + spare <= me[at.FREE]
