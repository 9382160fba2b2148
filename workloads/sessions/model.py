"""ConversationModel: how many turns conversations have, when each comes, and what its prompt holds of those before.

Published client data have no turns, so the numbers are of other sources or choices; the fields say which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from workloads.errors import WorkloadError, is_number_in, nearest, raise_all
from workloads.numerics import Purpose, exp, log, normal_quantile, stream_key, uniforms
from workloads.stream import LONGEST_S, MAX_TOKENS, NS_PER_S

TURN_BITS: Final = 6
MOST_TURNS: Final = 1 << TURN_BITS
HISTORIES: Final = ("growing", "marginal")
NEW_TOKENS: Final = ("client", "mooncake")

# Inter-turn times, arrival to arrival: (median in s, σ of the logarithm).
ITT: Final = {
    "servegen": (190.0, 0.8),  # estimate: mode 100 s and long tail as drawn in the paper's figure (ServeGen, 2025)
    "mooncake": (126.0, 1.05),  # measured on the Mooncake conversation trace of one hour; parents by chains of equal blocks
    "burstgpt": (131.0, 1.9),  # estimate: quartiles 42, 131, 533 s of a public survey of BurstGPT, unverified
}
# Kinds of service: (multi_turn_share, entry of ITT). The share of "servegen" is measured for its reasoning workload
# (188,986 of 1,964,415 requests), that of "chat" a choice.
PRESETS: Final = {"servegen": (0.096, "servegen"), "chat": (0.5, "mooncake")}
# New text of a turn in the Mooncake conversation trace (measured, heuristic): quantiles of input - input before - answer
# before. The least is 1 token; the longest goes on with the slope from p75 to p95.
_MOONCAKE_P: Final = np.array([0.0, 0.25, 0.5, 0.75, 0.95, 1.0])
_MOONCAKE_TOKENS: Final = np.array([1.0, 9.0, 26.0, 384.0, 7238.0, 15_079.0])

_MISSING_FRAC: Final = 0.005  # of the requests at the start of a run, those whose conversation began before the lead-in
_LEAD_STEP_S: Final = 600.0
_SAMPLE: Final = 2048


@dataclass(frozen=True)
class ConversationModel:
    """Turns, times between them, and prompts. Raises WorkloadError for numbers that cannot be.

    multi_turn_share: share of requests in conversations of two turns or more; see PRESETS.
    extra_turns: of these conversations, turns beyond the second, at most 62: a mixture of geometric laws on 0, 1, …, given
    as (weight, mean). Choice: a mean of 3.5 turns and a tail to 40 in 57,000 conversations, as the paper's figure shows.
    itt_median_s, itt_sigma: lognormal inter-turn time, from arrival to arrival, the same for every turn; see ITT.
    history: "growing": a prompt is the one before, its answer and new text, so prompts are longer than the client's own.
    "marginal": a conversation's prompts are draws of the client's own lengths in ascending order, and hold what came before
    where that fits, so that the lengths of all turns together are the client's own. Both are choices.
    new_tokens: of what a growing prompt's new text is drawn: "client", the client's own input lengths (a choice: they may
    hold history already), or "mooncake", quantiles measured on the Mooncake trace.
    keep_reasoning: whether the tokens that think stay in the history; services drop them as a rule.
    max_input_tokens: a growing prompt longer than this starts again, with its new text alone.
    system_tokens: all prompts of a client begin with the same so many tokens, their part where they are shorter.
    """

    multi_turn_share: float = PRESETS["chat"][0]
    itt_median_s: float = ITT["mooncake"][0]
    itt_sigma: float = ITT["mooncake"][1]
    extra_turns: tuple[tuple[float, float], ...] = ((0.9, 1.0), (0.1, 6.0))
    history: str = "growing"
    new_tokens: str = "client"
    keep_reasoning: bool = False
    max_input_tokens: int = 131_072
    system_tokens: int = 0

    @classmethod
    def preset(cls, name: str, itt: str | None = None, **changes: Any) -> ConversationModel:
        """An entry of PRESETS with the inter-turn times of an entry of ITT, and with these fields changed."""
        mistakes = [
            f"{what}: no preset {given!r}{nearest(str(given), known)}; known: {', '.join(known)}"
            for what, given, known in (("conversation", name, PRESETS), ("itt", itt, ITT))
            if given is not None and given not in known
        ]
        fields = cls.__dataclass_fields__
        mistakes += [
            f"conversation: no setting {key!r}{nearest(key, fields)}; known: {', '.join(fields)}"
            for key in changes
            if key not in fields
        ]
        raise_all(mistakes)
        share, own_itt = PRESETS[name]
        return replace(cls(share, *ITT[itt or own_itt]), **changes)

    def __post_init__(self) -> None:
        raise_all(_mistakes(self))

    @property
    def turns_per_start(self) -> float:
        """Mean requests of a conversation, those of one turn among them."""
        return float(np.cumsum(self.at_least)[-1])

    @cached_property
    def at_least(self) -> np.ndarray:
        """P(turns ≥ k) for k = 1 … 64, conversations of one turn among them.

        With T the mean of those of several turns, a share p of the conversations has a share m = p T / (p T + 1 - p) of the
        requests, so p = m / (m + T (1 - m)).
        """
        extra = np.zeros(MOST_TURNS - 1)
        for weight, mean in self.extra_turns:
            steps = np.full(MOST_TURNS - 1, mean / (1.0 + mean))
            steps[0] = 1.0
            extra += weight * np.cumprod(steps)
        extra /= extra[0]  # the weights sum to 1 but for rounding
        several = 1.0 + float(np.cumsum(extra)[-1])
        share = self.multi_turn_share
        return np.concatenate(([1.0], share / (share + several * (1.0 - share)) * extra))

    def turns(self, drawn: np.ndarray) -> np.ndarray:
        """Number of turns of a conversation, from a uniform each."""
        return 1 + np.searchsorted(1.0 - self.at_least[1:], drawn, side="right")

    def itt_ns(self, drawn: np.ndarray) -> np.ndarray:
        """Inter-turn times at the probabilities `drawn`: a nanosecond at least, LONGEST_S at most."""
        itt_s = np.minimum(self.itt_median_s * exp(self.itt_sigma * normal_quantile(drawn)), LONGEST_S)
        return np.maximum(np.floor(itt_s * NS_PER_S).astype(np.int64), 1)

    @cached_property
    def lead_in_s(self) -> float:
        """How long before a run conversations must begin for the run to start with its full rate, but for half a percent.

        A turn is missing where its conversation is older than the lead-in. By 2,048 conversations of fixed numbers, rounded up
        to windows of 600 s: the law of a sum of lognormals has no closed form.
        """
        if self.multi_turn_share == 0.0:
            return 0.0
        drawn = uniforms(stream_key(0, 0, Purpose.PAUSE), np.arange(_SAMPLE * (MOST_TURNS - 1)))
        age_ns = np.cumsum(self.itt_ns(drawn).reshape(_SAMPLE, -1), axis=1).ravel()
        weight = np.tile(self.at_least[1:] / (self.turns_per_start * _SAMPLE), _SAMPLE)
        oldest = np.argsort(-age_ns, kind="stable")
        missing = np.cumsum(weight[oldest])
        age_s = age_ns[oldest[min(int(np.searchsorted(missing, _MISSING_FRAC)), len(oldest) - 1)]] / NS_PER_S
        return math.ceil(age_s / _LEAD_STEP_S) * _LEAD_STEP_S


def model_of(conversation: ConversationModel | str) -> ConversationModel:
    """The model, or the preset of that name. Raises WorkloadError."""
    if isinstance(conversation, ConversationModel):
        return conversation
    if not isinstance(conversation, str):
        raise WorkloadError(f"conversation: expected a ConversationModel or one of {', '.join(PRESETS)}, got {conversation!r}")
    return ConversationModel.preset(conversation)


def mooncake_tokens(drawn: np.ndarray) -> np.ndarray:
    """New text of a turn at these probabilities; between the quantiles log(tokens + 1) is linear, as in lengths.py."""
    part = np.minimum(np.searchsorted(_MOONCAKE_P, drawn, side="right") - 1, len(_MOONCAKE_P) - 2)
    low, high = (log(_MOONCAKE_TOKENS + 1.0)[part + side] for side in (0, 1))
    fraction = (drawn - _MOONCAKE_P[part]) / (_MOONCAKE_P[part + 1] - _MOONCAKE_P[part])
    return np.maximum(np.rint(exp(low + fraction * (high - low)) - 1.0), 1.0).astype(np.int64)


def _mistakes(of: ConversationModel) -> list[str]:
    limits = (("multi_turn_share", 0.0, 1.0), ("itt_median_s", 1e-3, float(LONGEST_S)), ("itt_sigma", 0.0, 5.0))
    mistakes = [
        f"{name}: expected a number from {least:g} to {most:g}, got {getattr(of, name)!r}"
        for name, least, most in limits
        if not is_number_in(getattr(of, name), least, most)
    ]
    for name, known in (("history", HISTORIES), ("new_tokens", NEW_TOKENS)):
        if (given := getattr(of, name)) not in known:
            mistakes.append(f"{name}: expected one of {', '.join(known)}, got {given!r}{nearest(str(given), known)}")
    for name, least in (("max_input_tokens", 1), ("system_tokens", 0)):
        given = getattr(of, name)
        if not (isinstance(given, int) and is_number_in(given, least, MAX_TOKENS)):
            mistakes.append(f"{name}: expected a whole number from {least} to {MAX_TOKENS}, got {given!r}")
    if not isinstance(of.keep_reasoning, bool):
        mistakes.append(f"keep_reasoning: expected true or false, got {of.keep_reasoning!r}")
    if not _is_mixture(of.extra_turns):
        mistakes.append(f"extra_turns: expected pairs of a weight and a mean, weights summing to 1, got {of.extra_turns!r}")
    return mistakes + _idle(of)


def _idle(of: ConversationModel) -> list[str]:
    """Settings that would do nothing."""
    plain = {field.name: field.default for field in ConversationModel.__dataclass_fields__.values()}
    if of.history == "marginal":
        return [
            f'{name}: does nothing with history = "marginal", whose lengths are the client\'s own'
            for name in ("new_tokens", "max_input_tokens")
            if getattr(of, name) != plain[name]
        ]
    return []


def _is_mixture(pairs: object) -> bool:
    if not isinstance(pairs, tuple) or not pairs:
        return False
    for pair in pairs:
        if not (
            isinstance(pair, tuple) and len(pair) == 2 and is_number_in(pair[0], 0.0, 1.0) and is_number_in(pair[1], 0.0, 1e3)
        ):
            return False
    return abs(sum(weight for weight, _ in pairs) - 1.0) <= 1e-9
