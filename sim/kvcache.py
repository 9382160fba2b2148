"""The KV blocks of one instance: who holds how many.

Without prefix caching a block has no identity that matters, so the pool counts. Block 0 is vLLM's null block and is
never given out: of `num_blocks` one less is usable (vLLM 0.33 `BlockPool`).
"""

from collections.abc import Iterable

from sim.request import Request


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

    def grow(self, request: Request, tokens: int) -> bool:
        """Give `request` room for `tokens` in all. False, and nothing changed, where the free blocks do not suffice."""
        need = self.blocks_for(tokens - request.kv_slots)
        if need > self.free_blocks:
            return False
        self.free_blocks -= need
        request.kv_slots += need * self.block_size
        return True

    def release(self, request: Request) -> None:
        """Take back all that `request` holds."""
        self.free_blocks += request.kv_slots // self.block_size
        request.kv_slots = 0

    def check(self, holders: Iterable[Request]) -> None:
        """Every block is free or held, exactly once; nobody holds a block he does not need or lacks one he does."""
        held = 0
        for request in holders:
            assert request.kv_slots % self.block_size == 0
            assert request.kv_slots == self.blocks_for(request.computed) * self.block_size
            held += request.kv_slots // self.block_size
        assert 0 <= self.free_blocks <= self.usable_blocks
        assert self.free_blocks + held == self.usable_blocks
