"""Pieces: what the prompts of many conversations are made of, noted turn by turn and laid out as SEGMENTS at the end.

Prompts of a conversation are slices of a run of pieces, each longer than the one before by an answer and new text; a prompt
without history begins another run, behind it.
"""

from __future__ import annotations

import numpy as np

from workloads.stream import CLIENT_SHIFT, SEGMENTS, out_segment


class Pieces:
    """The pieces of conversations by index: how many each has so far, and where its present run begins among them."""

    def __init__(self, talks: int) -> None:
        self.count, self.run = np.zeros(talks, np.int64), np.zeros(talks, np.int64)
        self._noted: list[tuple[np.ndarray, ...]] = []

    def begin(self, talks: np.ndarray) -> None:
        """These conversations begin another run."""
        self.run[talks] = self.count[talks]

    def add(self, talks: np.ndarray, ids: np.ndarray, tokens: np.ndarray) -> None:
        """One more piece for each of these conversations, but for pieces of no tokens."""
        there = tokens > 0
        talks = talks[there]
        self._noted.append((talks, self.count[talks], ids[there], tokens[there]))
        self.count[talks] += 1

    def slice(self, rows: np.ndarray, talks: np.ndarray) -> None:
        """The prompts of these rows are the present runs of their conversations, as far as they go."""
        rows["segments_start"], rows["segments_count"] = self.run[talks], self.count[talks] - self.run[talks]

    def laid_out(self, rows: np.ndarray, talks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows with their slices of the table, and the table: SEGMENTS of the conversations that have a row among them."""
        is_seen = np.zeros(len(self.count), bool)
        is_seen[talks] = True
        count = np.where(is_seen, self.count, 0)
        first = np.cumsum(count) - count
        table = np.empty(count.sum(), SEGMENTS)
        for talk, place, ids, tokens in self._noted:
            seen = is_seen[talk]
            entry = first[talk[seen]] + place[seen]
            table["segment_id"][entry], table["tokens"][entry] = ids[seen], tokens[seen]
        rows["segments_start"] += first[talks]
        return rows, table


def text_ids(rows: np.ndarray) -> np.ndarray:
    """Names of the new text of requests."""
    return rows["request_id"] << 1


def answer_ids(rows: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Names of the `kept` tokens of the answers of requests, in later prompts.

    A whole answer is the request's own. One without the tokens that thought has another name, as its tokens are not the first
    of the answer; so does one whose request came before the run and is not in the stream.
    """
    is_whole = (kept == rows["output_tokens"]) & (rows["arrival_ns"] >= 0)
    return np.where(is_whole, out_segment(rows["request_id"]), (rows["request_id"] << 1) + 1)


def system_ids(rows: np.ndarray) -> np.ndarray:
    """Names of the system prompts of the clients of requests: those of an answer that no client has, its very last."""
    return ((rows["client_id"].astype(np.int64) + 1) << (CLIENT_SHIFT + 1)) - 1
