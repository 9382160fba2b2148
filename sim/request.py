"""A request while it is being served, and the tables RECORD and STEP that it leaves behind.

This is the bottom file of sim: everything else may import it, it imports nothing of sim.
Times are int64 nanoseconds from the start of the run; -1 stands for "never happened".
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

RECORD = np.dtype(
    [
        ("arrival_ns", "i8"),
        ("request_id", "i8"),
        ("client_id", "i4"),
        ("session_id", "i8"),
        ("turn", "i4"),
        ("model", "i2"),
        ("priority", "i4"),
        ("input_tokens", "i4"),
        ("output_tokens", "i4"),  # tokens that were answered
        ("max_tokens", "i4"),
        ("instance_id", "i4"),  # -1: never placed
        ("scheduled_ns", "i8"),  # start of the first iteration that computed some of it
        ("first_token_ns", "i8"),
        ("finish_ns", "i8"),
        ("api_ns", "i8"),  # what the API server adds to its first token and to its end, as its client sees them
        ("cached_tokens", "i4"),  # prompt tokens found in the prefix cache when first scheduled
        ("preemptions", "i4"),
        ("itl_max_ns", "i8"),  # worst gap between two of its tokens; -1 for a one-token answer
        ("finish_reason", "i1"),  # index into FINISH_REASONS
        ("reject_reason", "i1"),  # index into REJECT_REASONS
    ]
)
"""One row per request that left: finished, rejected or cut. Times but `api_ns` are the engine's, before that is added."""

STEP = np.dtype(
    [
        ("instance_id", "i4"),
        ("start_ns", "i8"),
        ("duration_ns", "i8"),
        ("prefill_tokens", "i4"),
        ("decode_tokens", "i4"),
        ("encode_tokens", "i4"),
        ("running", "i4"),
        ("waiting", "i4"),  # after the iteration was formed
        ("kv_blocks_used", "i4"),
        ("preempted", "i4"),
    ]
)
"""One row per iteration of an instance, in order of its end."""

FINISH_REASONS = ("stop", "length", "rejected", "failed", "cut")
STOP, LENGTH, REJECTED, FAILED, CUT = range(len(FINISH_REASONS))
REJECT_REASONS = ("", "max_model_len", "kv_blocks", "encoder")
NOT_REJECTED, TOO_LONG_FOR_MODEL, TOO_LONG_FOR_KV, TOO_LARGE_FOR_ENCODER = range(len(REJECT_REASONS))


NEVER = 1 << 62
"""More tokens than any request will have."""


class RequestHead(NamedTuple):
    """What a router may know of a request. The true answer length is not here, so nobody can cheat."""

    request_id: int
    client_id: int
    session_id: int
    turn: int
    model: int
    arrival_ns: int
    input_tokens: int
    max_tokens: int
    priority: int
    coin: int  # 64 random bits, fixed by (seed, request id): the same in every what-if


class Request:
    """One prompt and its answer inside an instance.

    There is no prefill phase and no decode phase: `computed` catches up with `tokens`, the prompt and the answer known
    so far. A request whose `computed` is one short is decoding. It ends when `tokens` reaches `end_tokens`, which the
    scheduler does not look at. With two batches in flight `computed` runs ahead: `placeholders` are answer tokens that are
    being computed and not known yet, `inflight` the tokens of batches that have not come back.
    """

    __slots__ = (
        "blocks",
        "cached_tokens",
        "commit_at",
        "committed",
        "computed",
        "end_tokens",
        "first_token_ns",
        "inflight",
        "input_tokens",
        "instance_id",
        "is_done",
        "is_running",
        "items",
        "items_held",
        "itl_max_ns",
        "keys",
        "kv_slots",
        "last_token_ns",
        "limit_tokens",
        "placeholders",
        "preemptions",
        "rank",
        "request_id",
        "row",
        "scheduled_ns",
        "tokens",
    )

    def __init__(self, row: tuple, max_model_len: int, keys: Any = None, items: Sequence[Any] = ()):
        """`row` is a STREAM row as a tuple; an answer stops at `max_tokens` and where the model's context ends.

        keys, items: `sim.prompt.BlockKeys` and `Item`s, where a cache asks for them.
        """
        self.row = row
        self.request_id = row[1]
        self.input_tokens = row[6]
        self.rank = (row[9], row[0], str(row[1]))  # priority, arrival, and the id as vLLM compares it
        self.tokens = self.input_tokens
        self.computed = 0
        self.placeholders = 0
        self.inflight = 0
        self.kv_slots = 0  # tokens that the KV blocks it holds have room for
        self.blocks: list[int] = []  # these, where the cache tells blocks apart
        self.committed = 0  # how many of them can be found by others
        self.commit_at = NEVER  # tokens at which one more is full
        self.keys = keys
        self.items = items
        self.items_held: set[int] = set()
        self.limit_tokens = self.input_tokens + row[8]
        self.end_tokens = self.input_tokens + min(row[7], longest_answer(row, max_model_len))
        self.is_running = self.is_done = False
        self.instance_id = self.cached_tokens = -1
        self.scheduled_ns = self.first_token_ns = self.last_token_ns = self.itl_max_ns = -1
        self.preemptions = 0

    def record(self, finish_ns: int, reason: int, reject_reason: int = NOT_REJECTED, *, api_ns: int = 0) -> tuple:
        """Its RECORD row; `api_ns` is the plan's."""
        arrival_ns, request_id, client_id, session_id, turn, model, input_tokens, _, max_tokens, priority = self.row[:10]
        return (
            arrival_ns,
            request_id,
            client_id,
            session_id,
            turn,
            model,
            priority,
            input_tokens,
            self.tokens - input_tokens,
            max_tokens,
            self.instance_id,
            self.scheduled_ns,
            self.first_token_ns,
            finish_ns,
            api_ns,
            max(self.cached_tokens, 0),
            self.preemptions,
            self.itl_max_ns,
            reason,
            reject_reason,
        )

    def end_reason(self, max_model_len: int) -> int:
        """STOP for an answer that ended by itself, LENGTH for one that was cut at its limit."""
        limit = self.input_tokens + longest_answer(self.row, max_model_len)
        return LENGTH if self.end_tokens == limit else STOP


def longest_answer(row: tuple, max_model_len: int) -> int:
    """Most tokens that the answer to a STREAM row can have, as an engine that does not know its end sees it."""
    return min(row[8], max_model_len - row[6])


def head_of(row: tuple, seed: int) -> RequestHead:
    """What a router may know of a STREAM row; `seed` fixes its coin."""
    arrival_ns, request_id, client_id, session_id, turn, model, input_tokens, _, max_tokens, priority = row[:10]
    coin = mix64(mix64(seed) ^ request_id)
    return RequestHead(request_id, client_id, session_id, turn, model, arrival_ns, input_tokens, max_tokens, priority, coin)


def mix64(x: int) -> int:
    """The splitmix64 finaliser: 64 well mixed bits of an integer (Steele, Lea, Flood, OOPSLA 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return x ^ (x >> 31)
