"""One call of the scheduler, request by request: who computes how many tokens in the batch that is being formed.

The rules are those of `sim.scheduler`, and so are the names. What the round works with stands in the columns of the instance
from BUDGET_LEFT on; its rows stand in `batches`.
"""

from . import layout as at
from .blocks import commit, find, grow, release, touch
from .compiler import kernel
from .items import encode, let_go_all, let_go_new, plan_items
from .steps import note_trace, start_ns_of
from .waiting import give_back, pop, set_back


@kernel
def plan_round(me, world):
    """Plan the rows of the next batch, and take their blocks; returns how many rows there are."""
    settings, counts = world.settings, world.counts
    is_alone = me[at.RUNNING] + me[at.WAITING] <= 1
    me[at.CUT] = settings[at.THRESHOLD] if settings[at.THRESHOLD] and not is_alone else at.NEVER
    me[at.BUDGET_LEFT] = settings[at.BUDGET]
    me[at.ENCODER_LEFT] = settings[at.ENCODER_BUDGET]
    me[at.INDEX] = me[at.PREEMPTED_NOW] = 0
    me[at.TRACE_FROM] = counts[at.TRACE_COUNT]
    rows_at = at.ROWS + (me[at.BATCH] & 1)
    me[rows_at] = 0
    _continue_running(me, world)
    if me[at.PREEMPTED_NOW] == 0:
        _admit_waiting(me, world)
    return me[rows_at]


@kernel
def _continue_running(me, world):
    """Rule 1 of the scheduler: who runs asks for all tokens that he has and has not computed."""
    settings, slots = world.settings, world.slots
    running, last = settings[at.RING], settings[at.MAX_LEN] - 1
    while me[at.INDEX] < me[at.RUNNING] and me[at.BUDGET_LEFT] > 0:
        slot = me[running + me[at.INDEX]]
        me[at.INDEX] += 1
        request = slots[slot]
        computed, ahead = request[at.HAS_COMPUTED], request[at.AHEAD]
        if ahead and computed + 2 - ahead >= request[at.MOST]:
            continue  # its last token is in flight
        tokens = request[at.TOKENS] + ahead - computed
        if tokens > 1 or computed >= last or request[at.FLAGS] & at.HAS_ITEMS:
            tokens = _cut(me, world, slot, computed, min(tokens, last - computed))
            if tokens <= 0:
                continue
        if computed + tokens > request[at.ROOM] and not _make_room(me, world, slot, computed + tokens):
            if settings[at.BY_PRIORITY]:
                continue
            break
        _plan(me, world, slot, tokens)
        if request[at.COMMIT_AT] <= computed + tokens:
            commit(me, world, slot, min(computed + tokens, request[at.TOKENS]))


@kernel
def _admit_waiting(me, world):
    """Rule 2 of the scheduler: those who wait, from the head, while there are budget and seats."""
    first_aside = last_aside = at.NONE
    while me[at.HEAD] != at.NONE and me[at.BUDGET_LEFT] > 0 and me[at.RUNNING] < world.settings[at.SEATS]:
        slot = me[at.HEAD]
        passes_over = _admit_head(me, world, slot)
        if passes_over < 0:
            break
        if passes_over:
            pop(me, world)
            world.slots[slot, at.NEXT] = at.NONE
            if first_aside == at.NONE:
                first_aside = slot
            else:
                world.slots[last_aside, at.NEXT] = slot
            last_aside = slot
    set_back(me, world, first_aside, last_aside)


@kernel
def _admit_head(me, world, slot):
    """Admit the head of the queue. 0 where it was, 1 where it lets others pass, -1 where it holds up all behind it."""
    settings, request = world.settings, world.slots[slot]
    if request[at.IN_FLIGHT]:  # what was in flight when it was preempted has not come back
        return 1
    hit, unheld = find(me, world, slot)
    computed = hit * settings[at.BLOCK_SIZE]
    tokens = request[at.TOKENS] - computed
    if not settings[at.CHUNKS] and min(tokens, me[at.CUT]) > me[at.BUDGET_LEFT]:
        return -1
    tokens = _cut(me, world, slot, computed, tokens)
    if tokens == 0:
        return 1
    if not _has_room(me, world, computed + tokens, request[at.TOKENS], hit - unheld):
        if request[at.FLAGS] & at.HAS_ITEMS:
            let_go_new(me, world, slot)
        return -1
    pop(me, world)
    me[at.WAITING] -= 1
    me[settings[at.RING] + me[at.RUNNING]] = slot
    me[at.RUNNING] += 1
    request[at.FLAGS] |= at.IS_RUNNING
    request[at.HAS_COMPUTED] = computed
    life = world.lives[slot]
    if life["scheduled_ns"] < 0:
        life["scheduled_ns"] = start_ns_of(me)
        life["cached_tokens"] = computed
    if settings[at.CACHES]:
        touch(me, world, slot, hit)
    grow(me, world, slot, computed + tokens)
    _plan(me, world, slot, tokens)
    if settings[at.CACHES]:
        commit(me, world, slot, min(computed + tokens, request[at.TOKENS]))
    return 0


@kernel
def _has_room(me, world, chunk_tokens, tokens, held_by_others):
    """The admission gate: blocks for the first chunk, or for the whole prompt, besides hits that others hold; the watermark."""
    settings = world.settings
    if settings[at.RESERVES]:
        chunk_tokens = max(chunk_tokens, tokens)
    most = min(chunk_tokens, settings[at.MAX_LEN])
    blocks = (most + settings[at.BLOCK_SIZE] - 1) // settings[at.BLOCK_SIZE] - held_by_others
    return blocks + (settings[at.WATERMARK] if me[at.RUNNING] else 0) <= me[at.FREE]


@kernel
def _cut(me, world, slot, computed, tokens):
    """How many of the tokens that a request wants it may have."""
    tokens = min(tokens, me[at.CUT], me[at.BUDGET_LEFT])
    if tokens <= 0 or not world.slots[slot, at.FLAGS] & at.HAS_ITEMS:
        return tokens
    return plan_items(me, world, slot, computed, tokens)


@kernel
def _plan(me, world, slot, tokens):
    """One more row of the batch."""
    parity = me[at.BATCH] & 1
    row = world.batches[me[at.ID], parity, me[at.ROWS + parity]]
    row[at.ROW_SLOT], row[at.ROW_TOKENS], row[at.ROW_ENCODED] = slot, tokens, 0
    if world.slots[slot, at.FLAGS] & at.HAS_ITEMS:
        row[at.ROW_ENCODED] = encode(me, world, slot)
    me[at.ROWS + parity] += 1
    me[at.BUDGET_LEFT] -= tokens


@kernel
def _make_room(me, world, slot, tokens):
    """Preempt until a request fits; False if it had to be preempted itself."""
    while not grow(me, world, slot, tokens):
        position = _victim(me, world)
        victim = me[world.settings[at.RING] + position]
        _preempt(me, world, position, victim)
        if position < me[at.INDEX]:  # the one being looked at, or one planned before it
            me[at.INDEX] -= 1
            _unplan(me, world, victim)
        if victim == slot:
            return False
    return True


@kernel
def _victim(me, world):
    """Where he stands who has to go: the last to run, or with priorities the first of the highest (priority, arrival)."""
    if not world.settings[at.BY_PRIORITY]:
        return me[at.RUNNING] - 1
    worst, running, lives = 0, world.settings[at.RING], world.lives
    for position in range(1, me[at.RUNNING]):
        one, other = lives[me[running + position]], lives[me[running + worst]]
        is_later = one["priority"] == other["priority"] and one["arrival_ns"] > other["arrival_ns"]
        if one["priority"] > other["priority"] or is_later:
            worst = position
    return worst


@kernel
def _preempt(me, world, position, victim):
    """Take everything from one who runs but the answer he has so far."""
    request, running = world.slots[victim], world.settings[at.RING]
    me[at.RUNNING] -= 1
    for index in range(position, me[at.RUNNING]):
        me[running + index] = me[running + index + 1]
    release(me, world, victim)
    if request[at.FLAGS] & at.HAS_ITEMS:
        let_go_all(me, world, victim)
    request[at.HAS_COMPUTED] = request[at.AHEAD] = 0
    request[at.FLAGS] &= ~at.IS_RUNNING
    world.lives[victim]["preemptions"] += 1
    give_back(me, world, victim)
    me[at.WAITING] += 1
    me[at.PREEMPTED_NOW] += 1
    if world.settings[at.TRACES]:
        note_trace(me, world, at.PREEMPTED, victim, 0)


@kernel
def _unplan(me, world, victim):
    """Who was planned before in this round gives the budgets back."""
    parity = me[at.BATCH] & 1
    rows, count = world.batches[me[at.ID], parity], me[at.ROWS + parity]
    index = 0
    while index < count and rows[index, at.ROW_SLOT] != victim:
        index += 1
    if index == count:
        return
    me[at.BUDGET_LEFT] += rows[index, at.ROW_TOKENS]
    me[at.ENCODER_LEFT] += rows[index, at.ROW_ENCODED]
    for later in range(index + 1, count):
        for column in range(at.BATCH_COLUMNS):
            rows[later - 1, column] = rows[later, column]
    me[at.ROWS + parity] -= 1
    if world.settings[at.TRACES]:
        _forget_encoded(me, world, victim)


@kernel
def _forget_encoded(me, world, victim):
    """What was encoded for him in this round was not."""
    traces, counts, kept = world.traces, world.counts, me[at.TRACE_FROM]
    for index in range(kept, counts[at.TRACE_COUNT]):
        is_his = traces[index, at.TRACE_REQUEST] == world.lives[victim]["request_id"]
        if traces[index, at.TRACE_KIND] == at.ENCODED and is_his:
            continue
        for column in range(at.TRACE_COLUMNS):
            traces[kept, column] = traces[index, column]
        kept += 1
    counts[at.TRACE_COUNT] = kept
