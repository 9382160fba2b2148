"""What client pools there are, and what is known of the traffic they send."""

from collections.abc import Iterable
from typing import Any

from experiments.console import Console
from experiments.errors import UserError
from experiments.sources import pool_at
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
