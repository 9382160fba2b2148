"""Other pools of a pool's clients: some of them, more of them, or as many drawn anew. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeVar

import numpy as np

from workloads.errors import WorkloadError, raise_all
from workloads.fields import TEXT
from workloads.numerics import Purpose, stream_key, uniforms
from workloads.pool_data import BLOCK_WINDOWS, PoolData, overlaps

Pool = TypeVar("Pool", bound=PoolData)
Range = tuple[float | None, float | None]
ANY: Final[Range] = (None, None)
MOST_CLIENTS: Final = 100_000


def select(
    pool: PoolData,
    rate_rps: Range = ANY,
    cv: Range = ANY,
    input_tokens: Range = ANY,
    output_tokens: Range = ANY,
    active_s: tuple[float, float] | None = None,
    top: int | None = None,
    imputed: bool = True,
) -> list[int]:
    """Numbers of the clients within all of these ranges, (least, most), either of which may be None; ascending.

    rate_rps: mean over the data; cv: mean over the client's windows, weighted by requests; input_tokens (text of a multimodal
    pool), output_tokens: mean lengths. active_s: (start, end) in the pool's clock, within which the client sends something.
    top: so many of the clients that are left, those of highest rate. imputed: whether clients with borrowed lengths may be
    among them. Raises WorkloadError for ranges that cannot be, and where no client is left.
    """
    ranges = {"rate_rps": rate_rps, "cv": cv, "input_tokens": input_tokens, "output_tokens": output_tokens}
    raise_all([mistake for name, (low, high) in ranges.items() for mistake in _range_mistakes(name, low, high)])
    if top is not None and top < 1:
        raise WorkloadError(f"top: expected at least 1 client, got {top}")
    requests = pool.count.sum(axis=1)
    measured = {
        "rate_rps": requests / pool.duration_s,
        "cv": (pool.count * pool.cv).sum(axis=1) / np.maximum(requests, 1e-300),
        "input_tokens": _mean_length(pool, "input_tokens" if "input_tokens" in pool.lengths else TEXT),
        "output_tokens": _mean_length(pool, "output_tokens"),
    }
    chosen = requests > 0.0
    for name, (low, high) in ranges.items():
        chosen &= (measured[name] >= (-np.inf if low is None else low)) & (measured[name] <= (np.inf if high is None else high))
    if active_s is not None:
        windows = sorted({w % pool.period for w, _ in overlaps(active_s[0], min(active_s[1] - active_s[0], pool.duration_s))})
        chosen &= pool.count[:, windows].sum(axis=1) > 0.0
    if not imputed:
        chosen &= ~np.isin(pool.client_ids, pool.imputed_ids)
    places = np.flatnonzero(chosen)
    if not len(places):
        raise WorkloadError(f"pool {pool.name}: none of its {len(requests)} clients is within all ranges; see describe()")
    if top is not None:
        places = np.sort(places[np.argsort(-requests[places], kind="stable")][:top])
    return [int(number) for number in pool.client_ids[places]]


def published(pool: Pool) -> Pool:
    """The pool without clients whose lengths are borrowed: they count as missing, and streams say so."""
    is_imputed = np.isin(pool.client_ids, pool.imputed_ids)
    return replace(
        _taken(pool, np.flatnonzero(~is_imputed)),
        absent_ids=tuple(sorted({*pool.absent_ids, *pool.imputed_ids})),
        absent_count=pool.absent_count + pool.count[is_imputed].sum(axis=0),
        imputed_ids=(),
    )


def replicate(pool: Pool, copies: int, spread_blocks: int = 0, seed: int = 1) -> Pool:
    """`copies` independent copies of every client: more customers of the same kinds, at the same rates each.

    Copy k of client c is client c + k · stride, the stride a power of ten above all numbers. With `spread_blocks`, each later
    copy's clock is ahead by so many 6 h blocks at most, drawn evenly, so that the daily cycle averages out.
    Raises WorkloadError.
    """
    if copies < 1 or copies * len(pool.client_ids) > MOST_CLIENTS:
        raise WorkloadError(f"copies: expected at least 1 and at most {MOST_CLIENTS} clients in all, got {copies}")
    if not spread_blocks >= 0 or (spread_blocks and pool.period % BLOCK_WINDOWS):
        raise WorkloadError(
            f"spread_blocks: expected at least 0 (0 for data that are not whole 6 h blocks), got {spread_blocks}"
        )
    clients = np.tile(np.arange(len(pool.client_ids)), copies)
    copy = np.repeat(np.arange(copies), len(pool.client_ids))
    drawn = uniforms(stream_key(seed, 0, Purpose.COPY), np.arange(len(clients)))
    ahead = np.where(copy > 0, np.floor(drawn * (spread_blocks + 1)), 0.0).astype(np.int64)
    return _shifted(_taken(pool, clients, copy), ahead)


def resample(pool: Pool, clients: int, seed: int = 1) -> Pool:
    """A pool of so many clients drawn from this one's with replacement, each alike: another month of the same kind."""
    if not 1 <= clients <= MOST_CLIENTS:
        raise WorkloadError(f"clients: expected from 1 to {MOST_CLIENTS}, got {clients}")
    drawn = uniforms(stream_key(seed, 1, Purpose.COPY), np.arange(clients))
    chosen = np.sort(np.floor(drawn * len(pool.client_ids)).astype(np.int64))
    copy = np.arange(clients) - np.searchsorted(chosen, chosen)
    return _taken(pool, chosen, copy)


def _taken(pool: Pool, places: np.ndarray, copy: np.ndarray | None = None) -> Pool:
    """The clients at these places, sorted by number; `copy` tells those at one place apart."""
    stride = 10 ** len(str(int(pool.client_ids.max())))
    numbers = pool.client_ids[places].astype(np.int64) + (0 if copy is None else copy * stride)
    if numbers.max() > np.iinfo(np.int32).max:
        raise WorkloadError(f"client numbers up to {numbers.max()}, expected at most 2^31 - 1: fewer copies?")
    order = np.argsort(numbers)
    places = places[order]
    return replace(
        pool,
        client_ids=numbers[order].astype(np.int32),
        count=pool.count[places],
        cv=pool.cv[places],
        family=pool.family[places],
        shape=pool.shape[places],
        length_row=pool.length_row[places],
        imputed_ids=tuple(numbers[order][np.isin(pool.client_ids[places], pool.imputed_ids)].tolist()),
    )


def _shifted(pool: Pool, ahead: np.ndarray) -> Pool:
    """The pool with each client's clock ahead by so many blocks; what runs over the end of the period is its beginning."""
    if not ahead.any():
        return pool
    windows = (np.arange(pool.period) + ahead[:, None] * BLOCK_WINDOWS) % pool.period
    blocks = (np.arange(pool.period // BLOCK_WINDOWS) + ahead[:, None]) % (pool.period // BLOCK_WINDOWS)
    own = np.arange(len(ahead))[:, None]
    return replace(
        pool,
        count=pool.count[own, windows],
        cv=pool.cv[own, windows],
        family=pool.family[own, windows],
        shape=pool.shape[own, windows],
        length_row=pool.length_row[own, blocks],
        absent_count=pool.absent_count[: pool.period],
        gap=pool.gap[: pool.period],
    )


def _mean_length(pool: PoolData, name: str) -> np.ndarray:
    """Of each client, weighted by its requests in each block."""
    requests = pool.block_requests() * (pool.length_row >= 0)
    means = pool.lengths[name].mean[np.maximum(pool.length_row, 0)]
    return (requests * means).sum(axis=1) / np.maximum(requests.sum(axis=1), 1e-300)


def _range_mistakes(name: str, low: float | None, high: float | None) -> Sequence[str]:
    numbers = [value for value in (low, high) if value is not None]
    if any(not np.isfinite(value) or value < 0 for value in numbers):
        return [f"{name}: expected numbers of at least 0, got {low!r} to {high!r}"]
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        return [f"{name}: expected the least before the most, got {low!r} to {high!r}"]
    return []
