"""Tables of lengths of a recipe's clients: each client a mixture of its own, all of them together the pool's.

Clients differ in two ways. A client's sizes are those of the laws times a factor, lognormal over the clients; its shares of
the laws are the pool's, tilted, and balanced so that over all requests every law has the share that the recipe gives it.
One more factor, the same for all, makes the mean over all requests what the recipe says. What lies beyond the limits is
at the limit.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import numpy as np

from workloads.errors import WorkloadError
from workloads.fields import REASON, REASON_PARTS, is_shifted
from workloads.lengths import PROBABILITIES, LengthTable
from workloads.numerics import exp, normal_quantile, uniforms
from workloads.recipe.laws import Law, cumulative

_DENSE: Final = 16  # sizes from the least on that are told apart one by one
_RATIO: Final = 1.04  # from one edge to the next beyond them
_BALANCES: Final = 60
_STRETCHES: Final = 40
_MEAN_SLACK: Final = 1e-5
_MOST_OFF: Final = 0.01
_STEPS: Final = ((16.0, 64.0), (128.0, 16.0), (np.inf, 8.0))  # below so many tokens, so many steps a token: lengths.py
_HELD: Final = 0.375  # a knot's farthest distance from the whole number that it rounds to


class Field(NamedTuple):
    """What a recipe says of one field, in tokens, items or shares: its laws, limits and mean (None: the laws' own)."""

    name: str
    laws: list[Law]
    limits: tuple[float, float]
    mean: float | None
    size_log_sd: float
    share_log_sd: float


def normals(recipe: str, what: str, *shape: int) -> np.ndarray:
    """Standard normals of that shape, a function of the recipe's name and of what they are for."""
    name = hashlib.sha256(f"{recipe}\n{what}".encode()).digest()
    key = np.uint64(int.from_bytes(name[:8], "little"))
    return normal_quantile(uniforms(key, np.arange(int(np.prod(shape))))).reshape(shape)


class Mixtures(NamedTuple):
    """Each client's mixture of laws: shares [clients, laws], factors [clients], and the clients' shares of all requests."""

    laws: list[Law]
    edges: np.ndarray
    shares: np.ndarray
    factors: np.ndarray
    between_log_sd: float
    weights: np.ndarray

    def cumulative(self) -> np.ndarray:
        """P(X ≤ edge), even between edges; what lies beyond the outer edges is within the last whole number before them."""
        total = np.zeros((len(self.weights), len(self.edges)))
        for law, share in zip(self.laws, self.shares.T):
            total = total + share[:, None] * cumulative(law, self.edges, self.factors, self.between_log_sd)
        total[:, 0], total[:, -1] = 0.0, 1.0
        return total

    def mean(self, laws: list[int] | None = None) -> float:
        """Over all requests; of these laws alone, what they contribute to it."""
        of = self if laws is None else self._replace(laws=[self.laws[j] for j in laws], shares=self.shares[:, laws])
        cdf = of.cumulative()
        if laws is not None:
            cdf[:, -1] = _in_sequence(of.shares, axis=1)
        return float(_in_sequence(means(cdf, self.edges) * self.weights))

    def stretched(self, wanted: float) -> Mixtures:
        """All factors times one number, with which the mean is as wanted, or as near as the limits allow."""
        of, moves = self, [j for j, law in enumerate(self.laws) if law.is_stretched]
        fixed = self.mean([j for j in range(len(self.laws)) if j not in moves]) if len(moves) < len(self.laws) else 0.0
        for _ in range(_STRETCHES):
            mean = of.mean()
            if not moves or abs(mean - wanted) <= _MEAN_SLACK * wanted:
                break
            times = max(wanted - fixed, 0.0) / max(mean - fixed, 1e-9)
            of = of._replace(factors=of.factors * min(max(times, 0.05), 20.0))
        return of


def table_of(recipe: str, field: Field, weights: np.ndarray) -> LengthTable:
    """A row for each client, `weights` being the clients' shares of all requests. WorkloadError for a mean out of reach."""
    unit = float(REASON_PARTS) if field.name == REASON else 1.0
    laws = [law.times(unit) for law in field.laws]
    low, high = (float(np.rint(limit * unit)) for limit in field.limits)
    shares = np.array([[law.share for law in laws]])
    pool = Mixtures(laws, _edges(laws, low, high), shares / _in_sequence(shares), np.ones(1), 0.0, np.ones(1))
    wanted = pool.mean() if field.mean is None else field.mean * unit
    tilt = field.share_log_sd * normals(recipe, f"{field.name} shares", len(weights), len(laws))
    sizes = exp(field.size_log_sd * normals(recipe, f"{field.name} sizes", len(weights)))
    clients = pool._replace(
        shares=_balanced(pool.shares[0], weights, tilt), factors=sizes, between_log_sd=field.size_log_sd, weights=weights
    ).stretched(wanted)
    cdf = clients.cumulative()
    own = means(cdf, clients.edges)
    reached = float(_in_sequence(own * weights))
    if abs(reached - wanted) > _MOST_OFF * wanted:
        raise WorkloadError(
            f"lengths.{field.name}: its laws, within their limits, give a mean of {reached / unit:.4g}, not {wanted / unit:.4g}"
        )
    shift = 1.0 if is_shifted(field.name) else 0.0
    return LengthTable.of(_knots(cdf, clients.edges, low, high) + shift, own + shift)


def means(cdf: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Means of distributions that are even between edges, one a row."""
    return _in_sequence(np.diff(cdf, axis=1) * (0.5 * (edges[1:] + edges[:-1])), axis=1)


def _edges(laws: list[Law], low: float, high: float) -> np.ndarray:
    """Half-way points between whole numbers, at which mixtures are evaluated: each at first, then ever farther apart."""
    dense = np.arange(low, min(low + _DENSE, high) + 1.0)
    sizes = [*dense.tolist()]
    while sizes[-1] < high:
        sizes.append(float(np.ceil(sizes[-1] * _RATIO + 1.0)))
    around = [float(np.rint(atom)) + side for law in laws for atom in law.atoms for side in (-1.0, 0.0)]
    kept = np.unique(np.array([low - 1.0, high, *sizes, *around]))
    return kept[(kept >= low - 1.0) & (kept <= high)] + 0.5


def _balanced(wanted: np.ndarray, weights: np.ndarray, tilt: np.ndarray) -> np.ndarray:
    """Shares of the laws [clients, laws]: rows sum to 1, columns, weighted by requests, to the shares that are wanted.

    Rows and columns are scaled in turn (Deming and Stephan, Annals of Mathematical Statistics 11, 1940), rows last.
    """
    shares = wanted * exp(tilt)
    for _ in range(_BALANCES):
        shares = shares * (wanted / _in_sequence(shares * weights[:, None], axis=0))
        shares = shares / _in_sequence(shares, axis=1)[:, None]
    return shares


def _knots(cdf: np.ndarray, edges: np.ndarray, low: float, high: float) -> np.ndarray:
    """The sketch of each row: where it reaches the probabilities of sketches, in steps of a pool's file."""
    position = np.empty((len(cdf), len(PROBABILITIES)))
    for row, reached in zip(position, cdf):
        index = np.searchsorted(reached, PROBABILITIES, side="left")
        index[0] = np.searchsorted(reached, 0.0, side="right")
        index = np.minimum(np.maximum(index, 1), len(edges) - 1)
        below, above = reached[index - 1], reached[index]
        share = np.minimum(np.maximum(PROBABILITIES - below, 0.0) / np.maximum(above - below, 1e-300), 1.0)
        row[:] = edges[index - 1] + share * (edges[index] - edges[index - 1])
    position = np.minimum(np.maximum(position, low - _HELD), high + _HELD)
    steps = np.select([position < below for below, _ in _STEPS], [steps for _, steps in _STEPS])
    return np.rint(position * steps) / steps


def _in_sequence(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """The sum, added in sequence: numpy's own adds in an order that depends on the machine."""
    return np.take(np.cumsum(values, axis=axis), -1, axis=axis or 0)
