"""compose: every client of a pool sampled alone, and all of them superposed into one stream.

What a client sends is a function of (seed, client id), its own rate and the start alone. It is generated in the pool's
600 s windows and cut to the consumer's afterwards, so no bit depends on window length, other clients or processes.
Long streams are played by compiled kernels (compiled.py), short ones by numpy (walk.py): the same formulas, the same bits.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache, partial
from typing import Any

import numpy as np

from workloads.arrivals import WINDOW_S
from workloads.details import Detailed, Details
from workloads.errors import WorkloadError, raise_all
from workloads.jit import is_plain
from workloads.players import Composition, Players
from workloads.pool_data import PoolData
from workloads.stream import LONGEST_S, Stream
from workloads.traffic_model import TrafficModel
from workloads.units import parse_duration_s

# A stream of few requests is through before numba has started; for one of many its compiler pays at once (docs/speed.md).
FEW_REQUESTS, MANY_REQUESTS = 500_000, 4_000_000
log = logging.getLogger("servecast")


def compose(
    pool: PoolData,
    start: float | str = 0.0,
    duration: float | str = "1h",
    rate: float | None = None,
    scale: float | None = None,
    seed: int = 1,
    clients: Sequence[int] | None = None,
    model: TrafficModel = TrafficModel(),  # noqa: B008  (frozen)
) -> Stream:
    """The pool's traffic from `start` (its own clock) for `duration`, as a stream.

    `rate` is the mean of the total in requests/s over the span of the clients used; `scale`, in its place, a factor on every
    client's rate; neither means the source's own. `clients` are client numbers; none means all. `model` decides what the data
    leave open. Past the end of the data their days come again. Raises WorkloadError for settings that cannot be.
    """
    start_s, duration_s = parse_duration_s(start, "start"), parse_duration_s(duration)
    _check_span(pool, start_s, duration_s)
    chosen = _chosen(pool, clients)
    native_rps = pool.rate_rps(start_s, duration_s, chosen)
    if native_rps <= 0.0:
        raise WorkloadError(f"pool {pool.name}: its clients send nothing between {start_s:g} s and {start_s + duration_s:g} s")
    factor = _factor(rate, scale, native_rps)
    composition = Composition(pool, chosen, factor, start_s, duration_s, _checked_seed(seed), model)
    requests = native_rps * factor * duration_s
    return _stream(composition, requests, _description(composition, native_rps))


def _stream(of: Composition, requests: float, description: dict[str, Any]) -> Stream:
    """A composition of so many requests in the mean; items and segments are made when somebody asks for them."""
    blocks, details = partial(_blocks, of, requests), Details(of)
    if not details.are_any:
        return Stream(of.duration_s, blocks, description, is_checked=True)

    def filled() -> Iterator[Detailed]:
        return details.filled(blocks())

    @cache
    def tables() -> tuple[np.ndarray, np.ndarray]:
        """SEGMENTS and ITEMS, of one pass for both."""
        segments, items = zip(*((one.segments, one.items) for one in filled()), strict=True)
        return np.concatenate(segments), np.concatenate(items)

    return Stream(
        of.duration_s,
        lambda: (one.rows for one in filled()),
        description,
        (lambda: tables()[0]) if details.has_segments else None,
        (lambda: tables()[1]) if details.has_items else None,
        is_checked=True,
    )


def _blocks(composition: Composition, requests: float) -> Iterator[np.ndarray]:
    """STREAM arrays, sorted by (arrival_ns, request_id), of a composition of so many requests in the mean."""
    if _is_for_kernels(requests):
        from workloads.compiled import blocks
    else:
        from workloads.walk import blocks
    return blocks(Players(composition))


def _is_for_kernels(requests: float) -> bool:
    """Whether compiled code is the quicker way, what it takes to start counted."""
    if requests < FEW_REQUESTS or is_plain("workloads.kernels"):
        return False
    from workloads.compiled import kernels_warm

    if kernels_warm():
        return True
    if requests >= MANY_REQUESTS:
        log.warning("compiling the workload kernels, once: some 2 s ('servecast doctor --warm' does it beforehand)")
    return requests >= MANY_REQUESTS


def _description(of: Composition, native_rps: float) -> dict[str, Any]:
    """Where the stream comes from, in plain values."""
    pool = of.pool
    gap_s = pool.gap_in_s(of.start_s, of.duration_s)
    present = pool.present_share(of.start_s, of.duration_s)
    notes = []
    if present < 1.0:
        notes.append(f"present clients: {present:.1%} of the source's requests in this span; the others have no lengths")
    if set(pool.imputed_ids) & set(pool.client_ids[of.clients].tolist()):
        notes.append(_imputed_note(of))
    if of.start_s + of.duration_s > pool.period * WINDOW_S:
        notes.append(f"past {pool.period * WINDOW_S / 3600.0:g} h of its clock the pool's data come again")
    if gap_s:
        notes.append(f"{gap_s:g} s of the span are a gap in the source's data, in which nothing is sent")
    return {
        "source": "composed",
        "pool": pool.name,
        "start_s": of.start_s,
        "duration_s": of.duration_s,
        "seed": of.seed,
        "clients": len(of.clients),
        "native_rate_rps": native_rps,
        "rate_rps": native_rps * of.scale,
        "scale": of.scale,
        "model": asdict(of.model) | {"arrivals": of.model.arrivals or pool.arrivals},
        "present_share_frac": present,
        "gap_s": gap_s,
        "notes": notes,
    }


def _imputed_note(of: Composition) -> str:
    pool, is_imputed = of.pool, np.isin(of.pool.client_ids[of.clients], of.pool.imputed_ids)
    imputed_rps, rps = (pool.rate_rps(of.start_s, of.duration_s, who) for who in (of.clients[is_imputed], of.clients))
    return (
        f"{is_imputed.sum()} clients, with {imputed_rps / rps:.1%} of the span's requests, have imputed lengths: "
        "those of similar clients"
    )


def _check_span(pool: PoolData, start_s: float, duration_s: float) -> None:
    if duration_s <= 0.0:
        raise WorkloadError("duration: expected more than 0 s")
    if max(start_s, duration_s) > LONGEST_S:
        raise WorkloadError(f"start {start_s:g} s, duration {duration_s:g} s: expected at most {LONGEST_S} s")


def _factor(rate: float | None, scale: float | None, native_rps: float) -> float:
    """The factor on every client's rate; 1, the source's own, where nothing is asked."""
    if rate is None and scale is None:
        return 1.0
    if rate is not None and scale is not None:
        raise WorkloadError("expected rate or scale, not both")
    name, value = ("rate", rate) if scale is None else ("scale", scale)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise WorkloadError(f"{name}: expected a number above 0, got {value!r}")
    return float(value) / native_rps if name == "rate" else float(value)


def _chosen(pool: PoolData, clients: Sequence[int] | None) -> np.ndarray:
    """Indices of the clients to use, ascending."""
    if clients is None:
        return np.arange(len(pool.client_ids))
    place = {int(number): index for index, number in enumerate(pool.client_ids)}
    raise_all([_unknown_client(pool, number) for number in clients if number not in place])
    if not len(clients):
        raise WorkloadError("clients: expected at least one client number")
    return np.array(sorted({place[number] for number in clients}))


def _unknown_client(pool: PoolData, number: int) -> str:
    why = "has no length data in" if number in pool.absent_ids else "is not in"
    return f"clients: client {number} {why} pool {pool.name}; see describe()"


def _checked_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise WorkloadError(f"seed: expected a whole number of at least 0, got {seed!r}")
    return int(seed)
