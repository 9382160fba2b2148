"""A replay: a case as a cluster and a stream, played by `sim.simulate`, and the steps that a probe saw.

Everything goes through the public API, so a replay tests what users run.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from sim import AffineCost, Cluster, Engine, simulate
from tests.oracle.case import Case, CaseRequest, Settings, Step
from workloads.stream import ITEMS, MODALITIES, SEGMENTS, Stream, new_rows, out_segment

_IMAGE = MODALITIES.index("image")
ENGINES: dict[str, Callable[..., Any]] = {name: partial(simulate, engine=name) for name in ("reference", "fast")}


@dataclass
class Outcome:
    """What the simulator made of a case: its steps in order of their ends, and its RECORD rows."""

    steps: list[Step] = field(default_factory=list)
    records: list[dict[str, int]] = field(default_factory=list)

    def step_ended(self, instance_id: int, start_ns: int, end_ns: int, batch: Any) -> None:
        """Called by the simulator as a step ends: note it down in the words of a case."""
        assert instance_id == 0 and start_ns < end_ns
        self.steps.append(
            Step(
                end_ns,
                [(request.request_id, tokens) for request, tokens in zip(batch.requests, batch.tokens, strict=True)],
                sorted(request.request_id for request in batch.preempted),
                sorted((request.request_id, index) for request, index in batch.encoded),
            )
        )


def replay(case: Case, play: Callable[..., Any] = simulate) -> Outcome:
    """Play `case`; `play` has the signature of `sim.simulate`. Raises what that raises."""
    outcome = Outcome()
    result = play(stream_of(case), cluster_of(case), probe=outcome)
    columns = ("request_id", "first_token_ns", "finish_ns", "output_tokens")
    outcome.records = [dict(zip(columns, row)) for row in result.records[list(columns)].tolist()]
    return outcome


def cluster_of(case: Case) -> Cluster:
    """One instance with the settings of the case and its price of a step."""
    settings = case.engine
    engine = Engine(
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_model_len=settings.max_model_len,
        block_size=settings.block_size,
        num_gpu_blocks_override=settings.num_blocks,
        enable_prefix_caching=settings.prefix_caching,
        async_scheduling=settings.async_scheduling,
        policy=settings.policy,
        long_prefill_token_threshold=settings.long_prefill_token_threshold,
        enable_chunked_prefill=settings.chunked_prefill,
        scheduler_reserve_full_isl=settings.reserve_full_isl,
        watermark=settings.watermark,
        max_num_encoder_input_tokens=settings.encoder_budget,
        encoder_cache_size=settings.encoder_cache,
    )
    return Cluster(step_cost=AffineCost(**case.cost.model_dump()), engine=engine)


def stream_of(case: Case) -> Stream:
    """The requests by (arrival, id); every piece of every prompt is a segment, and those called img… are items as well."""
    rows = new_rows(len(case.requests))
    segments: list[tuple[int, int]] = []
    items: list[tuple[int, int, int, int, int]] = []
    numbers: dict[str, int] = {}
    for row, request in zip(rows, sorted(case.requests, key=lambda request: (request.arrival_ns, request.id))):
        row["arrival_ns"], row["request_id"], row["priority"] = request.arrival_ns, request.id, request.priority
        row["input_tokens"], row["output_tokens"] = request.input_tokens, request.output_tokens
        row["max_tokens"] = _max_tokens(request, case.engine)
        row["segments_start"], row["segments_count"] = len(segments), len(request.prompt)
        row["items_start"] = len(items)
        offset = 0
        for key, tokens in request.prompt:
            segment_id = _segment_id(key, numbers)
            segments.append((segment_id, tokens))
            if key.startswith("img"):
                items.append((_IMAGE, offset, tokens, tokens, segment_id))
            offset += tokens
        row["items_count"] = len(items) - row["items_start"]
    duration_s = (int(rows["arrival_ns"][-1]) + 1) / 1e9
    tables = {"segments": np.array(segments, SEGMENTS), "items": np.array(items, ITEMS)}
    return Stream(duration_s, lambda: [rows], {"case": case.case}, **tables)


def _segment_id(key: str, numbers: dict[str, int]) -> int:
    """The number of a key: that of the answer of request i for `out:<i>`, else the next one free."""
    return out_segment(int(key.removeprefix("out:"))) if key.startswith("out:") else numbers.setdefault(key, len(numbers))


def _max_tokens(request: CaseRequest, settings: Settings) -> int:
    """What the client asks for, cut to what an empty instance has room for.

    The simulator turns away a request that could outgrow its instance, which vLLM lets in. A limit beyond the end that
    comes has no part in any decision, so one that is lowered, and still beyond it, changes no step.
    """
    if request.max_tokens is None:
        return request.output_tokens
    room = min(settings.max_model_len, (settings.num_blocks - 1) * settings.block_size) - request.input_tokens
    return min(request.max_tokens, max(room, request.output_tokens + 1))
