"""What there is: pools and the traffic they send, GPUs and models and what a step costs on them."""

from collections.abc import Iterable
from typing import Any

from experiments.console import Console
from experiments.errors import UserError
from experiments.sources import pool_at
from experiments.words import seconds
from hwprofiles import list_profiles, load_gpu, load_model, load_step_cost, memory_budget
from workloads import ClientPool, known_pools
from workloads.summary import Summary, summary


def list_pools() -> None:
    """One line a pool."""
    rows = [_pool_row(summary(ClientPool.load(name))) for name in known_pools()]
    head = ["pool", "clients", "data", "mean req/s", "peak req/s", "input", "items", "output", "imputed", "parameters"]
    Console().table(head, rows)


def describe_pool(name: str) -> None:
    """All that is known of a pool."""
    pool = pool_at(name)
    if pool is None:
        raise UserError(f"{name}: a trace; servecast workload characterize tells what is in it")
    _print_tree(pool.describe())


def list_tables() -> None:
    """One line a step-cost table."""
    rows = [[row.gpu, row.model, row.precision, row.tp, row.grade, f"{row.error_mape_frac:.2%}"] for row in list_profiles()]
    Console().table(["gpu", "model", "precision", "tp", "grade", "error"], rows)


def show_table(gpu_name: str, model_name: str, precision: str, tp: int | None) -> None:
    """What a step costs, how memory is spent, and on whose word."""
    gpu, model = load_gpu(gpu_name), load_model(model_name)
    shipped = [row.tp for row in list_profiles() if (row.gpu, row.model, row.precision) == (gpu.id, model.id, precision)]
    tp = tp if tp is not None else min(shipped, default=1)
    cost, memory = load_step_cost(gpu, model, precision, tp), memory_budget(gpu, model, precision, tp)
    console = Console()
    console.say(
        f"{model.name} on {tp} x {gpu.name}, {precision}: {cost.grade}, error {cost.error_mape_frac:.2%} of the step time"
    )
    console.say(f"source: {cost.source}")
    console.say()
    table = cost.table(gpu.max_num_batched_tokens, gpu.max_num_seqs, model.max_model_len, memory.blocks * memory.block_size)
    rows = [
        ["prefill", f"one prompt of {n:,}", seconds(table.step_ns(n, n * n, 0, 0, 1) / 1e9)]
        for n in (512, 2048)
        if n <= gpu.max_num_batched_tokens
    ]
    rows += [["decode", f"{b} at context 1,024", seconds(table.step_ns(0, 0, b, b * 1024, b) / 1e9)] for b in (1, 32, 128, 256)]
    console.table(["step", "of", "takes"], rows)
    console.say()
    console.table(["memory of a GPU", "GiB", "from"], [[what, f"{gib:.1f}", source] for what, gib, source in memory.rows()])
    console.say(
        f"{memory.blocks:,} KV blocks of {memory.block_size} tokens: {memory.kv_tokens:,} tokens of context in an instance"
    )


def _pool_row(of: Summary) -> list[str]:
    """What the list of pools shows of one; the input of a multimodal pool is its text."""
    items = ", ".join(f"{mean:.2g} {kind}" for kind, mean in of.items.items()) or "-"
    return [
        of.name,
        f"{of.clients}",
        f"{of.duration_s / 3600:g} h",
        f"{of.rate_mean_rps:,.3g}" if of.rate_mean_rps < 1.0 else f"{of.rate_mean_rps:,.1f}",
        f"{of.rate_peak_rps:,.1f}",
        f"{of.input_tokens:,.0f}",
        items,
        f"{of.output_tokens:,.0f}",
        f"{of.imputed_share_frac:.0%}" if of.imputed_share_frac else "-",
        ", ".join(f"{count} {grade}" for grade, count in of.grades.items()),
    ]


def _print_tree(value: Any, depth: int = 0) -> None:
    """Nested plain values, a line each."""
    items: Iterable[tuple[str, Any]] = value.items() if isinstance(value, dict) else ()
    for key, item in items:
        if isinstance(item, dict):
            print(f"{'  ' * depth}{key}:")
            _print_tree(item, depth + 1)
        else:
            shown = f"{item:.6g}" if isinstance(item, float) else item
            print(f"{'  ' * depth}{key}: {shown}")
