"""The scheduler of one instance: which request computes how many tokens in the next iteration.

The rules are vLLM 0.33's V1 scheduler with chunked prefill, first come first served, synchronous:

1. Running requests first, in order of admission. Each asks for all tokens that it has and has not computed (one, when it
   decodes), cut to what is left of the token budget. Where its KV blocks do not suffice, the last of the running is
   preempted: it loses its blocks, keeps its answer so far, and goes to the head of the queue to compute all of it again.
2. Then, unless somebody was preempted, the waiting ones from the head, while there are budget and seats. One is admitted
   only if the blocks for its whole prompt are free, though it takes only those of its first chunk.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from sim.engine import ClusterError
from sim.kvcache import KVCache
from sim.request import Request


class Batch:
    """What one iteration computes: tokens for each request, in order, and the sums that its duration depends on."""

    __slots__ = (
        "decode_context_tokens",
        "decodes",
        "preempted",
        "prefill_tokens",
        "prefill_work",
        "requests",
        "samples",
        "tokens",
    )

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.tokens: list[int] = []
        self.preempted = 0
        self.prefill_tokens = 0
        self.prefill_work = 0  # sum over prefill chunks of n * (n + 2 * computed before)
        self.decodes = 0
        self.decode_context_tokens = 0  # sum over decodes of the context, the token computed now included
        self.samples = 0  # requests that get a token at the end

    def add_prefill(self, request: Request, tokens: int) -> None:
        """Plan a chunk of `tokens` of a prompt (or of what a preempted request had before)."""
        computed = request.computed
        self.requests.append(request)
        self.tokens.append(tokens)
        if tokens == 1 and computed > 0:  # for the step cost one token after others is a decode, whatever its history
            self.decodes += 1
            self.decode_context_tokens += computed + 1
        else:
            self.prefill_tokens += tokens
            self.prefill_work += tokens * (tokens + 2 * computed)
        if computed + tokens == request.tokens:
            self.samples += 1


class Scheduler(Protocol):
    """What an instance needs of a scheduler."""

    running: list[Request]
    waiting: deque[Request]

    def schedule(self) -> Batch:
        """Form the next batch and take its KV blocks; an empty batch means that nothing can run."""
        ...

    def admits_head(self) -> bool:
        """Whether the head of the queue would be admitted if the next batch had budget to spare."""
        ...


class VllmScheduler:
    """vLLM's rules, as the file's docstring tells them."""

    def __init__(self, kv: KVCache, max_num_seqs: int, max_num_batched_tokens: int):
        if max_num_batched_tokens < max_num_seqs:
            raise ClusterError("vLLM wants max_num_batched_tokens >= max_num_seqs: a token for every seat")
        self.kv = kv
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self.running: list[Request] = []
        self.waiting: deque[Request] = deque()

    def schedule(self) -> Batch:
        """Form the next batch and take its KV blocks; an empty batch means that nobody is here."""
        batch = Batch()
        budget = self._continue_running(batch)
        if not batch.preempted:
            self._admit_waiting(batch, budget)
        return batch

    def _continue_running(self, batch: Batch) -> int:
        """Rule 1; returns the budget that is left."""
        budget = self.max_num_batched_tokens
        requests, tokens_of = batch.requests, batch.tokens
        decodes = context = 0
        for request in self.running:  # preemption shortens this list at its end while we walk
            computed = request.computed
            tokens = request.tokens - computed
            if tokens > budget:
                tokens = budget
            if computed + tokens > request.kv_slots and not self._make_room(request, computed + tokens, batch):
                break
            budget -= tokens
            if tokens == 1:  # not the first: who runs has computed some before
                decodes += 1
                context += computed + 1
                requests.append(request)
                tokens_of.append(1)
                if computed + 1 == request.tokens:
                    batch.samples += 1
            else:
                batch.add_prefill(request, tokens)
            if not budget:
                break
        batch.decodes += decodes
        batch.decode_context_tokens += context
        return budget

    def _make_room(self, request: Request, tokens: int, batch: Batch) -> bool:
        """Preempt from the end of the running until `request` fits; False if it had to be preempted itself."""
        while not self.kv.grow(request, tokens):
            victim = self.running.pop()
            self._preempt(victim)
            batch.preempted += 1
            if victim is request:
                return False
        return True

    def _preempt(self, victim: Request) -> None:
        self.kv.release(victim)
        victim.computed = 0
        victim.preemptions += 1
        self.waiting.appendleft(victim)

    def _admit_waiting(self, batch: Batch, budget: int) -> None:
        """Rule 2."""
        while budget and self.admits_head():
            request = self.waiting.popleft()
            tokens = min(request.tokens, budget)
            self.kv.grow(request, tokens)
            self.running.append(request)
            batch.add_prefill(request, tokens)
            budget -= tokens

    def admits_head(self) -> bool:
        """Somebody waits, a seat is free, and so are the blocks for all the tokens that he has."""
        if not self.waiting or len(self.running) >= self.max_num_seqs:
            return False
        return self.kv.blocks_for(self.waiting[0].tokens) <= self.kv.free_blocks

    def check(self) -> None:
        """Seats are kept, blocks are conserved, and everyone is in one place."""
        assert len(self.running) <= self.max_num_seqs
        assert all(request.kv_slots == 0 == request.computed for request in self.waiting)
        self.kv.check(self.running)
        everyone: Iterable[Request] = [*self.running, *self.waiting]
        assert len({request.request_id for request in everyone}) == len(self.running) + len(self.waiting)


SCHEDULERS: dict[str, Callable[[KVCache, int, int], Scheduler]] = {"vllm": VllmScheduler}
