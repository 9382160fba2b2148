"""The fit: composed kernel times to step-cost tables (development time only).

f_tok and head are the composed times at every measured size, made monotone. The attention of decodes is affine in their mean
context, with both coefficients piecewise linear in their number; that of prefill a price a step, a token, and a unit of work.
Both are least squares of the error relative to the whole step, with no coefficient below what the data sheet allows. The same
input gives the same bytes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from hwprofiles.bounds import Bounds
from hwprofiles.costmodel import AttentionCost, FittedRange, StepCost
from hwprofiles.datasheet import Gpu
from hwprofiles.fitting.composition import Composition
from hwprofiles.fitting.fit_error import NOT_MEASURED, Grid, full_grid, half_grid, measure_error
from hwprofiles.fitting.kernel_tables import KernelTables
from hwprofiles.records import ProfileError
from hwprofiles.steptable import TICKS_PER_MS, Knots

LICENCE = "Apache-2.0; derived from measurements that are Copyright NVIDIA CORPORATION & AFFILIATES"
COMMAND = "servecast profiles fit DIR"

PLAUSIBLE = (0.25, 50.0)
"""How many times the least time of the data sheet a part of a step may take where it comes nearest to it. On the GPUs that
ship it is 0.5 (attention on an RTX PRO 6000, from caches and at 8 bits) to 1.8; a wrong unit is off by 1000."""


def fit_step_cost(composition: Composition, source: str) -> StepCost:
    """The step cost nearest to the composed kernel times, and its error against them.

    ProfileError for times that no GPU of that data sheet can have.
    """
    check_plausible(composition, full_grid(composition))
    cost = _cost(composition, full_grid(composition), source)
    half = _cost(composition, half_grid(composition), source)
    return replace(cost, error=measure_error(cost, half, composition))


def check_plausible(composition: Composition, grid: Grid) -> None:
    """ProfileError with each part of a step that is nowhere near what the data sheet allows."""
    least, most = PLAUSIBLE
    mistakes = []
    for part, ratios in _least_times(composition, grid):
        ratio, step = min(ratios, default=(1.0, ""))
        if not least <= ratio <= most:
            mistakes.append(
                f"{composition.gpu.id} {composition.model.id} tp {composition.tp}: {part} takes {ratio:.3g} times what the "
                f"data sheet allows at least, {step}; expected {least:g} to {most:g} times where it is fastest. "
                "Are all latencies in ms?"
            )
    if mistakes:
        raise ProfileError("\n".join(mistakes))


def _least_times(composition: Composition, grid: Grid) -> Iterator[tuple[str, list[tuple[float, str]]]]:
    """(part of a step, [(its time / the least by the data sheet, of what)])"""
    c, bounds = composition, Bounds(composition.gpu, composition.model, composition.tables.precision, composition.tp)
    yield "f_tok", [(c.matrices_ms(m) / bounds.tokens_ms(m), f"of {m} tokens") for m in grid.sizes]
    yield "head", [(c.head_ms(b) / bounds.head_ms(b), f"of {b} samples") for b in grid.sizes]
    work_ms = bounds.prefill_work_ms()
    for kv in c.tables.decodes:
        steps = [(b, n) for b, n in grid.prompt_steps if c.is_prompt_measured(b, n, kv)]
        ratios = [(c.prompt_attention_ms(b, n, kv) / (work_ms * b * n * n), f"of {b} prompts of {n} tokens") for b, n in steps]
        yield f"attention of prefill, KV {kv},", ratios
        token_ms = bounds.contexts_ms(kv, 1)
        steps = [(b, n) for b, n in grid.decode_steps if c.is_decode_measured(b, n, kv)]
        ratios = [(c.decode_attention_ms(b, n, kv) / (token_ms * b * n), f"of {b} decodes of {n} tokens") for b, n in steps]
        yield f"attention of decodes, KV {kv},", ratios


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
    _check_steps("prompts", steps, composition, kv)
    once, token, work = _fit(
        [(1, b * n, b * n * n) for b, n in steps],
        [composition.prompt_attention_ms(b, n, kv) for b, n in steps],
        [composition.step_ms(b, n, kv=kv) for b, n in steps],
        (0, 0, bounds.prefill_work_ms()),
    )
    steps = [(b, n) for b, n in grid.decode_steps if composition.is_decode_measured(b, n, kv)]
    _check_steps("decodes", steps, composition, kv)
    at = sorted({b for b, _ in steps})
    rises = _fit(
        [(*_rises(at, b), *(n * rise for rise in _rises(at, b))) for b, n in steps],
        [composition.decode_attention_ms(b, n, kv) for b, n in steps],
        [composition.step_ms(decodes=b, context=n, kv=kv) for b, n in steps],
        [0] * 2 * len(at),
    )
    decodes, contexts = (np.cumsum(part).tolist() for part in (rises[: len(at)], rises[len(at) :]))
    least = (_ticks(bounds.contexts_ms(kv, b)) for b in at)
    knots = Knots(tuple(at), tuple(decodes)), Knots(tuple(at), tuple(map(max, contexts, least)))
    return AttentionCost(once, token, work, *knots)


def _check_steps(what: str, steps: Sequence[tuple[int, int]], composition: Composition, kv: str) -> None:
    """ProfileError where a line would have to be drawn through one point."""
    if min((len({step[i] for step in steps}) for i in (0, 1)), default=0) < 2:
        raise ProfileError(
            f"{composition.gpu.id} {composition.model.id} tp {composition.tp}: attention of {what} with KV {kv} was measured "
            f"for {len(steps)} of the fit's steps; expected two numbers of {what} and two lengths at least"
        )


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
    return [_ticks(floor + more) for floor, more in zip(least, digits)]


def _monotone_knots(sizes: Sequence[int], times_ms: Sequence[float]) -> Knots:
    """Knots that never decrease: neighbours in the wrong order share their mean (pool adjacent violators)."""
    pools: list[list[float]] = []
    for time_ms in times_ms:
        pools.append([time_ms])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    smooth = [float(np.mean(pool)) for pool in pools for _ in pool]
    return Knots(tuple(sizes), tuple(map(_ticks, smooth)))


def _ticks(time_ms: float) -> int:
    """Rounded up: no faster than the data sheet."""
    return -int(-time_ms * TICKS_PER_MS // 1)


def source_of(folder: Path, gpu: Gpu, tables: KernelTables) -> str:
    """Where the measurements come from; the commit stands in SOURCE.txt where the folder is a copy."""
    note = folder / "SOURCE.txt"
    text = note.read_text(errors="replace")[:100_000] if note.is_file() else ""
    commit = re.search(r"commit ([0-9a-f]{40})", text)
    versions = ", ".join(f"{operation} {version}" for operation, version in tables.versions.items())
    origin = f"ai-dynamo/aiconfigurator, commit {commit[1]}" if commit else f"kernel tables of {folder.name}"
    return f"{origin}, {gpu.calibration}, vLLM kernels: {versions}"
