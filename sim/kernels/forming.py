"""A batch formed in constant time: nothing is touched per request while it decodes.

Every request that decodes gets one token from every batch, so what a batch costs follows from sums that carry on by
themselves: the number of DECODES and the CONTEXT they have computed. A request that begins to decode is entered once (its
context as an OFFSET from the batch number, the phase in which it needs blocks, its last batch) and taken out once.

Exact for text, first come first served, with chunked prefill, without a long-prefill threshold, and with blocks of a power
of two: then at most one prefill is under way, the PARTIAL, and it is the last of those who run. How blocks are kept is the
`Cache` of the family. docs/fast.md tells it with pictures.
"""

from . import layout as at
from .compiler import kernel
from .freequeue import blocks_for
from .gaps import drop_old_gaps, longest_gap_since, push_gap
from .leaving import end_with, note_longest_gap, preempt_last, stop_decoding
from .play import pop_front
from .running import append_running, trace_decodes
from .steps import count_gap, note_step, note_trace, stamp_traces, start_ns_of, step_ns
from .stretch import has_room


@kernel
def form_batch(cache, me, world):
    """Form the next batch and take its blocks: first those who run, then, unless somebody was preempted, the queue."""
    needs, counts = _needs(cache, me, world), world.counts
    if needs != at.DONE:
        return -needs
    first_trace = counts[at.TRACE_COUNT]
    for column in range(at.PREFILL_TOKENS, at.COMPLETING):
        me[column] = 0
    me[at.COMPLETING] = at.NONE
    preempted = _make_room(cache, me, world)
    me[at.BUDGET_LEFT] = world.settings[at.BUDGET] - me[at.DECODES]
    if world.settings[at.TRACES]:
        trace_decodes(me, world)
    if me[at.PARTIAL] != at.NONE:
        _compute_chunk(cache, me, world, me[at.PARTIAL])
    if preempted == 0:
        _admit(cache, me, world)
    if me[at.DECODES] + me[at.PREFILLS] == 0:
        counts[at.TRACE_COUNT] = first_trace
        return at.NOTHING
    _launch(cache, me, world, preempted, first_trace)
    return at.SOMETHING


@kernel
def _needs(cache, me, world):
    """What there is no room for, before anything is changed; DONE if there is room for all."""
    settings, counts = world.settings, world.counts
    most = min(me[at.RUNNING] + me[at.WAITING], settings[at.SEATS])
    if 2 * most > settings[at.RING_SIZE]:
        return at.NEEDS_RING
    if me[at.STACK_TOP] == settings[at.STACK_SIZE]:
        _drop_old_gaps(me, world)
        if 4 * me[at.STACK_TOP] > 3 * settings[at.STACK_SIZE]:
            return at.NEEDS_STACK
    if settings[at.KEEPS_STEPS] and counts[at.STEP_COUNT] == len(world.steps):
        return at.NEEDS_STEPS
    if settings[at.TRACES] and len(world.traces) - counts[at.TRACE_COUNT] < 2 * settings[at.SEATS]:
        return at.NEEDS_TRACES
    if me[at.LAST_END] > at.LATEST_TIME:
        return at.OUT_OF_TIME
    return cache.needs(me, world, most)


@kernel
def _drop_old_gaps(me, world):
    """Forget the gaps before the first that anybody who decodes had."""
    settings, oldest = world.settings, me[at.BATCH]
    for position in range(me[at.RING_HEAD], me[at.RING_TAIL]):
        slot = me[settings[at.RING] + (position & (settings[at.RING_SIZE] - 1))]
        if slot != at.NONE and slot != me[at.PARTIAL]:
            oldest = min(oldest, world.slots[slot, at.FIRST_GAP])
    drop_old_gaps(me, world, oldest)


@kernel
def _make_room(cache, me, world):
    """Take the blocks of the decodes, and see that those of the partial prefill are free. Returns how many were preempted."""
    settings = world.settings
    due = me[settings[at.PHASES] + (-me[at.BATCH] & (settings[at.BLOCK_SIZE] - 1))]
    chunk_blocks = 0
    if me[at.PARTIAL] != at.NONE:
        partial = world.slots[me[at.PARTIAL]]
        chunk = min(partial[at.TOKENS] - partial[at.OFFSET], settings[at.BUDGET] - me[at.DECODES])
        chunk_blocks = blocks_for(world, partial[at.OFFSET] + chunk) - blocks_for(world, partial[at.OFFSET])
    if due + chunk_blocks > me[at.FREE]:
        return _preempt(cache, me, world, chunk_blocks)
    if due:
        cache.take(me, world, due)
    return 0


@kernel
def _preempt(cache, me, world, chunk_blocks):
    """Blocks are short: each takes its own, in order, and the last has to go until they suffice."""
    settings, slots, preempted, position = world.settings, world.slots, 0, me[at.RING_HEAD]
    while position < me[at.RING_TAIL]:
        slot = me[settings[at.RING] + (position & (settings[at.RING_SIZE] - 1))]
        position += 1
        if slot == at.NONE or slots[slot, at.FLAGS] & at.ENDED:
            continue
        if slot == me[at.PARTIAL]:
            need = chunk_blocks
        else:
            need = ((me[at.BATCH] - slots[slot, at.OFFSET]) & (settings[at.BLOCK_SIZE] - 1)) == 0
        while need > me[at.FREE]:
            victim = preempt_last(cache, me, world)
            preempted += 1
            if settings[at.TRACES]:
                note_trace(me, world, at.PREEMPTED, victim, 0)
            if victim == slot:
                return preempted
        if need and slot != me[at.PARTIAL]:
            cache.take(me, world, 1)
    return preempted


@kernel
def _admit(cache, me, world):
    """From the head of the queue while there are budget and seats, and blocks for the head's whole prompt."""
    settings, slots, start_ns = world.settings, world.slots, start_ns_of(me)
    while me[at.HEAD] != at.NONE and me[at.BUDGET_LEFT] > 0 and me[at.RUNNING] < settings[at.SEATS]:
        slot = me[at.HEAD]
        hit, unheld = cache.find(me, world, slot)
        if not has_room(me, world, slot, hit, hit - unheld, me[at.BUDGET_LEFT]):
            return
        pop_front(me, world)
        me[at.WAITING] -= 1
        append_running(me, world, slot)
        if hit:
            cache.touch(me, world, slot, hit)
        life = world.lives[slot]
        if life["scheduled_ns"] == at.NONE:
            life["scheduled_ns"] = start_ns
            life["cached_tokens"] = hit << settings[at.BLOCK_SHIFT]
        slots[slot, at.OFFSET] = hit << settings[at.BLOCK_SHIFT]
        _compute_chunk(cache, me, world, slot)


@kernel
def _compute_chunk(cache, me, world, slot):
    """As much of a prompt as the budget allows. One token after others is a decode, for the step cost."""
    request = world.slots[slot]
    computed = request[at.OFFSET]
    tokens = min(request[at.TOKENS] - computed, me[at.BUDGET_LEFT])
    after = computed + tokens
    cache.grow(me, world, slot, after)
    me[at.BUDGET_LEFT] -= tokens
    me[at.PREFILLS] += 1
    if tokens == 1 and computed:
        me[at.LONE_DECODES] += 1
        me[at.LONE_CONTEXT] += after
    else:
        me[at.PREFILL_TOKENS] += tokens
        me[at.PREFILL_WORK] += tokens * (tokens + 2 * computed)
        me[at.CHUNK_CONTEXT] += after
    request[at.OFFSET] = after
    if after == request[at.TOKENS]:
        me[at.PARTIAL] = at.NONE
        me[at.SAMPLES] += 1
        request[at.NEXT] = me[at.COMPLETING]
        me[at.COMPLETING] = slot
    else:
        me[at.PARTIAL] = slot
    if world.settings[at.TRACES]:
        note_trace(me, world, at.COMPUTED, slot, tokens)


@kernel
def _launch(cache, me, world, preempted, first_trace):
    """The batch is formed: its end is known, and with it what happens to everyone at that end."""
    settings, batch, decodes = world.settings, me[at.BATCH], me[at.DECODES]
    start_ns = start_ns_of(me)
    rows = decodes + me[at.LONE_DECODES]
    context = me[at.CONTEXT] + decodes + me[at.LONE_CONTEXT]
    samples = decodes + me[at.SAMPLES]
    sums = me[at.PREFILL_TOKENS], me[at.PREFILL_WORK], me[at.CHUNK_CONTEXT]
    end_ns = start_ns + step_ns(world, sums[0], sums[1], sums[2], rows, context, samples, 0)
    if settings[at.KEEPS_STEPS]:
        note_step(me, world, start_ns, end_ns, sums[0], rows, 0, decodes + me[at.PREFILLS], preempted)
    if settings[at.TRACES]:
        stamp_traces(world, first_trace, start_ns, end_ns)
    gap_ns = end_ns - me[at.LAST_END]
    given = decodes - _retire(me, world, gap_ns)
    if given:
        count_gap(world, gap_ns, given)
        push_gap(me, world, batch, gap_ns)
    me[at.CONTEXT] += me[at.DECODES]
    _join(cache, me, world, end_ns)
    if me[at.FLIGHTS] == 0:
        me[at.END] = end_ns
    me[at.LAST_END] = end_ns
    me[at.FLIGHTS] += 1
    me[at.BATCH] = batch + 1
    world.counts[at.FORMED] += 1


@kernel
def _retire(me, world, gap_ns):
    """Take out of the sums whose last batch this is; returns how many of them only overran their stop token.

    These end with the batch before, which is in flight, and have no gap in this one.
    """
    slots, batch, overran, later = world.slots, me[at.BATCH], 0, at.NONE
    wheel, bucket = world.wheels[me[at.ID]], batch & (at.WHEEL_SIZE - 1)
    slot = int(wheel[bucket])
    while slot != at.NONE:
        following = slots[slot, at.NEXT]
        if slots[slot, at.LAST_BATCH] != batch:
            slots[slot, at.NEXT] = later
            later = slot
        else:
            stop_decoding(me, world, slot)
            note_longest_gap(me, world, slot, longest_gap_since(me, world, slots[slot, at.FIRST_GAP]))
            if slots[slot, at.FLAGS] & at.OVERRUNS:
                overran += 1
                end_with(me, world, slot, batch - 1)
            else:
                note_longest_gap(me, world, slot, gap_ns)
                slots[slot, at.FLAGS] |= at.ENDED
                end_with(me, world, slot, batch)
        slot = following
    wheel[bucket] = later
    return overran


@kernel
def _join(cache, me, world, end_ns):
    """Those whose prompt is computed get a token at the batch's end; they decode from the next batch on, or end."""
    settings, slots, batch, slot = world.settings, world.slots, me[at.BATCH], me[at.COMPLETING]
    wheel = world.wheels[me[at.ID]]
    while slot != at.NONE:
        request, life = slots[slot], world.lives[slot]
        following, tokens, overruns = request[at.NEXT], request[at.TOKENS], request[at.FLAGS] & at.OVERRUNS
        if life["first_token_ns"] == at.NONE:
            life["first_token_ns"] = end_ns
        else:
            gap_ns = end_ns - world.rare[slot, at.LAST_TOKEN]
            count_gap(world, gap_ns, 1)
            note_longest_gap(me, world, slot, gap_ns)
        request[at.FIRST_GAP] = batch + 1
        left = request[at.LIMIT] - tokens - 1 + overruns
        if left == 0:
            request[at.FLAGS] |= at.ENDED | at.WAS_PREFILL
            end_with(me, world, slot, batch)
        else:
            request[at.OFFSET] = batch + 1 - tokens
            request[at.LAST_BATCH] = batch + left
            me[at.DECODES] += 1
            me[at.CONTEXT] += tokens
            me[settings[at.PHASES] + (-request[at.OFFSET] & (settings[at.BLOCK_SIZE] - 1))] += 1
            bucket = request[at.LAST_BATCH] & (at.WHEEL_SIZE - 1)
            request[at.NEXT] = wheel[bucket]
            wheel[bucket] = slot
            cache.join(me, world, slot)
        slot = following
