"""KV memory: what is left of each GPU for KV blocks once weights, activations and the engine itself have theirs.

    KV bytes per GPU = utilisation x memory - weights / tp - activations - engine
    blocks           = floor(KV bytes per GPU / (block_size x KV bytes per token and GPU))

The first block is vLLM's null block, so a scheduler can use one less than `blocks`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict, Unpack

from hwprofiles.datasheet import Gpu, Model, ProfileError, load_gpu, load_model
from hwprofiles.records import did_you_mean

GIB = 1 << 30

PRECISION_BYTES = {"bf16": 2, "fp8": 1}
"""Bytes of a weight of the layers' matrices, by precision."""

WIDE_BYTES = 2
"""Bytes of an activation, and of the weights that stay at 16 bits: embedding, output head, norms and biases."""

KV_CACHE_PRECISION = {"auto": "bf16", "bfloat16": "bf16", "fp8": "fp8"}
"""Precision of the KV cache by vLLM's `kv_cache_dtype`; `auto` is the type of the activations, whatever the weights have."""

ENGINE_GIB_ONE_GPU = 1.79  # CUDA context, graphs, libraries: non_torch_memory of Llama-3-8B, vllm pull request 10511
ENGINE_GIB_PARALLEL = 3.58  # the same log with two GPUs: NCCL and all-reduce buffers come on top

FEWEST_BLOCKS = 2
"""The null block, and one that a request can use."""


@dataclass(frozen=True)
class MemoryBudget:
    """How the memory of each GPU of an instance is spent; every figure in bytes per GPU."""

    memory_bytes: int
    """What CUDA reports."""
    usable_bytes: int
    """The share the engine may take: gpu_memory_utilization x memory."""
    weight_bytes: int
    activation_bytes: int
    engine_bytes: int
    kv_bytes: int
    """What is left; negative where the model does not fit."""
    block_bytes: int
    """One KV block."""
    block_size: int
    """Tokens of one KV block."""

    @property
    def blocks(self) -> int:
        """KV blocks, the null block included."""
        return max(0, self.kv_bytes // self.block_bytes)

    @property
    def kv_tokens(self) -> int:
        """Tokens that the usable blocks hold, all but the null block."""
        return max(0, self.blocks - 1) * self.block_size

    def rows(self) -> Iterator[tuple[str, float, str]]:
        """(what, GiB per GPU, where the figure comes from), for a person to read."""
        yield "memory", self.memory_bytes / GIB, "reported by CUDA"
        yield "usable", self.usable_bytes / GIB, "memory x gpu_memory_utilization"
        yield "weights", self.weight_bytes / GIB, "parameters x bytes / tp; embedding and head at 2 bytes"
        yield "activations", self.activation_bytes / GIB, "estimate: widest tensors of one layer, and the logits"
        yield "engine", self.engine_bytes / GIB, "context, graphs, communication: log in vllm pull request 10511"
        yield "KV blocks", self.kv_bytes / GIB, "what is left"


class EngineLimits(TypedDict, total=False):
    """The engine's settings that memory depends on; defaults are those of `memory_budget`."""

    block_size: int
    gpu_memory_utilization: float
    max_num_batched_tokens: int | None
    max_num_seqs: int | None
    kv_cache_dtype: str


def kv_blocks(gpu: str | Gpu, model: str | Model, precision: str = "bf16", tp: int = 1, **limits: Unpack[EngineLimits]) -> int:
    """KV blocks of an instance on `tp` GPUs, the null block included; `limits` and defaults are those of `memory_budget`.

    ProfileError for a degree that does not divide the model, and, with the degree that would do, for a model that does
    not fit.
    """
    gpu, model = load_gpu(gpu), load_model(model)
    budget = memory_budget(gpu, model, precision, tp, **limits)
    if budget.blocks >= FEWEST_BLOCKS:
        return budget.blocks
    degrees = model.valid_tp(gpu.gpus_per_node)
    fits = [n for n in degrees if memory_budget(gpu, model, precision, n, **limits).blocks >= FEWEST_BLOCKS]
    need_gb = (budget.usable_bytes - budget.kv_bytes + FEWEST_BLOCKS * budget.block_bytes) / 1e9
    advice = f"the smallest tp that fits is {fits[0]}" if fits else f"no tp up to {gpu.gpus_per_node} fits"
    raise ProfileError(
        f"{model.id} in {precision} at tp {tp} needs {need_gb:.1f} GB on each {gpu.id}, and "
        f"{budget.usable_bytes / 1e9:.1f} GB are there "
        f"(gpu_memory_utilization {budget.usable_bytes / budget.memory_bytes:g}); {advice}"
    )


def memory_budget(
    gpu: str | Gpu,
    model: str | Model,
    precision: str = "bf16",
    tp: int = 1,
    block_size: int = 16,
    gpu_memory_utilization: float = 0.92,
    max_num_batched_tokens: int | None = None,
    max_num_seqs: int | None = None,
    kv_cache_dtype: str = "auto",
) -> MemoryBudget:
    """The breakdown behind `kv_blocks`; a model that does not fit shows as negative `kv_bytes`.

    Defaults are vLLM 0.33's; for `max_num_batched_tokens` and `max_num_seqs` they are those on that GPU.
    """
    gpu, model = load_gpu(gpu), load_model(model)
    tokens = gpu.max_num_batched_tokens if max_num_batched_tokens is None else max_num_batched_tokens
    rows = gpu.max_num_seqs if max_num_seqs is None else max_num_seqs
    _check(gpu, model, precision, tp, kv_cache_dtype)
    _check_limits(block_size, gpu_memory_utilization, tokens, rows)
    memory = int(gpu.reported_memory_gib * GIB)
    usable = int(memory * gpu_memory_utilization)
    weights = weight_bytes(model, precision, tp)
    activations = activation_bytes(model, WIDE_BYTES, tp, tokens, rows)
    engine = int((ENGINE_GIB_ONE_GPU if tp == 1 else ENGINE_GIB_PARALLEL) * GIB)
    return MemoryBudget(
        memory_bytes=memory,
        usable_bytes=usable,
        weight_bytes=weights,
        activation_bytes=activations,
        engine_bytes=engine,
        kv_bytes=usable - weights - activations - engine,
        block_bytes=block_size * kv_bytes_per_token(model, PRECISION_BYTES[KV_CACHE_PRECISION[kv_cache_dtype]], tp),
        block_size=block_size,
    )


def weight_bytes(model: Model, precision: str, tp: int) -> int:
    """Weights on each GPU: an equal share of all, and of keys and values at least one head.

    Embedding and output head are shared out by vocabulary. Norms are counted as if shared out too, some MB less than the
    copy that each GPU keeps.
    """
    size = PRECISION_BYTES[precision]
    total = model.matrix_parameters * size + (model.parameters - model.matrix_parameters) * WIDE_BYTES
    kv_heads_copied = model.kv_heads_per_gpu(tp) * tp - model.kv_heads
    total += 2 * model.layers * model.hidden * model.head_size * kv_heads_copied * size
    return -(-total // tp)


def kv_bytes_per_token(model: Model, element_bytes: int, tp: int) -> int:
    """Bytes that one token of context takes on each GPU: keys and values of every layer."""
    return 2 * model.layers * model.kv_heads_per_gpu(tp) * model.head_size * element_bytes


def activation_bytes(model: Model, element_bytes: int, tp: int, tokens: int, rows: int) -> int:
    """Peak of a forward pass over `tokens` tokens of which `rows` are sampled, bytes per GPU (an estimate).

    Counted are four tensors of hidden width and the gated MLP's three of its width (split over the GPUs), and for each
    sampled row the logits at 2 bytes, once more at 4, and their probabilities at 4. For Llama-3-8B with 8192 tokens and
    256 rows that is 1.21 GiB; vLLM measured 1.26 GiB (vllm pull request 10511).
    """
    widths = 4 * model.hidden + 3 * -(-model.mlp_width // tp)
    return tokens * element_bytes * widths + rows * model.vocabulary * (2 + 4 + 4)


def _check(gpu: Gpu, model: Model, precision: str, tp: int, kv_cache_dtype: str) -> None:
    mistakes = []
    for what, name, known in (
        ("precision", precision, PRECISION_BYTES),
        ("kv_cache_dtype", kv_cache_dtype, KV_CACHE_PRECISION),
    ):
        if name not in known:
            hint = did_you_mean(name, known) or ";"
            mistakes.append(f"no {what} {name!r}{hint} known: {', '.join(known)}")
    valid = model.valid_tp(gpu.gpus_per_node)
    if tp not in valid:
        degrees = ", ".join(map(str, valid))
        node = f"a node of {gpu.gpus_per_node} {gpu.id}"
        heads = f"{model.heads} query and {model.kv_heads} KV heads, MLP width {model.mlp_width}"
        mistakes.append(f"tp {tp!r} does not divide the heads of {model.id} ({heads}) on {node}; valid: {degrees}")
    if mistakes:
        raise ProfileError("\n".join(mistakes))


def _check_limits(block_size: int, utilization: float, tokens: int, rows: int) -> None:
    limits = {"block_size": block_size, "max_num_batched_tokens": tokens, "max_num_seqs": rows}
    mistakes = [f"{name} must be from 1 up, not {value!r}" for name, value in limits.items() if value < 1]
    if not 0 < utilization <= 1:
        mistakes.append(f"gpu_memory_utilization must be above 0 and at most 1, not {utilization!r}")
    if mistakes:
        raise ProfileError("\n".join(mistakes))
