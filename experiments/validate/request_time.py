"""The mean time of a whole request of a closed loop, which measurements give as TTFT and TPOT.

E2E = TTFT + (output tokens - 1) x TPOT: of means, as all answers of a configuration are of one length. It does not depend on
how a scheduler divides its steps between prompts and answers, and by Little's law it says how many requests/s a loop serves.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from experiments.validate.judgement import Judged
from experiments.validate.point import Setting

_NEEDED = ("ttft_mean_s", "tpot_mean_s")


@dataclass(frozen=True)
class RequestTime:
    """One closed loop of which both means were measured and predicted."""

    setting: Setting
    ttft: Judged
    tpot: Judged

    @property
    def measured_s(self) -> float:
        """E2E as measured."""
        return self._whole(self.ttft.measured, self.tpot.measured)

    @property
    def predicted_s(self) -> float:
        """E2E as predicted."""
        return self._whole(self.ttft.predicted or 0.0, self.tpot.predicted or 0.0)

    @property
    def judged(self) -> Judged:
        """As a figure: e2e_mean_s, derived."""
        group = replace(self.tpot.group, metric="e2e_mean_s", derived=True)
        made = replace(self.tpot, group=group, measured=self.measured_s, predicted=self.predicted_s)
        return replace(made, rows=1, spread_frac=0.0)

    def _whole(self, ttft_s: float, tpot_s: float) -> float:
        assert self.setting.output_tokens is not None
        return ttft_s + (self.setting.output_tokens - 1) * tpot_s


def request_times(judged: Iterable[Judged]) -> list[RequestTime]:
    """Of every closed loop that was simulated and has both means, in the order of the figures."""
    found: dict[tuple[str, Setting], dict[str, Judged]] = {}
    for one in judged:
        if one.setting is not None and one.setting.load_kind == "closed_concurrency" and one.predicted is not None:
            found.setdefault((one.id, one.setting), {})[one.group.metric] = one
    return [
        RequestTime(setting, *(figures[name] for name in _NEEDED))
        for (_, setting), figures in found.items()
        if all(name in figures for name in _NEEDED)
    ]
