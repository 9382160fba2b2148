"""How well a pool tells what its source says: errors of the length sketches, and of what is composed from it.

All weights are the published requests per client and block, so a client that happens to send more in a run does not
count as an error of lengths.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from workloads.arrivals import WINDOW_S, pause_start_s, to_seconds
from workloads.lengths import BLOCK_S, FIELDS, LengthTable
from workloads.numerics import Purpose, stream_key, uniforms
from workloads.players import Composition
from workloads.pmf import Pmf
from workloads.pool_data import PoolData
from workloads.renewal import Renewal
from workloads.servegen import ServegenData

_GRID = 4096  # evenly spaced probabilities that stand for a sketch's distribution
_DRAWS = 32_768  # stratified draws for a mean: a thousandth of the requests may hold a fifth of the tokens


class BlockError(NamedTuple):
    """Distances of one 6 h block's mixture from the published one: KS, and relative errors of mean and p99."""

    ks: float
    mean_frac: float
    p99_frac: float


def sketch_errors(pool: PoolData, data: ServegenData) -> dict[str, dict[str, float]]:
    """Per field: worst block's KS, errors of mean and p99, and the request-weighted p90 of client-block KS."""
    result = {}
    for name in FIELDS:
        errors, ks, weights = [], [], []
        for block in range(pool.length_row.shape[1]):
            members = _members(pool, data, block)
            if not members:
                continue
            errors.append(_block_error(pool.lengths[name], name, members))
            ks += [_ks(_sketched(pool.lengths[name], row), _published(pmfs[name])) for row, _, pmfs in members]
            weights += [weight for _, weight, _ in members]
        result[name] = {
            "block_ks_max": max(e.ks for e in errors),
            "block_mean_error_frac_max": max(abs(e.mean_frac) for e in errors),
            "block_p99_error_frac_max": max(abs(e.p99_frac) for e in errors),
            "block_p99_error_frac_median": float(np.median([abs(e.p99_frac) for e in errors])),
            "client_block_ks_p90": _weighted_quantile(np.array(ks), np.array(weights), 0.9),
        }
    return result


def composed_errors(pool: PoolData, data: ServegenData, seed: int = 1, windows: int = 4000) -> dict[str, float]:
    """Composed against published: total rate, sample CV of gaps, mean lengths per block, each drawn anew.

    CVs are compared in up to `windows` active client-windows, picked by hash, with at least 300 requests and a reported
    CV below half of what n gaps can show, √(n - 1); shares are weighted by published requests.
    """
    ratio, requests, sent = _cv_ratios(pool, data, seed, windows)
    eligible = (requests >= 300) & np.isfinite(ratio)
    within = np.abs(ratio - 1.0) <= 0.1
    means = {f"{name}_block_mean_error_frac_max": _drawn_mean_error(pool, data, name, seed) for name in FIELDS}
    return {
        "requests_composed_over_published": float(sent.sum() / requests.sum()),
        "cv_within_10pct_frac": float((requests * within)[eligible].sum() / requests[eligible].sum()),
        "cv_below_half_frac": float((requests * (ratio < 0.5))[eligible].sum() / requests[eligible].sum()),
        "cv_ratio_median": _weighted_quantile(ratio[eligible], requests[eligible], 0.5),
        **means,
    }


def _cv_ratios(pool: PoolData, data: ServegenData, seed: int, windows: int) -> tuple[np.ndarray, ...]:
    """Generated over reported CV, published requests and generated requests of the client-windows looked at."""
    published = np.stack([data.traces[int(c)]["count"] for c in pool.client_ids])
    reported = np.stack([data.traces[int(c)]["cv"] for c in pool.client_ids])
    places = np.argwhere(published > 0)
    order = np.argsort(uniforms(stream_key(seed, 0, Purpose.REQUEST), np.arange(len(places))))
    rows = []
    for client, window in places[order[:windows]]:
        n, cv = published[client, window], reported[client, window]
        arrival_s = _played(pool, int(client), int(window), seed)
        comparable = cv < 0.5 * np.sqrt(n - 1.0) and len(arrival_s) > 2
        gaps = np.diff(arrival_s)
        rows.append((gaps.std() / gaps.mean() / cv if comparable else np.nan, n, len(arrival_s)))
    ratio, requests, sent = np.array(rows).T
    return ratio, requests, sent


def _played(pool: PoolData, client: int, window: int, seed: int) -> np.ndarray:
    """Arrivals (s into the window) of one client-window on its own."""
    number = int(pool.client_ids[client])
    flow = Composition(pool, np.array([client]), 1.0, window * WINDOW_S, WINDOW_S, seed).flow(0, window)
    flow = flow._replace(pause_at_s=pause_start_s(stream_key(seed, number, Purpose.PAUSE), window, flow.pause_s))
    renewal = Renewal(seed + window, number)
    return np.minimum(to_seconds(flow, renewal.advance(flow.requests, flow.family, flow.shape)), WINDOW_S)


def _drawn_mean_error(pool: PoolData, data: ServegenData, name: str, seed: int) -> float:
    """Largest relative error over blocks of the mean of draws, `_DRAWS` stratified draws a client."""
    worst = 0.0
    for block in range(pool.length_row.shape[1]):
        total, wanted = 0.0, 0.0
        for row, weight, pmfs in _members(pool, data, block):
            shift = uniforms(stream_key(seed, row, Purpose.INPUT), np.arange(_DRAWS))
            drawn = pool.lengths[name].sample(np.full(_DRAWS, row), (np.arange(_DRAWS) + shift) / _DRAWS)
            total += weight * float(drawn.mean())
            wanted += weight * pmfs[name].mean()
        if wanted:
            worst = max(worst, abs(total / wanted - 1.0))
    return worst


def _members(pool: PoolData, data: ServegenData, block: int) -> list[tuple[int, float, dict[str, Pmf]]]:
    """(row in the tables, published requests, published PMFs) of every client that sends in the block."""
    per_block = round(BLOCK_S / WINDOW_S)
    members = []
    for index, number in enumerate(pool.client_ids):
        weight = float(data.traces[int(number)]["count"][block * per_block : (block + 1) * per_block].sum())
        if weight > 0 and int(number) not in pool.imputed_ids:
            members.append((int(pool.length_row[index, block]), weight, data.lengths[int(number)][block]))
    return members


def _block_error(table: LengthTable, name: str, members: list[tuple[int, float, dict[str, Pmf]]]) -> BlockError:
    total = sum(weight for _, weight, _ in members)
    longest = 1 + max(int(pmfs[name].values[-1]) for _, _, pmfs in members)
    sketched, published = np.zeros(longest), np.zeros(longest)
    model_mean, mean, wanted = table.model_mean(), 0.0, 0.0
    for row, weight, pmfs in members:
        share = weight / total
        values, probabilities = _sketched(table, row)
        sketched += share * np.bincount(values, probabilities, longest)
        published += share * np.bincount(*_published(pmfs[name]), longest)
        mean += share * float(model_mean[row])
        wanted += share * pmfs[name].mean()
    ours, theirs = np.cumsum(sketched), np.cumsum(published)
    p99, p99_wanted = (int(np.searchsorted(c, 0.99)) for c in (ours, theirs))
    return BlockError(float(np.abs(ours - theirs).max()), mean / wanted - 1.0, p99 / p99_wanted - 1.0)


def _sketched(table: LengthTable, row: int) -> tuple[np.ndarray, np.ndarray]:
    """The sketch as values and probabilities, on an even grid of probabilities."""
    grid = (np.arange(_GRID) + 0.5) / _GRID
    values, counts = np.unique(table.sample(np.full(_GRID, row), grid), return_counts=True)
    return values, counts / _GRID


def _published(pmf: Pmf) -> tuple[np.ndarray, np.ndarray]:
    return pmf.values, pmf.probabilities


def _ks(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
    """Largest distance of two discrete distributions' cumulative probabilities."""
    support = np.union1d(a[0], b[0])
    ours, theirs = (np.concatenate(([0.0], np.cumsum(p)))[np.searchsorted(v, support, side="right")] for v, p in (a, b))
    return float(np.abs(ours - theirs).max())


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, probability: float) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, probability * cumulative[-1])])
