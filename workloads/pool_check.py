"""How well a pool tells what its source says: errors of the length sketches, and of what is composed from it.

All weights are the published requests per client and block, so a client that happens to send more in a run does not
count as an error of lengths.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from workloads.arrivals import WEIBULL, WINDOW_S, Flow, gap_cv, pause_start_s, to_seconds
from workloads.compose import compose
from workloads.lengths import LengthTable
from workloads.numerics import Purpose, gamma, stream_key, uniforms
from workloads.players import Composition
from workloads.pmf import Pmf
from workloads.pool_data import BLOCK_WINDOWS, DAY_WINDOWS, PoolData, block_of
from workloads.renewal import Renewal
from workloads.selection import replicate
from workloads.servegen import ServegenData
from workloads.servegen_pool import stored_pmf

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
    for name in pool.lengths:
        errors, ks, weights = [], [], []
        for block in range(pool.length_row.shape[1]):
            members = members_of(pool, data, block)
            if not members:
                continue
            errors.append(_block_error(pool.lengths[name], name, members))
            ks += [_ks(_sketched(pool.lengths[name], row), _published(stored_pmf(pmfs, name))) for row, _, pmfs in members]
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
    """Composed against published: total rate, sample CV of gaps, spread of counts, mean lengths per block, each drawn anew.

    CVs are compared in up to `windows` active client-windows, picked by hash, with at least 300 requests and a reported
    CV below half of what n gaps can show, √(n - 1); shares are weighted by published requests. Counts are compared with the
    variance of a renewal in those windows in which its limit holds, see `_count_variance`.
    """
    played = windows_played(pool, data, seed, windows)
    requests, ratio = played["requests"], played["cv_ratio"]
    eligible = (requests >= 300) & np.isfinite(ratio)
    within = np.abs(ratio - 1.0) <= 0.1
    steady = played["variance"] < 0.02 * requests * requests
    deviation = played["sent"] - requests
    means = {f"{name}_block_mean_error_frac_max": _drawn_mean_error(pool, data, name, seed) for name in pool.lengths}
    return {
        "requests_composed_over_published": float(played["sent"].sum() / requests.sum()),
        "cv_within_10pct_frac": float((requests * within)[eligible].sum() / requests[eligible].sum()),
        "cv_below_half_frac": float((requests * (ratio < 0.5))[eligible].sum() / requests[eligible].sum()),
        "cv_ratio_median": _weighted_quantile(ratio[eligible], requests[eligible], 0.5),
        "count_variance_over_model": float(np.mean(deviation[steady] ** 2 / played["variance"][steady])),
        **means,
    }


def count_bias(pool: PoolData, rate_rps: float = 0.5, copies: int = 300, seed: int = 1) -> dict[str, float]:
    """Requests sent over those expected, less one, at a mean rate of the whole pool; over `copies` independent first days.

    The standard error is of the mean over copies.
    """
    day = replicate(_first_day(pool), copies, seed=seed)
    stream = compose(day, 0.0, day.duration_s, rate=rate_rps * copies, seed=seed)
    stride = 10 ** len(str(int(pool.client_ids.max())))
    sent = np.zeros(copies)
    for rows in stream.blocks():
        sent += np.bincount(rows["client_id"] // stride, minlength=copies)
    ratio = sent / (rate_rps * day.duration_s)
    return {
        "rate_rps": rate_rps,
        "requests": float(sent.sum()),
        "bias_frac": float(ratio.mean() - 1.0),
        "bias_standard_error_frac": float(ratio.std(ddof=1) / np.sqrt(copies)),
    }


def _first_day(pool: PoolData) -> PoolData:
    windows = min(DAY_WINDOWS, pool.windows)
    return replace(
        pool,
        count=pool.count[:, :windows],
        cv=pool.cv[:, :windows],
        family=pool.family[:, :windows],
        shape=pool.shape[:, :windows],
        length_row=pool.length_row[:, : block_of(windows - 1) + 1],
        absent_count=pool.absent_count[:windows],
        gap=pool.gap[:windows],
    )


def windows_played(pool: PoolData, data: ServegenData, seed: int, windows: int) -> dict[str, np.ndarray]:
    """Of up to `windows` client-windows, picked by hash: published requests, those sent, the reported CV, the generated over it
    (NaN where n gaps can hardly show it), and the variance of the model's counts; an array each."""
    published = np.stack([data.traces[int(c)]["count"] for c in pool.client_ids])
    reported = np.stack([data.traces[int(c)]["cv"] for c in pool.client_ids])
    places = np.argwhere(published > 0)
    order = np.argsort(uniforms(stream_key(seed, 0, Purpose.REQUEST), np.arange(len(places))))
    whole = Composition(pool, np.arange(len(pool.client_ids)), 1.0, 0.0, pool.duration_s, seed)
    rows = []
    for client, window in places[order[:windows]]:
        n, cv = published[client, window], reported[client, window]
        flow, arrival_s = _played(whole, int(client), int(window))
        comparable = cv < 0.5 * np.sqrt(n - 1.0) and len(arrival_s) > 2
        gaps = np.diff(arrival_s)
        ratio = gaps.std() / gaps.mean() / cv if comparable else np.nan
        rows.append((n, len(arrival_s), cv, ratio, _count_variance(flow)))
    return dict(zip(("requests", "sent", "cv", "cv_ratio", "variance"), np.array(rows).T, strict=True))


def _count_variance(flow: Flow) -> float:
    """Variance of the count of an equilibrium renewal of CV c and third central moment μ3 over L mean gaps, for large L.

    c² L + 1/6 + c⁴/2 - μ3/3 (Cox 1962, Renewal Theory, section 4.5). Infinite where the limit is far off.
    """
    family, shape = np.array([flow.family]), np.array([flow.shape])
    square = float(gap_cv(family, shape)[0]) ** 2
    third = 2.0 * square * square
    if flow.family == WEIBULL:
        first, second, cubic = (float(gamma(1.0 + i / shape)[0]) for i in (1, 2, 3))
        third = cubic / first**3 - 3.0 * second / first**2 + 2.0
    value = square * flow.requests + 1.0 / 6.0 + square * square / 2.0 - third / 3.0
    return float(value) if value > 0.5 * square * flow.requests else np.inf


def _played(of: Composition, client: int, window: int) -> tuple[Flow, np.ndarray]:
    """How one client sends in a window, and its arrivals (s into the window) there, on their own."""
    number = int(of.pool.client_ids[client])
    flow = of.flow(client, window)
    flow = flow._replace(pause_at_s=pause_start_s(stream_key(of.seed, number, Purpose.PAUSE), window, flow.pause_s))
    renewal = Renewal(of.seed + window, number)
    return flow, np.minimum(to_seconds(flow, renewal.advance(flow.requests, flow.family, flow.shape)), WINDOW_S)


def _drawn_mean_error(pool: PoolData, data: ServegenData, name: str, seed: int) -> float:
    """Largest relative error over blocks of the mean of draws, `_DRAWS` stratified draws a client."""
    worst = 0.0
    for block in range(pool.length_row.shape[1]):
        total, wanted = 0.0, 0.0
        for row, weight, pmfs in members_of(pool, data, block):
            shift = uniforms(stream_key(seed, row, Purpose.INPUT), np.arange(_DRAWS))
            drawn = pool.lengths[name].sample(np.full(_DRAWS, row), (np.arange(_DRAWS) + shift) / _DRAWS)
            total += weight * float(drawn.mean())
            wanted += weight * stored_pmf(pmfs, name).mean()
        if wanted:
            worst = max(worst, abs(total / wanted - 1.0))
    return worst


def members_of(pool: PoolData, data: ServegenData, block: int) -> list[tuple[int, float, dict[str, Pmf]]]:
    """(row in the tables, published requests, published PMFs) of every client that sends in the block."""
    members = []
    for index, number in enumerate(pool.client_ids):
        weight = float(data.traces[int(number)]["count"][block * BLOCK_WINDOWS : (block + 1) * BLOCK_WINDOWS].sum())
        if weight > 0 and int(number) not in pool.imputed_ids:
            members.append((int(pool.length_row[index, block]), weight, data.lengths[int(number)][block]))
    return members


def _block_error(table: LengthTable, name: str, members: list[tuple[int, float, dict[str, Pmf]]]) -> BlockError:
    total = sum(weight for _, weight, _ in members)
    longest = 1 + max(int(stored_pmf(pmfs, name).values[-1]) for _, _, pmfs in members)
    sketched, published = np.zeros(longest), np.zeros(longest)
    model_mean, mean, wanted = table.model_mean(), 0.0, 0.0
    for row, weight, pmfs in members:
        share = weight / total
        values, probabilities = _sketched(table, row)
        sketched += share * np.bincount(values, probabilities, longest)
        published += share * np.bincount(*_published(stored_pmf(pmfs, name)), longest)
        mean += share * float(model_mean[row])
        wanted += share * stored_pmf(pmfs, name).mean()
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
