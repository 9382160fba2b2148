"""An iteration: what it costs, and what it leaves in the tables."""

import math

from . import layout as at
from .compiler import kernel


@kernel
def step_ns(world, prefill_tokens, prefill_work, chunk_context, decodes, decode_context, samples, encode_tokens):
    """(looked-up terms + four products + 2^15) >> 16: hwprofiles.steptable, and sim.affine for the last two products."""
    settings = world.settings
    ticks = step_ticks(world, prefill_tokens, decodes, samples)
    ticks += settings[at.WORK_TICKS] * prefill_work + world.cost[4, decodes] * decode_context
    ticks += settings[at.CHUNK_CONTEXT_TICKS] * chunk_context + settings[at.ENCODE_TICKS] * encode_tokens
    return (ticks + 32768) >> 16


@kernel
def step_ticks(world, prefill_tokens, decodes, samples):
    """The looked-up terms of a step's cost: by tokens, by samples, by prefill tokens, by decodes."""
    cost = world.cost
    return cost[0, prefill_tokens + decodes] + cost[1, samples] + cost[2, prefill_tokens] + cost[3, decodes]


@kernel
def start_ns_of(me):
    """When a batch formed now begins: when the GPU is free."""
    return me[at.LAST_END] if me[at.FLIGHTS] and me[at.LAST_END] > me[at.NOW] else me[at.NOW]


@kernel
def bin_of(value):
    """128 to an octave: 128 * octave + the 7 bits after the leading one (sim.histogram)."""
    if value <= 0:
        return 0
    shift = 0
    while value >= 1 << 52:  # a float holds it exactly only after that
        value >>= 8
        shift += 8
    mantissa, exponent = math.frexp(float(value))
    return ((exponent - 1 + shift) << 7) + int(mantissa * 256.0) - 128


@kernel
def bin_floor(index):
    """The smallest integer of a bin."""
    octave, part = index >> 7, index & 127
    return (128 + part) << (octave - 7) if octave >= 7 else -(-(128 + part) >> (7 - octave))


@kernel
def count_gap(world, gap_ns, times):
    """`times` gaps between tokens of this length."""
    world.gaps[bin_of(gap_ns)] += times


@kernel
def note_step(me, world, start_ns, end_ns, prefill_tokens, decodes, encode_tokens, rows, preempted):
    """The STEP row of a batch just formed, where such rows are kept; there must be room."""
    counts = world.counts
    step = world.steps[counts[at.STEP_COUNT]]
    counts[at.STEP_COUNT] += 1
    step["instance_id"] = me[at.ID]
    step["start_ns"] = start_ns
    step["duration_ns"] = end_ns - start_ns
    step["prefill_tokens"] = prefill_tokens
    step["decode_tokens"] = decodes
    step["encode_tokens"] = encode_tokens
    step["running"] = rows
    step["waiting"] = me[at.WAITING]
    step["kv_blocks_used"] = world.settings[at.USABLE] - me[at.FREE]
    step["preempted"] = preempted


@kernel
def note_trace(me, world, kind, slot, value):
    """A line of the trace: what the batch being formed does for a request; there must be room."""
    counts = world.counts
    row = world.traces[counts[at.TRACE_COUNT]]
    counts[at.TRACE_COUNT] += 1
    row[at.TRACE_KIND] = kind
    row[at.TRACE_REQUEST] = world.lives[slot]["request_id"]
    row[at.TRACE_VALUE] = value
    row[at.TRACE_INSTANCE] = me[at.ID]


@kernel
def stamp_traces(world, first, start_ns, end_ns):
    """The batch that the lines from `first` on are about is formed: its start and end are known."""
    for line in range(first, world.counts[at.TRACE_COUNT]):
        world.traces[line, at.TRACE_START] = start_ns
        world.traces[line, at.TRACE_END] = end_ns


@kernel
def leave(me, world, slot, finish_ns, tokens):
    """A request is gone with so many answer tokens: its RECORD row goes out, its slot is free. There must be room."""
    note_leaving(world, slot, finish_ns, tokens)
    free_slot(world, slot)


@kernel
def note_leaving(world, slot, finish_ns, tokens):
    """The RECORD row of a request that is gone with so many answer tokens; there must be room."""
    counts = world.counts
    life = world.lives[slot]
    life["finish_ns"] = finish_ns
    life["output_tokens"] = tokens
    world.records[counts[at.RECORD_COUNT]] = life
    counts[at.RECORD_COUNT] += 1


@kernel
def free_slot(world, slot):
    """A slot can be given to the next who comes."""
    world.slots[slot, at.NEXT] = world.counts[at.FREE_SLOT]
    world.counts[at.FREE_SLOT] = slot
