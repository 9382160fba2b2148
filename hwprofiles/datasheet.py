"""Data sheets: what a GPU can do at best, and how large a model is; one TOML for each, found by its file name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from hwprofiles.records import ProfileError, did_you_mean, load_record, profile_names

__all__ = ["Gpu", "Model", "ProfileError", "known_gpus", "known_models", "load_gpu", "load_model"]

T = TypeVar("T")


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU. Rates are peaks of the data sheet, dense; no efficiency is hidden in them."""

    id: str
    """Name of the file, as in scenarios: `h100`."""
    name: str
    source: str
    calibration: str
    """Folder of this GPU's kernel tables in aiconfigurator, for the fit."""
    memory_gib: float
    """Memory of the data sheet."""
    reported_memory_gib: float
    """Memory that CUDA reports, a little less; engines take their share of this."""
    bandwidth_gb_per_s: float
    """Memory bandwidth, 10^9 bytes/s."""
    link_gb_per_s: float
    """GPU-to-GPU link inside a node, per GPU and direction, 10^9 bytes/s."""
    gpus_per_node: int
    tdp_w: float
    max_num_batched_tokens: int
    """vLLM's default on this GPU."""
    max_num_seqs: int
    """vLLM's default on this GPU."""
    peak_tflops: dict[str, float]
    """10^12 FLOP/s by precision."""

    def problems(self) -> Iterator[str]:
        """Sentences about values that cannot be."""
        yield from _zeros(self)
        if self.reported_memory_gib > self.memory_gib:
            yield f"reported_memory_gib {self.reported_memory_gib} is more than memory_gib {self.memory_gib}"


@dataclass(frozen=True)
class Model:
    """A dense decoder-only transformer with grouped-query attention and a gated MLP, by its dimensions."""

    id: str
    """Name of the file, as in scenarios: `llama-3.1-8b`."""
    name: str
    source: str
    fit_tp: tuple[int, ...]
    """Tensor-parallel degrees that the fit makes step-cost tables for."""
    layers: int
    hidden: int
    heads: int
    """Query heads of a layer."""
    kv_heads: int
    head_size: int
    mlp_width: int
    vocabulary: int
    parameters: int
    """All of them, embedding and output head included."""
    max_model_len: int
    """Longest context, prompt and answer together, tokens."""

    def valid_tp(self, gpus_per_node: int) -> list[int]:
        """Tensor-parallel degrees inside one node: each GPU gets whole heads, and whole KV heads or a copy of one."""
        return [tp for tp in range(1, gpus_per_node + 1) if self._is_divisible(tp)]

    def kv_heads_per_gpu(self, tp: int) -> int:
        """KV heads each GPU keeps; where there are more GPUs than KV heads, each keeps a copy of one."""
        return max(1, self.kv_heads // tp)

    def problems(self) -> Iterator[str]:
        """Sentences about dimensions that do not go together."""
        yield from _zeros(self)
        if self.kv_heads and self.heads % self.kv_heads:
            yield f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}"
        if self.parameters < self.vocabulary * self.hidden:
            yield f"parameters {self.parameters} is less than the embedding alone, vocabulary x hidden"

    def _is_divisible(self, tp: int) -> bool:
        shares_kv = self.kv_heads % tp == 0 or tp % self.kv_heads == 0
        return self.heads % tp == 0 and self.mlp_width % tp == 0 and shares_kv


def load_gpu(gpu: str | Gpu) -> Gpu:
    """The GPU of that name (a `Gpu` comes back as it is); ProfileError with the nearest name if there is none."""
    return gpu if isinstance(gpu, Gpu) else _load(Gpu, "gpu", gpu)


def load_model(model: str | Model) -> Model:
    """The model of that name (a `Model` comes back as it is); ProfileError with the nearest name if there is none."""
    return model if isinstance(model, Model) else _load(Model, "model", model)


def known_gpus() -> list[str]:
    """Names that `load_gpu` takes, sorted."""
    return profile_names("gpus", ".toml")


def known_models() -> list[str]:
    """Names that `load_model` takes, sorted."""
    return profile_names("models", ".toml")


def _load(record: type[T], kind: str, name: str) -> T:
    known = profile_names(f"{kind}s", ".toml")
    if name not in known:
        hint = did_you_mean(name, known) or ";"
        raise ProfileError(f"no {kind} profile {name!r}{hint} known: {', '.join(known)}")
    return load_record(record, f"{kind}s", name, ".toml")


def _zeros(record: Gpu | Model) -> Iterator[str]:
    for key, value in vars(record).items():
        values = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
        if not values or 0 in values:
            yield f"{key} must be above 0"
