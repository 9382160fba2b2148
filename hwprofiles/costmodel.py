"""The step-cost model: how long one iteration of an instance takes, as a sum of a few integers.

    t(step) = f_tok(m) + head(B) + c0 + cs*B
            + [prefill tokens > 0] * (a0 + a1*prefill tokens + a2*prefill work)
            + [decodes > 0]        * (d(decodes) + e(decodes) * decode context tokens / decodes)

with m = prefill tokens + decodes, and B = requests that sample a token in this step. Prefill work is the sum of
n*(n + 2*past) over the prefill chunks, n new tokens after `past` computed ones: twice the token pairs that attention
scores. Decode context tokens are the sum of the context lengths of the decodes, the token computed now included. All but c0
and cs, the host's part, is kernel time and in the tables; the host's part is the software era's (`hwprofiles.software`).

Every coefficient is a whole number of ticks, 2^-16 ns, so sums are exact; a step is rounded once, to a nanosecond.
docs/hardware.md prices a step by hand.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hwprofiles.memory import KV_CACHE_PRECISION
from hwprofiles.records import INT64_MAX, ProfileError
from hwprofiles.software import DEFAULT, Software, load_software
from hwprofiles.steptable import TICKS_PER_MS, Knots, StepTable

MAX_TABLE_LENGTH = 1 << 22
"""The most tokens or requests of a step that a table is made for."""

GRADES = {
    "measured": "composed from kernels measured on this GPU in these shapes, or interpolated between shapes measured",
    "transferred": "the same, but with attention of other heads standing for heads that were not measured",
    "roofline": "the GPU's roofline, fitted on other models",
    "user": "from the user's own file",
}
"""What may stand behind a step cost, the best first."""


@dataclass(frozen=True)
class FitError:
    """How far a step-cost table is from the composed kernel times it was fitted to, over named steps; fractions."""

    steps: int
    """Steps compared."""
    mape_frac: float
    """Mean of |table - composed| / composed."""
    worst_5pct_frac: float
    """Mean of the same over the worst twentieth of the steps."""
    max_frac: float
    """The worst step."""
    held_out_mape_frac: float
    """Mean error of a table made from every other knot, over the same steps."""
    measured_on: str
    """What the steps were."""


@dataclass(frozen=True)
class FittedRange:
    """The largest arguments the fit saw; beyond them the formula extrapolates."""

    tokens: int
    """New tokens in a step."""
    samples: int
    """Requests that sample in a step."""
    prompt_tokens: int
    """Tokens of a prompt, computed in one chunk with nothing before it."""
    decodes: int
    """Decodes in a step."""
    context_tokens: int
    """Context of a decode."""


@dataclass(frozen=True)
class AttentionCost:
    """Attention of a step with one type of KV cache, in ticks."""

    prefill_step: int
    """a0: once a step with prefill."""
    prefill_token: int
    """a1: for each prefill token."""
    prefill_work: int
    """a2: for each unit of n*(n + 2*past)."""
    decodes: Knots
    """d: by decodes, whatever their context."""
    contexts: Knots
    """e: for each token of the mean context of a step's decodes, by decodes."""

    def context_token_ticks(self, most_decodes: int) -> list[int]:
        """e(n) / n, rounded up: for each token of context of any decode where n decode, n from 0 to `most_decodes`."""
        return [0] + [-(-ticks // n) for n, ticks in enumerate(self.contexts.resample(most_decodes)[1:], 1)]


@dataclass(frozen=True)
class StepCost:
    """What a step costs on one (GPU, model, precision, tensor parallelism), with its pedigree."""

    gpu: str
    model: str
    precision: str
    tp: int
    layers: int
    """Of the model; the host's time of some eras depends on them."""
    grade: str
    """What stands behind the answer, a key of GRADES."""
    source: str
    licence: str
    command: str
    """What makes the file."""
    error: FitError
    fitted: FittedRange
    tokens: Knots
    """f_tok: the matrix products, all-reduces and elementwise kernels of all layers, by new tokens of the step."""
    samples: Knots
    """head: the output head, by sampling requests."""
    attention: dict[str, AttentionCost]
    """By precision of the KV cache."""

    @property
    def error_mape_frac(self) -> float:
        """Mean error against the composed kernel times."""
        return self.error.mape_frac

    @property
    def fitted_tokens(self) -> tuple[int, int]:
        """New tokens of a step between which f_tok is interpolated; beyond, it goes on along its last slope."""
        return self.tokens.at[0], self.tokens.at[-1]

    def beyond_fit(self, prompt_tokens: int, context_tokens: int) -> list[str]:
        """Sentences about a longest prompt and a longest context that the fit did not see: such steps are extrapolated."""
        seen = (("prompts", prompt_tokens, self.fitted.prompt_tokens), ("contexts", context_tokens, self.fitted.context_tokens))
        return [f"{what} to {n:,} tokens, fitted to {most:,}" for what, n, most in seen if n > most]

    def attention_of(self, kv_cache_dtype: str = "auto") -> AttentionCost:
        """The attention with a KV cache of that type; ProfileError where it was not measured."""
        precision = KV_CACHE_PRECISION.get(kv_cache_dtype, kv_cache_dtype)
        if precision not in self.attention:
            raise ProfileError(
                f"no step cost for {self.gpu} {self.model} with kv_cache_dtype {kv_cache_dtype!r}; "
                f"there is attention with KV in {', '.join(self.attention)}"
            )
        return self.attention[precision]

    def table(
        self,
        max_num_batched_tokens: int,
        max_num_seqs: int,
        max_model_len: int,
        kv_tokens: int,
        software: str | Software | None = DEFAULT,
        kv_cache_dtype: str = "auto",
    ) -> StepTable:
        """The table for one engine's limits, the host's time included (software None: kernels alone).

        kv_tokens, the capacity of the KV blocks, bounds one context. It does not bound their sum, since requests with
        a common prefix share blocks: that is bounded by max_num_seqs contexts. ProfileError where the largest step could
        overflow 64 bits, and for a KV cache or a software that is not known.
        """
        _check_limits(max_num_batched_tokens, max_num_seqs, max_model_len, kv_tokens)
        a, most_decodes = self.attention_of(kv_cache_dtype), min(max_num_batched_tokens, max_num_seqs)
        step, sample, most_samples = self._host_ticks(software)
        table = StepTable(
            by_tokens=[step + ticks for ticks in self.tokens.resample(max_num_batched_tokens)],
            by_samples=[ticks + sample * min(b, most_samples) for b, ticks in enumerate(self.samples.resample(most_decodes))],
            by_prefill_tokens=_affine(a.prefill_step, a.prefill_token, max_num_batched_tokens),
            by_decodes=a.decodes.resample(most_decodes),
            prefill_work_ticks=a.prefill_work,
            by_decodes_context=a.context_token_ticks(most_decodes),
        )
        context = min(max_model_len, kv_tokens)
        # n*(n + 2*past) is at most 2*n*context, as n + past is at most the context.
        table.check_largest_step(2 * max_num_batched_tokens * context, most_decodes * context)
        return table

    def problems(self) -> Iterator[str]:
        """Sentences about values that do not go together."""
        yield from self.tokens.problems("tokens")
        yield from self.samples.problems("samples")
        for kv, attention in self.attention.items():
            yield from attention.decodes.problems(f"attention.{kv}.decodes")
            yield from attention.contexts.problems(f"attention.{kv}.contexts")
        if "bf16" not in self.attention:
            yield "attention must have an entry bf16"
        if self.grade not in GRADES:
            yield f"grade {self.grade!r} is none of {', '.join(GRADES)}"
        if self.tp < 1:
            yield "tp must be from 1 up"
        if self.tokens.ticks and self.tokens.ticks[0] < TICKS_PER_MS // 1_000_000:
            yield "tokens.ticks make a step shorter than a nanosecond"

    def _host_ticks(self, software: str | Software | None) -> tuple[int, int, int]:
        """(c0, cs, the requests up to which cs is counted)"""
        if software is None:
            return 0, 0, 0
        era = load_software(software)
        step, sample = (round(ms * TICKS_PER_MS) for ms in (era.host_ms(self.layers, self.tp), era.sample_ms))
        return step, sample, era.most_samples


def _check_limits(max_num_batched_tokens: int, max_num_seqs: int, max_model_len: int, kv_tokens: int) -> None:
    limits = {
        "max_num_batched_tokens": (max_num_batched_tokens, MAX_TABLE_LENGTH),
        "max_num_seqs": (max_num_seqs, MAX_TABLE_LENGTH),
        "max_model_len": (max_model_len, INT64_MAX),
        "kv_tokens": (kv_tokens, INT64_MAX),
    }
    mistakes = [
        f"{name} must be from 1 to {most}, not {value!r}" for name, (value, most) in limits.items() if not 1 <= value <= most
    ]
    if mistakes:
        raise ProfileError("\n".join(mistakes))


def _affine(once: int, each: int, longest: int) -> list[int]:
    """0 for nothing, once + each*n for n from 1 to `longest`."""
    return [0] + [once + each * n for n in range(1, longest + 1)]
