"""Step costs: laws over random steps of every shipped table, the formula once more in floats, and the proof of 64 bits."""

import json
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.costmodel import AttentionCost
from hwprofiles.datasheet import ProfileError, load_gpu, load_model
from hwprofiles.memory import KV_CACHE_PRECISION, PRECISION_BYTES
from hwprofiles.profiles import list_profiles, load_step_cost, profile_name
from hwprofiles.records import INT64_MAX
from hwprofiles.software import DEFAULT, known_software, load_software
from hwprofiles.steptable import TICKS_PER_MS, Knots

ROWS = list_profiles()
MODEL_LEN = 131_072
LIMITS = ((8192, 512, MODEL_LEN, 2_000_000), (2048, 1024, 32_768, 400_000), (16_384, 64, MODEL_LEN, 200_000))
"""(max_num_batched_tokens, max_num_seqs, max_model_len, kv_tokens) of engines."""

COSTS = {(row.gpu, row.model, row.precision, row.tp): load_step_cost(row.gpu, row.model, row.precision, row.tp) for row in ROWS}
KEYS = st.sampled_from([(*key, kv) for key, cost in COSTS.items() for kv in cost.attention])
ENGINES = st.tuples(KEYS, st.sampled_from(LIMITS))
ONE = COSTS["h100", "llama-3.1-8b", "bf16", 1]


@lru_cache(maxsize=100)
def kernels(engine):
    """The table of an engine, (key of KEYS, limits), without the host."""
    (*key, kv), limits = engine
    return COSTS[tuple(key)].table(*limits, None, kv)


@st.composite
def steps(draw):
    """(prefill_tokens, prefill_work, decodes, decode_context_tokens, samples) of a step that the smallest engine could make."""
    chunks = draw(st.lists(st.tuples(st.integers(1, 450), st.integers(0, 30_000)), max_size=4))
    contexts = draw(st.lists(st.integers(2, 32_768), min_size=0 if chunks else 1, max_size=5))
    repeats = draw(st.integers(1, 12))
    prefill_tokens, work = sum(n for n, _ in chunks), sum(n * (n + 2 * past) for n, past in chunks)
    decodes, context = repeats * len(contexts), repeats * sum(contexts)
    return prefill_tokens, work, decodes, context, decodes + draw(st.integers(0, len(chunks)))


def float_step_ns(key, prefill_tokens, prefill_work, decodes, decode_context_tokens, samples):
    """The formula of hwprofiles/costmodel.py from the file itself, in floats, without the host."""
    name = profile_name(*key[:4]) + ".json"
    file = json.loads(files("hwprofiles").joinpath("measured", name).read_text())
    a = file["attention"][key[4]]

    def knots(table, count):
        return np.interp(count, np.array(table["at"], float), np.array(table["ticks"]) / 2**16) if count else 0.0

    total = knots(file["tokens"], prefill_tokens + decodes) + knots(file["samples"], samples)
    if prefill_tokens:
        total += (a["prefill_step"] + a["prefill_token"] * prefill_tokens + a["prefill_work"] * prefill_work) / 2**16
    if decodes:
        total += knots(a["decodes"], decodes) + knots(a["contexts"], decodes) * decode_context_tokens / decodes
    return total


def datasheet_ns(key, prefill_tokens, prefill_work, decodes, decode_context_tokens, samples):
    """The least time any step could take on that GPU: the larger of FLOPs/peak and bytes/bandwidth.

    FLOPs counted: matrix products of all layers for every new token, the output head for the sampled rows, and the two
    products of attention over every scored pair of tokens, the last two at 16 bits. Bytes counted: the weights of the layers
    once, those of the head if it is used, and keys and values of the decodes' contexts. All else is left out.
    """
    gpu, model, precision, tp, kv = load_gpu(key[0]), load_model(key[1]), *key[2:]
    layer = model.hidden * (2 * model.heads + 2 * model.kv_heads) * model.head_size + 3 * model.hidden * model.mlp_width
    head = model.vocabulary // tp * tp * model.hidden
    pairs = prefill_work / 2 + decode_context_tokens
    layers_flops = 2 * model.layers * layer * (prefill_tokens + decodes)
    wide_flops = 2 * head * samples + 4 * model.layers * model.heads * model.head_size * pairs
    compute_ns = (layers_flops / gpu.peak_tflops[precision] + wide_flops / gpu.peak_tflops["bf16"]) / tp / 1e3
    kv_heads = max(1, model.kv_heads // tp) * tp
    kv_bytes = 2 * PRECISION_BYTES[kv] * model.layers * kv_heads * model.head_size * decode_context_tokens
    moved = PRECISION_BYTES[precision] * model.layers * layer + (2 * head if samples else 0) + kv_bytes
    return max(compute_ns, moved / tp / gpu.bandwidth_gb_per_s)


@given(ENGINES, steps())
def test_a_step_equals_the_float_formula_but_for_a_tick_of_each_context_token(engine, step):
    difference_ns = kernels(engine).step_ns(*step) - float_step_ns(engine[0], *step)
    assert -1 <= difference_ns <= 1 + step[3] / 2**16


@given(ENGINES, steps())
def test_a_step_is_never_faster_than_the_data_sheet(engine, step):
    assert kernels(engine).step_ns(*step) >= datasheet_ns(engine[0], *step) - 1


@given(ENGINES, steps(), st.sampled_from((0, 1, 3, 4)), st.integers(1, 60))
def test_more_tokens_work_context_or_samples_are_never_faster(engine, step, argument, more):
    larger = list(step)
    larger[argument] += more
    if larger[4] <= 64 and (argument != 3 or step[2]):
        assert kernels(engine).step_ns(*larger) >= kernels(engine).step_ns(*step) > 0


@given(ENGINES, st.integers(1, 63), st.integers(1, 32_768), st.integers(0, 500))
def test_one_more_decode_of_equal_context_is_never_faster(engine, decodes, context, prefill_tokens):
    """But for the tick of each token of context that a price shared by fewer may be rounded up more."""
    fewer, more = ((prefill_tokens, prefill_tokens**2, n, n * context, n) for n in (decodes, decodes + 1))
    rounding_ns = 1 + decodes * context / 2**16
    assert kernels(engine).step_ns(*more) >= kernels(engine).step_ns(*fewer) - rounding_ns


@given(ENGINES, st.integers(1, 30), st.lists(st.integers(1, 30_000), min_size=2, max_size=2))
def test_decodes_cost_by_the_mean_of_their_contexts(engine, pairs, contexts):
    """Half of them short and half long cost what as many of the mean do."""
    mixed, even = pairs * sum(contexts), 2 * pairs * (sum(contexts) // 2)
    per_token_ns = kernels(engine).by_decodes_context[2 * pairs] / 2**16
    difference_ns = kernels(engine).step_ns(0, 0, 2 * pairs, mixed, 0) - kernels(engine).step_ns(0, 0, 2 * pairs, even, 0)
    assert difference_ns == pytest.approx(per_token_ns * (mixed - even), abs=1)


@given(ENGINES, steps())
def test_the_arrays_of_a_compiled_engine_give_the_same_step_in_64_bits(engine, step):
    table = kernels(engine)
    a = table.arrays(len(table.by_tokens) - 1)
    p, work, decodes, context, samples = (np.int64(x) for x in step)
    ticks = a["by_tokens"][p + decodes] + a["by_samples"][samples]
    ticks += a["by_prefill_tokens"][p] + a["by_decodes"][decodes]
    ticks += np.int64(a["prefill_work_ticks"]) * work + a["by_decodes_context"][decodes] * context
    assert (ticks + np.int64(1 << 15)) >> np.int64(16) == table.step_ns(*step)
    assert all(array.dtype == np.int64 for array in a.values() if isinstance(array, np.ndarray))


@given(st.sampled_from(sorted(COSTS)), st.sampled_from(known_software()), steps())
def test_an_era_adds_its_host_time_to_the_kernels_and_nothing_else(key, software, step):
    cost, era = COSTS[key], load_software(software)
    host_ns = 1e6 * (
        era.step_ms + cost.layers * (era.layer_ms + (cost.tp > 1) * era.parallel_layer_ms) + step[4] * era.sample_ms
    )
    for given_as in (software, era):
        with_host = cost.table(*LIMITS[1], given_as)
        assert with_host.step_ns(*step) - kernels(((*key, "bf16"), LIMITS[1])).step_ns(*step) == pytest.approx(host_ns, abs=2)


def test_the_default_era_is_taken_where_none_is_named_and_an_unknown_one_refused():
    assert ONE.table(*LIMITS[0]).by_tokens == ONE.table(*LIMITS[0], DEFAULT).by_tokens
    with pytest.raises(ProfileError, match="no software profile 'vllm-2062'; did you mean 'vllm-2026'"):
        ONE.table(*LIMITS[0], "vllm-2062")


@pytest.mark.parametrize(("kv_cache_dtype", "precision"), KV_CACHE_PRECISION.items())
def test_a_type_of_kv_cache_has_the_attention_of_its_precision(kv_cache_dtype, precision):
    assert ONE.attention_of(kv_cache_dtype) is ONE.attention[precision]
    table = ONE.table(*LIMITS[0], None, kv_cache_dtype)
    assert table.by_decodes_context == ONE.attention[precision].context_token_ticks(512)


def test_a_kv_cache_of_a_type_that_was_not_measured_is_refused_with_those_that_were():
    with pytest.raises(ProfileError, match="kv_cache_dtype 'int4'; there is attention with KV in bf16, fp8"):
        ONE.table(*LIMITS[0], None, "int4")
    with pytest.raises(
        ProfileError, match=r"no step cost for a100 .* with kv_cache_dtype 'fp8'; there is attention with KV in bf16"
    ):
        COSTS["a100", "llama-3.1-8b", "bf16", 1].table(*LIMITS[0], None, "fp8")


@pytest.mark.parametrize("key", [key for key in COSTS if key[0] == "h100"], ids=str)
def test_context_of_many_decodes_is_never_dearer_in_eight_bits_than_in_sixteen(key):
    wide, narrow = (COSTS[key].attention[kv].contexts for kv in ("bf16", "fp8"))
    for decodes in (128, 256, 512):
        assert narrow.ticks_at(decodes) <= wide.ticks_at(decodes)


def bare(tokens=1, contexts=0, work=0):
    """A step cost of so many ticks a step, a token of mean context for each decode, and a unit of work; nothing else."""
    nothing, rising = Knots((1, 2), (0, 0)), Knots((1, 2), (contexts, 2 * contexts))
    attention = {"bf16": AttentionCost(0, 0, work, nothing, rising)}
    return replace(ONE, tokens=Knots((1, 2), (tokens, tokens)), samples=nothing, attention=attention)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_overflow_proof_is_tight_to_one_tick(tokens, seqs, model_len, kv_tokens):
    """With nothing but one tick a step and a cost per context token, the largest step is one that can be reached."""
    most_context = min(tokens, seqs) * min(model_len, kv_tokens)
    most_ticks = INT64_MAX - (1 << 15) - 1  # rounding, and the step's own tick
    fits, overflows = (bare(contexts=most_ticks // most_context + more) for more in (0, 1))
    table = fits.table(tokens, seqs, model_len, kv_tokens, None)
    assert table.step_ns(0, 0, min(tokens, seqs), most_context, 0) < 2**47
    with pytest.raises(ProfileError, match="more than 64 bits hold"):
        overflows.table(tokens, seqs, model_len, kv_tokens, None)


@given(st.integers(1, 300), st.integers(0, 10**6))
def test_a_prompt_that_could_overflow_is_refused(tokens, past):
    """A chunk of the whole token budget that ends a context of full length is a step that can happen."""
    ticks = INT64_MAX // (tokens * (tokens + 2 * past)) + 1
    if ticks <= INT64_MAX:
        with pytest.raises(ProfileError, match="more than 64 bits hold"):
            bare(work=ticks).table(tokens, 1, tokens + past, tokens + past)


@given(st.integers(1, 60), st.integers(2, 300), st.data())
def test_no_schedule_has_more_prefill_work_than_the_proof_allows_for(tokens, model_len, data):
    budget, work = tokens, 0
    while budget:
        n = data.draw(st.integers(1, min(budget, model_len)))
        work += n * (n + 2 * data.draw(st.integers(0, model_len - n)))
        budget -= n
    assert work <= 2 * tokens * model_len


@pytest.mark.parametrize("gpu", sorted({row.gpu for row in ROWS}))
def test_limits_far_beyond_any_engine_are_refused_rather_than_wrapped(gpu):
    for cost in (cost for key, cost in COSTS.items() if key[0] == gpu and key[3] <= 2):
        cost.table(2048, 1024, 10**6, 10**9)
        with pytest.raises(ProfileError, match="more than 64 bits hold"):
            cost.table(2048, 1024, 10**12, 10**12)


def test_limits_that_cannot_be_are_all_refused_at_once():
    with pytest.raises(ProfileError) as raised:
        ONE.table(0, 1 << 23, -5, 10)
    assert [line.split()[0] for line in str(raised.value).splitlines()] == [
        "max_num_batched_tokens",
        "max_num_seqs",
        "max_model_len",
    ]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 10**9)), min_size=2, max_size=8), st.integers(0, 600))
def test_knots_are_met_and_joined_by_straight_lines(gaps, count):
    at = [1 + sum(gap for gap, _ in gaps[:i]) for i in range(len(gaps))]
    ticks = [sum(rise for _, rise in gaps[: i + 1]) for i in range(len(gaps))]
    knots = Knots(tuple(at), tuple(ticks))
    assert [knots.ticks_at(x) for x in at] == ticks
    slope = (ticks[-1] - ticks[-2]) / (at[-1] - at[-2])
    line = np.interp(count, at, ticks) if count <= at[-1] else ticks[-1] + slope * (count - at[-1])
    assert knots.ticks_at(count) == pytest.approx(line if count else 0, abs=1.01)


def test_a_step_without_prefill_pays_nothing_for_prefill():
    table = ONE.table(*LIMITS[0])
    assert table.by_prefill_tokens[0] == table.by_decodes[0] == table.by_samples[0] == table.by_decodes_context[0] == 0
    assert table.by_prefill_tokens[1] > 0 < table.by_decodes[1]


@given(st.sampled_from(sorted(COSTS)))
def test_beyond_the_last_knot_a_table_goes_on_no_faster_than_the_data_sheet(key):
    """Along the last slope, to four times the largest step that was composed."""
    last = 4 * COSTS[key].fitted_tokens[1]
    tokens_ns = COSTS[key].tokens.ticks_at(last) / 2**16
    assert tokens_ns + COSTS[key].samples.ticks_at(1) / 2**16 >= datasheet_ns((*key, "bf16"), last, 0, 0, 0, 1)
    assert COSTS[key].samples.ticks_at(last) < COSTS[key].samples.ticks_at(last + 1) < 2 * TICKS_PER_MS * last


@given(st.integers(1, 1 << 20), st.integers(1, 1 << 20))
def test_a_prompt_or_a_context_beyond_the_fit_is_told_and_no_other(prompt_tokens, context_tokens):
    cost = load_step_cost("h100", "llama-3.1-8b")
    told = cost.beyond_fit(prompt_tokens, context_tokens)
    assert [sentence.split()[0] for sentence in told] == [
        *(["prompts"] if prompt_tokens > cost.fitted.prompt_tokens else []),
        *(["contexts"] if context_tokens > cost.fitted.context_tokens else []),
    ]
