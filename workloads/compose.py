"""compose: every client of a pool sampled alone, and all of them superposed into one stream.

What a client sends is a function of (seed, client id), its own rate and the start alone. It is generated in the pool's
600 s windows and cut to the consumer's afterwards, so no bit depends on window length, other clients or processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workloads.arrivals import WINDOW_S, Flow, Renewal, pause_start_s, to_operational, to_seconds
from workloads.errors import WorkloadError, raise_all
from workloads.numerics import Purpose, stream_key, uniforms
from workloads.pool_data import PoolData, block_of, overlaps
from workloads.stream import CLIENT_SHIFT, NS_PER_S, STREAM, Stream, new_rows
from workloads.units import parse_duration_s

_FIELD_PURPOSE = {"input_tokens": Purpose.INPUT, "output_tokens": Purpose.OUTPUT}
_WINDOW_NS = round(WINDOW_S * NS_PER_S)


def compose(
    pool: PoolData,
    start: float | str = 0.0,
    duration: float | str = "1h",
    rate: float | None = None,
    scale: float | None = None,
    seed: int = 1,
    clients: Sequence[int] | None = None,
) -> Stream:
    """The pool's traffic from `start` (its own clock) for `duration`, as a stream.

    `rate` is the mean of the total in requests/s over the span of the clients used; `scale`, in its place, a factor on every
    client's rate; neither means the source's own. `clients` are client numbers; none means all. Raises WorkloadError for
    settings that cannot be.
    max_tokens of every request is the longest answer published for the pool.
    """
    start_s, duration_s = parse_duration_s(start, "start"), parse_duration_s(duration)
    _check_span(pool, start_s, duration_s)
    chosen = _chosen(pool, clients)
    native_rps = pool.rate_rps(start_s, duration_s, chosen)
    if native_rps <= 0.0:
        raise WorkloadError(f"pool {pool.name}: its clients send nothing between {start_s:g} s and {start_s + duration_s:g} s")
    factor = _factor(rate, scale, native_rps)
    play = _Composition(pool, start_s, duration_s, factor, _checked_seed(seed), tuple(int(c) for c in chosen))
    return Stream(duration_s, play.blocks, play.description(native_rps))


@dataclass(frozen=True)
class _Composition:
    """What is to be generated; `blocks` generates it, once per call."""

    pool: PoolData
    start_s: float
    duration_s: float
    scale: float
    seed: int
    clients: tuple[int, ...]

    def blocks(self) -> Iterator[np.ndarray]:
        """One STREAM array per native window, sorted by (arrival_ns, request_id)."""
        players = [_Player(self, client) for client in self.clients]
        keys = {field: self._keys(purpose) for field, purpose in _FIELD_PURPOSE.items()}
        for window, _ in overlaps(self.start_s, self.duration_s, self.pool.windows):
            parts = [part for player in players if len(part := player.window(window))]
            rows = np.concatenate(parts) if parts else np.empty(0, STREAM)
            self._fill_lengths(rows, block_of(window), keys)
            # The parts are sorted runs in the order of client numbers: a stable sort by time keeps ties by request_id.
            yield rows[np.argsort(rows["arrival_ns"], kind="stable")]

    def description(self, native_rps: float) -> dict[str, Any]:
        """Where the stream comes from, in plain values."""
        pool, end_s = self.pool, self.start_s + self.duration_s
        gap_s = math.fsum(max(min(b, end_s) - max(a, self.start_s), 0.0) for a, b in pool.gaps_s())
        present = pool.present_share(self.start_s, self.duration_s)
        notes = []
        if present < 1.0:
            notes.append(f"present clients: {present:.1%} of the source's requests in this span; the others have no lengths")
        if pool.imputed_ids:
            notes.append(f"{len(pool.imputed_ids)} clients have imputed lengths")
        if gap_s:
            notes.append(f"{gap_s:g} s of the span are a gap in the source's data, in which nothing is sent")
        return {
            "source": "composed",
            "pool": pool.name,
            "start_s": self.start_s,
            "duration_s": self.duration_s,
            "seed": self.seed,
            "clients": len(self.clients),
            "native_rate_rps": native_rps,
            "rate_rps": native_rps * self.scale,
            "scale": self.scale,
            "present_share_frac": present,
            "gap_s": gap_s,
            "notes": notes,
        }

    def _keys(self, purpose: Purpose) -> np.ndarray:
        """One sequence of uniforms per client of the pool."""
        return np.array([stream_key(self.seed, int(number), purpose) for number in self.pool.client_ids], np.uint64)

    def _fill_lengths(self, rows: np.ndarray, block: int, keys: dict[str, np.ndarray]) -> None:
        """Tokens of all rows of a window; each field has uniforms of its own, so input and output are independent."""
        index = np.searchsorted(self.pool.client_ids, rows["client_id"])
        table_row = self.pool.length_row[index, block]
        sequence = rows["request_id"] & ((1 << CLIENT_SHIFT) - 1)
        for name, key in keys.items():
            rows[name] = self.pool.lengths[name].sample(table_row, uniforms(key[index], sequence))
        rows["max_tokens"] = self.pool.max_output_tokens


class _Player:
    """One client playing its windows in order."""

    def __init__(self, composition: _Composition, client: int) -> None:
        self._of = composition
        self._client = client
        self._id = int(composition.pool.client_ids[client])
        self._renewal = Renewal(composition.seed, self._id)
        self._sent = 0

    def window(self, window: int) -> np.ndarray:
        """The client's rows of this window, without lengths, by arrival."""
        of = self._of
        flow = of.pool.flow(self._client, window, of.scale)
        if flow.requests <= 0.0:
            return np.empty(0, STREAM)
        flow = flow._replace(pause_at_s=pause_start_s(of.seed, self._id, window, flow.pause_s) if flow.pause_s else 0.0)
        arrival_ns = self._arrivals_ns(flow, window)
        rows = new_rows(len(arrival_ns))
        rows["arrival_ns"] = arrival_ns
        rows["client_id"] = self._id
        rows["request_id"] = (self._id << CLIENT_SHIFT) + np.arange(self._sent, self._sent + len(rows))
        self._sent += len(rows)
        return rows

    def _arrivals_ns(self, flow: Flow, window: int) -> np.ndarray:
        """Arrivals from the start of the run: the window may begin before it and end after it."""
        start_ns, duration_ns = round(self._of.start_s * NS_PER_S), round(self._of.duration_s * NS_PER_S)
        before = to_operational(flow, max(self._of.start_s - window * WINDOW_S, 0.0))
        operational = before + self._renewal.advance(flow.requests - before, flow.family, flow.shape)
        offset_ns = np.minimum(np.floor(to_seconds(flow, operational) * NS_PER_S), _WINDOW_NS - 1).astype(np.int64)
        arrival_ns = np.maximum(offset_ns + (window * _WINDOW_NS - start_ns), 0)
        return arrival_ns[: np.searchsorted(arrival_ns, duration_ns)]


def _check_span(pool: PoolData, start_s: float, duration_s: float) -> None:
    if duration_s <= 0.0:
        raise WorkloadError("duration: expected more than 0 s")
    if start_s + duration_s > pool.duration_s:
        raise WorkloadError(
            f"start {start_s:g} s + duration {duration_s:g} s: pool {pool.name} has data for {pool.duration_s:g} s"
        )


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
