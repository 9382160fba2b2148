"""Service level objectives: vLLM's goodput grammar, extended by percentiles.

    slo    = term { " " term }
    term   = metric [ "." stat ] ":" number [ unit ]
    metric = ttft | tpot | itl | ntpot | e2el (or e2e) | queue
    stat   = p<number> | mean | max
    unit   = us | ms | s | min          none means ms, as in vLLM

`ttft:500 tpot:50` is a statement about each request; the run passes when the share of requests that meet all such terms
(the attainment) reaches a target. `ttft.p99:2s` is a statement about a percentile of the run. Limits are inclusive.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches

METRICS = ("ttft", "tpot", "itl", "ntpot", "e2el", "queue")
_ALIASES = {"e2e": "e2el"}
_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_TERM = re.compile(r"^(?P<metric>[^.:\s]+)(?:\.(?P<stat>[^:\s]+))?:(?P<value>[^a-z\s]+)(?P<unit>[a-z]+)?$")


class SloError(ValueError):
    """An SLO that does not parse; the message names every bad term."""


@dataclass(frozen=True)
class Term:
    """One limit in seconds. `stat` is None for a limit on each request, else "mean", "max" or a percentile like "p99"."""

    text: str
    metric: str
    stat: str | None
    limit_s: float

    @property
    def percentile(self) -> float | None:
        """The q of a percentile term, "max" being 100; None for "mean" and for terms on each request."""
        if self.stat == "max":
            return 100.0
        return float(self.stat[1:]) if self.stat and self.stat[0] == "p" else None

    @property
    def limit_ns(self) -> int:
        """The limit on a request, whose latencies are whole nanoseconds."""
        return round(self.limit_s * 1e9)

    @property
    def key(self) -> str:
        """Its name in a summary, such as `ttft_p99_s`."""
        return f"{self.metric}_{self.stat}_s" if self.stat else f"{self.metric}_s"


@dataclass(frozen=True)
class Slo:
    """The terms of an SLO, in the order in which they were written, and the share that must meet those on each request."""

    terms: tuple[Term, ...]
    attainment: float = 0.99

    @classmethod
    def parse(cls, text: str, attainment: float = 0.99) -> "Slo":
        """Read an SLO; SloError names all terms that are wrong at once."""
        terms, mistakes = [], []
        for word in text.split():
            try:
                terms.append(_parse_term(word))
            except SloError as error:
                mistakes.append(str(error))
        if not text.split():
            mistakes.append("an SLO needs at least one term, such as ttft.p99:2s")
        if not 0.0 < attainment <= 1.0:
            mistakes.append(f"attainment {attainment} is not a share in (0, 1]")
        repeated = {
            (term.metric, term.stat)
            for term in terms
            if [(t.metric, t.stat) for t in terms].count((term.metric, term.stat)) > 1
        }
        mistakes += [f"{metric}{'.' + stat if stat else ''} is limited twice" for metric, stat in sorted(repeated, key=str)]
        if mistakes:
            raise SloError("\n".join(mistakes))
        return cls(tuple(terms), attainment)

    @property
    def request_terms(self) -> tuple[Term, ...]:
        """The terms on each request."""
        return tuple(term for term in self.terms if term.stat is None)

    @property
    def run_terms(self) -> tuple[Term, ...]:
        """The terms on a percentile, the mean or the maximum of the run."""
        return tuple(term for term in self.terms if term.stat is not None)

    def __str__(self) -> str:
        return " ".join(term.text for term in self.terms)


def _parse_term(word: str) -> Term:
    match = _TERM.match(word)
    if not match:
        raise SloError(f"'{word}': expected metric[.stat]:number[unit], such as ttft.p99:2s or tpot:50ms")
    metric = _ALIASES.get(match["metric"], match["metric"])
    if metric not in METRICS:
        raise SloError(
            f"'{word}': no metric '{match['metric']}'{_nearest(match['metric'], METRICS)}; known: {', '.join(METRICS)}"
        )
    stat = match["stat"]
    if stat is not None and stat not in ("mean", "max") and not _is_percentile(stat):
        raise SloError(f"'{word}': no statistic '{stat}'; known: p<number> such as p99 or p99.9, mean, max")
    unit = match["unit"] or "ms"
    if unit not in _UNITS_S:
        raise SloError(f"'{word}': no unit '{unit}'{_nearest(unit, _UNITS_S)}; known: {', '.join(_UNITS_S)} (none means ms)")
    try:
        value = float(match["value"])
    except ValueError:
        raise SloError(f"'{word}': '{match['value']}' is not a number") from None
    if not 0.0 < value < float("inf"):
        raise SloError(f"'{word}': a limit must be a positive number")
    return Term(word, metric, stat, value * _UNITS_S[unit])


def _is_percentile(stat: str) -> bool:
    return re.fullmatch(r"p\d{1,2}(\.\d{1,6})?", stat) is not None and float(stat[1:]) > 0.0


def _nearest(word: str, known: object) -> str:
    close = get_close_matches(word, list(known), 1, 0.5)  # type: ignore[call-overload]
    return f"; did you mean '{close[0]}'?" if close else ""
