"""TrafficModel: what a pool's data leave open, and a composition has to decide."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from workloads.arrival_models import MODELS
from workloads.errors import is_number_in, nearest, raise_all
from workloads.stream import MAX_TOKENS

RATES: Final = ("stepped", "smooth")
LIMITS: Final = ("pool", "client", "output")


@dataclass(frozen=True)
class TrafficModel:
    """How clients are played, beyond what their pool knows of them. Raises WorkloadError for what cannot be.

    arrivals: in which gaps requests come, a key of arrival_models.MODELS; None: the pool's own, which is weibull_gap but for
    recipes, whose gaps are of the family and CV that they state and nothing else.
    rates: `stepped`, constant within each 600 s window, or `smooth`, straight from the edges of a window to its middle.
    correlation: Spearman's rank correlation of input (or text) and output tokens within a client, -1 to 1: a Gaussian copula.
    max_tokens: what a request asks for at most. `pool`, the longest answer of the pool; `client`, the least power of two that
    holds the client's longest; `output`, the true length; or a number, at which answers then stop.
    repeated_items: share of images, audio and video that the client has sent before, 0 to 1.
    """

    arrivals: str | None = None
    rates: str = "stepped"
    correlation: float = 0.0
    max_tokens: str | int = "pool"
    repeated_items: float = 0.0

    def __post_init__(self) -> None:
        raise_all(
            [
                *_unknown("arrivals", self.arrivals, (*MODELS, None)),
                *_unknown("rates", self.rates, RATES),
                *self._wrong_numbers(),
            ]
        )

    def _wrong_numbers(self) -> list[str]:
        mistakes = []
        if not is_number_in(self.correlation, -1.0, 1.0):
            mistakes.append(f"correlation: expected a number from -1 to 1, got {self.correlation!r}")
        if not is_number_in(self.repeated_items, 0.0, 1.0):
            mistakes.append(f"repeated_items: expected a number from 0 to 1, got {self.repeated_items!r}")
        if isinstance(self.max_tokens, str):
            mistakes += _unknown("max_tokens", self.max_tokens, LIMITS)
        elif (
            isinstance(self.max_tokens, bool) or not isinstance(self.max_tokens, int) or not 1 <= self.max_tokens <= MAX_TOKENS
        ):
            mistakes.append(
                f"max_tokens: expected {', '.join(LIMITS)} or a number from 1 to {MAX_TOKENS}, got {self.max_tokens!r}"
            )
        return mistakes


def _unknown(what: str, name: object, known: Collection[str | None]) -> list[str]:
    if name in known:
        return []
    names = [one for one in known if one is not None]
    return [f"{what}: expected one of {', '.join(names)}, got {name!r}{nearest(str(name), names)}"]
