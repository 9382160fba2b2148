"""A stretch: iterations in a row in which everyone running decodes one token and nobody comes or goes.

Most iterations are like that, and nothing happens in them to a single request that could not be told afterwards: each
computes one token, takes a block every `block_size` tokens, and ends at a step known before. So the stretch keeps only
the sums that the next iteration needs and settles with the requests when it is over. It decides nothing: the schedule is
the scheduler's own, step for step (a test plays both and compares).

With two batches in flight a stretch begins when one is on the GPU in which all decode; it is the first to return, and
each launch runs one token ahead of what is known.
"""

from sim.batch import Batch
from sim.kvcache import KVCache
from sim.request import Request


class Stretch:
    """Iterations of `requests`, all decoding: `launched` were formed, `returned` came back (one of them formed before)."""

    __slots__ = (
        "ahead",
        "context_tokens",
        "decodes",
        "due",
        "head_waits",
        "itl_max_ns",
        "kv",
        "last_ns",
        "launched",
        "launches_left",
        "requests",
        "returned",
        "returns_left",
    )

    def __init__(self, requests: list[Request], kv: KVCache, head_waits: bool, ahead: int, max_model_len: int):
        """Everyone in `requests` got a token at the same instant, the end of the last iteration.

        head_waits: somebody waits already and cannot be admitted, so arrivals behind him change nothing. ahead: batches
        in flight, in all of which everyone decodes.
        """
        self.requests = requests
        self.kv = kv
        self.head_waits = head_waits
        self.ahead = ahead
        self.decodes = len(requests)
        self.context_tokens = sum([request.computed for request in requests]) + len(requests)
        self.launched = self.returned = 0
        self.returns_left = min([request.end_tokens - request.tokens for request in requests])
        # Whose last token is in flight is not computed once more, and nobody is beyond the model's context.
        limits = [min(request.limit_tokens - request.tokens, max_model_len - request.computed) for request in requests]
        self.launches_left = min(limits) - 1 if ahead else self.returns_left
        self.last_ns = requests[0].last_token_ns
        self.itl_max_ns = -1
        # Who needs a block in launch k: those whose computed tokens fill their blocks, at k modulo the block size.
        self.due: list[list[Request]] = [[] for _ in range(kv.block_size)]
        for request in requests:
            self.due[-request.computed % kv.block_size].append(request)

    def launch(self) -> bool:
        """Take the blocks of the next iteration; False, and nothing taken, where it is not one of the stretch."""
        due = self.due[self.launched % self.kv.block_size]
        if self.launches_left <= 0 or len(due) > self.kv.free_blocks:
            return False
        self.kv.grow_each(due)
        self.launched += 1
        self.launches_left -= 1
        self.context_tokens += self.decodes
        return True

    def advance(self, end_ns: int) -> int:
        """An iteration came back: everyone has one token more. Returns the gap to the token before it."""
        gap_ns = end_ns - self.last_ns
        self.last_ns = end_ns
        if gap_ns > self.itl_max_ns:
            self.itl_max_ns = gap_ns
        self.returned += 1
        self.returns_left -= 1
        return gap_ns

    def settle(self) -> None:
        """Tell the requests what happened to them, and make the blocks that they filled findable."""
        if not self.returned:
            return
        launched, returned, last_ns, itl_max_ns, kv = self.launched, self.returned, self.last_ns, self.itl_max_ns, self.kv
        ahead, block_size = self.ahead + launched - returned, kv.block_size
        for request in self.requests:
            computed = request.computed = request.computed + launched
            request.tokens = tokens = request.tokens + returned
            request.placeholders = request.inflight = ahead
            request.kv_slots = -(-computed // block_size) * block_size
            request.last_token_ns = last_ns
            if itl_max_ns > request.itl_max_ns:
                request.itl_max_ns = itl_max_ns
            if request.commit_at <= tokens:
                kv.commit(request, min(computed - ahead, tokens))

    def batch(self) -> Batch:
        """What is on the GPU, as the scheduler would have formed it."""
        batch = Batch()
        batch.requests = list(self.requests)
        batch.tokens = [1] * self.decodes
        batch.sampled = [True] * self.decodes
        batch.samples = batch.decodes = self.decodes
        return batch
