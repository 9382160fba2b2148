"""What a prompt is made of, as far as a cache has to know: which of its blocks equal whose.

A token is (segment, offset in the segment); answer token j of request r is (out:r, j). The key of a block is a 64-bit
hash of the runs of tokens that it covers and of the key before it, so equal keys mean equal prefixes.
"""

from collections.abc import Sequence
from typing import NamedTuple

MASK = (1 << 64) - 1
PRIVATE = 1 << 62
"""Text that nobody shares: the segment PRIVATE + request id."""


class Item(NamedTuple):
    """A multimodal item: a range of prompt positions, and what it is."""

    offset: int
    tokens: int
    identity: int

    @property
    def end(self) -> int:
        """The position after its last."""
        return self.offset + self.tokens


class BlockKeys:
    """The keys of a request's blocks, prompt and answer, computed when they are asked for."""

    __slots__ = ("_block_size", "_keys", "_left", "_next", "_offset", "_segments")

    def __init__(self, segments: Sequence[tuple[int, int]], answer: int, block_size: int):
        """`segments` are (id, tokens) of the prompt; `answer` is the id of the answer's segment, which has no end."""
        self._segments = [*segments, (answer, 1 << 62)]
        self._block_size = block_size
        self._keys: list[int] = []
        self._next = 0  # the segment in which the next block begins
        self._offset = 0
        self._left = self._segments[0][1]

    def at(self, index: int) -> int:
        """The key of block `index`."""
        keys = self._keys
        while len(keys) <= index:
            keys.append(self._key_after(keys[-1] if keys else 0))
        return keys[index]

    def _key_after(self, key: int) -> int:
        need = self._block_size
        while need:
            length = self._left if self._left < need else need
            # One run: the segment spread over all bits, and where in it, and how much; then as splitmix64 mixes.
            key ^= self._segments[self._next][0] * 0x9E3779B97F4A7C15 + (self._offset << 24) + length & MASK
            key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9 & MASK
            key = (key ^ (key >> 27)) * 0x94D049BB133111EB & MASK
            key ^= key >> 31
            need -= length
            self._offset += length
            self._left -= length
            if not self._left:
                self._next += 1
                self._offset, self._left = 0, self._segments[self._next][1]
        return key
