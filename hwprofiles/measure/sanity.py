"""Times that no GPU can have: below what its data sheet allows, or no times at all."""

import math
from collections.abc import Iterable, Iterator

from hwprofiles.datasheet import Gpu, ProfileError
from hwprofiles.measure.kernels import Kernel

TOLERANCE = 1.05
"""Rates up to this share of the data sheet's peak pass: a peak is stated at one clock, and boards run a little above."""
SHOWN = 8
"""Mistakes that are listed; the rest is counted."""


def least_ms(kernel: Kernel, gpu: Gpu) -> float:
    """The time below which the kernel would be faster than the data sheet: its operations or its bytes at the peak."""
    peak_tflops = gpu.peak_tflops.get(kernel.precision, math.inf)
    return max(kernel.flops / (peak_tflops * 1e9), kernel.read_bytes / (gpu.bandwidth_gb_per_s * 1e6))


def refuse_impossible(times: Iterable[tuple[Kernel, float]], gpu: Gpu | None) -> None:
    """ProfileError that lists the times which cannot be; without a data sheet, those that are no times."""
    wrong = list(_impossible(times, gpu))
    if wrong:
        more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        hint = "nothing was written; is --gpu the GPU that was measured, and is nobody else using it?"
        raise ProfileError("\n".join(["mistakes of measurement:", *wrong[:SHOWN], *more, hint]))


def _impossible(times: Iterable[tuple[Kernel, float]], gpu: Gpu | None) -> Iterator[str]:
    for kernel, ms in times:
        if not (math.isfinite(ms) and ms > 0):
            yield f"{kernel}: {ms} ms; expected a finite number above 0"
        elif gpu is not None and ms * TOLERANCE < (least := least_ms(kernel, gpu)):
            yield f"{kernel}: {ms:.6g} ms; expected at least {least:.6g}, the data sheet's peak of {gpu.id}"
