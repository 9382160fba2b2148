"""The encoder's budget and cache of one instance: which images and clips are encoded when, by vLLM V1's rules.

An item is encoded whole, in the first step whose window of prompt tokens overlaps it, if the step's budget and the cache
have room for it; otherwise the window is cut before it. Encoded items stay in the cache while a request refers to them,
and after that until the room is needed, oldest first (`vllm/v1/core/encoder_cache_manager.py`, 0.33).
"""

from collections import OrderedDict
from collections.abc import Collection

from sim.prompt import Item
from sim.request import Request


class EncoderCache:
    """Encoded items by identity. `unused` tokens of room hold nothing; `reachable` counts those of unreferenced items too."""

    def __init__(self, size: int):
        self.size = self.unused = self.reachable = size
        self._holders: dict[int, set[int]] = {}
        self._unreferenced: OrderedDict[int, int] = OrderedDict()  # identity -> tokens, oldest first

    def refer(self, request: Request, item: Item) -> bool:
        """If the item is there, keep it for the request."""
        holders = self._holders.get(item.identity)
        if holders is None:
            return False
        if not holders and item.identity in self._unreferenced:
            self.reachable -= self._unreferenced.pop(item.identity)
        holders.add(request.request_id)
        request.items_held.add(item.identity)
        return True

    def make_room(self, tokens: int) -> bool:
        """Room for so many tokens, by evicting unreferenced items if need be; False, and nothing changed, if not."""
        if tokens > self.reachable:
            return False
        while tokens > self.unused:
            identity, size = self._unreferenced.popitem(last=False)
            del self._holders[identity]
            self.unused += size
        return True

    def store(self, request: Request, item: Item) -> None:
        """An item is encoded for a request."""
        self._holders[item.identity] = {request.request_id}
        request.items_held.add(item.identity)
        self.unused -= item.tokens
        self.reachable -= item.tokens

    def let_go(self, request: Request, identity: int) -> None:
        """The request refers to the item no longer."""
        request.items_held.discard(identity)
        holders = self._holders[identity]
        holders.discard(request.request_id)
        if not holders:
            tokens = next(item.tokens for item in request.items if item.identity == identity)
            self._unreferenced[identity] = tokens
            self.reachable += tokens

    def let_go_all(self, request: Request, but: Collection[int] = ()) -> None:
        """The request ended or was preempted, or is not admitted and keeps the items it held before: in their order."""
        for item in request.items:
            if item.identity in request.items_held and item.identity not in but:
                self.let_go(request, item.identity)

    def let_go_finished(self, request: Request) -> None:
        """Items of which an occurrence is computed; a later one in the prompt refers to the item again when it comes."""
        computed = request.computed - request.placeholders
        for item in request.items:
            if item.end <= computed and item.identity in request.items_held:
                self.let_go(request, item.identity)


def plan_items(cache: EncoderCache, request: Request, computed: int, tokens: int, budget: int) -> tuple[int, list[int]]:
    """How many of `tokens` may be computed from `computed` on, and which items have to be encoded for it.

    budget: encoder tokens left in this step. References to items already in the cache are taken; room is made for new
    ones, which `EncoderCache.store` takes once the request is scheduled.
    """
    chosen: list[int] = []
    seen: set[int] = set()
    size = 0
    for index, item in enumerate(request.items):
        if item.end <= computed or item.identity in seen:
            continue
        if item.offset >= computed + tokens:
            break
        if cache.refer(request, item):
            continue
        if item.tokens > budget or not cache.make_room(size + item.tokens):
            return max(item.offset - computed, 0), chosen
        budget -= item.tokens
        size += item.tokens
        seen.add(item.identity)
        chosen.append(index)
    return tokens, chosen
