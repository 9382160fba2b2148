"""Sessions: a client pool whose requests are turns of conversations, in the open loop.

Starts of conversations are a composition (compose.py) of the pool at its rate over the mean turns of a conversation; each is
expanded into its turns, which wait until they are due. model.py says how many and when, turns.py what they are, pieces.py
what their prompts share. A turn does not wait for the answer before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import numpy as np

from workloads.arrivals import WINDOW_S
from workloads.compose import compose
from workloads.errors import raise_all
from workloads.pool_data import PoolData
from workloads.sessions.model import ITT, PRESETS, ConversationModel, model_of
from workloads.sessions.shift import InputMeans, input_means
from workloads.sessions.turns import Span, Turns
from workloads.sessions.waiting import Waiting
from workloads.stream import NS_PER_S, SEGMENTS, Stream
from workloads.traffic_model import TrafficModel

__all__ = ["ITT", "PRESETS", "ConversationModel", "sessions"]

_MOST_CLIENT: Final = (1 << 29) - 1  # names of pieces are twice the request's number, and below 2^62


def sessions(
    pool: PoolData,
    start: float | str = 0.0,
    duration: float | str = "1h",
    rate: float | None = None,
    scale: float | None = None,
    seed: int = 1,
    clients: Sequence[int] | None = None,
    model: TrafficModel = TrafficModel(),  # noqa: B008  (frozen)
    conversation: ConversationModel | str = "chat",
) -> Stream:
    """The pool's traffic as `compose` gives it, but as conversations: a model of them, or a key of PRESETS.

    The other parameters are those of `compose`; `rate` and `scale` are of all requests, whatever their turn. Every request
    belongs to a session, named by the request_id of its first turn, be it the only one: who serves it cannot know whether
    another follows. A request's number within its client is its start's sequence << 6 | turn - 1, and what a client sends
    depends on (seed, client id), its own rate and the start alone; only where its prompts stand in `segments` depends on the
    others. Later turns take lengths of the client's at the time of the first one, drawn independently. Raises WorkloadError
    for settings that cannot be.

    Conversations begin up to `lead_in_s` before the run, so that it starts with its full rate (the description says how
    long); what arrives before the run, or after its end, is left out. Where a client's rate changes, its follow-ups come as
    much later than the change as they do in a conversation. Memory is that of the turns that are not due yet; `segments`,
    made when first asked for, takes 12 bytes for each of some two pieces a turn.
    """
    talk, asked = model_of(conversation), compose(pool, start, duration, rate, scale, seed, clients, model).description
    raise_all(_mistakes(pool, model, talk))
    start_s, duration_s, lead_s = asked["start_s"], asked["duration_s"], talk.lead_in_s
    begun_s = _begun_s(pool, start_s - lead_s)
    scale_of_starts = asked["scale"] / talk.turns_per_start
    starts = compose(pool, begun_s, lead_s + duration_s, None, scale_of_starts, seed, clients, model)
    begun_ns, lead_ns, run_ns = (round(time_s * NS_PER_S) for time_s in (begun_s, lead_s, duration_s))
    source = _Source(starts, Turns(pool, talk, Span(begun_ns, lead_ns, run_ns), asked["seed"], model))
    means = input_means(pool, talk, start_s, duration_s, clients)
    return Stream(duration_s, source.blocks, _description(talk, asked, means), source.segments, is_checked=True)


class _Source(NamedTuple):
    """A composition of starts, and what makes turns of them."""

    starts: Stream
    turns: Turns

    def blocks(self) -> Iterator[np.ndarray]:
        """STREAM arrays sorted by (arrival_ns, request_id): what is due once no earlier conversation can begin."""
        waiting, entries, lead_ns = Waiting(), 0, self.turns.span.lead_ns
        for starts in self.starts.blocks():
            if not len(starts):
                continue
            rows, segments = self.turns.of(starts)
            rows["segments_start"] += entries
            entries += len(segments)
            waiting.add(rows)
            yield waiting.due(int(starts["arrival_ns"][-1]) - lead_ns)
        yield waiting.due()

    def segments(self) -> np.ndarray:
        """SEGMENTS of all conversations, by their starts."""
        return np.concatenate([np.empty(0, SEGMENTS), *(self.turns.of(starts).segments for starts in self.starts.blocks())])


def _begun_s(pool: PoolData, begun_s: float) -> float:
    """When the composition begins: a time before the pool's first day is that of whole periods of its data later."""
    period_s = pool.period * WINDOW_S
    return begun_s + math.ceil(max(-begun_s, 0.0) / period_s) * period_s


def _description(talk: ConversationModel, asked: dict[str, Any], means: InputMeans) -> dict[str, Any]:
    """That of the composition without conversations, and what these are and change."""
    note = f"prompts have {means.with_history:.0f} tokens in the mean, {means.alone:.0f} without what came before"
    return asked | {
        "source": "sessions",
        "conversation": asdict(talk),
        "turns_per_start": talk.turns_per_start,
        "starts_rate_rps": asked["rate_rps"] / talk.turns_per_start,
        "lead_in_s": talk.lead_in_s,
        "input_mean_tokens": means.with_history,
        "input_mean_tokens_alone": means.alone,
        "notes": [*asked["notes"], *([note] if means.with_history != means.alone else [])],
    }


def _mistakes(pool: PoolData, model: TrafficModel, talk: ConversationModel) -> list[str]:
    """Pools whose requests cannot be turns, and what would mean nothing of them."""
    mistakes = []
    if "input_tokens" not in pool.lengths:
        mistakes.append(f"pool {pool.name}: its prompts have items; expected a pool of text for conversations")
    if int(pool.client_ids.max()) > _MOST_CLIENT:
        mistakes.append(f"pool {pool.name}: client {pool.client_ids.max()}; expected numbers of at most {_MOST_CLIENT}")
    if model.correlation != 0.0 and talk.multi_turn_share > 0.0:
        mistakes.append(f"correlation = {model.correlation:g}: prompts that hold a history have none of their own; expected 0")
    return mistakes
