"""The settings of one serving engine, under vLLM's own names.

Constraints are vLLM 0.33's (`vllm/config/scheduler.py`, `cache.py`); what is left None is filled in by the cluster
from the GPU's class and the model.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any


class ClusterError(ValueError):
    """A cluster or engine that cannot be built as asked; the message says what to change."""


def unknown(what: str, name: str, known: Iterable[str]) -> ClusterError:
    """The error for a name that is none of the known ones; it names the nearest."""
    names = list(known)
    close = get_close_matches(name, names, 1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return ClusterError(f"no {what} '{name}'{hint} (known: {', '.join(names)})")


@dataclass(frozen=True)
class Engine:
    """How one instance forms its batches and how much memory it takes.

    scheduler: rules of the iteration, an entry of `sim.scheduler.SCHEDULERS`.
    max_num_seqs: seats, the most requests running at once.
    max_num_batched_tokens: token budget of one iteration.
    max_model_len: longest prompt plus answer, in tokens.
    block_size: tokens in a KV block.
    gpu_memory_utilization: share of the GPU's memory that the engine takes.
    num_gpu_blocks_override: KV blocks of an instance, in place of the number that memory gives.
    kv_cache_dtype: type of an element of the KV blocks, a name of `hwprofiles.memory.KV_CACHE_PRECISION`.
    enable_prefix_caching: prompts that begin alike are computed once, while their blocks last.
    async_scheduling: the next batch is formed while one is on the GPU.
    policy: order of the queue and choice of victims, "fcfs" or "priority".
    enable_chunked_prefill: whether a prompt may be split over iterations.
    long_prefill_token_threshold: most prompt tokens of a request in one iteration; 0 for no limit.
    scheduler_reserve_full_isl: admit only what has room for its whole prompt.
    watermark: share of the blocks that admissions leave free.
    max_num_encoder_input_tokens, encoder_cache_size: tokens of images and clips encoded in one iteration, and kept.
    """

    scheduler: str = "vllm"
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    block_size: int = 16
    gpu_memory_utilization: float = 0.92
    num_gpu_blocks_override: int | None = None
    kv_cache_dtype: str = "auto"
    enable_prefix_caching: bool = True
    async_scheduling: bool = True
    policy: str = "fcfs"
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    scheduler_reserve_full_isl: bool = True
    watermark: float = 0.0
    max_num_encoder_input_tokens: int = 0
    encoder_cache_size: int = 0

    def check(self) -> None:
        """Raise ClusterError, naming every setting that is out of bounds, for an engine that vLLM would refuse too."""
        mistakes = []
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "block_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                mistakes.append(f"engine.{name} = {value}: at least 1 is needed")
        if not 0.0 < self.gpu_memory_utilization <= 1.0:
            mistakes.append(f"engine.gpu_memory_utilization = {self.gpu_memory_utilization}: a share in (0, 1] is needed")
        if self.num_gpu_blocks_override is not None and self.num_gpu_blocks_override < 2:
            mistakes.append(
                f"engine.num_gpu_blocks_override = {self.num_gpu_blocks_override}: at least 2 are needed (one stays empty)"
            )
        seats, budget = self.max_num_seqs, self.max_num_batched_tokens
        if seats is not None and budget is not None and 0 < budget < seats:
            mistakes.append(
                f"engine.max_num_batched_tokens = {budget} is below engine.max_num_seqs = {seats}: "
                "vLLM wants a token for every seat"
            )
        context, threshold = self.max_model_len, self.long_prefill_token_threshold
        if not self.enable_chunked_prefill and budget is not None and context is not None and budget < context:
            mistakes.append(
                f"engine.max_num_batched_tokens = {budget} is below engine.max_model_len = {context}: "
                "vLLM wants room for a whole prompt where enable_chunked_prefill is off"
            )
        if threshold < 0 or (context is not None and threshold > context):
            mistakes.append(
                f"engine.long_prefill_token_threshold = {threshold}: vLLM wants 0 (off) to max_model_len"
                + (f" = {context}" if context is not None else "")
            )
        if not 0.0 <= self.watermark < 1.0:
            mistakes.append(f"engine.watermark = {self.watermark}: a share in [0, 1) is needed")
        encoder = (self.max_num_encoder_input_tokens, self.encoder_cache_size)
        if min(encoder) < 0 or (min(encoder) == 0) != (max(encoder) == 0):
            mistakes.append(
                f"engine.max_num_encoder_input_tokens = {encoder[0]}, engine.encoder_cache_size = {encoder[1]}: "
                "both are 0 (text alone) or both are above"
            )
        if mistakes:
            raise ClusterError("\n".join(mistakes))


@dataclass(frozen=True)
class FullEngine(Engine):
    """An engine in which nothing is left to a default."""

    max_num_seqs: int = 0
    max_num_batched_tokens: int = 0
    max_model_len: int = 0

    @classmethod
    def of(cls, engine: Engine, **filled: Any) -> "FullEngine":
        """The engine with `filled` in place of what it leaves open."""
        return cls(**{**{field.name: getattr(engine, field.name) for field in fields(engine)}, **filled})
