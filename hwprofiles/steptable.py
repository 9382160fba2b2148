"""The step table: step times of one engine by look-up, in whole numbers; a simulator evaluates it once per iteration.

All costs are in ticks of 2^-16 ns. A step is a sum of four looked-up numbers and two products, rounded once, to a
nanosecond.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hwprofiles.records import INT64_MAX, ProfileError

TICK_BITS = 16
"""A tick is 2^-16 ns."""

TICKS_PER_MS = 1_000_000 << TICK_BITS


class StepTable:
    """Step times within one engine's limits. `StepCost.table` makes it; hwprofiles/costmodel.py has the formula."""

    __slots__ = (
        "by_decodes",
        "by_decodes_context",
        "by_prefill_tokens",
        "by_samples",
        "by_tokens",
        "prefill_work_ticks",
    )

    def __init__(
        self,
        by_tokens: Sequence[int],
        by_samples: Sequence[int],
        by_prefill_tokens: Sequence[int],
        by_decodes: Sequence[int],
        by_decodes_context: Sequence[int],
        prefill_work_ticks: int,
    ) -> None:
        self.by_tokens = by_tokens
        """f_tok + c0, by all new tokens of the step."""
        self.by_samples = by_samples
        """head + cs*B, by requests that sample."""
        self.by_prefill_tokens = by_prefill_tokens
        """[> 0] * (a0 + a1*tokens)"""
        self.by_decodes = by_decodes
        """d"""
        self.by_decodes_context = by_decodes_context
        """e / decodes, for each token of context of any decode."""
        self.prefill_work_ticks = prefill_work_ticks
        """a2, for each unit of prefill work."""

    def step_ns(self, prefill_tokens: int, prefill_work: int, decodes: int, decode_context_tokens: int, samples: int) -> int:
        """Nanoseconds of a step, within the limits the table was made for.

        prefill_work is the sum of n*(n + 2*past) over the prefill chunks (n new tokens after `past` computed ones);
        decode_context_tokens the sum over the decodes of their context, the token computed now included; samples the
        requests that sample a token in this step.
        """
        return (
            self.by_tokens[prefill_tokens + decodes]
            + self.by_samples[samples]
            + self.by_prefill_tokens[prefill_tokens]
            + self.by_decodes[decodes]
            + self.prefill_work_ticks * prefill_work
            + self.by_decodes_context[decodes] * decode_context_tokens
            + 32768
        ) >> 16

    def arrays(self, most_tokens: int) -> dict[str, Any]:
        """The same numbers for a compiled engine, by name: int64 arrays, and the factor as a Python integer.

        ProfileError where steps of so many tokens are beyond the table.
        """
        if most_tokens >= len(self.by_tokens):
            raise ProfileError(f"a step table of {len(self.by_tokens) - 1} tokens has no price for {most_tokens}")
        import numpy as np

        lists = ("by_tokens", "by_samples", "by_prefill_tokens", "by_decodes", "by_decodes_context")
        tables: dict[str, Any] = {name: np.array(getattr(self, name), dtype=np.int64) for name in lists}
        return tables | {"prefill_work_ticks": self.prefill_work_ticks}

    def check_largest_step(self, prefill_work: int, decode_context_tokens: int) -> None:
        """ProfileError unless the ends of all tables and these two products sum to an int64, rounding included."""
        largest_ticks = (
            self.by_tokens[-1]
            + self.by_samples[-1]
            + self.by_prefill_tokens[-1]
            + self.by_decodes[-1]
            + self.prefill_work_ticks * prefill_work
            + max(self.by_decodes_context) * decode_context_tokens
            + (1 << (TICK_BITS - 1))
        )
        if largest_ticks > INT64_MAX:
            raise ProfileError(
                f"the largest step within these limits would take {largest_ticks / TICKS_PER_MS / 3.6e6:.0f} hours, "
                "more than 64 bits hold; lower max_num_batched_tokens, max_num_seqs or max_model_len"
            )


@dataclass(frozen=True)
class Knots:
    """A cost known at some counts: piecewise linear between them, along its last slope beyond, nothing for nothing."""

    at: tuple[int, ...]
    ticks: tuple[int, ...]

    def ticks_at(self, count: int) -> int:
        """Cost of `count`, rounded down to a whole tick."""
        if count <= 0:
            return 0
        right = min(max(bisect_right(self.at, count), 1), len(self.at) - 1)
        x0, x1, y0, y1 = self.at[right - 1], self.at[right], self.ticks[right - 1], self.ticks[right]
        return y0 + (y1 - y0) * (count - x0) // (x1 - x0)

    def resample(self, longest: int) -> list[int]:
        """The cost of 0, 1, … `longest`: `ticks_at` of each, interval by interval."""
        out, last = [0], len(self.at) - 1
        for right in range(1, last + 1):
            x0, x1, y0, y1 = self.at[right - 1], self.at[right], self.ticks[right - 1], self.ticks[right]
            stop = longest + 1 if right == last else min(x1, longest + 1)
            out += [y0 + (y1 - y0) * (count - x0) // (x1 - x0) for count in range(x0, stop)]
        return out

    def problems(self, key: str) -> Iterator[str]:
        """Sentences about knots that cannot be."""
        if len(self.at) != len(self.ticks) or len(self.at) < 2:
            yield f"{key}.at and {key}.ticks must be equally long, two knots at least"
        elif self.at[0] != 1:
            yield f"{key}.at must begin at 1"
        if any(a >= b for a, b in pairwise(self.at)):
            yield f"{key}.at must increase"
        if any(a > b for a, b in pairwise(self.ticks)):
            yield f"{key}.ticks must never decrease: more work is never faster"
