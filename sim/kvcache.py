"""The KV blocks of one instance, and the prefix cache that lives in those nobody holds.

Block 0 is vLLM's null block and is never given out: of `num_blocks` one less is usable. The order of the free queue
decides what is evicted, so it is vLLM 0.33's (`vllm/v1/core/block_pool.py`):

* Blocks are taken from the head; one that carries a key loses it, and that is the eviction.
* A request gives its blocks back from its last to its first. Those without a key go to the head, the request's last block
  foremost; those with a key go to the end, so that the tail of a prefix is evicted before its beginning.
* A hit takes a block that nobody holds out of the queue.

Without prefix caching a block has no identity that matters, and `KVCache` counts; `PrefixCache` keeps the blocks.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence

from sim.request import Request

NO_HIT: tuple[int, ...] = ()


class KVCache:
    """A pool of blocks of `block_size` tokens each; `free_blocks` of the `usable_blocks` belong to nobody."""

    __slots__ = ("block_size", "free_blocks", "usable_blocks")

    def __init__(self, num_blocks: int, block_size: int):
        self.block_size = block_size
        self.usable_blocks = num_blocks - 1
        self.free_blocks = self.usable_blocks

    @property
    def used_blocks(self) -> int:
        """Blocks held by requests."""
        return self.usable_blocks - self.free_blocks

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.block_size)

    def find(self, request: Request) -> Sequence[int]:
        """The cached blocks that a prompt begins with: none here."""
        return NO_HIT

    def unheld(self, hit: Sequence[int]) -> int:
        """How many blocks of a hit stand in the free queue, so that taking them makes it shorter."""
        return 0

    def touch(self, request: Request, hit: Sequence[int]) -> None:
        """Give a request, which holds none, the blocks of its hit."""

    def grow(self, request: Request, tokens: int) -> bool:
        """Give `request` room for `tokens` in all. False, and nothing changed, where the free blocks do not suffice."""
        need = -(-(tokens - request.kv_slots) // self.block_size)
        if need > self.free_blocks:
            return False
        if need > 0:
            self.free_blocks -= need
            request.kv_slots += need * self.block_size
        return True

    def grow_each(self, requests: Collection[Request]) -> None:
        """Give each one block more; so many are free. `kv_slots` is told later, when a stretch settles."""
        self.free_blocks -= len(requests)

    def commit(self, request: Request, tokens: int) -> None:
        """Make the full blocks of the first `tokens` tokens findable."""

    def release(self, request: Request) -> None:
        """Take back all that `request` holds."""
        self.free_blocks += request.kv_slots // self.block_size
        request.kv_slots = 0

    def check(self, holders: Collection[Request]) -> None:
        """Every block is free or held, exactly once; nobody holds a block he does not need or lacks one he does."""
        held = 0
        for request in holders:
            assert request.kv_slots % self.block_size == 0
            assert request.kv_slots == self.blocks_for(request.computed) * self.block_size
            held += request.kv_slots // self.block_size
        assert 0 <= self.free_blocks <= self.usable_blocks
        assert self.free_blocks + held == self.usable_blocks


class PrefixCache(KVCache):
    """A pool in which full blocks keep their key, and can be found by it, until they are given out again."""

    __slots__ = ("_block_of", "_doubles_of", "_free", "_key_of", "_references")

    def __init__(self, num_blocks: int, block_size: int):
        super().__init__(num_blocks, block_size)
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))
        self._references = [0] * num_blocks
        self._key_of: list[int | None] = [None] * num_blocks
        # Several blocks stand under one key when equal prompts were computed at once; the one entered first is found.
        self._block_of: dict[int, int] = {}
        self._doubles_of: dict[int, list[int]] = {}  # the later ones, in the order in which they were entered

    def find(self, request: Request) -> Sequence[int]:
        """The longest chain of cached full blocks, short of the last token, so that one token is always computed."""
        hit: list[int] = []
        for index in range((request.tokens - 1) // self.block_size):
            block = self._block_of.get(request.keys.at(index))
            if block is None:
                break
            hit.append(block)
        return hit

    def unheld(self, hit: Sequence[int]) -> int:
        """How many blocks of a hit stand in the free queue."""
        return sum(not self._references[block] for block in hit)

    def touch(self, request: Request, hit: Sequence[int]) -> None:
        """Give a request, which holds none, the blocks of its hit."""
        for block in hit:
            if not self._references[block]:
                del self._free[block]
                self.free_blocks -= 1
            self._references[block] += 1
        request.blocks = list(hit)
        request.committed = len(hit)
        request.commit_at = (len(hit) + 1) * self.block_size
        request.kv_slots = len(hit) * self.block_size

    def grow(self, request: Request, tokens: int) -> bool:
        """Give `request` room for `tokens` in all; blocks come from the head of the free queue and lose their keys."""
        need = -(-(tokens - request.kv_slots) // self.block_size)
        if need > self.free_blocks:
            return False
        for _ in range(need):
            block, _ = self._free.popitem(last=False)
            self._forget(block)
            self._references[block] = 1
            request.blocks.append(block)
        if need > 0:
            self.free_blocks -= need
            request.kv_slots += need * self.block_size
        return True

    def grow_each(self, requests: Collection[Request]) -> None:
        """Give each one block more; so many are free."""
        for request in requests:
            self.grow(request, request.kv_slots + 1)

    def commit(self, request: Request, tokens: int) -> None:
        """Enter the full blocks of the first `tokens` tokens under their keys."""
        full = tokens // self.block_size
        for index in range(request.committed, full):
            block, key = request.blocks[index], request.keys.at(index)
            self._key_of[block] = key
            if self._block_of.setdefault(key, block) != block:
                self._doubles_of.setdefault(key, []).append(block)
        if full > request.committed:
            request.committed = full
            request.commit_at = (full + 1) * self.block_size

    def release(self, request: Request) -> None:
        """Take back all that `request` holds, in vLLM's order."""
        keyless: list[int] = []
        keyed: list[int] = []
        for block in reversed(request.blocks):
            self._references[block] -= 1
            if not self._references[block]:
                (keyless if self._key_of[block] is None else keyed).append(block)
        for block in reversed(keyless):
            self._free[block] = None
            self._free.move_to_end(block, last=False)
        for block in keyed:
            self._free[block] = None
        self.free_blocks += len(keyless) + len(keyed)
        request.blocks = []
        request.committed = request.kv_slots = 0

    def _forget(self, block: int) -> None:
        """A block that is given out is found no longer."""
        key = self._key_of[block]
        if key is not None:
            self._key_of[block] = None
            doubles = self._doubles_of.get(key)
            if doubles is None:
                del self._block_of[key]
                return
            if self._block_of[key] == block:
                self._block_of[key] = doubles.pop(0)
            else:
                doubles.remove(block)
            if not doubles:
                del self._doubles_of[key]

    def check(self, holders: Collection[Request]) -> None:
        """Every block is free or held by so many as refer to it; who has a key is found under it, and nobody else."""
        references = [0] * len(self._references)
        for request in holders:
            assert request.kv_slots == len(request.blocks) * self.block_size
            assert len(set(request.blocks)) == len(request.blocks)
            for block in request.blocks:
                references[block] += 1
        assert references == self._references and not references[0]
        assert set(self._free) == {b for b in range(1, len(references)) if not references[b]}
        assert self.free_blocks == len(self._free)
        found = set(self._block_of.items()) | {(k, block) for k, blocks in self._doubles_of.items() for block in blocks}
        assert found == {(key, block) for block, key in enumerate(self._key_of) if key is not None}
        assert len(found) == len(self._block_of) + sum(len(blocks) for blocks in self._doubles_of.values())
        assert all(self._doubles_of.values())
