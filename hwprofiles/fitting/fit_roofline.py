"""The fit of rooflines: composed step times of many models to the constants of a GPU (development time only).

Bounded least squares over the steps of all models together, of the error of each part of a step relative to the whole step:
so parts count by their share, and none may be wrong to make up for another. As parts of different kernels have no constants in
common they are fitted one after another. Then every family of models is left out once, and its error is that with constants
fitted on the others. The same input gives the same file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from hwprofiles.datasheet import Gpu
from hwprofiles.fitting.composed_steps import Family, Steps, in_words, largest
from hwprofiles.fitting.composition import (
    ELEMENTWISE_BANDWIDTH_FRAC,
    ELEMENTWISE_KERNELS,
    ELEMENTWISE_LAUNCH_MS,
)
from hwprofiles.fitting.fit import COMMAND, LICENCE
from hwprofiles.kernel_roofs import AllReduce, Attention, Elementwise, Gemm
from hwprofiles.roofline import HEAD_PRECISION, ModelError, ModelRoofline, Roofline, RooflineError

Span = tuple[float, float, float]
"""(where the fit of a constant starts, least, most)"""

GEMM = {
    "compute_frac": (0.8, 0.2, 1.0),
    "bandwidth_frac": (0.8, 0.2, 1.0),
    "knee": (2.0, 1.0, 20.0),
    "launch_ms": (0.002, 0.001, 0.05),  # a kernel of a CUDA graph starts no sooner than about a microsecond after another
    "depth_ms": (1e-6, 0.0, 1e-4),
}
ALLREDUCE = {
    "link_frac": (0.7, 0.1, 1.0),
    "ring_frac": (0.5, 0.0, 1.0),
    "launch_ms": (0.005, 0.001, 0.1),
    "gpu_ms": (0.0005, 0.0, 0.02),
    "large_ms": (0.01, 0.0, 0.2),
}
PREFILL = {
    "prefill_launch_ms": (0.01, 0.001, 0.1),
    "prefill_bandwidth_frac": (0.4, 0.02, 1.0),
    "prefill_compute_frac": (0.6, 0.02, 1.0),
}
DECODE = {
    "decode_launch_ms": (0.01, 0.001, 0.1),
    "decode_head_ms": (1e-5, 0.0, 1e-3),
    "decode_bandwidth_frac": (0.8, 0.05, 1.0),
}
UNSPLIT = {"unsplit_blocks": (30.0, 0.0, 1000.0)}
"""Fitted where a model has as many KV heads as query heads, else 0; fewer than one block is none."""

DIGITS = 4
"""Of a constant: finer than any measurement, coarser than where two least-squares programs stop."""

ELEMENTWISE = Elementwise(ELEMENTWISE_KERNELS, ELEMENTWISE_LAUNCH_MS, ELEMENTWISE_BANDWIDTH_FRAC)
"""As in the composition, which has no measurements of them."""

MATRIX_PARTS, ATTENTION_PARTS = slice(0, 2), slice(2, 4)


def fit_roofline(gpu: Gpu, steps: Sequence[Steps], source: str) -> Roofline:
    """The roofline nearest to composed steps, and its error on models that it did not see."""
    roofline = fit_constants(gpu, steps, source)
    without = {
        left: fit_constants(gpu, [s for s in steps if s.family != left], source) for left in sorted({s.family for s in steps})
    }
    kinds = sorted({(s.precision, s.kv) for s in steps})
    of_kind = {kind: [s for s in steps if (s.precision, s.kv) == kind] for kind in kinds}
    return replace(roofline, errors=tuple(measure_error(gpu, roofline, without, of_kind[kind]) for kind in kinds))


def fit_constants(gpu: Gpu, steps: Sequence[Steps], source: str) -> Roofline:
    """The roofline nearest to composed steps; its errors are not measured yet."""
    precisions = sorted({s.precision for s in steps}, key=lambda precision: (precision != HEAD_PRECISION, precision))
    kvs = sorted({s.kv for s in steps})
    roofline = Roofline(
        gpu=gpu.id,
        source=source,
        licence=LICENCE,
        command=COMMAND,
        measured_on=in_words(steps),
        fitted=largest(steps),
        gemms=tuple(Gemm(precision, **_starts(GEMM)) for precision in precisions),
        allreduce=AllReduce(**_starts(ALLREDUCE)),
        elementwise=ELEMENTWISE,
        attentions=tuple(Attention(kv, unsplit_blocks=0.0, **_starts(PREFILL | DECODE)) for kv in kvs),
        errors=(),
    )
    # Matrix products are the same whatever the KV cache has, attention whatever the weights have: one kind of steps will do.
    for precision in precisions:
        seen = [s for s in steps if (s.precision, s.kv) == (precision, kvs[0])]
        spans = {("gemms", name): span for name, span in GEMM.items()}
        if precision == HEAD_PRECISION and any(s.tp > 1 for s in seen):
            spans |= {("allreduce", name): span for name, span in ALLREDUCE.items()}
        roofline = _refine(gpu, roofline, seen, spans, _matrix_ms, MATRIX_PARTS)
    for kv in kvs:
        seen = [s for s in steps if (s.precision, s.kv) == (precisions[0], kv)]
        is_unsplit = any(s.model.heads // s.tp == s.model.kv_heads_per_gpu(s.tp) for s in seen)
        constants = PREFILL | DECODE | (UNSPLIT if is_unsplit else {})
        spans = {("attentions", name): span for name, span in constants.items()}
        roofline = _refine(gpu, roofline, seen, spans, _attention_ms, ATTENTION_PARTS)
    return roofline


def measure_error(gpu: Gpu, roofline: Roofline, without: Mapping[Family, Roofline], steps: Sequence[Steps]) -> RooflineError:
    """The errors over steps of one kind, all models and each."""
    inside = [_errors(gpu, roofline, s) for s in steps]
    outside = [_errors(gpu, without[s.family], s) for s in steps]
    worst = np.sort(np.concatenate(outside))[::-1]
    names = sorted({s.model.id for s in steps})
    of_model = {name: [at for at, s in enumerate(steps) if s.model.id == name] for name in names}
    return RooflineError(
        precision=steps[0].precision,
        kv=steps[0].kv,
        steps=len(worst),
        mape_frac=_mean(inside),
        left_out_mape_frac=_mean(outside),
        left_out_worst_5pct_frac=_mean([worst[: -(-len(worst) // 20)]]),
        left_out_max_frac=round(float(worst[0]), 4),
        models=tuple(
            ModelError(name, _mean([inside[i] for i in at]), _mean([outside[i] for i in at])) for name, at in of_model.items()
        ),
    )


def _refine(
    gpu: Gpu,
    roofline: Roofline,
    steps: Sequence[Steps],
    spans: Mapping[tuple[str, str], Span],
    times_ms: Callable[[ModelRoofline, Steps], np.ndarray],
    columns: slice,
) -> Roofline:
    """The roofline with the constants of `spans`, (kernel, name), that bring `times_ms` nearest to these parts of the steps."""
    start, least, most = np.array(list(spans.values())).T
    names, precision, kv = list(spans), steps[0].precision, steps[0].kv
    weights = [1 / s.total_ms[:, None] for s in steps]

    def residuals(values: np.ndarray) -> np.ndarray:
        made = _with(roofline, dict(zip(names, values.tolist())), precision, kv)
        parts = (made.of(s.model, s.tp, precision, kv, gpu) for s in steps)
        errors = (((times_ms(p, s) - s.parts_ms[:, columns]) * w).ravel() for p, s, w in zip(parts, steps, weights))
        return np.concatenate(list(errors))

    found = least_squares(residuals, start, bounds=(least, most), x_scale=most, xtol=1e-10, ftol=1e-10, gtol=1e-10).x
    # The algorithm comes near to a bound and never reaches it.
    found = np.where(found - least < 1e-6 * (most - least), least, np.where(most - found < 1e-6 * (most - least), most, found))
    rounded = [float(f"{value:.{DIGITS}g}") for value in found]
    rounded = [0.0 if name in UNSPLIT and value < 1 else value for (_, name), value in zip(names, rounded)]
    return _with(roofline, dict(zip(names, rounded)), precision, kv)


def _with(roofline: Roofline, values: Mapping[tuple[str, str], float], precision: str, kv: str) -> Roofline:
    """The roofline with other constants, those of gemms and attentions at these precisions."""
    by_kernel: dict[str, dict[str, Any]] = {"gemms": {}, "allreduce": {}, "attentions": {}}
    for (kernel, name), value in values.items():
        by_kernel[kernel][name] = value
    gemms = [replace(one, **by_kernel["gemms"]) if one.precision == precision else one for one in roofline.gemms]
    attentions = [replace(one, **by_kernel["attentions"]) if one.kv == kv else one for one in roofline.attentions]
    allreduce = replace(roofline.allreduce, **by_kernel["allreduce"])
    return replace(roofline, gemms=tuple(gemms), attentions=tuple(attentions), allreduce=allreduce)


def _matrix_ms(parts: ModelRoofline, steps: Steps) -> np.ndarray:
    """(steps, 2): f_tok and head."""
    m = steps.prompts * steps.lengths + steps.decodes
    return np.stack((parts.tokens_ms(m), parts.head_ms(steps.prompts + steps.decodes)), axis=1)


def _attention_ms(parts: ModelRoofline, steps: Steps) -> np.ndarray:
    """(steps, 2): attention of prefill, of decodes."""
    tokens = steps.prompts * steps.lengths
    once, token, work = parts.prefill_ms()
    prefill_ms = (tokens > 0) * (once + token * tokens + work * tokens * steps.lengths)
    decode_ms = parts.decodes_ms(steps.decodes) + parts.contexts_ms(steps.decodes) * steps.contexts
    return np.stack((prefill_ms, (steps.decodes > 0) * decode_ms), axis=1)


def _errors(gpu: Gpu, roofline: Roofline, steps: Steps) -> np.ndarray:
    """|roofline - composed| / composed, by step."""
    parts = roofline.of(steps.model, steps.tp, steps.precision, steps.kv, gpu)
    made_ms = _matrix_ms(parts, steps).sum(axis=1) + _attention_ms(parts, steps).sum(axis=1)
    return np.abs(made_ms / steps.total_ms - 1)


def _mean(errors: Sequence[np.ndarray]) -> float:
    return round(float(np.concatenate(errors).mean()), 4)


def _starts(spans: Mapping[str, Span]) -> dict[str, float]:
    return {name: start for name, (start, _, _) in spans.items()}
