"""The fit: composed kernel times to step-cost tables, `python -m hwprofiles.fit DIR` (development time only).

DIR holds one folder of kernel tables per GPU, as in aiconfigurator. For every GPU and model that this package describes
and DIR has measurements of, a table is made for each tensor-parallel degree the model names. f_tok and head are the
composed times at every measured size, made monotone. The attention coefficients are non-negative least squares with
relative weights. The same input gives the same bytes.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from hwprofiles.composition import Composition, KernelTables
from hwprofiles.costmodel import Coefficients, FitError, FittedRange, StepCost, profile_name
from hwprofiles.datasheet import Gpu, ProfileError, known_gpus, known_models, load_gpu, load_model
from hwprofiles.steptable import TICKS_PER_MS, Knots

ERA = "2025-26 vLLM"
HOST_STEP_MS = 0.4  # c0: with it kernel times met TPOT of vLLM 0.10 and later on H100 and H200 within 5-9 %
HOST_SAMPLE_MS = 0.01  # cs: the same comparison
PRECISION = "bf16"
LICENCE = "Apache-2.0; derived from measurements that are Copyright NVIDIA CORPORATION & AFFILIATES"

PROMPT_LENGTHS = (128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
CONTEXTS = (128, 256, 512, 1024, 2048, 4096, 8192)
FIT_PROMPTS = (1, 2, 4, 8)
FIT_DECODES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MAX_PREFILL_TOKENS = 16_384
MAX_CONTEXT_TOKENS = 400_000
"""About what the KV blocks of one instance hold."""

JUDGED_PROMPTS = (1, 2, 3, 4, 6, 8)
JUDGED_DECODES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
JUDGED_CONTEXTS = (128, 300, 512, 1024, 2048, 3000, 4096, 8192, 16_384)
JUDGED_MIXED = (
    (512, 12, 1024),
    (512, 48, 3000),
    (512, 192, 1024),
    (2048, 12, 3000),
    (2048, 48, 1024),
    (2048, 96, 2048),
)
"""(prompt length, decodes, context of each)"""

Step = tuple[int, int, int, int]
"""(prompts, length of each, decodes, context of each)"""


def fit_folder(folder: Path) -> Iterator[StepCost]:
    """The step cost of every combination that the folder has kernel tables for; ProfileError if there is none."""
    found = [gpu for gpu in map(load_gpu, known_gpus()) if (folder / gpu.calibration).is_dir()]
    if not found:
        wanted = ", ".join(load_gpu(name).calibration for name in known_gpus())
        raise ProfileError(f"{folder}: no folder of kernel tables; expected one or more of {wanted}")
    for gpu in found:
        tables = KernelTables.read(folder / gpu.calibration, PRECISION)
        for model in map(load_model, known_models()):
            for tp in model.fit_tp:
                yield fit_step_cost(Composition(tables, gpu, model, tp), _source(folder, gpu, tables))


def fit_step_cost(composition: Composition, source: str) -> StepCost:
    """The step cost nearest to the composed kernel times, host time of the era added."""
    sizes = composition.tables.sizes
    tokens = _monotone_knots(sizes, [composition.tokens_ms(m) for m in sizes])
    samples = _monotone_knots(sizes, [composition.head_ms(b) for b in sizes])
    cost = StepCost(
        gpu=composition.gpu.id,
        model=composition.model.id,
        precision=PRECISION,
        tp=composition.tp,
        grade="measured",
        era=ERA,
        source=source,
        licence=LICENCE,
        command="python -m hwprofiles.fit DIR",
        error=FitError(0, 0.0, 0.0, 0.0, 0.0, "nothing yet"),
        fitted=FittedRange(sizes[-1], sizes[-1], max(PROMPT_LENGTHS), max(FIT_DECODES), max(CONTEXTS)),
        tokens=tokens,
        samples=samples,
        coefficients=_coefficients(composition),
    )
    return replace(cost, error=measure_error(cost, composition))


def measure_error(cost: StepCost, composition: Composition) -> FitError:
    """The error of a table without host time, in nanoseconds as a simulator gets them, over `judged_steps`."""
    kernels_only = replace(cost, coefficients=replace(cost.coefficients, step=0, sample=0))
    table = kernels_only.table(MAX_PREFILL_TOKENS + 512, 1024, MAX_PREFILL_TOKENS, MAX_CONTEXT_TOKENS)
    errors = []
    for prompts, length, decodes, context in judged_steps(composition):
        composed_ns = composition.step_ms(prompts, length, decodes, context) * 1e6
        ns = table.step_ns(prompts * length, prompts * length**2, decodes, decodes * context, samples=prompts + decodes)
        errors.append(abs(ns - composed_ns) / composed_ns)
    worst = sorted(errors, reverse=True)
    return FitError(
        steps=len(errors),
        mape_frac=round(float(np.mean(errors)), 5),
        worst_5pct_frac=round(float(np.mean(worst[: -(-len(worst) // 20)])), 5),
        max_frac=round(worst[0], 5),
        knot_left_out_mape_frac=round(_knot_left_out(cost.tokens), 5),
        measured_on=_judged_in_words(cost.tokens.at[-1]),
    )


def judged_steps(composition: Composition) -> Iterator[Step]:
    """The steps an error is measured on: whole prompts, decodes and mixtures, on the knots and between them."""
    most_tokens = min(MAX_PREFILL_TOKENS, composition.tables.sizes[-1])
    for prompts in JUDGED_PROMPTS:
        for length in PROMPT_LENGTHS:
            if prompts * length <= most_tokens:
                yield prompts, length, 0, 0
    for decodes in JUDGED_DECODES:
        for context in JUDGED_CONTEXTS:
            if decodes * context <= MAX_CONTEXT_TOKENS and composition.is_decode_measured(decodes, context):
                yield 0, 0, decodes, context
    for length, decodes, context in JUDGED_MIXED:
        if composition.is_decode_measured(decodes, context):
            yield 1, length, decodes, context


def write_tables(costs: Sequence[StepCost], folder: Path, force: bool = False) -> list[Path]:
    """Write one JSON file per step cost, whole or not at all; ProfileError rather than replace one without `force`."""
    paths = [folder / f"{profile_name(cost.gpu, cost.model, cost.precision, cost.tp)}.json" for cost in costs]
    if not force and (there := [path.name for path in paths if path.exists()]):
        raise ProfileError(f"{folder} already has {', '.join(there)}; --force replaces them")
    folder.mkdir(parents=True, exist_ok=True)
    for cost, path in zip(costs, paths):
        _write_whole(path, _json(cost))
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 when done, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m hwprofiles.fit", description="Kernel tables to step-cost tables.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with one folder of kernel tables per GPU")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "measured", metavar="DIR")
    parser.add_argument("--force", action="store_true", help="replace tables that are there")
    options = parser.parse_args(arguments)
    try:
        costs = list(fit_folder(options.folder))
        write_tables(costs, options.out, options.force)
    except (ProfileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("gpu   model           precision  tp  steps   MAPE  worst 5 %")
    for cost in costs:
        judged = f"{cost.error.steps:5d} {cost.error.mape_frac:6.2%} {cost.error.worst_5pct_frac:10.2%}"
        print(f"{cost.gpu:5s} {cost.model:15s} {cost.precision:9s} {cost.tp:3d}  {judged}")
    return 0


def _coefficients(composition: Composition) -> Coefficients:
    """The linear terms: host time of the era, and attention fitted on the measured prompts and decodes."""
    grid = [(b, n) for b in FIT_PROMPTS for n in PROMPT_LENGTHS if b * n <= MAX_PREFILL_TOKENS]
    prefill = _fit([(1, b * n, b * n * n) for b, n in grid], [composition.prompt_attention_ms(b, n) for b, n in grid])
    grid = [
        (b, n) for b in FIT_DECODES for n in CONTEXTS if b * n <= MAX_CONTEXT_TOKENS and composition.is_decode_measured(b, n)
    ]
    decode = _fit([(1, b, b * n) for b, n in grid], [composition.decode_attention_ms(b, n) for b, n in grid])
    return Coefficients(_ticks(HOST_STEP_MS), _ticks(HOST_SAMPLE_MS), *prefill, *decode)


def _fit(rows: Sequence[tuple[int, int, int]], times_ms: Sequence[float]) -> list[int]:
    """Non-negative coefficients in ticks that minimise the squared relative error of the times."""
    weights = 1 / np.array(times_ms)
    solution, _ = nnls(np.array(rows, dtype=float) * weights[:, None], np.ones(len(rows)))
    # Seven digits are beyond any measurement, and fewer than linear algebra libraries differ in.
    return [_ticks(float(f"{coefficient:.6e}")) for coefficient in solution]


def _monotone_knots(sizes: Sequence[int], times_ms: Sequence[float]) -> Knots:
    """Knots that never decrease: neighbours in the wrong order share their mean (pool adjacent violators)."""
    pools: list[list[float]] = []
    for time_ms in times_ms:
        pools.append([time_ms])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    smooth = [float(np.mean(pool)) for pool in pools for _ in pool]
    return Knots(tuple(sizes), tuple(_ticks(time_ms) for time_ms in smooth))


def _knot_left_out(knots: Knots) -> float:
    errors = []
    for left, at, right in zip(range(len(knots.at)), range(1, len(knots.at)), range(2, len(knots.at))):
        around = Knots((knots.at[left], knots.at[right]), (knots.ticks[left], knots.ticks[right]))
        errors.append(abs(around.ticks_at(knots.at[at]) - knots.ticks[at]) / knots.ticks[at])
    return float(np.mean(errors))


def _judged_in_words(most_tokens: int) -> str:
    prompts = f"{_span(JUDGED_PROMPTS)} prompts of {_span(PROMPT_LENGTHS)} tokens"
    decodes = f"{_span(JUDGED_DECODES)} decodes of {_span(JUDGED_CONTEXTS)} tokens of context where measured"
    return (
        f"kernel times without host: {prompts}, at most {min(MAX_PREFILL_TOKENS, most_tokens)} together; "
        f"{decodes}, at most {MAX_CONTEXT_TOKENS} together; {len(JUDGED_MIXED)} mixtures of a prompt and decodes; "
        "on the points of the fit and between them"
    )


def _ticks(time_ms: float) -> int:
    return round(time_ms * TICKS_PER_MS)


def _span(values: Sequence[int]) -> str:
    return f"{values[0]}-{values[-1]}"


def _source(folder: Path, gpu: Gpu, tables: KernelTables) -> str:
    """Where the measurements come from; the commit stands in SOURCE.txt where the folder is a copy."""
    note = folder / "SOURCE.txt"
    text = note.read_text(errors="replace")[:100_000] if note.is_file() else ""
    commit = re.search(r"commit ([0-9a-f]{40})", text)
    versions = ", ".join(f"{operation} {version}" for operation, version in tables.versions.items())
    return (
        f"ai-dynamo/aiconfigurator, {f'commit {commit[1]}' if commit else 'commit not recorded'}, "
        f"{gpu.calibration}, vLLM kernels: {versions}"
    )


def _json(cost: StepCost) -> str:
    """The file of a step cost: one key a line, lists of numbers on one."""
    text = json.dumps(asdict(cost), indent=2) + "\n"
    return re.sub(r"\[[\d\s,]+\]", lambda numbers: re.sub(r"\s+", "", numbers[0]).replace(",", ", "), text)


def _write_whole(path: Path, text: str) -> None:
    """Write beside the target and move into place, so that no half-written file is ever seen."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
