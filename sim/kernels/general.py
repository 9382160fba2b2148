"""Batches formed request by request: every rule of `sim.scheduler`, for any engine, at a cost per row.

A round of the scheduler (`round`) plans the rows of a batch; closing it counts their tokens as computed and finds out what
the batch costs; when it comes back everyone in it who has caught up gets a token.

A run that is over may leave requests that could not go on; no arrival will come to them. They are tried until nothing helps,
then given up (`sim.fast`).
"""

from . import layout as at
from .blocks import commit, open_blocks, release
from .clock import advance
from .compiler import entry, kernel, routine
from .items import accept_items, let_go_all, let_go_finished, open_items
from .keys import write_keys
from .play import play
from .round import plan_round
from .steps import count_gap, free_slot, leave, note_leaving, note_step, note_trace, stamp_traces, start_ns_of, step_ns
from .waiting import pop, push, remove

FAILED = 3
"""Of sim.request.FINISH_REASONS."""


@routine
def advance_general(me, world, until_ns):
    """The clock with this family's functions."""
    return advance(stretch, form, finish, me, world, until_ns)


@entry
def play_general(world, rows, until_ns):
    """Arrivals with this family's functions."""
    return play(advance_general, accept, world, rows, until_ns)


@entry
def open_instances(world):
    """All instances are idle and empty."""
    for index in range(len(world.instances)):
        me = world.instances[index]
        me[: at.INSTANCE_COLUMNS] = 0
        me[at.ID] = index
        me[at.HEAD] = me[at.TAIL] = at.NONE
        world.queues[index, 0], world.queues[index, 1] = at.NEVER, 0
        open_blocks(me, world)
        open_items(me, world)


@entry
def give_up(me, world):
    """Those who are still here leave as failed, those who run first; or NEEDS_RECORDS."""
    counts, running = world.counts, world.settings[at.RING]
    if counts[at.RECORD_COUNT] + me[at.RUNNING] + me[at.WAITING] > len(world.records):
        return at.NEEDS_RECORDS
    for index in range(me[at.RUNNING]):
        _fail(me, world, me[running + index])
    for _ in range(me[at.WAITING]):
        _fail(me, world, pop(me, world))
    me[at.RUNNING] = me[at.WAITING] = 0
    return at.DONE


@kernel
def accept(me, world, slot, row):
    """A request comes to the queue of an instance."""
    request, settings = world.slots[slot], world.settings
    request[at.HAS_COMPUTED] = request[at.AHEAD] = request[at.IN_FLIGHT] = request[at.FLAGS] = 0
    request[at.ROOM] = request[at.HELD] = request[at.COMMITTED] = 0
    request[at.COMMIT_AT] = at.NEVER
    request[at.MOST] = row["input_tokens"] + row["max_tokens"]
    request[at.LAST_TOKEN_NS] = request[at.WORST_GAP_NS] = at.NONE
    if settings[at.CACHES]:
        write_keys(world, slot, row)
    if settings[at.ENCODER_CACHE]:
        accept_items(world, slot, row)
    push(me, world, slot)


@kernel
def stretch(me, world, until_ns):
    """This family knows no runs of decodes."""
    return at.DONE


@kernel
def form(me, world):
    """Form the next batch: SOMETHING, NOTHING where nobody can go on, or what there is no room for."""
    settings, counts = world.settings, world.counts
    if settings[at.KEEPS_STEPS] and counts[at.STEP_COUNT] == len(world.steps):
        return -at.NEEDS_STEPS
    if settings[at.TRACES]:
        most = 2 * settings[at.SEATS] + settings[at.ENCODER_BUDGET]
        if counts[at.TRACE_COUNT] + most > len(world.traces):
            return -at.NEEDS_TRACES
    if me[at.LAST_END] > at.LATEST_TIME:
        return -at.OUT_OF_TIME
    if plan_round(me, world) == 0:
        counts[at.TRACE_COUNT] = me[at.TRACE_FROM]
        return at.NOTHING
    _close(me, world)
    return at.SOMETHING


@kernel
def finish(me, world):
    """The oldest batch in flight comes back: tokens come out, and some requests leave. DONE, or NEEDS_RECORDS."""
    parity = (me[at.BATCH] - me[at.FLIGHTS]) & 1
    if world.counts[at.RECORD_COUNT] + me[at.ROWS + parity] > len(world.records):
        return at.NEEDS_RECORDS
    ended = _receive(me, world, parity)
    if ended:
        _let_go(me, world, parity, ended)
    if world.settings[at.ENCODER_CACHE]:
        _let_go_items(me, world, parity)
    world.counts[at.LATEST] = max(world.counts[at.LATEST], me[at.END])
    return at.DONE


@kernel
def _close(me, world):
    """Planning is over: everyone's tokens count as computed, and the sums are known that the duration depends on."""
    slots, parity, is_async = world.slots, me[at.BATCH] & 1, world.settings[at.DEPTH] - 1
    rows, count = world.batches[me[at.ID], parity], me[at.ROWS + parity]
    decodes = decode_context = chunk_context = prefill_tokens = prefill_work = samples = 0
    for index in range(count):
        row = rows[index]
        request, tokens = slots[row[at.ROW_SLOT]], row[at.ROW_TOKENS]
        computed = request[at.HAS_COMPUTED]
        after = request[at.HAS_COMPUTED] = computed + tokens
        if tokens == 1 and computed:
            decodes += 1
            decode_context += after
        else:
            prefill_tokens += tokens
            prefill_work += tokens * (tokens + 2 * computed)
            chunk_context += after
        row[at.ROW_SAMPLES] = after >= request[at.TOKENS] + request[at.AHEAD]
        samples += row[at.ROW_SAMPLES]
        request[at.AHEAD] += row[at.ROW_SAMPLES] & is_async
        request[at.IN_FLIGHT] += tokens * is_async
    encoded = world.settings[at.ENCODER_BUDGET] - me[at.ENCODER_LEFT]
    sums = (prefill_tokens, prefill_work, chunk_context, decodes, decode_context, samples, encoded)
    _launch(me, world, count, sums)


@kernel
def _launch(me, world, count, sums):
    """The batch is on its way: it starts when the one before it has ended."""
    counts, settings = world.counts, world.settings
    prefill_tokens, prefill_work, chunk_context, decodes, decode_context, samples, encoded = sums
    start_ns = start_ns_of(me)
    end_ns = start_ns + step_ns(world, prefill_tokens, prefill_work, chunk_context, decodes, decode_context, samples, encoded)
    if settings[at.KEEPS_STEPS]:
        note_step(me, world, start_ns, end_ns, prefill_tokens, decodes, encoded, count, me[at.PREEMPTED_NOW])
    if settings[at.TRACES]:
        _trace_rows(me, world)
        stamp_traces(world, me[at.TRACE_FROM], start_ns, end_ns)
    me[at.LAST_END] = end_ns
    if me[at.FLIGHTS] == 0:
        me[at.END] = end_ns
    me[at.FLIGHTS] += 1
    me[at.BATCH] += 1
    counts[at.FORMED] += 1


@kernel
def _trace_rows(me, world):
    """A line of the trace for everyone in the batch, in order."""
    parity = me[at.BATCH] & 1
    for index in range(me[at.ROWS + parity]):
        row = world.batches[me[at.ID], parity, index]
        note_trace(me, world, at.COMPUTED, row[at.ROW_SLOT], row[at.ROW_TOKENS])


@kernel
def _receive(me, world, parity):
    """Everyone in a batch who has caught up gets a token; returns how many ended, whose slots stand in ROW_ENDED.

    Blocks filled in decode become findable now, when the tokens in them are known, also for one that ends here.
    """
    slots, end_ns, is_async = world.slots, me[at.END], world.settings[at.DEPTH] > 1
    rows, ended, run_ns, run = world.batches[me[at.ID], parity], 0, 0, 0
    for index in range(me[at.ROWS + parity]):
        row = rows[index]
        slot = row[at.ROW_SLOT]
        request = slots[slot]
        if request[at.FLAGS] & at.IS_DONE:  # computed once more before its stop token was seen
            free_slot(world, slot)
            continue
        if is_async:
            request[at.IN_FLIGHT] -= row[at.ROW_TOKENS]
        if not row[at.ROW_SAMPLES]:
            continue
        known = request[at.TOKENS] = request[at.TOKENS] + 1
        if request[at.AHEAD]:
            request[at.AHEAD] -= 1
            if request[at.COMMIT_AT] <= known and request[at.FLAGS] & at.IS_RUNNING:
                commit(me, world, slot, min(request[at.HAS_COMPUTED] - request[at.IN_FLIGHT], known))
        gap_ns = _next_token(world, slot, end_ns)
        if gap_ns != run_ns:
            if run:
                count_gap(world, run_ns, run)
            run_ns, run = gap_ns, 0
        run += gap_ns >= 0
        if known >= request[at.LIMIT]:
            rows[ended, at.ROW_ENDED] = slot
            ended += 1
    if run:
        count_gap(world, run_ns, run)
    return ended


@kernel
def _next_token(world, slot, end_ns):
    """A request has one token more; returns the gap to the one before, NONE for the first."""
    request = world.slots[slot]
    last_ns, request[at.LAST_TOKEN_NS] = request[at.LAST_TOKEN_NS], end_ns
    if last_ns < 0:
        world.lives[slot]["first_token_ns"] = end_ns
        return at.NONE
    request[at.WORST_GAP_NS] = max(request[at.WORST_GAP_NS], end_ns - last_ns)
    return end_ns - last_ns


@kernel
def _let_go(me, world, parity, ended):
    """Those who ended with this batch give back what they hold, and leave."""
    slots, rows = world.slots, world.batches[me[at.ID], parity]
    for index in range(ended):
        slot = rows[index, at.ROW_ENDED]
        request = slots[slot]
        if request[at.FLAGS] & at.IS_RUNNING:
            release(me, world, slot)
            if request[at.FLAGS] & at.HAS_ITEMS:
                let_go_all(me, world, slot)
        else:  # preempted while its last token was in flight
            remove(me, world, slot)
            me[at.WAITING] -= 1
        request[at.FLAGS] |= at.IS_DONE
    running, kept = world.settings[at.RING], 0
    for index in range(me[at.RUNNING]):
        slot = me[running + index]
        if not slots[slot, at.FLAGS] & at.IS_DONE:
            me[running + kept] = slot
            kept += 1
    me[at.RUNNING] = kept
    for index in range(ended):
        slot = rows[index, at.ROW_ENDED]
        _write_gap(world, slot)
        tokens = slots[slot, at.TOKENS] - world.lives[slot]["input_tokens"]
        note_leaving(world, slot, me[at.END], tokens)
        if slots[slot, at.IN_FLIGHT] == 0:
            free_slot(world, slot)


@kernel
def _let_go_items(me, world, parity):
    slots = world.slots
    for index in range(me[at.ROWS + parity]):
        slot = world.batches[me[at.ID], parity, index, at.ROW_SLOT]
        if slots[slot, at.FLAGS] & (at.HAS_ITEMS | at.IS_DONE) == at.HAS_ITEMS:
            let_go_finished(me, world, slot)


@kernel
def _write_gap(world, slot):
    world.lives[slot]["itl_max_ns"] = world.slots[slot, at.WORST_GAP_NS]


@kernel
def _fail(me, world, slot):
    _write_gap(world, slot)
    life = world.lives[slot]
    life["finish_reason"] = FAILED
    leave(me, world, slot, world.counts[at.LATEST], world.slots[slot, at.TOKENS] - life["input_tokens"])
