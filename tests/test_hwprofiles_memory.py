"""KV memory: every byte is spent once, more memory is never fewer blocks, and what does not fit is explained."""

import csv
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.datasheet import ProfileError, known_gpus, known_models, load_gpu, load_model
from hwprofiles.memory import GIB, activation_bytes, kv_blocks, kv_bytes_per_token, memory_budget, weight_bytes
from tests.shared_data import SHARED, needs_shared

COMBINATIONS = [(gpu, model, tp) for gpu in known_gpus() for model in known_models() for tp in load_model(model).valid_tp(8)]
PRECISIONS = st.sampled_from(["bf16", "fp8"])
UTILIZATIONS = st.floats(0.3, 1.0)


@given(
    st.sampled_from(COMBINATIONS), PRECISIONS, UTILIZATIONS, st.integers(1, 64), st.integers(1, 32_768), st.integers(1, 2048)
)
def test_every_byte_of_the_usable_memory_is_spent_once(combination, precision, utilization, block_size, tokens, rows):
    gpu, model, tp = combination
    budget = memory_budget(gpu, model, precision, tp, block_size, utilization, tokens, rows)
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


@given(st.sampled_from(COMBINATIONS), st.integers(1, 64))
def test_an_fp8_cache_holds_twice_the_tokens(combination, block_size):
    gpu, model, tp = combination
    wide, narrow = (memory_budget(gpu, model, tp=tp, block_size=block_size, kv_cache_dtype=kind) for kind in ("auto", "fp8"))
    assert wide.kv_bytes == narrow.kv_bytes
    assert wide.block_bytes == 2 * narrow.block_bytes
    assert wide.blocks == narrow.blocks // 2


@given(st.sampled_from(COMBINATIONS))
def test_fp8_weights_save_a_byte_of_every_matrix_and_leave_the_cache_as_it_is(combination):
    gpu, name, tp = combination
    model = load_model(name)
    wide, narrow = (memory_budget(gpu, model, precision, tp) for precision in ("bf16", "fp8"))
    assert (wide.weight_bytes - narrow.weight_bytes) * tp == pytest.approx(model.matrix_parameters, abs=tp)
    assert narrow.weight_bytes * tp >= model.matrix_parameters + 2 * model.vocabulary * model.hidden
    assert (wide.block_bytes, wide.activation_bytes) == (narrow.block_bytes, narrow.activation_bytes)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("llama-2-7b", 524_288),
        ("llama-2-70b", 327_680),
        ("llama-3.1-8b", 131_072),
        ("llama-3.1-70b", 327_680),
        ("mistral-7b-v0.1", 131_072),
        ("qwen2.5-7b", 57_344),
        ("qwen3-14b", 163_840),
        ("qwen3-32b", 262_144),
    ],
)
def test_kv_bytes_of_a_token_are_keys_and_values_of_all_layers(model, expected):
    """The figures are 2 x layers x KV heads x head size x 2 bytes of the published configurations."""
    kv_heads = load_model(model).kv_heads
    assert kv_bytes_per_token(load_model(model), 2, tp=1) == expected
    assert kv_bytes_per_token(load_model(model), 2, tp=kv_heads) == expected // kv_heads
    assert kv_bytes_per_token(load_model(model), 2, tp=2 * kv_heads) == expected // kv_heads  # a copy of one KV head each


def test_each_gpu_keeps_the_weights_of_one_kv_head_at_least():
    model = load_model("qwen2.5-7b")
    head = 2 * model.layers * model.hidden * model.head_size  # keys and values of one head, all layers
    even = 2 * model.parameters / 8
    assert weight_bytes(model, "bf16", tp=8) == pytest.approx(even + 2 * (head - 4 * head / 8), abs=1)
    assert weight_bytes(model, "bf16", tp=4) == pytest.approx(2 * model.parameters / 4, abs=1)


WEIGHTS_GIB = [
    # model, precision, tp, GiB on each GPU that vLLM's start-up log says ("Loading model weights took", GB meaning GiB)
    ("llama-2-7b", "bf16", 1, 12.5523),  # vLLM 0.6, as quoted in a vllm issue on that unit
    ("llama-3.1-8b", "bf16", 1, 14.96),  # Llama-3-8B, of the same dimensions: vllm pull request 10511
    ("llama-3.1-8b", "bf16", 2, 7.48),  # the same
    ("llama-3.1-8b", "fp8", 1, 8.4939),  # neuralmagic/Meta-Llama-3.1-8B-Instruct-FP8-dynamic
    ("qwen2.5-7b", "bf16", 1, 14.25),  # vLLM 0.8
    ("qwen2.5-14b", "bf16", 1, 27.57),  # Qwen2.5-14B-Instruct, vLLM V1
    ("qwen2.5-14b", "bf16", 2, 13.9476),  # DeepSeek-R1-Distill-Qwen-14B: vllm issue 13061
    ("qwen2.5-32b", "bf16", 2, 30.7098),  # vllm issue 15815
    ("qwen3-14b", "bf16", 1, 27.5185),  # vLLM 0.8.5
]


@pytest.mark.parametrize(("model", "precision", "tp", "logged_gib"), WEIGHTS_GIB)
def test_weights_are_what_vllm_logged(model, precision, tp, logged_gib):
    counted = weight_bytes(load_model(model), precision, tp) / GIB
    assert logged_gib * 0.985 < counted < logged_gib * 1.001  # what is loaded beside the weights is never less than them


KV_TOKENS = [
    # model, tp, GiB for KV blocks on each GPU, tokens that vLLM made of it
    ("qwen2.5-7b", 1, 0.9 * 79.1 - 22.8, 905_648),  # Qwen2.5-VL-7B on an H100: 48.4 GiB, QwenLM/Qwen3-VL issue 1057
    ("qwen2.5-32b", 2, 7.71, 3947 * 16),  # "# CUDA blocks: 3947": vllm issue 15815
    ("qwen3-14b", 1, 11.00, 72_064),  # vLLM 0.8.5
    ("qwen3-14b", 1, 11.57, 75_824),
    ("qwen3-14b", 1, 13.49, 88_384),
]


@pytest.mark.parametrize(("model", "tp", "logged_gib", "tokens"), KV_TOKENS)
def test_tokens_of_a_cache_are_what_vllm_logged(model, tp, logged_gib, tokens):
    """Within half of the last digit that the log gives of its GiB."""
    each = kv_bytes_per_token(load_model(model), 2, tp)
    rounding = 0.06 if model == "qwen2.5-7b" else 0.005
    assert (logged_gib - rounding) * GIB / each - 16 <= tokens <= (logged_gib + rounding) * GIB / each


def test_the_memory_that_vllm_reported_for_llama_3_8b_is_met():
    """vllm pull request 10511: of 79.22 GiB x 0.9, weights 14.96, activations 1.26, other 1.79, KV blocks 53.29."""
    gpu = replace(load_gpu("h100"), reported_memory_gib=79.22)
    budget = memory_budget(gpu, "llama-3.1-8b", gpu_memory_utilization=0.9, max_num_batched_tokens=8192, max_num_seqs=256)
    assert budget.weight_bytes / GIB == pytest.approx(14.96, abs=0.01)
    assert budget.activation_bytes / GIB == pytest.approx(1.26, abs=0.06)
    assert budget.kv_bytes / GIB == pytest.approx(53.29, abs=0.1)


def test_the_memory_that_vllm_reported_for_llama_3_8b_on_two_gpus_is_met():
    """The same on two GPUs: weights 7.48, activations 1.26, other 3.58, and so 58.97 of 71.29 GiB for KV blocks."""
    gpu = replace(load_gpu("h100"), reported_memory_gib=79.22)
    budget = memory_budget(gpu, "llama-3.1-8b", tp=2, gpu_memory_utilization=0.9, max_num_batched_tokens=8192, max_num_seqs=256)
    assert budget.weight_bytes / GIB == pytest.approx(7.48, abs=0.01)
    assert budget.kv_bytes / GIB == pytest.approx(58.97, rel=0.01)


def test_the_kv_memory_of_another_family_on_a_smaller_gpu_is_met_within_a_tenth():
    """Qwen3-14B on a GPU of 46 GB: vLLM 0.8.5 left 11.00 GiB at its defaults, CUDA graphs not yet counted as they are here.

    44.42 GiB is what another log of such a GPU, an L40S, says it reports (vllm issue 15815).
    """
    gpu = replace(load_gpu("h100"), reported_memory_gib=44.42)
    budget = memory_budget(gpu, "qwen3-14b", gpu_memory_utilization=0.9, max_num_batched_tokens=2048, max_num_seqs=256)
    assert 0.9 < budget.kv_bytes / GIB / 11.00 < 1.0


@pytest.mark.parametrize(("model", "tp"), [("llama-3.1-8b", 1), ("llama-3.1-70b", 4), ("llama-3.1-70b", 8)])
def test_capacity_is_that_of_the_loop_which_met_measured_saturation_on_an_h100(model, tp):
    """The rule of thumb is 0.95 x (0.98 x 80e9 x tp - weights - 3e9 x tp) bytes, found on published closed-loop runs."""
    m = load_model(model)
    rule = 0.95 * (0.98 * 80e9 * tp - 2 * m.parameters - 3e9 * tp) / (2 * 2 * m.layers * m.kv_heads * m.head_size)
    assert memory_budget("h100", model, tp=tp).kv_tokens == pytest.approx(rule, rel=0.04)


def test_capacity_at_8_bits_divides_the_two_regimes_measured_for_70b_on_two_h100s():
    """432 000 tokens part the runs in which latency still rose with concurrency from those that queued: fp8, 8-bit KV."""
    budget = memory_budget("h100", "llama-3.1-70b", "fp8", tp=2, kv_cache_dtype="fp8")
    assert budget.kv_tokens == pytest.approx(432_000, rel=0.02)


@needs_shared
def test_what_a_real_run_held_at_once_without_preempting_fits():
    """Llama-3.1-8B on an RTX PRO 6000, whose 97 887 MiB are those of its data sheet; vLLM 0.19's utilization was 0.9."""
    folder = SHARED / "validation" / "runs" / "rtx-pro-6000_llama-3.1-8b"
    if not folder.is_dir():
        pytest.skip("the reference data at hand has no recorded run")
    settings = json.loads((folder / "meta.json").read_text())["engine_kwargs"]
    gpu = replace(load_gpu("h100"), memory_gib=97_887 / 1024, reported_memory_gib=97_887 / 1024)
    limits = {key: settings[key] for key in ("max_num_seqs", "max_num_batched_tokens", "kv_cache_dtype")}
    budget = memory_budget(gpu, "llama-3.1-8b", "bf16", settings["tensor_parallel_size"], gpu_memory_utilization=0.9, **limits)
    held = most_held(list(csv.DictReader((folder / "requests.csv").read_text().splitlines())))
    assert 100_000 < held < budget.kv_tokens


def most_held(requests):
    """Most tokens of context that were held at the start of any request; answers grow evenly, shared prefixes count twice."""
    keys = ("scheduled_s", "first_token_s", "last_token_s", "input_tokens", "output_tokens")
    rows = [[float(row[key]) for key in keys] for row in requests]
    return max(
        sum(
            tokens + answer * max(0.0, now - first) / max(last - first, 1e-9)
            for begun, first, last, tokens, answer in rows
            if begun <= now <= last
        )
        for now, *_ in rows
    )


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


def test_heads_that_eight_gpus_cannot_share_are_refused_with_what_would_do():
    with pytest.raises(ProfileError, match=r"tp 8 .*28 query and 4 KV heads, MLP width 18944.*valid: 1, 2, 4$"):
        kv_blocks("h100", "qwen2.5-7b", tp=8)


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
    with pytest.raises(ProfileError) as raised:
        kv_blocks("h100", "llama-3.1-8b", "bf61", tp=3, kv_cache_dtype="fp16")
    precision, cache, heads = str(raised.value).splitlines()
    assert precision == "no precision 'bf61'; did you mean 'bf16'? known: bf16, fp8"
    assert cache == "no kv_cache_dtype 'fp16'; did you mean 'fp8'? known: auto, bfloat16, fp8"
    assert heads.startswith("tp 3 does not divide the heads of llama-3.1-8b (32 query and 8 KV heads, MLP width 14336)")


def test_the_breakdown_for_people_sums_to_what_is_usable():
    rows = {what: gib for what, gib, _ in memory_budget("a100", "llama-3.1-70b", tp=4).rows()}
    assert rows["weights"] + rows["activations"] + rows["engine"] + rows["KV blocks"] == pytest.approx(rows["usable"])
