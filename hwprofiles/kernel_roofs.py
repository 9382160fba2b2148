"""Kernel roofs: the time of single kernels from what they compute and move, at fitted shares of a GPU's data sheet.

No kernel is faster than the data sheet allows: every share is at most 1, and every other constant adds time. Times are in ms;
counts may be numbers or numpy arrays.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from hwprofiles.datasheet import Gpu
from hwprofiles.memory import PRECISION_BYTES, WIDE_BYTES

CUSTOM_ALLREDUCE_MAX_BYTES = 8 << 20
"""Messages from this size on go through NCCL: `max_size` of vLLM's custom all-reduce (custom_all_reduce.py)."""

UNSPLIT_KNEE = 6
"""How sharp decodes turn from waiting for one thread block to sharing the bandwidth: measured attention turns within 1.5 x."""

MOST_KNEE = 100.0


@dataclass(frozen=True)
class Gemm:
    """An (m, k) by (k, n) matrix product of weights and inputs at one precision; the outputs have 16 bits.

    launch_ms + (compute^knee + memory^knee)^(1/knee), compute = 2mnk/(compute_frac*peak) + k*depth_ms,
    memory = bytes of weights, inputs and outputs / (bandwidth_frac*bandwidth)
    """

    precision: str
    compute_frac: float
    """Share of the peak of that precision."""
    bandwidth_frac: float
    """Share of the memory bandwidth."""
    knee: float
    """Power of the mean: 1 adds computing and moving, infinity takes the longer of the two."""
    launch_ms: float
    depth_ms: float
    """For each unit of k: tiles are whole, so on average a good part of a wave of them computes nothing."""

    def ms(self, gpu: Gpu, m: Any, n: float, k: float) -> Any:
        """Time of one call."""
        compute_ms = 2 * m * n * k / (self.compute_frac * flop_per_ms(gpu, self.precision)) + k * self.depth_ms
        moved_bytes = PRECISION_BYTES[self.precision] * (n * k + m * k) + WIDE_BYTES * m * n
        memory_ms = moved_bytes / (self.bandwidth_frac * bytes_per_ms(gpu))
        return self.launch_ms + (compute_ms**self.knee + memory_ms**self.knee) ** (1 / self.knee)


@dataclass(frozen=True)
class AllReduce:
    """A sum over GPUs of as many 16-bit elements on each.

    launch_ms + gpu_ms*GPUs + sent bytes / (link_frac*link) + large_ms where the message is large. A GPU sends its message once
    where switches add up, and 2(p-1)/p times in a ring of p; ring_frac says how much of that difference it pays.
    """

    link_frac: float
    ring_frac: float
    launch_ms: float
    gpu_ms: float
    large_ms: float
    """On top for a message of CUSTOM_ALLREDUCE_MAX_BYTES, from half of that on in proportion."""

    def ms(self, gpu: Gpu, elements: Any, gpus: int) -> Any:
        """Time of one call; nothing for one GPU."""
        if gpus == 1:
            return 0.0 * elements
        message_bytes = WIDE_BYTES * elements
        times_sent = 1 + self.ring_frac * (2 * (gpus - 1) / gpus - 1)
        link_bytes_per_ms = gpu.link_gb_per_s * 1e6
        large = _from_0_to_1(2 * message_bytes / CUSTOM_ALLREDUCE_MAX_BYTES - 1)
        start_ms = self.launch_ms + gpus * self.gpu_ms
        return start_ms + message_bytes * times_sent / (self.link_frac * link_bytes_per_ms) + self.large_ms * large


@dataclass(frozen=True)
class Elementwise:
    """All kernels of a layer but matrix products, all-reduces and attention, taken together."""

    kernels: int
    """Of a layer without norms of queries or keys; each of those is one more."""
    launch_ms: float
    """Of each kernel."""
    bandwidth_frac: float

    def ms(self, gpu: Gpu, moved_bytes: Any, norms: int = 0) -> Any:
        """Time of those of one layer, with so many norms of queries or keys."""
        return (self.kernels + norms) * self.launch_ms + moved_bytes / (self.bandwidth_frac * bytes_per_ms(gpu))


@dataclass(frozen=True)
class Heads:
    """Attention heads of one GPU."""

    queries: int
    kv: int
    size: int


@dataclass(frozen=True)
class Attention:
    """Attention of one layer with KV at one precision; it computes at 16 bits.

    Prefill: launch + bytes of queries, keys, values and outputs / bandwidth + FLOPs / peak, at their shares.
    Decodes: launch + decode_head_ms for each KV head of each decode + bytes of keys and values / bandwidth, at its share.
    """

    kv: str
    prefill_launch_ms: float
    prefill_bandwidth_frac: float
    prefill_compute_frac: float
    decode_launch_ms: float
    decode_head_ms: float
    decode_bandwidth_frac: float
    unsplit_blocks: float
    """Thread blocks that take up the bandwidth, where each KV head has one query head. Some kernels then give a decode's head
    to one block, so that fewer leave bandwidth unused; 0 where kernels split contexts."""

    def prefill_token_ms(self, gpu: Gpu, heads: Heads) -> float:
        """For each token of prefill."""
        moved_bytes = WIDE_BYTES * 2 * (heads.queries + heads.kv) * heads.size
        return moved_bytes / (self.prefill_bandwidth_frac * bytes_per_ms(gpu))

    def prefill_work_ms(self, gpu: Gpu, heads: Heads) -> float:
        """For each unit of n*(n + 2*past), half a pair of tokens: 4 FLOPs a pair and element of a query head."""
        return 2 * heads.queries * heads.size / (self.prefill_compute_frac * flop_per_ms(gpu, "bf16"))

    def decodes_ms(self, heads: Heads, decodes: Any) -> Any:
        """For so many decodes, one at least, whatever their context."""
        return self.decode_launch_ms + self.decode_head_ms * heads.kv * decodes

    def contexts_ms(self, gpu: Gpu, heads: Heads, decodes: Any) -> Any:
        """For each token of the mean context of so many decodes, one at least."""
        moved_bytes = 2 * PRECISION_BYTES[self.kv] * heads.kv * heads.size
        memory_ms = moved_bytes / (self.decode_bandwidth_frac * bytes_per_ms(gpu))
        compute_ms = 4 * heads.queries * heads.size / flop_per_ms(gpu, "bf16")
        blocks = self.unsplit_blocks / heads.kv if heads.queries == heads.kv else 0.0
        return max(memory_ms, compute_ms) * (decodes**UNSPLIT_KNEE + blocks**UNSPLIT_KNEE) ** (1 / UNSPLIT_KNEE)


def wrong_shares(key: str, kernel: Any) -> Iterator[str]:
    """Sentences about constants of a kernel that cannot be."""
    for field in fields(kernel):
        value = getattr(kernel, field.name)
        if field.name == "ring_frac":
            low, high = 0.0, 1.0
        elif field.name.endswith("_frac"):
            low, high = 0.01, 1.0
        elif field.name == "knee":
            low, high = 1.0, MOST_KNEE
        else:
            continue
        if not low <= value <= high:
            yield f"{key}.{field.name} must be from {low:g} to {high:g}, not {value!r}"


def flop_per_ms(gpu: Gpu, precision: str) -> float:
    """Peak of the data sheet."""
    return gpu.peak_tflops[precision] * 1e9


def bytes_per_ms(gpu: Gpu) -> float:
    """Memory bandwidth of the data sheet."""
    return gpu.bandwidth_gb_per_s * 1e6


def _from_0_to_1(x: Any) -> Any:
    """x, but 0 below and 1 above; of arithmetic alone, so that it takes arrays without importing numpy."""
    return (abs(x) - abs(x - 1) + 1) / 2
