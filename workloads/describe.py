"""What a client pool is, in plain values: who sends, how much, how long, what is missing, from where."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from workloads.arrivals import WINDOW_S
from workloads.fields import REASON, REASON_PARTS, meant
from workloads.pool_data import PoolData

QUANTILES = {"p1": 0.01, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}
_GRID = 1024  # evenly spaced probabilities that stand for one sketch


def describe(pool: PoolData) -> dict[str, Any]:
    """See ClientPool.describe. Rates are means over 600 s windows with data; lengths are weighted by requests."""
    with_data = ~pool.gap
    total = pool.count.sum(axis=0)[with_data]
    by_client = np.sort(pool.count.sum(axis=1))[::-1]
    requests = math.fsum(by_client.tolist())
    share = np.cumsum(by_client) / requests
    gaps = pool.gaps_s()
    return {
        "pool": pool.name,
        "duration_s": pool.duration_s,
        "clients": len(pool.client_ids),
        "requests": round(requests),
        "rate_min_rps": float(total.min()) / WINDOW_S,
        "rate_mean_rps": requests / pool.duration_s,
        "rate_peak_rps": float(total.max()) / WINDOW_S,
        "top_share_frac": {str(n): float(share[min(n, len(share)) - 1]) for n in (1, 5, 10)},
        "clients_for_90pct": int(np.searchsorted(share, 0.9)) + 1,
        "lengths": {name: _lengths(pool, name) for name in pool.lengths},
        "max_output_tokens": pool.max_output_tokens,
        "missing_clients": list(pool.absent_ids),
        "missing_share_frac": 1.0 - pool.present_share(0.0, pool.duration_s),
        "imputed_clients": list(pool.imputed_ids),
        "imputed_share_frac": float(pool.count[np.isin(pool.client_ids, pool.imputed_ids)].sum()) / requests,
        "gaps": len(gaps),
        "gap_s": math.fsum(end - start for start, end in gaps),
        "grades": pool.provenance.get("grades", {}),
        "source": pool.provenance.get("source", ""),
        "commit": pool.provenance.get("commit", ""),
        "licence": pool.provenance.get("licence", ""),
        "notice": pool.provenance.get("notice", ""),
        "sketch_errors": pool.provenance.get("sketch_errors", {}),
    }


def _lengths(pool: PoolData, name: str) -> dict[str, float]:
    """Mean and quantiles of the mixture of all clients and blocks."""
    table, weight = pool.lengths[name], pool.row_requests()
    used = np.flatnonzero(weight > 0)
    grid = np.tile((np.arange(_GRID) + 0.5) / _GRID, len(used))
    tokens = table.sample(np.repeat(used, _GRID), grid)
    counts = np.bincount(tokens, np.repeat(weight[used], _GRID))
    cumulative = np.cumsum(counts) / counts.sum()
    found = np.array([np.searchsorted(cumulative, p) for p in QUANTILES.values()], np.float64)
    mean = (table.mean * weight).sum() / weight.sum()
    unit = 1.0 / REASON_PARTS if name == REASON else 1.0
    values = meant(name, np.array([mean, *found])) * unit
    return dict(zip(("mean", *QUANTILES), values.tolist(), strict=True))
