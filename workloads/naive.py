"""Naive workloads: all traffic as one aggregate source, the thing to compare per-client generation with.

A naive workload is fitted on a stream of horizon H with N requests and played as one client, number 0. The fit is a
value to look at: pieces of the horizon, each with its rate R = N/H, the CV of its gaps and its requests. Arrivals of a
piece are a renewal until its end, begun in equilibrium so that R·H requests are expected; (input, output) pairs are
drawn with replacement from the requests of the piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import numpy as np

from workloads.arrivals import EXPONENTIAL, FAMILIES, GAMMA
from workloads.errors import WorkloadError, nearest
from workloads.numerics import Purpose, stream_key, uniforms
from workloads.renewal import Renewal
from workloads.stream import BLOCK_ROWS, NS_PER_S, TOKEN_COLUMNS, Stream, new_rows

HOUR_S = 3600.0
FEWEST_REQUESTS = 3  # below it a CV of gaps means nothing, and the piece sends none
LEAST_CV = 0.01  # a Gamma of shape 10⁴: in effect, constant gaps


@dataclass(frozen=True)
class NaiveFit:
    """One piece of the horizon: requests fitted on, their rate and CV of gaps, and the lengths that are drawn from."""

    start_s: float
    duration_s: float
    family: str
    n: int
    rate_rps: float
    cv: float
    lengths: np.ndarray = field(repr=False, compare=False)


def naive(stream: Stream, kind: str, seed: int = 1) -> Stream:
    """The naive stand-in of a stream, over the same duration; `kind` is a key of KINDS. Raises WorkloadError."""
    if kind not in KINDS:
        raise WorkloadError(f"naive: unknown kind {kind!r}{nearest(kind, KINDS)}; known: {', '.join(KINDS)}")
    fits = KINDS[kind](stream)
    if not any(fit.n >= FEWEST_REQUESTS for fit in fits):
        raise WorkloadError(f"naive {kind}: the stream has too few requests to fit, expected at least {FEWEST_REQUESTS}")
    values = [{key: value for key, value in asdict(fit).items() if key != "lengths"} for fit in fits]
    description = {"source": "naive", "naive": kind, "seed": seed, "fit": values, "fitted_on": stream.description}
    return Stream(stream.duration_s, _Playback(fits, seed).blocks, description, is_checked=True)


def fit_poisson(stream: Stream) -> tuple[NaiveFit, ...]:
    """One piece, the whole horizon: exponential gaps of mean H/N."""
    lengths = np.concatenate([_lengths(rows) for rows in (new_rows(0), *stream.blocks())])
    return (_fit(lengths, 1.0, 0.0, stream.duration_s, EXPONENTIAL),)


def fit_n_hour(stream: Stream) -> tuple[NaiveFit, ...]:
    """A piece per hour (the last may be short): Gamma gaps with the mean and CV = sd/mean of that hour's gaps."""
    pieces = []
    for hour, rows in enumerate(stream.windows(HOUR_S)):
        start_s = hour * HOUR_S
        cv = _cv(np.diff(rows["arrival_ns"])) if len(rows) >= FEWEST_REQUESTS else 0.0
        pieces.append(_fit(_lengths(rows), cv, start_s, min(HOUR_S, stream.duration_s - start_s), GAMMA))
    return tuple(pieces)


KINDS: dict[str, Callable[[Stream], tuple[NaiveFit, ...]]] = {"poisson": fit_poisson, "n_hour": fit_n_hour}


def _fit(lengths: np.ndarray, cv: float, start_s: float, duration_s: float, family: int) -> NaiveFit:
    return NaiveFit(start_s, duration_s, FAMILIES[family], len(lengths), len(lengths) / duration_s, cv, lengths)


def _lengths(rows: np.ndarray) -> np.ndarray:
    """What is kept of a request: input, output and most tokens, int32 [requests, 3]."""
    return np.column_stack([rows[name] for name in TOKEN_COLUMNS])


def _cv(gaps_ns: np.ndarray) -> float:
    """sd/mean of integer gaps. Sums are of exact integers or sequential, so the shape drawn from has the same bits."""
    mean = int(gaps_ns.sum()) / len(gaps_ns)
    if mean == 0.0:
        return LEAST_CV
    relative = gaps_ns / mean - 1.0
    return float(np.sqrt((relative * relative).cumsum()[-1] / len(gaps_ns)))


@dataclass(frozen=True)
class _Playback:
    """The pieces in order, each a renewal of its own."""

    fits: tuple[NaiveFit, ...]
    seed: int

    def blocks(self) -> Iterator[np.ndarray]:
        """STREAM arrays of at most BLOCK_ROWS rows."""
        sent = 0
        for piece, fit in enumerate(self.fits):
            if fit.n < FEWEST_REQUESTS:
                continue
            renewal = Renewal(self.seed, -1 - piece)  # a number no client has, so no draw is shared with one
            for begin_s in np.arange(0.0, fit.duration_s, HOUR_S):
                arrival_ns = self._arrivals_ns(fit, renewal, float(begin_s))
                for begin in range(0, len(arrival_ns), BLOCK_ROWS):
                    rows = self._rows(fit, arrival_ns[begin : begin + BLOCK_ROWS], sent)
                    sent += len(rows)
                    yield rows

    def _arrivals_ns(self, fit: NaiveFit, renewal: Renewal, begin_s: float) -> np.ndarray:
        """The arrivals of (at most) the hour from `begin_s` of a piece."""
        length_s = min(HOUR_S, fit.duration_s - begin_s)
        cv = max(fit.cv, LEAST_CV)
        arrivals = renewal.advance(fit.rate_rps * length_s, FAMILIES.index(fit.family), 1.0 / (cv * cv)) / fit.rate_rps
        start_ns = round((fit.start_s + begin_s) * NS_PER_S)
        last_ns = round((fit.start_s + begin_s + length_s) * NS_PER_S) - 1
        return np.minimum(np.floor(arrivals * NS_PER_S).astype(np.int64) + start_ns, last_ns)

    def _rows(self, fit: NaiveFit, arrival_ns: np.ndarray, sent: int) -> np.ndarray:
        """The requests of these arrivals, numbered from `sent`."""
        rows = new_rows(len(arrival_ns))
        rows["arrival_ns"] = arrival_ns
        rows["request_id"] = np.arange(sent, sent + len(rows))
        drawn = uniforms(stream_key(self.seed, 0, Purpose.REQUEST), rows["request_id"])
        chosen = np.minimum((drawn * fit.n).astype(np.int64), fit.n - 1)
        for column, name in enumerate(TOKEN_COLUMNS):
            rows[name] = fit.lengths[chosen, column]
        return rows
