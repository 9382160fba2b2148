"""A bench: whatever can say how long a kernel takes. Tests have one of formulas; the real one is `torch_bench`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hwprofiles.measure.kernels import Kernel


@dataclass(frozen=True)
class Device:
    """The GPU that is measured, as its driver describes it."""

    name: str
    gpus: int
    """How many of them there are."""
    memory_bytes: int
    """Memory of one."""
    free_bytes: int
    """Memory of one that nobody holds."""
    capability: tuple[int, int]
    """CUDA compute capability: (9, 0) for Hopper."""
    version: str
    """Version of PyTorch."""
    cuda: str
    """Version of CUDA that PyTorch was built with."""


class Bench(Protocol):
    """Times kernels on the GPUs at hand. Latencies are ms of one call on one GPU, launched as serving engines do."""

    device: Device
    repeats: int
    """How often each kernel is timed; the median counts."""

    def ms(self, kernel: Kernel) -> float:
        """The latency of one kernel; ProfileError where the GPU or the library cannot run it."""

    def allreduce_ms(self, gpus: int, elements: Sequence[int]) -> list[float]:
        """The latency of an all-reduce over so many GPUs for each number of 16-bit elements."""

    def clocks(self) -> list[Mapping[str, Any]]:
        """The clocks of every GPU at this moment; nothing where nobody can say."""
