"""Data sheets: what a GPU can do at best and, by name or from a file, how large a model is."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hwprofiles.model import Model, known_models, shipped_model
from hwprofiles.own_file import file_id, is_path, read_file, shown
from hwprofiles.own_model import own_model
from hwprofiles.records import ProfileError, did_you_mean, load_record, parse_record, profile_names

__all__ = ["Gpu", "Model", "ProfileError", "known_gpus", "known_models", "load_gpu", "load_model"]

PRECISIONS = ("bf16", "fp8")
"""What a peak may be known for: types of weights and of matrix products."""

MOST = {
    "memory_gib": 1e5,
    "bandwidth_gb_per_s": 1e7,
    "link_gb_per_s": 1e7,
    "gpus_per_node": 1024,
    "tdp_w": 1e6,
    "max_num_batched_tokens": 1 << 20,
    "max_num_seqs": 1 << 16,
}
"""The largest figures taken: a hundred times those of any GPU, so that a unit or two gone wrong is noticed."""

MOST_TFLOPS = 1e6


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU. Rates are peaks of the data sheet, dense; no efficiency is hidden in them."""

    id: str
    """Name of the file without its ending, as in scenarios and in the names of step-cost tables: `h100`."""
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
        for key, most in MOST.items():
            if getattr(self, key) > most:
                yield f"{key} {getattr(self, key):g} is more than {most:g}, beyond any GPU"
        if self.reported_memory_gib > self.memory_gib:
            yield f"reported_memory_gib {self.reported_memory_gib} is more than memory_gib {self.memory_gib}"
        for name, tflops in self.peak_tflops.items():
            if name not in PRECISIONS:
                hint = did_you_mean(name, PRECISIONS) or ";"
                yield f"peak_tflops has no precision {name!r:.40}{hint} known: {', '.join(PRECISIONS)}"
            elif tflops > MOST_TFLOPS:
                yield f"peak_tflops {tflops:g} is more than {MOST_TFLOPS:g}, beyond any GPU"
        if self.peak_tflops and "bf16" not in self.peak_tflops:
            yield "peak_tflops must have bf16, which attention and the output head are computed in"


def load_gpu(gpu: str | Path | Gpu) -> Gpu:
    """The GPU of that name, or in that .toml (a `Gpu` comes back as it is); ProfileError with every mistake.

    As a text a file is told from a name by a slash or by its ending; it gives the GPU its name.
    """
    if isinstance(gpu, Gpu):
        return gpu
    if is_path(gpu):
        return _own_gpu(Path(gpu))
    known = known_gpus()
    if gpu not in known:
        hint = did_you_mean(str(gpu), known) or ";"
        raise ProfileError(f"no gpu profile {gpu!r}{hint} known: {', '.join(known)}; or one's own .toml, written with a slash")
    return load_record(Gpu, "gpus", str(gpu), ".toml")


def load_model(model: str | Path | Model) -> Model:
    """The model of that name, or in that file (a `Model` comes back as it is); ProfileError with every mistake.

    A file is one's own TOML, or a Hugging Face config.json or the folder that holds it; as a text it is told from a
    name by a slash or by its ending.
    """
    if isinstance(model, Model):
        return model
    return own_model(Path(model)) if is_path(model) else shipped_model(str(model))


def _own_gpu(file: Path) -> Gpu:
    """A file named as a shipped GPU, with other figures, is refused: its name would lead to tables that are not its own."""
    expected = "a GPU's .toml, with the keys of those in hwprofiles/gpus"
    if file.suffix != ".toml":
        raise ProfileError(f"{shown(file)}: expected {expected}")
    gpu = parse_record(Gpu, read_file(file, expected), shown(file), {"id": file_id(file.stem, "gpu")})
    if gpu.id in known_gpus() and gpu != load_gpu(gpu.id):
        raise ProfileError(f"{shown(file)}: {gpu.id!r} is a GPU that ships, with other figures; expected a name of its own")
    return gpu


def known_gpus() -> list[str]:
    """Names that `load_gpu` takes, sorted."""
    return profile_names("gpus", ".toml")


def _zeros(record: Gpu) -> Iterator[str]:
    for key, value in vars(record).items():
        values = value.values() if isinstance(value, dict) else (value,)
        if not values or 0 in values:
            yield f"{key} must be above 0"
