"""Bounds of the data sheet: the least time that arithmetic and memory traffic of each part of a step can take.

A part takes no less than its FLOPs at the peak rate and no less than the bytes it must read at the peak bandwidth. Weights
are read once a step, keys and values once for each decode.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from hwprofiles.costmodel import StepCost
from hwprofiles.datasheet import Gpu, Model
from hwprofiles.memory import PRECISION_BYTES, WIDE_BYTES, kv_bytes_per_token
from hwprofiles.steptable import TICKS_PER_MS, Knots

ROUNDING_TICKS = 1


@dataclass(frozen=True)
class Bounds:
    """Least times on one GPU of an instance, in ms."""

    gpu: Gpu
    model: Model
    precision: str
    tp: int

    def tokens_ms(self, m: int) -> float:
        """The layers' matrix products over m tokens."""
        weights = self.model.matrix_parameters / self.tp
        return self._longer(2 * weights * m, self.precision, weights * PRECISION_BYTES[self.precision])

    def head_ms(self, samples: int) -> float:
        """The output head, at 16 bits."""
        weights = self.model.vocabulary // self.tp * self.model.hidden
        return self._longer(2 * weights * samples, "bf16", weights * WIDE_BYTES)

    def prefill_work_ms(self) -> float:
        """Attention for each unit of n*(n + 2*past): half a pair of tokens, 4 FLOPs a pair and element of a head."""
        model = self.model
        return self._longer(2 * model.layers * model.heads // self.tp * model.head_size, "bf16", 0)

    def contexts_ms(self, kv: str, decodes: int) -> float:
        """Reading the keys and values of a token of context for each of so many decodes."""
        return self._longer(0, "bf16", decodes * kv_bytes_per_token(self.model, PRECISION_BYTES[kv], self.tp))

    def _longer(self, flops: float, precision: str, moved_bytes: float) -> float:
        """1 TFLOP/s is 10^9 FLOP/ms, 1 GB/s 10^6 bytes/ms."""
        return max(flops / (self.gpu.peak_tflops[precision] * 1e9), moved_bytes / (self.gpu.bandwidth_gb_per_s * 1e6))


def broken_bounds(cost: StepCost, gpu: Gpu, model: Model) -> Iterator[str]:
    """Sentences about what a step cost claims to do faster than the data sheet of the GPU allows."""
    bounds = Bounds(gpu, model, cost.precision, cost.tp)
    parts = [
        *_knots("tokens", "f_tok of {} tokens", cost.tokens, bounds.tokens_ms),
        *_knots("samples", "head of {} samples", cost.samples, bounds.head_ms),
    ]
    for kv, a in cost.attention.items():
        parts.append((f"attention.{kv}.prefill_work", "a unit of prefill work", a.prefill_work, bounds.prefill_work_ms()))
        contexts_ms = partial(bounds.contexts_ms, kv)
        parts += _knots(f"attention.{kv}.contexts", "a token of context of each of {} decodes", a.contexts, contexts_ms)
    for key, what, ticks, least_ms in parts:
        if ticks + ROUNDING_TICKS < least_ms * TICKS_PER_MS:
            yield (
                f"{key} has {what} take {ticks / TICKS_PER_MS:.6g} ms; on {gpu.name} it takes {least_ms:.6g} ms at least, "
                "by the FLOP/s and the memory bandwidth of the data sheet"
            )


def _knots(key: str, what: str, knots: Knots, least_ms: Callable[[int], float]) -> Iterator[tuple[str, str, int, float]]:
    for at, ticks in zip(knots.at, knots.ticks):
        yield key, what.format(at), ticks, least_ms(at)
