"""The prefix cache in real scenarios: published traces with shared blocks, and conversations."""

import numpy as np
import pytest

from sim import AffineCost, Cluster, Engine, simulate
from sim.request import REJECT_REASONS
from tests.cases import rows
from tests.shared_data import SHARED, needs_shared
from workloads import WorkloadError, conversations, read_trace
from workloads.stream import ITEMS, SEGMENTS, Stream, out_segment

UNLIMITED = {"max_num_seqs": 100_000, "max_num_batched_tokens": 10_000_000, "max_model_len": 1_000_000}


@needs_shared
@pytest.mark.parametrize(("name", "share"), [("conversation", 0.366), ("synthetic", 0.638)])
def test_the_published_share_of_mooncakes_blocks_is_found_cached(name, share):
    stream = read_trace(SHARED / "traces" / f"mooncake_{name}_trace.jsonl")
    engine = Engine(block_size=512, num_gpu_blocks_override=1_000_000, **UNLIMITED)
    records = simulate(stream, Cluster(step_cost=AffineCost(1_000_000), engine=engine), keep_steps=False).records
    hit_blocks = int(np.sum(records["cached_tokens"])) // 512
    blocks = int(np.sum(-(-records["input_tokens"].astype("i8") // 512)))
    assert hit_blocks / blocks == pytest.approx(share, abs=0.003)


def test_later_turns_of_a_conversation_find_prompt_and_answer_of_the_earlier_ones():
    stream = conversations(20, 4, 0.5, system_tokens=160, first_tokens=64, turn_tokens=32, output_tokens=48, think_s=60.0)
    engine = Engine(block_size=16, num_gpu_blocks_override=20_000, **UNLIMITED)
    records = np.sort(simulate(stream, Cluster(step_cost=AffineCost(1_000_000), engine=engine)).records, order="request_id")
    first, later = records[records["turn"] == 1], records[records["turn"] > 1]
    # The first of all finds nothing; other first turns the system prompt; later turns all of the history but the last token
    # of the answer before them, which was never computed, in whole blocks.
    assert sorted(set(first["cached_tokens"].tolist())) == [0, 160]
    history = later["input_tokens"] - 32
    assert later["cached_tokens"].tolist() == ((history - 1) // 16 * 16).tolist()


def test_without_the_cache_nothing_is_found():
    stream = conversations(5, 3, 0.5, system_tokens=160, first_tokens=64, turn_tokens=32, output_tokens=48, think_s=60.0)
    engine = Engine(num_gpu_blocks_override=20_000, enable_prefix_caching=False, **UNLIMITED)
    assert not simulate(stream, Cluster(step_cost=AffineCost(1_000_000), engine=engine)).records["cached_tokens"].any()


def stream_of(pieces, items=()):
    """Two requests of ten tokens, one after the other; the second is made of `pieces` and holds `items`."""
    requests = rows([(0, 10, 5, 5), (1, 10, 5, 5)])
    requests[1]["segments_count"], requests[1]["items_count"] = len(pieces), len(items)
    table = np.zeros(len(items), ITEMS)
    for row, (offset, tokens) in zip(table, items):
        row["offset"], row["tokens"], row["item_id"] = offset, tokens, 7
    return Stream(1.0, lambda: iter([requests]), segments=np.array(pieces, SEGMENTS), items=table)


@pytest.mark.parametrize(
    ("pieces", "items", "said"),
    [
        ([(out_segment(9), 5), (3, 5)], [], "9"),
        ([(out_segment(1), 5), (3, 5)], [], "1"),
        ([(3, -10)], [], "tokens"),
        ([(3, 9)], [], "input_tokens"),
        ([(3, 10)], [(0, 6), (4, 6)], "item"),
    ],
    ids=["an answer of nobody", "its own answer", "a negative length", "a wrong sum", "two items at one place"],
)
def test_prompts_that_cannot_be_are_refused_at_the_door(pieces, items, said):
    engine = Engine(num_gpu_blocks_override=200, **UNLIMITED)
    with pytest.raises(WorkloadError, match=said):
        simulate(stream_of(pieces, items), Cluster(step_cost=AffineCost(1_000_000), engine=engine))


def test_an_item_that_no_encoder_budget_holds_is_rejected_with_its_reason():
    settings = UNLIMITED | {"max_num_encoder_input_tokens": 4, "encoder_cache_size": 100}
    engine = Engine(num_gpu_blocks_override=200, **settings)
    records = simulate(stream_of([(3, 10)], [(2, 6)]), Cluster(step_cost=AffineCost(1_000_000), engine=engine)).records
    reasons = {int(r["request_id"]): REJECT_REASONS[r["reject_reason"]] for r in records}
    assert reasons == {0: "", 1: "encoder"}
