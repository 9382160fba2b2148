"""Step costs: laws over random steps, the formula once more in floats, and the proof that 64 bits are enough."""

import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles import costmodel
from hwprofiles.costmodel import Coefficients, list_profiles, load_step_cost, profile_name
from hwprofiles.datasheet import ProfileError, load_gpu, load_model
from hwprofiles.records import INT64_MAX
from hwprofiles.steptable import Knots

ROWS = list_profiles()
MODEL_LEN = 131_072
BATCHED_TOKENS, SEQS = 8192, 512
COSTS = {(row.gpu, row.model, row.tp): load_step_cost(row.gpu, row.model, row.precision, row.tp) for row in ROWS}
TABLES = {key: cost.table(BATCHED_TOKENS, SEQS, MODEL_LEN, 2_000_000) for key, cost in COSTS.items()}
KEYS = st.sampled_from(sorted(TABLES))


@st.composite
def steps(draw):
    """(prefill_tokens, prefill_work, decodes, decode_context_tokens, samples) of a step that a scheduler could make."""
    chunks = draw(st.lists(st.tuples(st.integers(1, 1900), st.integers(0, MODEL_LEN - 1900)), max_size=4))
    contexts = draw(st.lists(st.integers(2, MODEL_LEN), min_size=0 if chunks else 1, max_size=5))
    repeats = draw(st.integers(1, 90))
    prefill_tokens, work = sum(n for n, _ in chunks), sum(n * (n + 2 * past) for n, past in chunks)
    decodes, context = repeats * len(contexts), repeats * sum(contexts)
    return prefill_tokens, work, decodes, context, decodes + draw(st.integers(0, len(chunks)))


def float_step_ns(key, prefill_tokens, prefill_work, decodes, decode_context_tokens, samples):
    """The formula of hwprofiles/costmodel.py from the file itself, in floats."""
    gpu, model, tp = key
    name = profile_name(gpu, model, "bf16", tp) + ".json"
    file = json.loads(files("hwprofiles").joinpath("measured", name).read_text())
    c = {name: ticks / 2**16 for name, ticks in file["coefficients"].items()}

    def knots(name, count):
        at, ns = np.array(file[name]["at"], float), np.array(file[name]["ticks"]) / 2**16
        return np.interp(count, at, ns) if count else 0.0

    total = c["step"] + knots("tokens", prefill_tokens + decodes) + knots("samples", samples) + c["sample"] * samples
    if prefill_tokens:
        total += c["prefill_step"] + c["prefill_token"] * prefill_tokens + c["prefill_work"] * prefill_work
    if decodes:
        total += c["decode_step"] + c["decode"] * decodes + c["decode_context_token"] * decode_context_tokens
    return total


def datasheet_ns(key, prefill_tokens, prefill_work, decodes, decode_context_tokens, samples):
    """The least time any step could take on that GPU: the larger of FLOPs/peak and bytes/bandwidth.

    FLOPs counted: matrix products of all layers for every new token, the output head for the sampled rows, and the two
    products of attention over every scored pair of tokens. Bytes counted: the weights of the layers once, those of the
    head if it is used, and keys and values of the decodes' contexts. All else is left out, so the bound is low.
    """
    gpu, model, tp = load_gpu(key[0]), load_model(key[1]), key[2]
    layer = model.hidden * (2 * model.heads + 2 * model.kv_heads) * model.head_size + 3 * model.hidden * model.mlp_width
    head = model.vocabulary * model.hidden
    pairs = prefill_work / 2 + decode_context_tokens
    tokens = prefill_tokens + decodes
    flops = 2 * model.layers * layer * tokens + 2 * head * samples
    flops += 4 * model.layers * model.heads * model.head_size * pairs
    kv_bytes = 2 * 2 * model.layers * model.kv_heads * model.head_size * decode_context_tokens
    moved = 2 * model.layers * layer + (2 * head if samples else 0) + kv_bytes
    return max(flops / tp / (gpu.peak_tflops["bf16"] * 1e3), moved / tp / gpu.bandwidth_gb_per_s)


@given(KEYS, steps())
def test_a_step_equals_the_float_formula_within_a_nanosecond(key, step):
    assert abs(TABLES[key].step_ns(*step) - float_step_ns(key, *step)) <= 1


@given(KEYS, steps())
def test_a_step_is_never_faster_than_the_data_sheet(key, step):
    assert TABLES[key].step_ns(*step) >= datasheet_ns(key, *step)


@given(KEYS, steps(), st.integers(0, 4), st.integers(1, 100))
def test_more_of_anything_is_never_faster(key, step, argument, more):
    larger = list(step)
    larger[argument] += more
    if larger[0] + larger[2] <= BATCHED_TOKENS and larger[2] <= SEQS and larger[4] <= SEQS:
        assert TABLES[key].step_ns(*larger) >= TABLES[key].step_ns(*step) > 0


@given(KEYS, steps())
def test_the_arrays_of_a_compiled_engine_give_the_same_step_in_64_bits(key, step):
    a = TABLES[key].arrays(len(TABLES[key].by_tokens) - 1)
    p, work, decodes, context, samples = (np.int64(x) for x in step)
    ticks = a["by_tokens"][p + decodes] + a["by_samples"][samples]
    ticks += a["by_prefill_tokens"][p] + a["by_decodes"][decodes]
    ticks += np.int64(a["prefill_work_ticks"]) * work + np.int64(a["decode_context_ticks"]) * context
    assert (ticks + np.int64(1 << 15)) >> np.int64(16) == TABLES[key].step_ns(*step)
    assert all(array.dtype == np.int64 for array in a.values() if isinstance(array, np.ndarray))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_overflow_proof_is_tight_to_one_tick(tokens, seqs, model_len, kv_tokens):
    """With nothing but one tick a step and a cost per context token, the largest step is one that can be reached."""
    most_context = min(tokens, seqs) * min(model_len, kv_tokens)
    most_ticks = INT64_MAX - (1 << 15) - 1 - 1  # rounding, the host's tick, and the knot's
    fits, overflows = (
        replace(
            COSTS[ROWS[0].gpu, ROWS[0].model, ROWS[0].tp],
            tokens=Knots((1, 2), (1, 1)),
            samples=Knots((1, 2), (0, 0)),
            coefficients=Coefficients(1, 0, 0, 0, 0, 0, 0, ticks),
        )
        for ticks in (most_ticks // most_context, most_ticks // most_context + 1)
    )
    table = fits.table(tokens, seqs, model_len, kv_tokens)
    assert table.step_ns(0, 0, min(tokens, seqs), most_context, 0) < 2**47
    with pytest.raises(ProfileError, match="more than 64 bits hold"):
        overflows.table(tokens, seqs, model_len, kv_tokens)


@given(st.integers(1, 300), st.integers(0, 10**6))
def test_a_prompt_that_could_overflow_is_refused(tokens, past):
    """A chunk of the whole token budget that ends a context of full length is a step that can happen."""
    cost, work = COSTS[ROWS[0].gpu, ROWS[0].model, ROWS[0].tp], tokens * (tokens + 2 * past)
    ticks = INT64_MAX // work + 1
    if ticks <= INT64_MAX:
        overflows = replace(cost, coefficients=replace(cost.coefficients, prefill_work=ticks))
        with pytest.raises(ProfileError, match="more than 64 bits hold"):
            overflows.table(tokens, 1, tokens + past, tokens + past)


@given(st.integers(1, 60), st.integers(2, 300), st.data())
def test_no_schedule_has_more_prefill_work_than_the_proof_allows_for(tokens, model_len, data):
    budget, work = tokens, 0
    while budget:
        n = data.draw(st.integers(1, min(budget, model_len)))
        work += n * (n + 2 * data.draw(st.integers(0, model_len - n)))
        budget -= n
    assert work <= 2 * tokens * model_len


@pytest.mark.parametrize("row", ROWS)
def test_limits_far_beyond_any_engine_are_refused_rather_than_wrapped(row):
    cost = COSTS[row.gpu, row.model, row.tp]
    cost.table(8192, 1024, 10**6, 10**9)
    with pytest.raises(ProfileError, match="more than 64 bits hold"):
        cost.table(8192, 1024, 10**12, 10**12)


def test_limits_that_cannot_be_are_all_refused_at_once():
    with pytest.raises(ProfileError) as raised:
        COSTS[ROWS[0].gpu, ROWS[0].model, ROWS[0].tp].table(0, 1 << 23, -5, 10)
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
    table = TABLES["h100", "llama-3.1-8b", 1]
    assert table.by_prefill_tokens[0] == table.by_decodes[0] == table.by_samples[0] == 0
    assert table.by_prefill_tokens[1] > 0 < table.by_decodes[1]


def test_a_missing_combination_is_met_with_the_nearest_and_all_there_are():
    with pytest.raises(ProfileError) as raised:
        load_step_cost("h100", "llama-3.1-70b", tp=1)
    first, *there = str(raised.value).splitlines()
    assert first.startswith("no step cost for h100 llama-3.1-70b bf16 tp 1")
    assert "the nearest is h100 llama-3.1-70b bf16 tp 4" in first
    assert len(there) == len(ROWS)
    with pytest.raises(ProfileError, match=r"the nearest is a100 llama-3\.1-8b bf16 tp 1"):
        load_step_cost("a100", "llama-3.1-8b", precision="fp8")
    with pytest.raises(ProfileError, match="no step cost"):
        load_step_cost("a100", "llama-3.1-8b", tp=0)


def test_the_same_model_on_another_gpu_is_nearer_than_another_model_on_the_same(monkeypatch):
    few = [row for row in ROWS if (row.gpu, row.model) in {("h100", "llama-3.1-8b"), ("a100", "llama-3.1-70b")}]
    monkeypatch.setattr(costmodel, "list_profiles", lambda: few)
    with pytest.raises(ProfileError, match=r"the nearest is a100 llama-3\.1-70b bf16 tp 4"):
        load_step_cost("h100", "llama-3.1-70b", tp=1)


@pytest.mark.parametrize("row", ROWS)
def test_every_shipped_table_is_within_two_percent_and_says_of_what(row):
    cost = COSTS[row.gpu, row.model, row.tp]
    assert cost.error.mape_frac == row.error_mape_frac <= 0.02
    assert cost.error.mape_frac <= cost.error.worst_5pct_frac <= cost.error.max_frac
    assert cost.error.steps > 100
    assert "decodes" in cost.error.measured_on
    assert "commit 0" in cost.source
    assert cost.grade == "measured"
    assert cost.fitted_tokens[1] >= 8192


def test_the_shipped_tables_cover_both_gpus_and_models():
    combinations = {(row.gpu, row.model, row.precision, row.tp) for row in ROWS}
    wanted = [("llama-3.1-8b", 1), ("llama-3.1-70b", 4), ("llama-3.1-70b", 8)]
    assert combinations >= {(gpu, model, "bf16", tp) for gpu in ("a100", "h100") for model, tp in wanted}
