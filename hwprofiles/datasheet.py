"""Data sheets: what a GPU can do at best and, by name or from a file, how large a model is."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hwprofiles.model import Model, known_models, shipped_model
from hwprofiles.own_model import is_path, own_model
from hwprofiles.records import ProfileError, did_you_mean, load_record, profile_names

__all__ = ["Gpu", "Model", "ProfileError", "known_gpus", "known_models", "load_gpu", "load_model"]


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


def load_gpu(gpu: str | Gpu) -> Gpu:
    """The GPU of that name (a `Gpu` comes back as it is); ProfileError with the nearest name if there is none."""
    if isinstance(gpu, Gpu):
        return gpu
    known = known_gpus()
    if gpu not in known:
        hint = did_you_mean(gpu, known) or ";"
        raise ProfileError(f"no gpu profile {gpu!r}{hint} known: {', '.join(known)}")
    return load_record(Gpu, "gpus", gpu, ".toml")


def load_model(model: str | Path | Model) -> Model:
    """The model of that name, or in that file (a `Model` comes back as it is); ProfileError with every mistake.

    A file is one's own TOML, or a Hugging Face config.json or the folder that holds it; as a text it is told from a
    name by a slash or by its ending.
    """
    if isinstance(model, Model):
        return model
    return own_model(Path(model)) if is_path(model) else shipped_model(str(model))


def known_gpus() -> list[str]:
    """Names that `load_gpu` takes, sorted."""
    return profile_names("gpus", ".toml")


def _zeros(record: Gpu) -> Iterator[str]:
    for key, value in vars(record).items():
        values = value.values() if isinstance(value, dict) else (value,)
        if not values or 0 in values:
            yield f"{key} must be above 0"
