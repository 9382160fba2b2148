"""Arrivals: each is turned away or routed to an instance, which has been played up to that instant."""

import numpy as np

from . import layout as at
from .compiler import kernel

REJECTED = 2  # of sim.request.FINISH_REASONS


@kernel
def play(advance, accept, world, rows, until_ns):
    """Let the rows from the cursor on arrive, then play every instance up to `until_ns`: ends included, plans at it not.

    DONE, or what there is no room for; once there is, the same call goes on where it stopped.
    """
    counts = world.counts
    status = at.DONE
    while status == at.DONE and counts[at.CURSOR] < len(rows):
        row = rows[counts[at.CURSOR]]
        now_ns = row["arrival_ns"]
        reason = reject_reason(world, row)
        if counts[at.RECORD_COUNT] == len(world.records):
            status = at.NEEDS_RECORDS
        elif counts[at.FREE_SLOT] == at.NONE:
            status = at.NEEDS_SLOTS
        elif reason:
            _reject(world, row, reason)
        else:
            index = _choose(advance, world, row, now_ns)
            status = advance(world.instances[index], world, now_ns) if index >= 0 else -index
            if status == at.DONE:
                _enter(accept, world.instances[index], world, row)
                counts[at.TURN] = index + 1
        if status == at.DONE:
            counts[at.CURSOR] += 1
            counts[at.LATEST] = max(counts[at.LATEST], now_ns)
    index = 0
    while status == at.DONE and index < len(world.instances):
        status = advance(world.instances[index], world, until_ns)
        index += 1
    return status


@kernel
def reject_reason(world, row):
    """An index of sim.request.REJECT_REASONS; 0 for a request that can be served."""
    settings = world.settings
    longest = min(row["max_tokens"], settings[at.MAX_LEN] - row["input_tokens"])
    if longest < 1:
        return 1
    if row["input_tokens"] + longest > settings[at.USABLE] * settings[at.BLOCK_SIZE]:
        return 2
    if settings[at.ENCODER_CACHE]:
        most = min(settings[at.ENCODER_BUDGET], settings[at.ENCODER_CACHE])
        for index in range(row["items_start"], row["items_start"] + row["items_count"]):
            if world.items[index]["tokens"] > most:
                return 3
    return 0


@kernel
def begin_life(world, slot, row):
    """What the RECORD row of a request says from the beginning; nothing of it has happened yet."""
    life = world.lives[slot]
    life["arrival_ns"] = row["arrival_ns"]
    life["request_id"] = row["request_id"]
    life["client_id"] = row["client_id"]
    life["session_id"] = row["session_id"]
    life["turn"] = row["turn"]
    life["model"] = row["model"]
    life["priority"] = row["priority"]
    life["input_tokens"] = row["input_tokens"]
    life["output_tokens"] = 0
    life["max_tokens"] = row["max_tokens"]
    life["instance_id"] = at.NONE
    life["scheduled_ns"] = at.NONE
    life["first_token_ns"] = at.NONE
    life["finish_ns"] = at.NONE
    life["api_ns"] = world.settings[at.API]
    life["cached_tokens"] = 0
    life["preemptions"] = 0
    life["itl_max_ns"] = at.NONE
    life["reject_reason"] = 0


@kernel
def coin_of(seed_bits, request_id):
    """64 random bits for a request: sim.request.mix64 of the mixed seed and its id."""
    x = np.uint64(seed_bits ^ request_id) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def _choose(advance, world, row, now_ns):
    """The instance by the rules of sim.router, or the negative of a status; instances are played as far as they are seen."""
    settings, counts, count = world.settings, world.counts, len(world.instances)
    router, index = settings[at.ROUTER], 0  # the first instance
    if count == 1:
        index = 0
    elif router == at.GIVEN:
        index = counts[at.TURN]
    elif router == at.ROUND_ROBIN:
        index = counts[at.TURN] % count
    elif router == at.RANDOM:
        coin = coin_of(settings[at.SEED_BITS], row["request_id"])
        high, low = np.int64(coin >> np.uint64(32)), np.int64(coin & np.uint64(0xFFFFFFFF))
        index = int((high * count + (low * count >> 32)) >> 32)
    elif router == at.POWER_OF_TWO:
        coin = coin_of(settings[at.SEED_BITS], row["request_id"])
        first = np.int64(coin >> np.uint64(32)) * count >> 32
        second = np.int64(coin & np.uint64(0xFFFFFFFF)) * (count - 1) >> 32
        second += second >= first
        index = _shortest(advance, world, min(first, second), max(first, second) + 1, abs(second - first), now_ns)
    else:
        index = _shortest(advance, world, 0, count, 1, now_ns)
    return index


@kernel
def _shortest(advance, world, start, stop, stride, now_ns):
    """The first of instances start, start + stride, … with the fewest requests, or the negative of a status.

    Only those are played on whose number of requests may have changed by now.
    """
    queues, best, fewest = world.queues, at.NONE, at.NEVER
    for index in range(start, stop, stride):
        if queues[index, 0] <= now_ns:
            status = advance(world.instances[index], world, now_ns)
            if status != at.DONE:
                best = -status
                break
        if queues[index, 1] < fewest:
            best, fewest = index, queues[index, 1]
    return best


@kernel
def _enter(accept, me, world, row):
    """A request gets a slot and a place in the queue of an instance, which plans at once if it was idle."""
    counts, settings, slots = world.counts, world.settings, world.slots
    slot = counts[at.FREE_SLOT]
    counts[at.FREE_SLOT] = slots[slot, at.NEXT]
    begin_life(world, slot, row)
    life = world.lives[slot]
    life["instance_id"] = me[at.ID]
    longest = min(row["max_tokens"], settings[at.MAX_LEN] - row["input_tokens"])
    life["finish_reason"] = row["output_tokens"] >= longest
    slots[slot, at.TOKENS] = row["input_tokens"]
    slots[slot, at.LIMIT] = row["input_tokens"] + min(row["output_tokens"], longest)
    accept(me, world, slot, row)
    me[at.WAITING] += 1
    queue = world.queues[me[at.ID]]
    queue[1] += 1
    if me[at.FLIGHTS] == 0 and me[at.IS_DUE] == 0:
        me[at.IS_DUE], me[at.NOW] = 1, row["arrival_ns"]
        queue[0] = row["arrival_ns"] + 1


@kernel
def _reject(world, row, reason):
    """A RECORD row for a request that no instance could ever serve; it takes a slot for no time at all."""
    slot = world.counts[at.FREE_SLOT]
    begin_life(world, slot, row)
    life = world.lives[slot]
    life["finish_ns"] = row["arrival_ns"]
    life["finish_reason"] = REJECTED
    life["reject_reason"] = reason
    world.records[world.counts[at.RECORD_COUNT]] = life
    world.counts[at.RECORD_COUNT] += 1


@kernel
def push_back(me, world, slot):
    """Into the queue of an instance, as the last."""
    slots = world.slots
    slots[slot, at.NEXT] = at.NONE
    if me[at.HEAD] == at.NONE:
        me[at.HEAD] = slot
    else:
        slots[me[at.TAIL], at.NEXT] = slot
    me[at.TAIL] = slot


@kernel
def push_front(me, world, slot):
    """Into the queue of an instance, as the first."""
    if me[at.HEAD] == at.NONE:
        me[at.TAIL] = slot
    world.slots[slot, at.NEXT] = me[at.HEAD]
    me[at.HEAD] = slot


@kernel
def pop_front(me, world):
    """The first of the queue of an instance, which is not empty."""
    slot = me[at.HEAD]
    me[at.HEAD] = world.slots[slot, at.NEXT]
    return slot
