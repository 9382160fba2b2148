"""OverTime: rate, burstiness and mean lengths by 600 s window; gaps between requests; how over-dispersed counts are."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from workloads.arrivals import WINDOW_S
from workloads.characterize.gap_fits import fit_gaps
from workloads.characterize.numbers import Histogram, plain
from workloads.stream import NS_PER_S

BUSIEST_WINDOWS: Final = 2  # 20 minutes, as in the ServeGen paper's figure 1 (arXiv 2505.09999)
MOST_GAPS: Final = 500_000
FEWEST: Final = 10  # requests of a window that has a CV
COUNTED_S: Final = (1, 10, 60)
_BINS_PER_OCTAVE: Final = 32


class OverTime:
    """Takes windows in order."""

    def __init__(self) -> None:
        self._windows: list[tuple[float, ...]] = []
        self._recent: list[np.ndarray] = []
        self._busiest: tuple[int, int, np.ndarray] = (0, 0, np.empty(0, np.int64))
        self._gaps = Histogram()
        self._last_ns: int | None = None
        self._counted = {seconds: np.zeros(3) for seconds in COUNTED_S}

    def add(self, rows: np.ndarray, offset_ns: np.ndarray, length_ns: int) -> None:
        """The next window's STREAM rows, their times in it, and how long it is."""
        gaps = np.diff(offset_ns)
        cv = gaps.std() / gaps.mean() if len(rows) >= FEWEST and gaps.any() else np.nan
        means = [float(rows[name].mean()) if len(rows) else np.nan for name in ("input_tokens", "output_tokens")]
        self._windows.append((len(rows) * NS_PER_S / length_ns, float(cv), *means))
        self._add_gaps(rows["arrival_ns"])
        self._recent = [*self._recent[1 - BUSIEST_WINDOWS :], rows["arrival_ns"].copy()]
        number = sum(map(len, self._recent))
        if number > self._busiest[0]:
            self._busiest = (number, len(self._windows) - len(self._recent), np.concatenate(self._recent)[:MOST_GAPS])
        self._count(offset_ns, length_ns)

    def told(self) -> dict[str, Any]:
        """`over_time`, `gaps` and `dispersion`."""
        rate, cv, input_tokens, output_tokens = np.array(self._windows).T
        return {
            "over_time": {
                "window_s": WINDOW_S,
                "rate_rps": plain(rate),
                "cv": plain(cv),
                "input_tokens_mean": plain(input_tokens),
                "output_tokens_mean": plain(output_tokens),
            },
            "gaps": self._told_gaps(),
            "dispersion": {f"{seconds}s": _dispersion(self._counted[seconds]) for seconds in COUNTED_S},
        }

    def _told_gaps(self) -> dict[str, Any]:
        """All gaps as a histogram, and the laws of those of the busiest 20 minutes."""
        _, first, arrival_ns = self._busiest
        gaps_s = np.diff(arrival_ns) / NS_PER_S
        values, cumulative = self._gaps.cumulative()
        most = max(len(gaps_s) - 1, 0)
        grid = np.unique(
            np.concatenate((np.linspace(0, most, 300), most - np.geomspace(1, most + 1, 100) + 1)).astype(np.int64)
        )
        return {
            "s": plain(2.0 ** (values / _BINS_PER_OCTAVE) / NS_PER_S),
            "cumulative_frac": plain(cumulative),
            "busiest": {
                "start_s": first * WINDOW_S,
                "span_s": float(arrival_ns[-1] - arrival_ns[0]) / NS_PER_S if len(arrival_ns) else 0.0,
                **fit_gaps(gaps_s),
                "s": plain(np.sort(gaps_s)[grid] if len(gaps_s) else gaps_s),
                "cumulative_frac": plain((grid + 1) / max(len(gaps_s), 1)),
            },
        }

    def _add_gaps(self, arrival_ns: np.ndarray) -> None:
        if not len(arrival_ns):
            return
        gaps = np.diff(arrival_ns, prepend=arrival_ns[0] if self._last_ns is None else self._last_ns)
        gaps = gaps[1:] if self._last_ns is None else gaps
        self._last_ns = int(arrival_ns[-1])
        self._gaps.add_bins(np.rint(np.log2(np.maximum(gaps, 1)) * _BINS_PER_OCTAVE).astype(np.int64))

    def _count(self, offset_ns: np.ndarray, length_ns: int) -> None:
        """Of the spans that the window holds whole: how many, their requests, and the squares of those."""
        for seconds, sums in self._counted.items():
            spans = length_ns // (seconds * NS_PER_S)
            number = np.bincount(offset_ns // (seconds * NS_PER_S), minlength=spans)[:spans].astype(np.float64)
            sums += (spans, number.sum(), (number * number).sum())


def _dispersion(sums: np.ndarray) -> float | None:
    """Variance over mean of the requests of a span: 1 for Poisson traffic of a steady rate."""
    spans, total, squares = sums.tolist()
    return (squares - total * total / spans) / (spans - 1.0) / (total / spans) if spans > 1 and total > 0 else None
