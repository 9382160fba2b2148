"""Starts of conversations, made into all their turns: when each comes, how long it is, and what its prompt is made of.

What a conversation sends depends on (seed, client, its number within the client), on its start's row, and on the model.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from workloads.errors import WorkloadError
from workloads.numerics import Purpose, stream_key, stream_keys, uniforms
from workloads.pool_data import PoolData
from workloads.sessions.model import MOST_TURNS, TURN_BITS, ConversationModel, mooncake_tokens
from workloads.sessions.pieces import Pieces, answer_ids, system_ids, text_ids
from workloads.stream import CLIENT_SHIFT
from workloads.thinking import thinking_tokens
from workloads.traffic_model import TrafficModel

_PURPOSES: Final = (Purpose.REQUEST, Purpose.PAUSE, Purpose.INPUT, Purpose.OUTPUT, Purpose.REASON)
_NOBODY: Final = -2  # to the hash a client that no pool has
_NO_TURN: Final = np.iinfo(np.int64).max


class Span(NamedTuple):
    """The composition of starts begins at `begun_ns` of the pool's clock, the run `lead_ns` later; it lasts `run_ns`."""

    begun_ns: int
    lead_ns: int
    run_ns: int


class Expanded(NamedTuple):
    """Turns inside the run, in no order, and the SEGMENTS of their prompts, from the first of which slices are counted."""

    rows: np.ndarray
    segments: np.ndarray


class Turns:
    """The turns of a pool's conversations under a model and a seed; of `traffic` later turns read max_tokens alone."""

    def __init__(
        self, pool: PoolData, model: ConversationModel, span: Span, seed: int, traffic: TrafficModel | None = None
    ) -> None:
        self.pool, self.model, self.span, self.traffic = pool, model, span, traffic or TrafficModel()
        own = int(stream_key(seed, _NOBODY, Purpose.REQUEST))  # a seed of our own: nothing is shared with the composition
        self._keys = {purpose: stream_keys(own, pool.client_ids, purpose) for purpose in _PURPOSES}

    def of(self, starts: np.ndarray) -> Expanded:
        """The conversations that begin with these STREAM rows of the composition."""
        talks = _Talks(self, starts)
        made = [talks.begin()]
        while len(talks.going):
            made.append(talks.go_on())
        rows, talk = (np.concatenate(column) for column in zip(*made))
        inside = (rows["arrival_ns"] >= 0) & (rows["arrival_ns"] < self.span.run_ns)
        return Expanded(*talks.pieces.laid_out(rows[inside], talk[inside]))

    def sketches(self, client: np.ndarray, arrival_ns: np.ndarray) -> np.ndarray:
        """Rows in the tables of lengths, of clients by index at these times of the composition."""
        return self.pool.rows_at(client, arrival_ns + self.span.begun_ns)

    def drawn(self, purpose: Purpose, client: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Uniforms, of clients by index."""
        return uniforms(self._keys[purpose][client], number)


class _Talks:
    """Conversations on their way, all of them turn by turn.

    last: the latest STREAM row of each; going: indices of those with another turn; number: of their first request within the
    client; turns: how many they have; sketch: the row of their start in the tables of lengths, which they keep.
    """

    def __init__(self, of: Turns, starts: np.ndarray) -> None:
        self.of, self.model, self.last, self.turn = of, of.model, starts.copy(), 1
        self.client = np.searchsorted(of.pool.client_ids, starts["client_id"])
        self.number = _numbers(starts)
        self.sketch = of.sketches(self.client, starts["arrival_ns"])
        self.turns = of.model.turns(of.drawn(Purpose.REQUEST, self.client, self.number))
        self.going = np.flatnonzero(self.turns > 1)
        self.pieces = Pieces(len(starts))

    def begin(self) -> tuple[np.ndarray, np.ndarray]:
        """The first turns, and whose they are."""
        rows = self.last
        rows["request_id"] = (rows["client_id"].astype(np.int64) << CLIENT_SHIFT) + self.number
        rows["session_id"] = rows["request_id"]
        rows["arrival_ns"] -= self.of.span.lead_ns
        if self.model.history == "marginal":
            self._draw_prompts()
        everyone = np.arange(len(rows))
        self._begin_prompts(everyone, rows)
        self.pieces.slice(rows, everyone)
        return rows.copy(), everyone

    def go_on(self) -> tuple[np.ndarray, np.ndarray]:
        """The next turn of those that have another inside the run, and whose it is."""
        self.turn += 1
        rows = self._next_rows()
        inside = rows["arrival_ns"] < self.of.span.run_ns
        rows, talks = rows[inside], self.going[inside]
        before = self.last[talks]
        answer = before["output_tokens"].astype(np.int64)
        if not self.model.keep_reasoning:
            answer -= before["reason_tokens"]
        history = before["input_tokens"] + answer
        fits, new = self._new_text(talks, history)
        rows["input_tokens"] = np.where(fits, history, 0) + new
        self._begin_prompts(talks[~fits], rows[~fits])
        self.pieces.add(talks[fits], answer_ids(before, answer)[fits], answer[fits])
        self.pieces.add(talks[fits], text_ids(rows)[fits], new[fits])
        self.pieces.slice(rows, talks)
        self.last[talks] = rows
        self.going = talks[self.turns[talks] > self.turn]
        return rows, talks

    def _next_rows(self) -> np.ndarray:
        """Rows of the next turn but for their prompts."""
        of, talks = self.of, self.going
        rows, client, sketch = self.last[talks], self.client[talks], self.sketch[talks]
        number = self.number[talks] + self.turn - 1
        rows["turn"], rows["request_id"] = self.turn, rows["session_id"] + self.turn - 1
        rows["arrival_ns"] += self.model.itt_ns(of.drawn(Purpose.PAUSE, client, number))
        rows["output_tokens"] = of.pool.lengths["output_tokens"].sample(sketch, of.drawn(Purpose.OUTPUT, client, number))
        if isinstance(of.traffic.max_tokens, int):
            np.minimum(rows["output_tokens"], of.traffic.max_tokens, out=rows["output_tokens"])
        elif of.traffic.max_tokens == "output":
            rows["max_tokens"] = rows["output_tokens"]
        drawn = of.drawn(Purpose.REASON, client, number)
        rows["reason_tokens"] = thinking_tokens(of.pool, sketch, rows["output_tokens"], drawn)
        return rows

    def _new_text(self, talks: np.ndarray, history: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the turn's prompts: which hold the history before them, and tokens of what is new in them."""
        if self.model.history == "marginal":
            prompt = self.prompts[self.place[talks], self.turn - 1]
            fits = prompt > history
            return fits, np.where(fits, prompt - history, prompt)
        new = self._drawn_tokens(talks, self.turn)
        return history + new <= self.model.max_input_tokens, new

    def _draw_prompts(self) -> None:
        """Ascending prompt lengths of each conversation of several turns, one of them its start's; first turns take theirs."""
        several = self.going
        self.prompts = np.full((len(several), MOST_TURNS), _NO_TURN)
        self.prompts[:, 0] = self.last["input_tokens"][several]
        for turn in range(2, int(self.turns.max(initial=1)) + 1):
            drawn = self.turns[several] >= turn
            self.prompts[drawn, turn - 1] = self._drawn_tokens(several[drawn], turn)
        self.prompts.sort(axis=1)
        self.place = np.cumsum(self.turns > 1) - 1
        self.last["input_tokens"][several] = self.prompts[:, 0]

    def _drawn_tokens(self, talks: np.ndarray, turn: int) -> np.ndarray:
        drawn = self.of.drawn(Purpose.INPUT, self.client[talks], self.number[talks] + turn - 1)
        if self.model.new_tokens == "mooncake":
            return mooncake_tokens(drawn)
        return self.of.pool.lengths["input_tokens"].sample(self.sketch[talks], drawn).astype(np.int64)

    def _begin_prompts(self, talks: np.ndarray, rows: np.ndarray) -> None:
        """Prompts without history: the system prompt, then text; nothing is named where nobody can share it.

        A prompt shorter than the system prompt is cut from it; but in a conversation of several turns, where its answer may
        follow it, it is a text of its own, as a piece has one length wherever another follows.
        """
        self.pieces.begin(talks)
        tokens, is_alone = rows["input_tokens"].astype(np.int64), self.turns[talks] == 1
        least = self.model.system_tokens
        system = np.where((tokens > least) | is_alone, np.minimum(tokens, least), 0)
        self.pieces.add(talks, system_ids(rows), system)
        self.pieces.add(talks, text_ids(rows), np.where(is_alone & (system == 0), 0, tokens - system))


def _numbers(starts: np.ndarray) -> np.ndarray:
    """Of each start the number of its first request within the client: turns take the lowest bits."""
    sequence = starts["request_id"] & ((1 << CLIENT_SHIFT) - 1)
    if sequence.max(initial=0) >= 1 << (CLIENT_SHIFT - TURN_BITS):
        raise WorkloadError(
            f"a client begins more than {1 << (CLIENT_SHIFT - TURN_BITS)} conversations; expected a shorter span"
        )
    number: np.ndarray = sequence << TURN_BITS
    return number
