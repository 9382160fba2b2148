"""How much longer prompts become by the history in them: the mean of a pool's own prompts beside that with conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from workloads.arrivals import WINDOW_S
from workloads.numerics import Purpose, stream_key, uniforms
from workloads.players import FIELD_PURPOSE
from workloads.pool_data import WINDOW_NS, PoolData, overlaps
from workloads.sessions.model import TURN_BITS, ConversationModel
from workloads.sessions.turns import Span, Turns
from workloads.stream import CLIENT_SHIFT, new_rows
from workloads.thinking import thinking_tokens

_SAMPLE: Final = 2048
_FOREVER: Final = Span(0, 0, 2**62)


class InputMeans(NamedTuple):
    """Mean input tokens of all requests: as the pool has them, and with conversations."""

    alone: float
    with_history: float


def input_means(
    pool: PoolData, model: ConversationModel, start_s: float, duration_s: float, clients: Sequence[int] | None
) -> InputMeans:
    """The means over a span, as far as the pool's requests go: the difference is that of 2,048 conversations of fixed numbers.

    A share multi_turn_share of requests are in conversations of several turns, and only these change; a history that keeps
    the client's lengths changes none.
    """
    count = _requests(pool, start_s, duration_s, clients)
    mean = pool.lengths["input_tokens"].model_mean()
    sketch = pool.window_rows()
    alone = float((count * mean[sketch]).sum() / count.sum())
    if model.history == "marginal" or model.multi_turn_share == 0.0:
        return InputMeans(alone, alone)
    starts, starts_sketch = _starts(pool, count, sketch)
    rows = Turns(pool, replace(model, multi_turn_share=1.0), _FOREVER, 0).of(starts).rows
    of = (rows["request_id"] & ((1 << CLIENT_SHIFT) - 1)) >> TURN_BITS
    longer = float(rows["input_tokens"].mean() - mean[starts_sketch[of]].mean())
    return InputMeans(alone, alone + model.multi_turn_share * longer)


def _requests(pool: PoolData, start_s: float, duration_s: float, clients: Sequence[int] | None) -> np.ndarray:
    """Requests by client and window of the data, 0 outside of what is asked for; a span of several periods is as one."""
    share = np.zeros(pool.windows)
    for window, part in overlaps(start_s, min(duration_s, pool.period * WINDOW_S)):
        share[window % pool.period] += part
    used = np.ones(len(pool.client_ids), bool) if clients is None else np.isin(pool.client_ids, list(clients))
    requests: np.ndarray = pool.count * share * used[:, None]
    return requests


def _starts(pool: PoolData, count: np.ndarray, sketch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """STREAM rows of sample starts, chosen by their requests, and their rows in the tables of lengths."""
    cumulative, number = np.cumsum(count), np.arange(_SAMPLE)
    purposes = (Purpose.REQUEST, *FIELD_PURPOSE.values(), Purpose.REASON)
    drawn = {purpose: uniforms(stream_key(0, 0, purpose), number) for purpose in purposes}
    chosen = np.searchsorted(cumulative, drawn[Purpose.REQUEST] * cumulative[-1], side="right")
    client, window = np.divmod(np.minimum(chosen, count.size - 1), pool.windows)
    rows = new_rows(_SAMPLE)
    rows["arrival_ns"], rows["client_id"] = window * WINDOW_NS, pool.client_ids[client]
    rows["request_id"] = (rows["client_id"].astype(np.int64) << CLIENT_SHIFT) + number
    own = sketch[client, window]
    for name, purpose in FIELD_PURPOSE.items():
        rows[name] = pool.lengths[name].sample(own, drawn[purpose])
    rows["reason_tokens"] = thinking_tokens(pool, own, rows["output_tokens"], drawn[Purpose.REASON])
    return rows, own
