"""The tables of a compiled run: what stands in which column. Everything is int64 unless a dtype says otherwise.

A request in flight has a slot: a row of `slots` (what every step may touch), of `rare` (what a preemption writes) and of
`lives` (its RECORD row, filled in as its life goes on). An instance is one row of `instances`: its counters, and after
them its tables, whose places stand among the run's `settings`. Links are slot numbers; NONE ends a list.
"""

from typing import NamedTuple

import numpy as np

NONE = -1
NEVER = 1 << 62
"""Later than any time, and more than any count."""
LATEST_TIME = 1 << 61
"""A run ends with an error beyond it: 73 years."""


class World(NamedTuple):
    """All that the kernels of a run share. Families of kernels add their own arrays at the end; others leave them empty."""

    settings: np.ndarray  # [SETTINGS]
    cost: np.ndarray  # [5, n]: ticks by tokens, samples, prefill tokens, decodes of a step; by decodes, of a token of context
    instances: np.ndarray  # [instances, columns]
    queues: np.ndarray  # [instances, 2]: when the number of requests can change next; that number
    wheels: np.ndarray  # [instances, WHEEL_SIZE], int32: who decodes, in lists by the last batch
    slots: np.ndarray  # [slots, SLOT_COLUMNS]
    rare: np.ndarray  # [slots, RARE_COLUMNS]
    lives: np.ndarray  # [slots], RECORD
    records: np.ndarray  # [room], RECORD: who left, instance by instance
    steps: np.ndarray  # [room], STEP: iterations formed, instance by instance
    traces: np.ndarray  # [room, TRACE_COLUMNS]: what each iteration computed for whom, where somebody asked
    gaps: np.ndarray  # [bins]: counts of token gaps, sim.histogram
    counts: np.ndarray  # [COUNTS]
    segments: np.ndarray  # SEGMENTS of the stream
    items: np.ndarray  # ITEMS of the stream
    keys: np.ndarray  # [slots, blocks of the longest request], uint64: keys of a request's blocks
    held: np.ndarray  # [slots, blocks of the longest request], int32: blocks that a request holds
    blocks: np.ndarray  # [instances, usable blocks], BLOCK
    batches: np.ndarray  # [instances, 2, seats, BATCH_COLUMNS]: batches in flight, by the lowest bit of their number
    encoders: np.ndarray  # [instances, different items, ENCODER_COLUMNS]: the encoder caches
    marks: np.ndarray = np.empty((0, 0, 0), np.int64)  # [slots, items of the request with the most, MARK_COLUMNS]


# Of `settings`: the engine.
DEPTH = 0  # batches in flight: 2 with asynchronous scheduling, else 1
SEATS = 1
BUDGET = 2
BLOCK_SIZE = 3
BLOCK_SHIFT = 4  # its binary logarithm, where it has one
WATERMARK = 5  # blocks that admissions leave free
RESERVES = 6  # 1: admit only what has room for its whole prompt
CACHES = 7  # 1: prefix caching
MAX_LEN = 8
USABLE = 9  # KV blocks of an instance, the null block left out
BY_PRIORITY = 10
CHUNKS = 11
THRESHOLD = 12
ENCODER_BUDGET = 13
ENCODER_CACHE = 14
# The run.
ROUTER = 15
SEED_BITS = 16  # the mixed seed of the routers' coins
KEEPS_STEPS = 17
TRACES = 18
# Ticks of 2^-16 ns for each unit of what a step costs besides the looked-up terms.
WORK_TICKS = 19  # n * (n + 2 * past) of a prefill chunk
CHUNK_CONTEXT_TICKS = 20  # context after a prefill chunk
ENCODE_TICKS = 21  # encoder tokens
# Where the tables of an instance begin in its row, and how large they are.
PHASES = 22
RING = 25
RING_SIZE = 26  # a power of two
STACK = 27
STACK_SIZE = 28
HOLES = 29
HOLES_SIZE = 30
BUCKETS = 31
BUCKETS_SIZE = 32
FREE_QUEUE = 33
FREE_QUEUE_SIZE = 34
ANSWERS = 35
ANSWERS_SIZE = 36
API = 37  # time that the API server adds to a request
SETTINGS = 40

WHEEL_SIZE = 1024

ROUTERS = ("round_robin", "random", "power_of_two", "shortest_queue")
"""The routers of `sim.router` that the kernels play, by their code."""
ROUND_ROBIN, RANDOM, POWER_OF_TWO, SHORTEST_QUEUE = range(4)
GIVEN = 4
"""The router is Python: what it chose stands in TURN."""

# Columns of an instance: the clock (sim/kernels/clock.py), the same for all families.
ID = 0
BATCH = 1  # number of the next batch
FLIGHTS = 2  # batches in flight
END = 3  # of the oldest of them
LAST_END = 4  # of the newest batch formed, in flight or not
IS_DUE = 5  # 1: planning is due at NOW
NOW = 6
ENDING = 7  # two lists of slots that end with a batch, by the lowest bit of its number: columns 7 and 8
WAITING = 9  # requests in the queue
RUNNING = 10  # requests that hold a seat
FREE = 11  # KV blocks that nobody holds
HEAD = 12  # the queue: first and last slot
TAIL = 13
# Of the families with aggregates.
DECODES = 14  # requests that decode in the next batch
CONTEXT = 15  # sum of what they have computed before it
PARTIAL = 16  # slot of the one whose prefill is under way
RING_HEAD = 17  # positions in the ring of those who run
RING_TAIL = 18
STACK_BOTTOM = 19
STACK_TOP = 20
KEYLESS = 21  # blocks at the front of the free queue, all without a key
QUEUE_HEAD = 22  # positions in the rest of the free queue
QUEUE_TAIL = 23
HOLE_FIRST = 24
HOLE_COUNT = 25
# Of the batch being formed.
BUDGET_LEFT = 26
PREFILL_TOKENS = 27
PREFILL_WORK = 28
CHUNK_CONTEXT = 29
LONE_DECODES = 30  # chunks of one token after others, which cost what a decode costs
LONE_CONTEXT = 31
PREFILLS = 32  # chunks in all
SAMPLES = 33  # of those, the last of a prompt
COMPLETING = 34  # list of the slots of those
# Columns from here to INSTANCE_COLUMNS are for the other families, which may use those of the aggregates as well.
INSTANCE_COLUMNS = 64

# Columns of a slot.
NEXT = 0  # link of whatever list the slot is in
LAST_BATCH = 1  # in which the request computes for the last time
OFFSET = 2  # decoding: batch - OFFSET is what it has computed before that batch; else what it has computed
SEAT = 3  # position in the ring of those who run
TOKENS = 4  # prompt and answer known, when it was last admitted or preempted
LIMIT = 5  # prompt and answer at its end
FLAGS = 6
FIRST_GAP = 7  # first batch whose end gives it a gap between two tokens
SLOT_COLUMNS = 8

# Bits of FLAGS.
OVERRUNS = 1  # ends by a stop token under asynchronous scheduling: computed once more before that is known
ENDED = 2  # its last token is in flight
WAS_PREFILL = 4  # ... in the batch that ended its prefill
GONE = 8  # preempted after that
PREEMPTED_ONCE = 16  # its row of `rare` says something

# Columns of `rare`.
LAST_TOKEN = 0  # time of its last token, when it was preempted
CHAIN_FROM = 1  # positions of its cached blocks in the free queue
CHAIN_TO = 2
RARE_COLUMNS = 4

# Columns of `traces`.
TRACE_END = 0  # of the iteration
TRACE_KIND = 1
TRACE_REQUEST = 2
TRACE_VALUE = 3  # tokens computed; index of the item encoded
TRACE_INSTANCE = 4
TRACE_START = 5
TRACE_COLUMNS = 6
COMPUTED, PREEMPTED, ENCODED = 0, 1, 2

# Of `counts`.
RECORD_COUNT = 0
STEP_COUNT = 1  # rows in `steps`
TRACE_COUNT = 2
FREE_SLOT = 3  # first of the list of unused slots
FORMED = 4  # iterations formed one by one
STRETCHED = 5  # iterations played from sums
CURSOR = 6  # next row of the window
TURN = 7  # of the round robin
LATEST = 8  # the last thing that happened anywhere
COUNTS = 12

# What a kernel says when it returns: all played, or what there is no room for.
DONE, NEEDS_RECORDS, NEEDS_STEPS, NEEDS_TRACES, NEEDS_SLOTS, NEEDS_STACK, NEEDS_HOLES, OUT_OF_TIME, NEEDS_RING = range(9)
# What forming a batch says, besides -NEEDS_...
NOTHING, SOMETHING = 0, 1

# The general family. Columns of a slot, besides NEXT, TOKENS (prompt and answer known), LIMIT and FLAGS; sim.request has
# the same names in full.
HAS_COMPUTED = 1  # tokens computed or being computed
AHEAD = 2  # answer tokens being computed and not known yet
IN_FLIGHT = 3  # tokens of batches that have not come back
MOST = 7  # prompt and the longest answer asked for
ROOM = 8  # tokens that the KV blocks it holds have room for
COMMIT_AT = 9  # tokens at which one more block is full
COMMITTED = 10  # blocks that can be found by others
HELD = 11  # blocks held
LAST_TOKEN_NS = 12
WORST_GAP_NS = 13
WIDE_SLOT_COLUMNS = 16

# Bits of FLAGS in the general family.
IS_RUNNING = 1
IS_DONE = 2  # gone, but for a batch in flight that computes it once more
HAS_ITEMS = 4

# Columns of `rare` in the general family.
ITEMS_START = 0
ITEMS_COUNT = 1
CHILD = 2  # of the heap of those who wait
BACK = 3

# Columns of `rare` in the pool family, besides LAST_TOKEN.
PIECES_START = 1  # of the prompt, in `segments`
PIECES_COUNT = 2
NEXT_ANSWER = 3  # in the same bucket of those who decode

# A column of an instance in the pool family.
UNNAMED = 46  # blocks of decodes: the first of a list by their places

# Columns of an instance in the general family. Those of a round, with BUDGET_LEFT, are what one call of the scheduler
# works with.
ROWS = 35  # of the batches in flight, by the lowest bit of their number: columns 35 and 36
ENCODER_LEFT = 37
CUT = 38  # most tokens for a request in this round; NEVER for no threshold
INDEX = 39  # of the running request being looked at
PREEMPTED_NOW = 40
TRACE_FROM = 41  # the first trace of this round
ENTRIES = 42  # items in the encoder cache
CLOCK = 43  # of the encoder cache: when an item lost its last holder
UNUSED = 44  # tokens of room that hold no item
REACHABLE = 45  # those, and the tokens of items that nobody holds

# Columns of a row of `batches`.
ROW_SLOT = 0
ROW_TOKENS = 1
ROW_SAMPLES = 2  # 1: gets a token at the end
ROW_ENCODED = 3  # encoder tokens for it
ROW_ENDED = 4  # of row i: the slot of the i-th who ends with this batch
BATCH_COLUMNS = 5

BLOCK = np.dtype([("key", "u8"), ("references", "i4"), ("place", "i4"), ("bucket", "i4"), ("chain", "i4")], align=True)
"""A KV block: who finds it, and how many hold it. `place` in the free queue, or for a block of decodes the next one of that
list; `bucket` and `chain`, the next block in it, where it stands in the table of those that can be found."""
NAMELESS = -2
"""For a chain: the block cannot be found."""

# Columns of `encoders`.
IDENTITY = 0
ITEM_TOKENS = 1
HOLDERS = 2
AGE = 3
ENCODER_COLUMNS = 4

# Columns of `marks`.
FIRST = 0  # index of the first item of the request that is the same
STATE = 1
MARK_COLUMNS = 2
# Bits of STATE. The first two are of an identity, so they stand with its first item.
IS_HELD, IS_SEEN, IS_NEW, IS_CHOSEN = 1, 2, 4, 8
