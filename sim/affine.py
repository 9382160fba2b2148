"""A step cost for tests and teaching: so much for an iteration, and so much for each token of four kinds."""

from dataclasses import dataclass
from typing import Any

from sim.batch import Batch
from sim.engine import ClusterError

_TICK_BITS = 16  # the compiled engine counts in ticks of 2^-16 ns


@dataclass(frozen=True)
class AffineCost:
    """Whole nanoseconds: a base, and prices per token computed, per token of context after it, per token encoded."""

    base_ns: int
    per_token_ns: int = 0
    per_kv_token_ns: int = 0
    per_encoder_token_ns: int = 0

    def step_ns(self, prefill_tokens: int, prefill_work: int, decodes: int, decode_context_tokens: int, samples: int) -> int:
        """An iteration of decodes alone; of prefill the sums do not tell the context, so `batch_ns` does."""
        return self.base_ns + self.per_token_ns * (prefill_tokens + decodes) + self.per_kv_token_ns * decode_context_tokens

    def batch_ns(self, batch: Batch) -> int:
        """Any iteration."""
        tokens = self.per_token_ns * (batch.prefill_tokens + batch.decodes)
        context = self.per_kv_token_ns * batch.context_tokens
        return self.base_ns + tokens + context + self.per_encoder_token_ns * batch.encode_tokens

    def arrays(self, most_tokens: int) -> dict[str, Any]:
        """The same price in the terms of hwprofiles.steptable, and of two products that only this one has.

        ClusterError where a step of so many tokens takes more time than 64 bits hold.
        """
        import numpy as np

        if self.base_ns + self.per_token_ns * most_tokens >= 1 << 62 - _TICK_BITS:
            raise ClusterError(f"step cost: a step of {most_tokens} tokens takes more time than 64 bits hold; lower it")

        nothing = np.zeros(most_tokens + 1, np.int64)
        by_tokens = self.base_ns + self.per_token_ns * np.arange(most_tokens + 1, dtype=np.int64) << _TICK_BITS
        return {
            "by_tokens": by_tokens,
            "by_samples": nothing,
            "by_prefill_tokens": nothing,
            "by_decodes": nothing,
            "by_decodes_context": nothing + (self.per_kv_token_ns << _TICK_BITS),
            "chunk_context_ticks": self.per_kv_token_ns << _TICK_BITS,
            "encode_ticks": self.per_encoder_token_ns << _TICK_BITS,
        }
