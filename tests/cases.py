"""Small random scenarios for the laws: tiny budgets, few seats and blocks, bursts and exact ties, where mistakes show."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from sim import Cluster, Engine
from workloads.stream import STREAM


@dataclass(frozen=True)
class AffineCost:
    """A step that costs a base, a price per token and a price per token of context; coarse, so that times tie exactly."""

    base_ns: int = 1_000_000
    per_token_ns: int = 1_000_000
    per_context_token_ns: int = 0

    def step_ns(self, prefill_tokens, prefill_work, decodes, decode_context_tokens, samples):
        return self.base_ns + self.per_token_ns * (prefill_tokens + decodes) + self.per_context_token_ns * decode_context_tokens


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


@st.composite
def small_clusters(draw, most_instances=3):
    """A cluster that has to preempt, chunk, queue and reject."""
    seats = draw(st.integers(1, 8))
    engine = Engine(
        max_num_seqs=seats,
        max_num_batched_tokens=draw(st.integers(seats, 64)),
        max_model_len=draw(st.integers(16, 96)),
        block_size=draw(st.sampled_from([1, 2, 4, 16])),
        num_gpu_blocks_override=draw(st.integers(4, 90)),
    )
    cost = AffineCost(1_000_000, draw(st.sampled_from([0, 1_000_000])), draw(st.sampled_from([0, 1000])))
    router = draw(st.sampled_from(["round_robin", "random", "power_of_two", "shortest_queue"]))
    return Cluster(step_cost=cost, instances=draw(st.integers(1, most_instances)), router=router, engine=engine)
