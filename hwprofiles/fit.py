"""The fit: composed kernel times to step-cost tables (development time only).

f_tok and head are the composed times at every measured size, made monotone. The attention of decodes is affine in their mean
context, with both coefficients piecewise linear in their number; that of prefill a price a step, a token, and a unit of work.
Both are least squares of the error relative to the whole step, with no coefficient below what the data sheet allows. The same
input gives the same bytes.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from hwprofiles.bounds import Bounds
from hwprofiles.composition import Composition
from hwprofiles.costmodel import AttentionCost, FittedRange, StepCost
from hwprofiles.datasheet import Gpu
from hwprofiles.fit_error import NOT_MEASURED, Grid, full_grid, half_grid, measure_error
from hwprofiles.kernel_tables import KernelTables
from hwprofiles.steptable import TICKS_PER_MS, Knots

LICENCE = "Apache-2.0; derived from measurements that are Copyright NVIDIA CORPORATION & AFFILIATES"
COMMAND = "servecast profiles fit DIR"


def fit_step_cost(composition: Composition, source: str) -> StepCost:
    """The step cost nearest to the composed kernel times, and its error against them."""
    cost = _cost(composition, full_grid(composition), source)
    half = _cost(composition, half_grid(composition), source)
    return replace(cost, error=measure_error(cost, half, composition))


def _cost(composition: Composition, grid: Grid, source: str) -> StepCost:
    """The step cost from the steps of a grid; its error is not measured yet."""
    sizes, model = grid.sizes, composition.model
    bounds = Bounds(composition.gpu, model, composition.tables.precision, composition.tp)
    context = min(max(grid.contexts), model.sliding_window or max(grid.contexts))
    return StepCost(
        gpu=composition.gpu.id,
        model=model.id,
        precision=composition.tables.precision,
        tp=composition.tp,
        layers=model.layers,
        grade="transferred" if composition.is_transferred else "measured",
        source=source,
        licence=LICENCE,
        command=COMMAND,
        error=NOT_MEASURED,
        fitted=FittedRange(sizes[-1], sizes[-1], max(grid.lengths), max(grid.decodes), context),
        tokens=_tokens(composition, sizes, bounds),
        samples=_monotone_knots(sizes, [max(composition.head_ms(b), bounds.head_ms(b)) for b in sizes]),
        attention={kv: _attention(composition, grid, bounds, kv) for kv in composition.tables.decodes},
    )


def _tokens(composition: Composition, sizes: Sequence[int], bounds: Bounds) -> Knots:
    """f_tok: matrix products known at `sizes`, and all-reduces, whose time bends at sizes of their own."""
    at = sorted({*sizes, *composition.allreduce_bends(sizes[-1])})
    matrices_ms = np.interp(at, sizes, [composition.matrices_ms(m) for m in sizes])
    times_ms = [float(ms) + composition.allreduce_ms(m) for m, ms in zip(at, matrices_ms)]
    return _monotone_knots(at, [max(ms, bounds.tokens_ms(m)) for m, ms in zip(at, times_ms)])


def _attention(composition: Composition, grid: Grid, bounds: Bounds, kv: str) -> AttentionCost:
    steps = [(b, n) for b, n in grid.prompt_steps if composition.is_prompt_measured(b, n, kv)]
    prefill = _fit(
        [(1, b * n, b * n * n) for b, n in steps],
        [composition.prompt_attention_ms(b, n, kv) for b, n in steps],
        [composition.step_ms(b, n, kv=kv) for b, n in steps],
        (0, 0, bounds.prefill_work_ms()),
    )
    steps = [(b, n) for b, n in grid.decode_steps if composition.is_decode_measured(b, n, kv)]
    at = sorted({b for b, _ in steps})
    more = [b - a for a, b in zip([0, *at], at)]
    rises = _fit(
        [(*_rises(at, b), *(n * rise for rise in _rises(at, b))) for b, n in steps],
        [composition.decode_attention_ms(b, n, kv) for b, n in steps],
        [composition.step_ms(decodes=b, context=n, kv=kv) for b, n in steps],
        (*[0] * len(at), *(bounds.decode_context_token_ms(kv) * decodes for decodes in more)),
    )
    decodes, contexts = (tuple(np.cumsum(part).tolist()) for part in (rises[: len(at)], rises[len(at) :]))
    return AttentionCost(*prefill, Knots(tuple(at), decodes), Knots(tuple(at), contexts))


def _rises(at: Sequence[int], decodes: int) -> list[int]:
    """1 for the first knot and every later one up to so many decodes: the rises that their cost is the sum of."""
    return [int(decodes >= knot) for knot in at]


def _fit(
    rows: Sequence[tuple[int, ...]], times_ms: Sequence[float], steps_ms: Sequence[float], least_ms: Sequence[float]
) -> list[int]:
    """Coefficients in ticks, none below `least_ms`, that minimise the squared error relative to the whole step."""
    weights = 1 / np.array(steps_ms)
    matrix, least = np.array(rows, dtype=float), np.array(least_ms, dtype=float)
    above, _ = nnls(matrix * weights[:, None], (np.array(times_ms) - matrix @ least) * weights)
    # Seven digits are beyond any measurement, and fewer than linear algebra libraries differ in.
    digits = [float(f"{coefficient:.6e}") for coefficient in above]
    return [-int(-(floor + more) * TICKS_PER_MS // 1) for floor, more in zip(least, digits)]


def _monotone_knots(sizes: Sequence[int], times_ms: Sequence[float]) -> Knots:
    """Knots that never decrease: neighbours in the wrong order share their mean (pool adjacent violators)."""
    pools: list[list[float]] = []
    for time_ms in times_ms:
        pools.append([time_ms])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    smooth = [float(np.mean(pool)) for pool in pools for _ in pool]
    return Knots(tuple(sizes), tuple(-int(-time_ms * TICKS_PER_MS // 1) for time_ms in smooth))


def source_of(folder: Path, gpu: Gpu, tables: KernelTables) -> str:
    """Where the measurements come from; the commit stands in SOURCE.txt where the folder is a copy."""
    note = folder / "SOURCE.txt"
    text = note.read_text(errors="replace")[:100_000] if note.is_file() else ""
    commit = re.search(r"commit ([0-9a-f]{40})", text)
    versions = ", ".join(f"{operation} {version}" for operation, version in tables.versions.items())
    origin = f"ai-dynamo/aiconfigurator, commit {commit[1]}" if commit else f"kernel tables of {folder.name}"
    return f"{origin}, {gpu.calibration}, vLLM kernels: {versions}"
