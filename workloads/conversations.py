"""Conversations in the open loop: prompts that grow by their answers. A small source for tests and examples.

Those of a client pool, with its lengths and rates, are `sessions`.

Turn k's prompt is the system prompt that all share, then user text, answer, user text, …, and ends with turn k's own user
text. All turns of a conversation are slices of one run of SEGMENTS, each two pieces longer than the one before:

    run      system | user 1 | answer 1 | user 2 | answer 2 | user 3
    turn 1   --------------->
    turn 2   ------------------------------------>
    turn 3   ------------------------------------------------------>

Arrivals are fixed beforehand: a turn does not wait for the answer before it. No client data stand behind the numbers.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from workloads.errors import WorkloadError, raise_all
from workloads.numerics import Purpose, log, stream_key, uniforms
from workloads.stream import CLIENT_SHIFT, LONGEST_S, MAX_TOKENS, NS_PER_S, SEGMENTS, Stream, new_rows, out_segment

SYSTEM_SEGMENT = 0
_MOST_REQUESTS = 10_000_000
_MOST_TURNS = 1 << 20  # draw k of conversation c is entry c · 2^20 + k of its sequence
Tokens = int | tuple[int, int]


def conversations(
    n: int,
    turns: int,
    rate_rps: float,
    system_tokens: int,
    first_tokens: Tokens,
    turn_tokens: Tokens,
    output_tokens: Tokens,
    think_s: float,
    seed: int = 1,
) -> Stream:
    """n conversations of `turns` requests each, with their shared prompts. Raises WorkloadError.

    Conversations begin as a Poisson process of rate `rate_rps / turns`, so that `rate_rps` is the requests/s of all turns
    while new ones begin; the turns of one follow each other after exponential times of mean `think_s`, from arrival to
    arrival. `first_tokens` is the user text of a first turn, `turn_tokens` that of later ones: a number, or (least, most)
    to draw evenly from, as is `output_tokens`, whose most is max_tokens. `system_tokens` may be 0.
    Conversation c is client and session c; turn k of it is request c << 32 | k - 1, and its user text segment request + 1.
    What a conversation sends depends on (seed, c) alone, however many there are and however many turns they have, but for
    their rate, which stretches the times between their beginnings.
    """
    lengths = {"first_tokens": first_tokens, "turn_tokens": turn_tokens, "output_tokens": output_tokens}
    raise_all(_mistakes(n, turns, rate_rps, system_tokens, think_s, seed) + _length_mistakes(lengths))
    about = {"n": n, "turns": turns, "rate_rps": rate_rps, "think_s": think_s, "system_tokens": system_tokens}
    user = _drawn(seed, Purpose.INPUT, n, turns, turn_tokens)
    user[:, :1] = _drawn(seed, Purpose.INPUT, n, 1, first_tokens)
    answers = _drawn(seed, Purpose.OUTPUT, n, turns, output_tokens)
    rows = _rows(system_tokens, user, answers)
    rows["max_tokens"] = _bounds(output_tokens)[1]
    rows["arrival_ns"] = _arrival_ns(seed, n, turns, rate_rps, think_s).ravel()
    segments = _segments(rows["request_id"].reshape(n, turns), system_tokens, user, answers)
    rows = rows[np.lexsort((rows["request_id"], rows["arrival_ns"]))]
    duration_s = float(int(rows["arrival_ns"][-1]) // NS_PER_S + 1)
    described = {"source": "conversations", "seed": seed} | about | lengths
    return Stream(duration_s, partial(iter, (rows,)), described, segments, is_checked=True)


def _rows(system_tokens: int, user: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """STREAM rows by conversation and turn. Raises WorkloadError where a prompt grows too long."""
    n, turns = user.shape
    prompt = system_tokens + np.cumsum(user, axis=1) + np.cumsum(answers, axis=1) - answers
    if prompt.max() > MAX_TOKENS:
        raise WorkloadError(f"the longest prompt has {prompt.max()} tokens, expected at most {MAX_TOKENS}: fewer turns?")
    rows = new_rows(n * turns)
    conversation, earlier = np.divmod(np.arange(n * turns), turns)
    rows["client_id"] = rows["session_id"] = conversation
    rows["turn"] = earlier + 1
    rows["request_id"] = (conversation << CLIENT_SHIFT) + earlier
    rows["input_tokens"], rows["output_tokens"] = prompt.ravel(), answers.ravel()
    system = int(system_tokens > 0)
    rows["segments_start"] = conversation * (system + 2 * turns - 1)
    rows["segments_count"] = system + 2 * earlier + 1
    return rows


def _segments(requests: np.ndarray, system_tokens: int, user: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """One run per conversation: the pieces of its last prompt."""
    n, turns = requests.shape
    run = np.empty((n, 2 * turns), SEGMENTS)
    run["segment_id"][:, 0], run["tokens"][:, 0] = SYSTEM_SEGMENT, system_tokens
    run["segment_id"][:, 1::2], run["tokens"][:, 1::2] = requests + 1, user
    run["segment_id"][:, 2::2], run["tokens"][:, 2::2] = out_segment(requests[:, :-1]), answers[:, :-1]
    return run[:, 0 if system_tokens else 1 :].ravel()


def _arrival_ns(seed: int, n: int, turns: int, rate_rps: float, think_s: float) -> np.ndarray:
    """Arrivals by conversation and turn. Raises WorkloadError for those beyond the longest time we count."""
    begin_s = np.cumsum(-log(uniforms(stream_key(seed, 0, Purpose.GAP), np.arange(n))) * (turns / rate_rps))
    pause_s = -log(_uniforms(seed, Purpose.PAUSE, n, turns)) * think_s
    pause_s[:, 0] = begin_s
    arrival_s = np.cumsum(pause_s, axis=1)
    if arrival_s.max() > LONGEST_S:
        raise WorkloadError(f"the last request arrives at {arrival_s.max():.0f} s: expected at most {LONGEST_S} s")
    return np.floor(arrival_s * NS_PER_S).astype(np.int64)


def _drawn(seed: int, purpose: Purpose, n: int, turns: int, tokens: Tokens) -> np.ndarray:
    """Lengths by conversation and turn."""
    least, most = _bounds(tokens)
    drawn = least + np.floor(_uniforms(seed, purpose, n, turns) * (most - least + 1)).astype(np.int64)
    return np.minimum(drawn, most)


def _uniforms(seed: int, purpose: Purpose, n: int, turns: int) -> np.ndarray:
    return uniforms(stream_key(seed, 0, purpose), np.arange(n)[:, None] * _MOST_TURNS + np.arange(turns))


def _bounds(tokens: Tokens) -> tuple[int, int]:
    """(least, most) of a length."""
    return tokens if isinstance(tokens, tuple) else (tokens, tokens)


def _length_mistakes(lengths: dict[str, Tokens]) -> list[str]:
    return [
        f"{name}: expected tokens from 1 to {MAX_TOKENS}, or (least, most) of them, got {tokens!r}"
        for name, tokens in lengths.items()
        if not (len(b := _bounds(tokens)) == 2 and all(map(_whole, b)) and 1 <= b[0] <= b[1] <= MAX_TOKENS)
    ]


def _mistakes(n: int, turns: int, rate_rps: float, system_tokens: int, think_s: float, seed: int) -> list[str]:
    mistakes = []
    if not (_whole(n) and _whole(turns) and n >= 1 and 1 <= turns < _MOST_TURNS and n * turns <= _MOST_REQUESTS):
        mistakes.append(f"n, turns: expected whole numbers from 1, {_MOST_REQUESTS} requests at most, got {n!r}, {turns!r}")
    if not (math.isfinite(rate_rps) and rate_rps > 0.0):
        mistakes.append(f"rate_rps: expected more than 0 requests/s, got {rate_rps!r}")
    if not (_whole(system_tokens) and 0 <= system_tokens <= MAX_TOKENS):
        mistakes.append(f"system_tokens: expected a whole number from 0 to {MAX_TOKENS}, got {system_tokens!r}")
    if not (math.isfinite(think_s) and think_s >= 0.0):
        mistakes.append(f"think_s: expected at least 0 s, got {think_s!r}")
    if not _whole(seed):
        mistakes.append(f"seed: expected a whole number, got {seed!r}")
    return mistakes


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
