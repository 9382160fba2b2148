"""Kernels to time: a matrix product, attention of prompts and of decodes, with the least work that each can do."""

from dataclasses import dataclass

ELEMENT_BYTES = {"bf16": 2, "fp8": 1}
"""Bytes of a weight or an activation by precision; what a kernel puts out, and the KV cache, has 16 bits."""


@dataclass(frozen=True, order=True)
class Gemm:
    """An (m, k) by (k, n) matrix product; the (k, n) matrix is the weights."""

    precision: str
    n: int
    k: int
    m: int

    @property
    def flops(self) -> int:
        """A multiplication and an addition for each of m n k."""
        return 2 * self.m * self.n * self.k

    @property
    def read_bytes(self) -> int:
        """What has to come from memory: the weights."""
        return self.n * self.k * ELEMENT_BYTES[self.precision]

    @property
    def held_bytes(self) -> int:
        """Memory of one call: weights, activations, and a result of 16 bits."""
        return self.read_bytes + self.m * self.k * ELEMENT_BYTES[self.precision] + 2 * self.m * self.n

    def __str__(self) -> str:
        return f"{self.precision} gemm of m {self.m}, n {self.n}, k {self.k}"


@dataclass(frozen=True, order=True)
class Heads:
    """The attention heads of one GPU."""

    query: int
    kv: int
    size: int

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token in one layer, at 16 bits."""
        return 4 * self.kv * self.size

    def __str__(self) -> str:
        return f"{self.query}/{self.kv} heads of {self.size}"


@dataclass(frozen=True, order=True)
class Prompts:
    """Causal attention of `batch` prompts, `length` new tokens of each behind `past` tokens computed before."""

    heads: Heads
    batch: int
    length: int
    past: int = 0
    precision: str = "bf16"

    @property
    def flops(self) -> int:
        """Two products with each token seen: all of the past, and of the new ones those up to oneself."""
        seen = self.length * self.past + self.length * (self.length + 1) // 2
        return 4 * self.batch * self.heads.query * self.heads.size * seen

    @property
    def read_bytes(self) -> int:
        """What has to come from memory: keys and values."""
        return self.batch * (self.past + self.length) * self.heads.kv_bytes_per_token

    @property
    def held_bytes(self) -> int:
        """Memory of one call: keys and values, queries and the result."""
        return self.read_bytes + 4 * self.batch * self.length * self.heads.query * self.heads.size

    def __str__(self) -> str:
        behind = f" behind {self.past}" if self.past else ""
        return f"attention of {self.batch} prompts of {self.length} tokens{behind}, {self.heads}"


@dataclass(frozen=True, order=True)
class Decodes:
    """Attention of `batch` decodes with `context` tokens each, the one computed now included."""

    heads: Heads
    batch: int
    context: int
    precision: str = "bf16"

    @property
    def flops(self) -> int:
        """Two products with each token of the context."""
        return 4 * self.batch * self.heads.query * self.heads.size * self.context

    @property
    def read_bytes(self) -> int:
        """What has to come from memory: keys and values."""
        return self.batch * self.context * self.heads.kv_bytes_per_token

    @property
    def held_bytes(self) -> int:
        """Memory of one call: keys and values, queries and the result."""
        return self.read_bytes + 4 * self.batch * self.heads.query * self.heads.size

    def __str__(self) -> str:
        return f"attention of {self.batch} decodes of {self.context} tokens, {self.heads}"


Kernel = Gemm | Prompts | Decodes
