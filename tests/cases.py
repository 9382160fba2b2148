"""Small random scenarios for the laws: tiny budgets, few seats and blocks, bursts and exact ties, where mistakes show."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from sim import Cluster, Engine
from workloads.stream import SEGMENTS, STREAM, Stream, out_segment


@dataclass(frozen=True)
class AffineCost:
    """A step that costs a base, a price per token and a price per token of context; coarse, so that times tie exactly."""

    base_ns: int = 1_000_000
    per_token_ns: int = 1_000_000
    per_context_token_ns: int = 0

    def step_ns(self, prefill_tokens, prefill_work, decodes, decode_context_tokens, samples):
        return self.base_ns + self.per_token_ns * (prefill_tokens + decodes) + self.per_context_token_ns * decode_context_tokens

    def arrays(self, most_tokens):
        nothing = np.zeros(most_tokens + 1, np.int64)
        by_tokens = (self.base_ns + self.per_token_ns * np.arange(most_tokens + 1)) << 16
        others = dict.fromkeys(("by_samples", "by_prefill_tokens", "by_decodes"), nothing)
        return {"by_tokens": by_tokens, **others, "by_decodes_context": nothing + (self.per_context_token_ns << 16)}


def rows(requests):
    """STREAM rows of (arrival_ns, input_tokens, output_tokens, max_tokens), ids in order."""
    out = np.zeros(len(requests), STREAM)
    for i, (arrival_ns, input_tokens, output_tokens, max_tokens) in enumerate(sorted(requests, key=lambda request: request[0])):
        out[i]["arrival_ns"], out[i]["request_id"] = arrival_ns, i
        out[i]["input_tokens"], out[i]["output_tokens"], out[i]["max_tokens"] = input_tokens, output_tokens, max_tokens
        out[i]["session_id"], out[i]["turn"] = -1, 1
    return out


@st.composite
def small_requests(draw, most_requests=30):
    """A burst of requests on a grid of milliseconds."""
    n = draw(st.integers(1, most_requests))
    lengths = st.tuples(st.integers(0, 60), st.integers(1, 40), st.integers(1, 20), st.integers(0, 12))
    return rows([(at * 1_000_000, i, o, o + more) for at, i, o, more in draw(st.lists(lengths, min_size=n, max_size=n))])


PLAIN = {"enable_prefix_caching": False, "async_scheduling": False}
"""The settings under which nothing is remembered from one iteration to the next: what one can do by hand."""


@st.composite
def small_engines(draw, **fixed):
    """An engine that has to preempt, chunk, queue and reject, with any of vLLM's switches; `fixed` settings stay."""
    seats = draw(st.integers(1, 8))
    max_model_len = draw(st.integers(16, 96))
    chunked = draw(st.booleans())
    settings = {
        "max_num_seqs": seats,
        "max_num_batched_tokens": draw(st.integers(seats, 64)),
        "max_model_len": max_model_len,
        "block_size": draw(st.sampled_from([1, 2, 4, 16])),
        "num_gpu_blocks_override": draw(st.integers(4, 90)),
        "enable_prefix_caching": draw(st.booleans()),
        "async_scheduling": draw(st.booleans()),
        "policy": draw(st.sampled_from(["fcfs", "priority"])),
        "enable_chunked_prefill": chunked,
        "long_prefill_token_threshold": draw(st.sampled_from([0, 0, 7])),
        "scheduler_reserve_full_isl": draw(st.booleans()),
        "watermark": draw(st.sampled_from([0.0, 0.0, 0.1])),
    }
    settings |= fixed
    if not settings["enable_chunked_prefill"]:
        settings["max_num_batched_tokens"] = max(settings["max_num_batched_tokens"], max_model_len)
    return Engine(**settings)


PLAIN_ENGINE = PLAIN | {
    "policy": "fcfs",
    "enable_chunked_prefill": True,
    "long_prefill_token_threshold": 0,
    "scheduler_reserve_full_isl": True,
    "watermark": 0.0,
}


@dataclass(frozen=True)
class ServedCluster(Cluster):
    """A cluster with a step cost of its own behind an API server, which such a cluster has not got by itself."""

    api_ns: int = 0

    def plan(self):
        return replace(super().plan(), api_ns=self.api_ns)


@st.composite
def small_clusters(draw, most_instances=3, **fixed):
    """A cluster of such engines."""
    cost = AffineCost(1_000_000, draw(st.sampled_from([0, 1_000_000])), draw(st.sampled_from([0, 1000])))
    router = draw(st.sampled_from(["round_robin", "random", "power_of_two", "shortest_queue"]))
    instances = draw(st.integers(1, most_instances))
    return ServedCluster(step_cost=cost, instances=instances, router=router, engine=draw(small_engines(**fixed)))


SHARED_TEXT = 40
"""Length of each of the few texts that prompts of `shared_streams` begin with."""


@st.composite
def shared_streams(draw, most_requests=20):
    """Requests whose prompts begin with one of two texts, or with the history of an earlier request, some with priorities."""
    requests = draw(small_requests(most_requests))
    segments = []
    for i, row in enumerate(requests):
        pieces = _pieces(draw, requests[:i], int(row["input_tokens"]))
        row["segments_start"], row["segments_count"] = len(segments), len(pieces)
        row["priority"] = draw(st.integers(0, 2))
        segments += pieces
    return Stream(1.0, lambda: iter([requests]), segments=np.array(segments, SEGMENTS))


def _pieces(draw, earlier, tokens):
    """A prompt of so many tokens: a shared text or an earlier answer, and then text of its own."""
    kind = draw(st.sampled_from(["own", "text", "answer"]))
    own = [(1000 + len(earlier), tokens)]
    if kind == "answer" and len(earlier):
        request = earlier[draw(st.integers(0, len(earlier) - 1))]
        shared = min(int(request["output_tokens"]), tokens)
        pieces = [(out_segment(int(request["request_id"])), shared)]
    elif kind == "text":
        shared = min(SHARED_TEXT, tokens)
        pieces = [(draw(st.integers(0, 1)), shared)]
    else:
        return own
    return [*pieces, (1000 + len(earlier), tokens - shared)] if tokens > shared else pieces
