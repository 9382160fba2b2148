"""Kernel tables: the times of a plan as rows of aiconfigurator's tables, which `hwprofiles.fitting.composition` reads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwprofiles.datasheet import Gpu
from hwprofiles.measure.bench import Bench
from hwprofiles.measure.kernels import Decodes, Gemm, Heads, Kernel, Prompts
from hwprofiles.measure.plan import Plan
from hwprofiles.measure.sanity import refuse_impossible

BACKEND = "vllm"
"""The backend folder that composition reads. What was really timed stands in the rows: framework and kernel_source."""
SOURCE = "torch"

DTYPE = {"bf16": "bfloat16", "fp8": "fp8"}
"""The tables' word for a precision."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """One file: `<operation>/<backend>/<version>/<name>_perf.parquet`."""

    operation: str
    name: str
    rows: list[Row]
    columns: Row
    """A row to take names and types from, where there are no rows."""
    clocks: list[Mapping[str, Any]]
    """The clocks of the GPUs right after its last kernel."""


def measure_tables(bench: Bench, plan: Plan, gpu: Gpu | None, say: Callable[[str], None]) -> list[Table]:
    """Time the plan; ProfileError for what cannot be run, or came out faster than `gpu` can be.

    `say` is told what comes next. Attention behind a past has a table of its own: readers of whole prompts would take it
    for theirs.
    """
    single: list[tuple[str, str, Sequence[Kernel]]] = [
        ("gemm", "gemm", plan.gemms),
        ("attention", "context_attention", plan.prompts),
        ("attention", "context_attention_past", plan.chunks),
        ("attention", "generation_attention", plan.decodes),
    ]
    tables = []
    for operation, name, kernels in single:
        if kernels:
            say(f"{name}: {len(kernels)} kernels")
            times = [(kernel, bench.ms(kernel)) for kernel in kernels]
            refuse_impossible(times, gpu)
            rows = [{**_common(bench, name), **columns(kernel), "latency": ms} for kernel, ms in times]
            tables.append(Table(operation, name, rows, rows[0], bench.clocks()))
    rows = list(_allreduce_rows(bench, plan.allreduces, say))
    # With one GPU there is nothing to reduce, and readers still look for the table.
    tables.append(Table("comm", "custom_allreduce", rows, _allreduce_row(bench, 0, 0, 0.0), bench.clocks()))
    return tables


def columns(kernel: Kernel) -> Row:
    """What tells this kernel from others of its table."""
    if isinstance(kernel, Gemm):
        return {"gemm_dtype": DTYPE[kernel.precision], "m": kernel.m, "n": kernel.n, "k": kernel.k}
    if isinstance(kernel, Prompts):
        return _attention(kernel.heads, kernel.batch, kernel.length, kernel.past)
    return _decode(kernel)


def _decode(kernel: Decodes) -> Row:
    """A decode has one new token, and `step` counts the tokens before it."""
    return _attention(kernel.heads, kernel.batch, 1, kernel.context - 1)


def _attention(heads: Heads, batch: int, length: int, before: int) -> Row:
    return {
        "batch_size": batch,
        "isl": length,
        "num_heads": heads.query,
        "num_key_value_heads": heads.kv,
        "head_dim": heads.size,
        "beam_width": 1,
        "attn_dtype": "bfloat16",
        "kv_cache_dtype": "bfloat16",
        "step": before,
        "window_size": 0,  # full attention
    }


def _allreduce_rows(bench: Bench, allreduces: Mapping[int, Sequence[int]], say: Callable[[str], None]) -> Iterator[Row]:
    for gpus, elements in allreduces.items():
        say(f"custom_allreduce: {len(elements)} messages over {gpus} GPUs")
        for size, ms in zip(elements, bench.allreduce_ms(gpus, elements), strict=True):
            yield _allreduce_row(bench, gpus, size, ms)


def _allreduce_row(bench: Bench, gpus: int, size: int, ms: float) -> Row:
    """The size in elements of 16 bits; the ending of `backend` says that it was timed in a CUDA graph."""
    key = {"allreduce_dtype": "bfloat16", "num_gpus": gpus, "message_size": size}
    return {**_common(bench, "all_reduce"), **key, "latency": ms, "backend": f"{BACKEND}_graph"}


def _common(bench: Bench, operation: str) -> Row:
    about = {"framework": SOURCE, "version": bench.device.version, "device": bench.device.name}
    return {**about, "op_name": operation, "kernel_source": SOURCE}
