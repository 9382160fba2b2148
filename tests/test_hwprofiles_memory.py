"""KV memory: every byte is spent once, more memory is never fewer blocks, and what does not fit is explained."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.datasheet import ProfileError, known_gpus, known_models, load_gpu, load_model
from hwprofiles.memory import GIB, activation_bytes, kv_blocks, kv_bytes_per_token, memory_budget

COMBINATIONS = [(gpu, model, tp) for gpu in known_gpus() for model in known_models() for tp in (1, 2, 4, 8)]
UTILIZATIONS = st.floats(0.3, 1.0)


@given(st.sampled_from(COMBINATIONS), UTILIZATIONS, st.integers(1, 64), st.integers(1, 32_768), st.integers(1, 2048))
def test_every_byte_of_the_usable_memory_is_spent_once(combination, utilization, block_size, tokens, rows):
    gpu, model, tp = combination
    budget = memory_budget(gpu, model, "bf16", tp, block_size, utilization, tokens, rows)
    spent = budget.weight_bytes + budget.activation_bytes + budget.engine_bytes + budget.kv_bytes
    assert spent == budget.usable_bytes == int(budget.memory_bytes * utilization)
    if budget.kv_bytes >= 0:
        assert 0 <= budget.kv_bytes - budget.blocks * budget.block_bytes < budget.block_bytes


@given(st.sampled_from(COMBINATIONS), UTILIZATIONS, UTILIZATIONS)
def test_more_memory_is_never_fewer_blocks(combination, one, other):
    gpu, model, tp = combination
    low, high = (memory_budget(gpu, model, tp=tp, gpu_memory_utilization=u).blocks for u in sorted((one, other)))
    assert low <= high


@given(st.sampled_from(COMBINATIONS), st.integers(1, 32_768), st.integers(1, 32_768))
def test_a_larger_batch_is_never_more_blocks(combination, one, other):
    gpu, model, tp = combination
    few, many = (memory_budget(gpu, model, tp=tp, max_num_batched_tokens=tokens).blocks for tokens in sorted((one, other)))
    assert few >= many


@pytest.mark.parametrize(("model", "expected"), [("llama-3.1-8b", 131_072), ("llama-3.1-70b", 327_680)])
def test_kv_bytes_of_a_token_are_keys_and_values_of_all_layers(model, expected):
    assert kv_bytes_per_token(load_model(model), 2, tp=1) == expected
    assert kv_bytes_per_token(load_model(model), 2, tp=8) == expected // 8
    assert kv_bytes_per_token(load_model(model), 2, tp=16) == expected // 8  # each keeps a copy of one KV head


def test_the_memory_that_vllm_reported_for_llama_3_8b_is_met():
    """vllm pull request 10511: of 79.22 GiB x 0.9, weights 14.96, activations 1.26, other 1.79, KV blocks 53.29."""
    gpu = replace(load_gpu("h100"), reported_memory_gib=79.22)
    budget = memory_budget(gpu, "llama-3.1-8b", gpu_memory_utilization=0.9, max_num_batched_tokens=8192, max_num_seqs=256)
    assert budget.weight_bytes / GIB == pytest.approx(14.96, abs=0.01)
    assert budget.activation_bytes / GIB == pytest.approx(1.26, abs=0.06)
    assert budget.kv_bytes / GIB == pytest.approx(53.29, abs=0.1)


def test_blocks_by_hand_for_llama_8b_on_an_h100():
    usable = int(int(79.1 * GIB) * 0.92)
    activations = 8192 * 2 * (4 * 4096 + 3 * 14_336) + 1024 * 128_256 * 10
    left = usable - 2 * 8_030_261_248 - activations - int(1.79 * GIB)
    assert activation_bytes(load_model("llama-3.1-8b"), 2, 1, 8192, 1024) == activations
    assert kv_blocks("h100", "llama-3.1-8b") == left // (16 * 131_072) == 27_594


def test_a_model_too_large_is_told_what_it_needs_and_what_would_do():
    with pytest.raises(ProfileError) as raised:
        kv_blocks("h100", "llama-3.1-70b", tp=1)
    message = str(raised.value)
    assert "needs 146.3 GB on each h100" in message
    assert "78.1 GB are there" in message
    assert message.endswith("the smallest tp that fits is 2")
    assert kv_blocks("h100", "llama-3.1-70b", tp=2) > 1


def test_a_model_no_node_holds_is_told_so():
    small = replace(load_gpu("a100"), reported_memory_gib=10.0)
    with pytest.raises(ProfileError, match="no tp up to 8 fits"):
        kv_blocks(small, "llama-3.1-70b", tp=8)


@pytest.mark.parametrize("tp", [3, 5, 16, 0, -1])
def test_a_degree_that_does_not_divide_the_heads_is_refused_with_those_that_do(tp):
    with pytest.raises(ProfileError, match=f"tp {tp} does not divide .*valid: 1, 2, 4, 8$"):
        kv_blocks("h100", "llama-3.1-70b", tp=tp)


def test_limits_that_cannot_be_are_all_refused_at_once():
    with pytest.raises(ProfileError) as raised:
        kv_blocks("h100", "llama-3.1-8b", block_size=0, gpu_memory_utilization=1.5, max_num_seqs=-1)
    assert [line.split()[0] for line in str(raised.value).splitlines()] == [
        "block_size",
        "max_num_seqs",
        "gpu_memory_utilization",
    ]
    with pytest.raises(ProfileError, match="no precision 'bf61'; did you mean 'bf16'"):
        kv_blocks("h100", "llama-3.1-8b", "bf61")


def test_the_breakdown_for_people_sums_to_what_is_usable():
    rows = {what: gib for what, gib, _ in memory_budget("a100", "llama-3.1-70b", tp=4).rows()}
    assert rows["weights"] + rows["activations"] + rows["engine"] + rows["KV blocks"] == pytest.approx(rows["usable"])
