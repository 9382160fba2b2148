"""How long a naive workload's requests are: what fills the lengths of rows whose number is known, by (seed, number) alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workloads.errors import WorkloadError
from workloads.naive.fit import KEPT, NaiveFit
from workloads.numerics import Purpose, stream_key, uniforms
from workloads.pool_data import PoolData
from workloads.stream import TOKEN_COLUMNS
from workloads.thinking import thinking_tokens

Fill = Callable[[NaiveFit, np.ndarray], None]
_NOBODY = -1  # to the hash a client that no pool has
_ANSWER = [KEPT.index(name) for name in ("output_tokens", "max_tokens", "reason_tokens")]


def drawn_as_pairs(seed: int) -> Fill:
    """Requests of the piece, with replacement: input and output of one request stay together."""
    key = stream_key(seed, 0, Purpose.REQUEST)

    def fill(fit: NaiveFit, rows: np.ndarray) -> None:
        chosen = fit.lengths[_chosen(uniforms(key, rows["request_id"]), fit.n)]
        for column, name in enumerate(KEPT):
            rows[name] = chosen[:, column]

    return fill


def shuffled(seed: int, n: int) -> Fill:
    """All requests of the one piece in an order of chance, each once."""
    order = np.argsort(uniforms(stream_key(seed, 0, Purpose.REQUEST), np.arange(n)), kind="stable").astype(np.int32)

    def fill(fit: NaiveFit, rows: np.ndarray) -> None:
        chosen = fit.lengths[order[rows["request_id"]]]
        for column, name in enumerate(KEPT):
            rows[name] = chosen[:, column]

    return fill


def drawn_apart(seed: int, lengths: np.ndarray) -> Fill:
    """Input of one request of `lengths`, the answer of another, both with replacement. WorkloadError where there is none."""
    if not len(lengths):
        raise WorkloadError("period: a stream without requests; expected at least one to draw lengths from")
    prompt_key, answer_key = (stream_key(seed, _NOBODY, purpose) for purpose in (Purpose.INPUT, Purpose.OUTPUT))

    def fill(fit: NaiveFit, rows: np.ndarray) -> None:
        prompt, answer = (_chosen(uniforms(key, rows["request_id"]), len(lengths)) for key in (prompt_key, answer_key))
        rows["input_tokens"] = lengths[prompt, KEPT.index("input_tokens")]
        for column in _ANSWER:
            rows[KEPT[column]] = lengths[answer, column]

    return fill


def drawn_of_pool(seed: int, pool: PoolData) -> Fill:
    """Input and answer apart, each of a client and 6 h block chosen by its requests in all of the pool's data.

    max_tokens is the longest answer published for the pool, as in composed streams. Raises WorkloadError for a pool whose
    prompts are not drawn as a whole.
    """
    fields = TOKEN_COLUMNS[:2]
    if any(name not in pool.lengths for name in fields):
        raise WorkloadError(f"period: prompts of pool {pool.name} are text and items; expected a stream of it as the period")
    requests = np.cumsum(pool.row_requests())
    keys = [stream_key(seed, _NOBODY, purpose) for purpose in (Purpose.INPUT, Purpose.OUTPUT)]
    reason_key = stream_key(seed, _NOBODY, Purpose.REASON)

    def fill(fit: NaiveFit, rows: np.ndarray) -> None:
        for name, key in zip(fields, keys):
            which, where = (uniforms(key, 2 * rows["request_id"] + draw) for draw in (0, 1))
            sketch = np.searchsorted(requests, which * requests[-1], side="right")
            sketch = np.minimum(sketch, len(requests) - 1)
            rows[name] = pool.lengths[name].sample(sketch, where)
        rows["reason_tokens"] = thinking_tokens(pool, sketch, rows["output_tokens"], uniforms(reason_key, rows["request_id"]))
        rows["max_tokens"] = pool.max_output_tokens

    return fill


def _chosen(drawn: np.ndarray, n: int) -> np.ndarray:
    """An index below n for each uniform."""
    return np.minimum((drawn * n).astype(np.int64), n - 1)
