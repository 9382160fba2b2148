"""Software: an era of a serving engine, by the time its host adds to each step and to each request."""

from collections.abc import Iterator
from dataclasses import dataclass

from hwprofiles.records import ProfileError, did_you_mean, load_record, profile_names

FOLDER = "software"

DEFAULT = "vllm-2026"
"""The era whose scheduler the simulator plays."""


@dataclass(frozen=True)
class Software:
    """One engine over the versions that behave alike. What it adds to the kernels of a step, in ms:

    step_ms + layers * (layer_ms + [tp > 1] * parallel_layer_ms) + sample_ms * min(requests that sample, most_samples)
    """

    id: str
    """As in scenarios: `vllm-2026`."""
    name: str
    source: str
    engine: str
    """The engine's name, as measurements have it: `vLLM`, `TRT-LLM`, `SGLang`."""
    step_ms: float
    """Host time of every step."""
    layer_ms: float
    """Host time of a step for each layer, where kernels are launched one by one."""
    parallel_layer_ms: float
    """The same, on top, where a layer is split over several GPUs."""
    sample_ms: float
    """Host time of a step for each request that samples a token."""
    api_ms: float
    """What the API server adds to a request, once: to its first token and to its end."""
    most_samples: int = 1 << 22
    """Requests beyond which the host's work hides behind the GPU's, where the two overlap."""
    since: str = ""
    """First version that it stands for, up to the next era of the same engine; empty where only its name says it."""

    def host_ms(self, layers: int, tp: int) -> float:
        """What the host adds to a step, apart from what each sampling request costs."""
        return self.step_ms + layers * (self.layer_ms + (self.parallel_layer_ms if tp > 1 else 0.0))

    def problems(self) -> Iterator[str]:
        """Sentences about values that cannot be."""
        if self.since and not self.since.replace(".", "").isdigit():
            yield f"since {self.since!r} is not a version such as 0.11"


def load_software(software: str | Software) -> Software:
    """The era of that name (a `Software` comes back as it is); ProfileError with the nearest name if there is none."""
    if isinstance(software, Software):
        return software
    known = known_software()
    if software not in known:
        hint = did_you_mean(software, known) or ";"
        raise ProfileError(f"no software profile {software!r}{hint} known: {', '.join(known)}")
    return load_record(Software, FOLDER, software, ".toml")


def known_software() -> list[str]:
    """Names that `load_software` takes, sorted."""
    return profile_names(FOLDER, ".toml")
