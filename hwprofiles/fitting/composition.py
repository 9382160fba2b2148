"""Composition: the time of a whole step as the sum of its kernels, from measured kernel tables (development time only).

Per GPU, a step of m tokens under tensor parallelism p, of a model with L layers of hidden width h and MLP width i, with nq
query and nk KV heads of size d, takes

    L * (gemm(m, (nq + 2 nk) d/p, h) + gemm(m, h, nq d/p) + gemm(m, 2i/p, h) + gemm(m, h, i/p) + elementwise(m))
    + 2 L * allreduce(m h elements, p) + L * attention of the prompts + L * attention of the decodes + gemm(B, V/p, h)

with gemm(m, n, k) an (m, k) by (k, n) matrix product and B sampled rows of V logits, those at 16 bits whatever the precision
of the layers. The host's time is not part of it.
"""

from dataclasses import dataclass

from hwprofiles.datasheet import Gpu, Model
from hwprofiles.fitting.kernel_tables import HEAD_SIZE, Heads, KernelTables, gemm_ms
from hwprofiles.records import ProfileError

ELEMENTWISE_KERNELS = 5
"""Fused kernels of a layer that are not matrix products: norms, rotary embedding, KV write, activation. Norms of queries and
of keys are one kernel more each."""
ELEMENTWISE_LAUNCH_MS = 0.002
ELEMENTWISE_BANDWIDTH_FRAC = 0.8
"""Share of the data sheet's memory bandwidth that elementwise kernels are taken to reach."""


@dataclass(frozen=True)
class Composition:
    """Step times of one model on one kind of GPU with tensor parallelism `tp`, all in ms and without host time."""

    tables: KernelTables
    gpu: Gpu
    model: Model
    tp: int

    def __post_init__(self) -> None:
        """ProfileError for what the measurements say nothing about."""
        if self.model.head_size != HEAD_SIZE:
            raise ProfileError(f"{self.model.id} has heads of {self.model.head_size}; attention was measured for {HEAD_SIZE}")
        if self.tp > 1 and self.tp not in self.tables.allreduce:
            raise ProfileError(f"no all-reduce among {self.tp} {self.gpu.id} was measured")

    @property
    def heads(self) -> Heads:
        """Heads of one GPU, the key of the attention tables."""
        return self.model.heads // self.tp, self.model.kv_heads_per_gpu(self.tp)

    @property
    def is_transferred(self) -> bool:
        """Whether attention of other heads stands for this model's (`kernel_tables.Attention`)."""
        tables = (*self.tables.prompts.values(), *self.tables.decodes.values())
        return any(attention.is_folded(self.heads) for attention in tables)

    def step_ms(self, prompts: int = 0, length: int = 0, decodes: int = 0, context: float = 0, kv: str = "bf16") -> float:
        """One step of `prompts` whole prompts of `length` tokens and `decodes` with `context` tokens; all sample."""
        attention = self.prompt_attention_ms(prompts, length, kv) + self.decode_attention_ms(decodes, context, kv)
        return self.tokens_ms(prompts * length + decodes) + attention + self.head_ms(prompts + decodes)

    def tokens_ms(self, m: int) -> float:
        """Everything of a step of m tokens but attention and output head."""
        return self.matrices_ms(m) + self.allreduce_ms(m)

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """(n, k) of the four matrix products of a layer, on one GPU."""
        model, p = self.model, self.tp
        query_width = model.heads * model.head_size // p
        kv_width = self.heads[1] * model.head_size
        return (
            (query_width + 2 * kv_width, model.hidden),
            (model.hidden, query_width),
            (2 * model.mlp_width // p, model.hidden),
            (model.hidden, model.mlp_width // p),
        )

    def matrices_ms(self, m: int) -> float:
        """The matrix products of all layers over m tokens, and their elementwise kernels."""
        products_ms = sum(gemm_ms(self.tables.gemm, m, n, k) for n, k in self.matrices)
        return self.model.layers * (products_ms + self.elementwise_ms(m))

    def allreduce_ms(self, m: int) -> float:
        """The all-reduces of all layers, two each, over m tokens."""
        if self.tp == 1:
            return 0.0
        return 2 * self.model.layers * self.tables.allreduce[self.tp].ms(m * self.model.hidden)

    def allreduce_bends(self, most_tokens: int) -> list[int]:
        """Tokens of a step at which an all-reduce was measured, up to `most_tokens`: its time may bend there."""
        if self.tp == 1:
            return []
        tokens = (int(size) // self.model.hidden for size in self.tables.allreduce[self.tp].sizes)
        return [m for m in tokens if 1 <= m <= most_tokens]

    def elementwise_ms(self, m: int) -> float:
        """The elementwise kernels of one layer: their launches, and the bytes they read and write at 16 bits."""
        model, (queries, keys) = self.model, self.heads
        attention_width = 4 * (queries + keys) * model.head_size
        attention_width += 2 * sum({"q": queries, "k": keys}[norm] for norm in model.norms) * model.head_size
        moved_bytes = 2 * m * (8 * model.hidden + 3 * model.mlp_width / self.tp + attention_width)
        bandwidth_bytes_per_ms = ELEMENTWISE_BANDWIDTH_FRAC * self.gpu.bandwidth_gb_per_s * 1e6
        kernels = ELEMENTWISE_KERNELS + len(model.norms)
        return kernels * ELEMENTWISE_LAUNCH_MS + moved_bytes / bandwidth_bytes_per_ms

    def head_ms(self, samples: int) -> float:
        """The output head for so many sampled rows."""
        if not samples:
            return 0.0
        return gemm_ms(self.tables.wide_gemm, samples, self.model.vocabulary // self.tp, self.model.hidden)

    def prompt_attention_ms(self, prompts: int, length: int, kv: str = "bf16") -> float:
        """All layers' attention of so many prompts of `length` tokens."""
        return self.model.layers * self.tables.prompts[kv].ms(self.heads, prompts, length) if prompts else 0.0

    def decode_attention_ms(self, decodes: int, context: float, kv: str = "bf16") -> float:
        """All layers' attention of so many decodes with `context` tokens each."""
        return self.model.layers * self.tables.decodes[kv].ms(self.heads, decodes, context) if decodes else 0.0

    def is_prompt_measured(self, prompts: int, length: int, kv: str = "bf16") -> bool:
        """Whether the attention of such prompts lies inside the measurements."""
        return self.tables.prompts[kv].is_measured(self.heads, prompts, length)

    def is_decode_measured(self, decodes: int, context: int, kv: str = "bf16") -> bool:
        """Whether that of such decodes does, so that nothing is extrapolated."""
        return self.tables.decodes[kv].is_measured(self.heads, decodes, context)
