"""A curve: measured times of one kernel at increasing sizes (development time only)."""

from collections.abc import Iterable

import numpy as np

from hwprofiles.records import ProfileError

SPIKE = 20.0
"""How many times its neighbours a latency may be, or they it: of the kernels that shipped tables are made of none is more than
10 times."""


class Curve:
    """Measured ms at increasing sizes: linear in between, and along the last two beyond the end.

    One that holds a measurement that cannot be is refused when it is asked: a file has many shapes that nobody needs.
    """

    def __init__(self, sizes: Iterable[float], latencies_ms: Iterable[float], mistake: str = "") -> None:
        self.mistake = mistake
        pairs = sorted(zip(sizes, latencies_ms))
        self.sizes = np.array([size for size, _ in pairs], dtype=float)
        self.latencies_ms = np.array([ms for _, ms in pairs], dtype=float)

    def ms(self, size: float) -> float:
        """The latency at `size`; below the smallest measurement, that measurement. ProfileError for the curve's mistake."""
        if self.mistake:
            raise ProfileError(self.mistake)
        x, y = self.sizes, self.latencies_ms
        if size <= x[-1] or len(x) == 1:
            return float(np.interp(size, x, y))
        return float(y[-1] + max(0.0, y[-1] - y[-2]) / (x[-1] - x[-2]) * (size - x[-1]))

    def spikes(self) -> list[int]:
        """Which measurements are more than SPIKE times both of their neighbours, or less.

        At an end both stand on one side: the two nearest, as many times larger or smaller as sizes differ.
        """
        x, y, last = self.sizes, self.latencies_ms, len(self.sizes) - 1
        found = []
        for i in range(last + 1):
            near = [i - 1, i + 1] if 0 < i < last else [j for j in (i - 2, i - 1, i + 1, i + 2) if 0 <= j <= last]
            grown = [y[j] * x[i] / x[j] for j in near] if i in (0, last) else []
            around = [*(y[j] for j in near), *grown] or [y[i]]
            if y[i] > SPIKE * max(around) or y[i] * SPIKE < min(around):
                found.append(i)
        return found
