"""The scheduler of one instance: which request computes how many tokens in the next iteration.

The rules are those of vLLM 0.33's V1 scheduler (`vllm/v1/core/sched/scheduler.py`, `async_scheduler.py`):

1. Running requests first, in order of admission. Each asks for all tokens that it has and has not computed (one, when it
   decodes), cut to the long-prefill threshold and to what is left of the token budget. Where its KV blocks do not suffice,
   a victim is preempted: it loses its blocks, keeps its answer so far, and goes back to the queue to compute all again.
2. Then, unless somebody was preempted, the waiting ones from the head, while there are budget and seats. What the prefix
   cache holds of a prompt is not computed again. One is admitted only if the blocks for its whole prompt are free, though
   it takes only those of its first chunk. Who cannot be admitted holds up all behind him.
3. A request gets a token from the iteration that computes the last token it has. With asynchronous scheduling the next
   batch is formed before that token is known: a placeholder stands for it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from sim.batch import Batch
from sim.encoder import EncoderCache, plan_items
from sim.engine import FullEngine
from sim.kvcache import KVCache
from sim.request import Request
from sim.waiting import POLICIES, Waiting

NO_ITEMS: Sequence[int] = ()


class Scheduler(Protocol):
    """What an instance needs of a scheduler."""

    running: list[Request]
    waiting: Waiting

    def schedule(self) -> Batch:
        """Form the next batch and take its KV blocks; an empty batch means that nothing can run."""
        ...

    def receive(self, batch: Batch, start_ns: int, end_ns: int) -> tuple[list[Request], dict[int, int]]:
        """A batch came back: who ended, and how many gaps between tokens there were of each length in ns."""
        ...

    def let_go(self, done: list[Request]) -> None:
        """These requests have ended and give back what they hold."""
        ...

    def is_closed(self) -> bool:
        """Whether nobody who waits can be admitted as long as nobody who runs leaves, whoever arrives behind them."""
        ...


class VllmScheduler:
    """vLLM's rules, as the file's docstring tells them."""

    def __init__(self, engine: FullEngine, kv: KVCache):
        self.engine = engine
        self.kv = kv
        self.running: list[Request] = []
        self.waiting: Waiting = POLICIES[engine.policy]()
        self.encoder = EncoderCache(engine.encoder_cache_size)
        self.watermark_blocks = int(engine.watermark * (kv.usable_blocks + 1))
        # Where a rank, a hit or an item without room can let somebody pass, the head may change or be passed over.
        is_fifo = engine.policy == "fcfs" and engine.scheduler_reserve_full_isl
        self._head_is_final = is_fifo and not engine.enable_prefix_caching and not engine.encoder_cache_size

    def schedule(self) -> Batch:
        """Form the next batch and take its KV blocks; an empty batch means that nothing can run."""
        round_ = _Round(self)
        round_.continue_running()
        if not round_.batch.preempted:
            round_.admit_waiting()
        round_.batch.close(self.engine.async_scheduling)
        return round_.batch

    def preempt(self, victim: Request) -> None:
        """Take everything from a request but the answer it has so far."""
        self.kv.release(victim)
        self._forget_items(victim)
        victim.computed = victim.placeholders = 0
        victim.preemptions += 1
        victim.is_running = False
        self.waiting.give_back(victim)

    def receive(self, batch: Batch, start_ns: int, end_ns: int) -> tuple[list[Request], dict[int, int]]:
        """A batch came back: who ended, and how many gaps between tokens there were of each length in ns.

        Blocks filled in decode become findable now, when the tokens in them are known, also for one that ends here.
        """
        done: list[Request] = []
        gaps: dict[int, int] = {}
        is_async = self.engine.async_scheduling
        for request, tokens, is_sampled in zip(batch.requests, batch.tokens, batch.sampled):
            if is_async:
                if request.is_done:  # computed once more before its stop token was seen
                    continue
                request.inflight -= tokens
            if not is_sampled:
                continue
            request.tokens = known = request.tokens + 1
            if request.placeholders:
                request.placeholders -= 1
                if request.commit_at <= known and request.is_running:
                    self.kv.commit(request, min(request.computed - request.inflight, known))
            last_ns = request.last_token_ns
            request.last_token_ns = end_ns
            if last_ns < 0:
                request.first_token_ns = end_ns
            else:
                gap_ns = end_ns - last_ns
                gaps[gap_ns] = gaps.get(gap_ns, 0) + 1
                if gap_ns > request.itl_max_ns:
                    request.itl_max_ns = gap_ns
            if known >= request.end_tokens:
                done.append(request)
        for request in batch.admitted:
            if request.scheduled_ns < 0:
                request.scheduled_ns = start_ns
        self.let_go(done)
        self._let_go_items(batch)
        return done, gaps

    def _let_go_items(self, batch: Batch) -> None:
        if self.engine.encoder_cache_size:
            for request in batch.requests:
                if request.items_held:
                    self.encoder.let_go_finished(request)

    def let_go(self, done: list[Request]) -> None:
        """These requests have ended and give back what they hold."""
        if not done:
            return
        for request in done:
            request.is_done = True
            if request.is_running:
                self.kv.release(request)
                self._forget_items(request)
            else:  # preempted while its last token was in flight
                self.waiting.remove(request)
        self.running[:] = [request for request in self.running if not request.is_done]

    def is_closed(self) -> bool:
        """Whether nobody who waits can be admitted as long as nobody who runs leaves, whoever arrives behind them.

        All seats are taken; or, where neither a hit nor a rank can change that, the head lacks the blocks for its prompt.
        """
        if len(self.running) >= self.engine.max_num_seqs:
            return True
        return self._head_is_final and bool(self.waiting) and not self.has_room(self.waiting.head().tokens, NO_ITEMS)

    def has_room(self, tokens: int, hit: Sequence[int]) -> bool:
        """The admission gate: blocks for so many tokens besides those of a hit, and the watermark.

        Blocks of the hit that nobody holds stand in the free queue and will leave it.
        """
        blocks = self.kv.blocks_for(min(tokens, self.engine.max_model_len)) - len(hit) + self.kv.unheld(hit)
        spare = self.watermark_blocks if self.running else 0
        return blocks + spare <= self.kv.free_blocks

    def _forget_items(self, request: Request) -> None:
        if request.items_held:
            self.encoder.let_go_all(request)

    def check(self) -> None:
        """Seats are kept, blocks are conserved, and everyone is in one place."""
        assert len(self.running) <= self.engine.max_num_seqs
        assert all(request.kv_slots == 0 == request.computed for request in self.waiting)
        assert all(request.is_running and not request.is_done for request in self.running)
        self.kv.check(self.running)
        everyone = [*self.running, *self.waiting]
        assert len({request.request_id for request in everyone}) == len(everyone)


class _Round:
    """One call of the scheduler: the batch so far and what is left of its budgets."""

    def __init__(self, scheduler: VllmScheduler):
        self.scheduler = scheduler
        self.kv, self.encoder = scheduler.kv, scheduler.encoder
        self.engine = engine = scheduler.engine
        self.batch = Batch()
        self.budget = engine.max_num_batched_tokens
        self.encoder_budget = engine.max_num_encoder_input_tokens
        is_alone = len(scheduler.running) + len(scheduler.waiting) <= 1
        self.threshold = 0 if is_alone else engine.long_prefill_token_threshold
        self.index = 0  # of the running request being looked at

    def continue_running(self) -> None:
        """Rule 1."""
        running, last, batch = self.scheduler.running, self.engine.max_model_len - 1, self.batch
        requests, tokens_of, commit = batch.requests, batch.tokens, self.kv.commit
        while self.index < len(running) and self.budget > 0:
            request = running[self.index]
            self.index += 1
            computed, ahead = request.computed, request.placeholders
            if ahead and computed + 2 - ahead >= request.limit_tokens:
                continue  # its last token is in flight
            tokens, items = request.tokens + ahead - computed, NO_ITEMS
            if tokens > 1 or computed >= last or request.items:
                tokens, items = self._cut(request, computed, min(tokens, last - computed))
                if tokens <= 0:
                    continue
            if computed + tokens > request.kv_slots and not self._make_room(request, computed + tokens):
                if self.engine.policy == "fcfs":
                    return
                continue
            requests.append(request)
            tokens_of.append(tokens)
            self.budget -= tokens
            if items:
                self._encode(request, items)
            if request.commit_at <= computed + tokens:
                commit(request, min(computed + tokens, request.tokens))

    def admit_waiting(self) -> None:
        """Rule 2."""
        scheduler, engine, kv, batch = self.scheduler, self.engine, self.kv, self.batch
        waiting, running, aside = scheduler.waiting, scheduler.running, []
        while waiting and self.budget > 0 and len(running) < engine.max_num_seqs:
            request = waiting.head()
            if request.inflight:  # what was in flight when it was preempted has not come back
                aside.append(waiting.pop())
                continue
            hit = kv.find(request)
            computed = len(hit) * kv.block_size
            tokens = request.tokens - computed
            if not engine.enable_chunked_prefill and (min(tokens, self.threshold) if self.threshold else tokens) > self.budget:
                break
            held = set(request.items_held)
            tokens, items = self._cut(request, computed, tokens)
            if not tokens:
                aside.append(waiting.pop())
                continue
            if not self._has_room(request, computed + tokens, hit):
                self.encoder.let_go_all(request, held)
                break
            waiting.pop()
            running.append(request)
            request.is_running, request.computed = True, computed
            if request.cached_tokens < 0:
                request.cached_tokens = computed
            kv.touch(request, hit)
            kv.grow(request, computed + tokens)
            batch.requests.append(request)
            batch.tokens.append(tokens)
            batch.admitted.append(request)
            self.budget -= tokens
            self._encode(request, items)
            if request.keys is not None:
                kv.commit(request, min(computed + tokens, request.tokens))
        waiting.set_back(aside)

    def _cut(self, request: Request, computed: int, tokens: int) -> tuple[int, Sequence[int]]:
        """How many of the tokens that a request wants it may have, and the items to encode for them."""
        if 0 < self.threshold < tokens:
            tokens = self.threshold
        tokens = min(tokens, self.budget)
        if not request.items or tokens <= 0:
            return tokens, NO_ITEMS
        return plan_items(self.encoder, request, computed, tokens, self.encoder_budget)

    def _has_room(self, request: Request, tokens: int, hit: Sequence[int]) -> bool:
        """The admission gates: for the whole prompt, unless that is off, and for the first chunk."""
        if self.engine.scheduler_reserve_full_isl:
            tokens = max(tokens, request.tokens)
        return self.scheduler.has_room(tokens, hit)

    def _encode(self, request: Request, items: Sequence[int]) -> None:
        for index in items:
            item = request.items[index]
            self.encoder.store(request, item)
            self.encoder_budget -= item.tokens
            self.batch.encode_tokens += item.tokens
            self.batch.encoded.append((request, index))

    def _make_room(self, request: Request, tokens: int) -> bool:
        """Preempt until `request` fits; False if it had to be preempted itself."""
        while not self.kv.grow(request, tokens):
            victim = self._victim()
            self.scheduler.preempt(victim)
            self.batch.preempted.append(victim)
            if victim is request:
                return False
        return True

    def _victim(self) -> Request:
        """Who has to go: the last of the running, or with priorities the one of the highest rank."""
        running = self.scheduler.running
        if self.engine.policy == "fcfs":
            return running.pop()
        victim = max(running, key=lambda request: request.rank[:2])
        position = running.index(victim)
        del running[position]
        if position < self.index:  # the one being looked at, or one planned before it
            self.index -= 1
            self._unplan(victim)
        return victim

    def _unplan(self, victim: Request) -> None:
        """Who was planned before in this round gives the budget back."""
        batch = self.batch
        if victim not in batch.requests:
            return
        position = batch.requests.index(victim)
        del batch.requests[position]
        self.budget += batch.tokens.pop(position)
        for request, index in list(batch.encoded):
            if request is victim:
                batch.encoded.remove((request, index))
                self.encoder_budget += victim.items[index].tokens
                batch.encode_tokens -= victim.items[index].tokens


SCHEDULERS: dict[str, Callable[[FullEngine, KVCache], Scheduler]] = {"vllm": VllmScheduler}
