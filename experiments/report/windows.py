"""Many rows made into few points: cumulative distributions, and what happened in each window of time.

Everything here is a function of arrays of numbers and gives the same points for the same rows.
"""

import numpy as np

from sim.distribution import percentile

MAX_WINDOWS = 300
MAX_CDF_POINTS = 400

_WIDTHS_S = np.array(
    [digit * 10.0**power for power in range(-6, 1) for digit in (1, 2, 5)]
    + [10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400]
)


def edges_s(span_s: float, windows: int) -> np.ndarray:
    """Edges of at most `windows` windows of a round width that cover 0 to span; the last may be half as wide or twice.

    >>> edges_s(65.0, 7).tolist()
    [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 65.0]
    """
    windows = max(1, min(windows, MAX_WINDOWS))
    wide_enough = _WIDTHS_S[np.ceil(span_s / _WIDTHS_S - 1e-9) <= windows]
    width = float(wide_enough[0]) if len(wide_enough) else span_s / windows
    edges = np.arange(int(span_s / width + 1e-9) + 1) * width
    if len(edges) == 1 or span_s - edges[-1] >= width / 2:
        return np.append(edges, span_s)
    edges[-1] = span_s
    return edges


def window_of(times_s: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The window in which each time lies; what lies outside counts in the first or the last."""
    return np.clip(np.searchsorted(edges, times_s, "right") - 1, 0, len(edges) - 2)


def rate(times_s: np.ndarray, weights: np.ndarray | None, edges: np.ndarray) -> np.ndarray:
    """Events, or their weights, per second in each window."""
    return np.bincount(window_of(times_s, edges), weights, len(edges) - 1) / np.diff(edges)


def percentiles(times_s: np.ndarray, values: np.ndarray, edges: np.ndarray, q: float) -> np.ndarray:
    """The q-th percentile of the values in each window: nan in an empty one, inf where too many are infinite."""
    known = ~np.isnan(values)
    window = window_of(times_s[known], edges)
    order = np.argsort(window, kind="stable")
    parts = np.split(values[known][order], np.searchsorted(window[order], np.arange(1, len(edges) - 1)))
    return np.array([percentile(part, q) for part in parts])


def time_mean(values: np.ndarray, start_s: np.ndarray, dur_s: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean over each window of the sum of values, each of which holds from its start for its duration, else 0."""
    area = _area(values, start_s, edges) - _area(values, start_s + dur_s, edges)
    return np.maximum(0.0, np.diff(area) / np.diff(edges))


def peak(values: np.ndarray, start_s: np.ndarray, dur_s: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The largest value that holds at some time in each window, each from its start for its duration; 0 for none."""
    out = np.zeros(len(edges) - 1)
    first = window_of(start_s, edges)
    last = np.clip(np.searchsorted(edges, start_s + dur_s, "left") - 1, first, len(edges) - 2)
    for ahead in range(int(np.max(last - first, initial=0)) + 1):
        reaches = last - first >= ahead
        np.maximum.at(out, first[reaches] + ahead, values[reaches])
    return out


def cdf(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and the share of all that are no larger, at most 400 points, a quarter of them in the last per cent.

    Infinite values (requests that were not served) count in the share and are not drawn: the curve then ends below 1.
    """
    ordered = np.sort(values)
    last = len(ordered) - 1
    few = MAX_CDF_POINTS // 4
    wanted = np.concatenate([np.linspace(0, last, 3 * few), np.linspace(0.99 * last, last, few)])
    ranks = np.unique(np.rint(wanted).astype(int)) if last >= 0 else np.empty(0, int)
    points, shares = ordered[ranks], (ranks + 1) / (last + 1)
    drawn = np.isfinite(points) & (points > 0.0)
    return points[drawn], shares[drawn]


def _area(values: np.ndarray, from_s: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Integral up to each edge of a sum of values, each of which holds from its time on."""
    order = np.argsort(from_s, kind="stable")
    times, heights = from_s[order], values[order]
    before = np.searchsorted(times, edges, "right")
    height = np.concatenate([[0.0], np.cumsum(heights)])[before]
    return height * edges - np.concatenate([[0.0], np.cumsum(heights * times)])[before]
