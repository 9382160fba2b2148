"""A stretch: iterations in a row in which everyone running decodes one token and nobody comes or goes.

Most iterations are like that, and nothing happens in them to a single request that could not be told afterwards: each
computes one token, takes a block every `block_size` tokens, and ends at a step known before. So the stretch keeps only
the sums that the next iteration needs and settles with the requests when it is over. It decides nothing: the schedule is
the scheduler's own, step for step (a test plays both and compares).
"""

from sim.kvcache import KVCache
from sim.request import Request


class Stretch:
    """`steps` iterations played so far for `requests`, all of them decoding."""

    __slots__ = (
        "blocks_due",
        "context_tokens",
        "decodes",
        "head_waits",
        "itl_max_ns",
        "kv",
        "last_ns",
        "requests",
        "steps",
        "steps_left",
    )

    def __init__(self, requests: list[Request], kv: KVCache, head_waits: bool):
        """Everyone in `requests` got a token at the same instant, the end of the last iteration.

        head_waits: somebody waits already and cannot be admitted, so arrivals behind him change nothing.
        """
        self.requests = requests
        self.kv = kv
        self.head_waits = head_waits
        self.decodes = len(requests)
        self.context_tokens = sum([request.tokens for request in requests])
        self.steps = 0
        self.steps_left = min([request.end_tokens - request.tokens for request in requests])
        self.last_ns = requests[0].last_token_ns
        self.itl_max_ns = -1
        # How many need a block in step k: those whose computed tokens fill their blocks, at k modulo the block size.
        block_size = kv.block_size
        self.blocks_due = [0] * block_size
        for request in requests:
            self.blocks_due[-request.computed % block_size] += 1

    def take_blocks(self) -> bool:
        """Take the blocks of the next iteration; False, and nothing taken, where they do not suffice."""
        need = self.blocks_due[self.steps % self.kv.block_size]
        if need > self.kv.free_blocks:
            return False
        self.kv.free_blocks -= need
        return True

    def advance(self, end_ns: int) -> int:
        """The iteration ended: everyone has one token more. Returns the gap to the token before it."""
        gap_ns = end_ns - self.last_ns
        self.last_ns = end_ns
        if gap_ns > self.itl_max_ns:
            self.itl_max_ns = gap_ns
        self.steps += 1
        self.steps_left -= 1
        self.context_tokens += self.decodes
        return gap_ns

    def settle(self) -> None:
        """Tell the requests what happened to them."""
        steps, last_ns, itl_max_ns, block_size = self.steps, self.last_ns, self.itl_max_ns, self.kv.block_size
        if not steps:
            return
        for request in self.requests:
            computed = request.computed + steps
            request.computed = computed
            request.tokens += steps
            request.kv_slots = -(-computed // block_size) * block_size
            request.last_token_ns = last_ns
            if itl_max_ns > request.itl_max_ns:
                request.itl_max_ns = itl_max_ns
