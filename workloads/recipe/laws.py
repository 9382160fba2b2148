"""Laws of lengths, from which recipes mix: lognormal, Pareto, exponential, normal, and atoms at some sizes.

| law | keys | P(X ≤ x) | stretched |
|---|---|---|---|
| lognormal | median, log_sd | Φ(ln(x / median) / log_sd) | yes |
| pareto | least, exponent | 1 - (least / x)^exponent | yes |
| exponential | mean | 1 - e^(-x / mean) | yes |
| normal | mean, sd | Φ((x - mean) / sd) | no |
| atoms | at, weights | share of the weights at sizes up to x | no |

What is stretched has all its sizes multiplied by a factor of the client's; sizes that are standard stay what they are.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from workloads.numerics import exp, log, normal_cdf
from workloads.recipe.values import Reader, list_of, number, one_of, table, wrong

SIZE: Final = number(0.0, 1e7)
_ABOVE_0: Final = number(1e-6, 1e7)
KEYS: Final[dict[str, dict[str, Reader]]] = {
    "lognormal": {"median": _ABOVE_0, "log_sd": number(0.01, 4.0)},
    "pareto": {"least": _ABOVE_0, "exponent": number(0.2, 20.0)},
    "exponential": {"mean": _ABOVE_0},
    "normal": {"mean": SIZE, "sd": _ABOVE_0},
    "atoms": {"at": list_of(SIZE, 1, 64), "weights": list_of(number(1e-9, 1e9), 1, 64)},
}
STRETCHED: Final = ("lognormal", "pareto", "exponential")
_SHARE: Final = number(1e-6, 1.0)
_LEAST_VARIANCE: Final = 0.25  # of a lognormal's stays within each client, however far the clients differ


class Law(NamedTuple):
    """One part of a mixture: its name, its share of the requests, and what its keys say."""

    name: str
    share: float
    of: dict[str, Any]

    @property
    def is_stretched(self) -> bool:
        """Whether a client's factor applies to it."""
        return self.name in STRETCHED

    @property
    def sizes(self) -> list[float]:
        """The sizes that its keys name, which limits have to enclose."""
        return [float(size) for key in ("median", "least", "mean") if key in self.of for size in [self.of[key]]] + self.atoms

    @property
    def atoms(self) -> list[float]:
        """Sizes at which there is a share of their own."""
        return list(self.of["at"]) if self.name == "atoms" else []

    def times(self, unit: float) -> Law:
        """The same law in other units."""
        is_size = {"median", "least", "mean", "sd"}
        of = {key: value * unit if key in is_size else value for key, value in self.of.items()}
        if self.name == "atoms":
            of["at"] = [float(np.rint(size * unit)) for size in self.of["at"]]
        return Law(self.name, self.share, of)

    def __str__(self) -> str:
        keys = ", ".join(f"{key} {_plain(value)}" for key, value in self.of.items())
        return f"{self.share:g} {self.name} ({keys})"


def read_law(value: Any, place: str, mistakes: list[str]) -> Law | None:
    """A Law of a TOML table with `law`, `share` and the law's own keys; None where it is not one."""
    before, names = len(mistakes), tuple(KEYS)
    if not isinstance(value, dict):
        return wrong("a table with law, share and the keys of that law", value, place, mistakes)
    if value.get("law") not in names:
        return one_of(names)(value.get("law"), f"{place}.law", mistakes)
    name = value["law"]
    of = table({"law": one_of(names), "share": _SHARE, **KEYS[name]})(value, place, mistakes)
    if len(mistakes) > before or of is None:
        return None
    if name == "atoms" and len(of["at"]) != len(of["weights"]):
        mistakes.append(f"{place}.weights: expected {len(of['at'])} values, one for each of `at`, got {len(of['weights'])}")
        return None
    return Law(name, of["share"], {key: of[key] for key in KEYS[name]})


def cumulative(law: Law, edges: np.ndarray, factors: np.ndarray, between_log_sd: float) -> np.ndarray:
    """P(X ≤ edge) of each client's copy of a law: float64 [clients, edges]; a law that is not stretched has one row.

    The sizes of client c are `factors[c]` times those of the law. A lognormal gives up the variance that lies between the
    clients, so that all of them together are as wide as it says, but keeps half of its log_sd within each.
    """
    of, factors = law.of, factors[:, None]
    if law.name == "normal":
        return normal_cdf((edges - of["mean"]) / of["sd"])[None, :]
    if law.name == "atoms":
        at, weights = np.array(of["at"]), np.array(of["weights"])
        order = np.argsort(at, kind="stable")
        steps = np.concatenate(([0.0], np.cumsum(weights[order])))
        return (steps / steps[-1])[np.searchsorted(at[order], edges, side="right")][None, :]
    if law.name == "exponential":
        return 1.0 - exp(-np.maximum(edges, 0.0) / (of["mean"] * factors))
    logs = log(np.maximum(edges, 1e-9)) - log(factors)
    if law.name == "pareto":
        return 1.0 - exp(of["exponent"] * np.minimum(log(of["least"]) - logs, 0.0))
    log_sd = of["log_sd"]
    within = max(log_sd * log_sd - between_log_sd * between_log_sd, _LEAST_VARIANCE * log_sd * log_sd)
    return normal_cdf((logs - log(of["median"])) / np.sqrt(within))


def _plain(value: Any) -> str:
    return " ".join(f"{one:g}" for one in value) if isinstance(value, list) else f"{value:g}"
