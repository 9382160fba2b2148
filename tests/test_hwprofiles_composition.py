"""Composition: a step is the sum of its kernels, and whole steps come out as the reference has them."""

from dataclasses import replace

import numpy as np
import pytest

from hwprofiles.datasheet import ProfileError, load_gpu, load_model
from hwprofiles.fitting import composition as module
from hwprofiles.fitting.composition import Composition
from hwprofiles.fitting.curve import Curve
from hwprofiles.fitting.kernel_tables import Attention, KernelTables
from tests.kernel_cases import AICONFIGURATOR, exact_machine, read_gpu
from tests.shared_data import needs_shared

# Composed once before, independently, from the same kernel tables: ms without host time, prompts, then decodes.
PROMPTS = (512, 1024, 2048, 4096, 8192)
DECODES = ((1, 512), (8, 1024), (32, 1024), (64, 1024), (128, 1024), (256, 1024))
COMPOSED_MS = {
    ("a100", "llama-3.1-8b", 1): (33.9, 63.6, 124, 257, 562, 11.3, 12.0, 14.9, 17.2, 24.2, 39.9),
    ("a100", "llama-3.1-70b", 4): (105, 182, 338, 669, 1377, 27.2, 30.0, 33.2, 36.7, 46.0, 71.6),
    ("a100", "llama-3.1-70b", 8): (76.4, 125, 225, 424, 833, 17.2, 17.5, 21.4, 22.3, 28.9, 44.1),
    ("h100", "llama-3.1-8b", 1): (11.9, 22.1, 44.2, 89.9, 203, 6.2, 6.7, 8.5, 10.6, 12.9, 19.5),
    ("h100", "llama-3.1-70b", 4): (36.5, 66.7, 130, 267, 590, 14.9, 16.2, 16.9, 19.3, 23.2, 30.5),
    ("h100", "llama-3.1-70b", 8): (25.6, 45.4, 85.2, 169, 345, 10.2, 10.2, 11.1, 12.3, 14.6, 20.1),
}


def flat_tables(model, tp, precision="bf16"):
    """A machine whose attention takes 0.01 ms (0.02 with KV of fp8), and an all-reduce a millionth of a ms an element."""
    heads = model.heads // tp, model.kv_heads_per_gpu(tp)
    flat = {kv: Attention({heads: {1: Curve([1, 2], [ms, ms])}}) for kv, ms in (("bf16", 0.01), ("fp8", 0.02))}
    return KernelTables(precision, {}, {"layers": None}, {"head": None}, {tp: Curve([0, 1e9], [0.0, 1000.0])}, flat, flat)


@pytest.fixture
def gemm_calls(monkeypatch):
    """Every matrix product asked for, each of which takes 0.001 ms: (whose, m, n, k)."""
    calls = []

    def count(curves, m, n, k):
        calls.append((*curves, m, n, k))
        return 1e-3

    monkeypatch.setattr(module, "gemm_ms", count)
    return calls


@pytest.mark.parametrize("tp", [1, 4, 8])
@pytest.mark.parametrize("kv", ["bf16", "fp8"])
def test_a_layer_is_its_four_products_split_over_the_gpus(tp, kv, gemm_calls):
    model = load_model("llama-3.1-70b")
    composition = Composition(flat_tables(model, tp, "fp8"), load_gpu("h100"), model, tp)
    milliseconds = composition.step_ms(1, 100, decodes=28, context=50, kv=kv)
    assert sorted(gemm_calls) == sorted(
        [
            ("layers", 128, (64 + 2 * max(1, 8 // tp) * tp) * 128 // tp, 8192),
            ("layers", 128, 8192, 64 * 128 // tp),
            ("layers", 128, 2 * 28_672 // tp, 8192),
            ("layers", 128, 8192, 28_672 // tp),
            ("head", 29, 128_256 // tp, 8192),
        ]
    )
    moved = 2 * 128 * (8 * 8192 + 3 * 28_672 / tp + 4 * (64 + 8) * 128 / tp)
    layer = 4e-3 + 0.01 + moved / (0.8 * 3350e6) + (2 * 128 * 8192 / 1e6 if tp > 1 else 0)
    prompt_ms, decodes_ms = (0.01, 28 * 0.01) if kv == "bf16" else (0.02, 28 * 0.02)
    assert milliseconds == pytest.approx(80 * (layer + prompt_ms + decodes_ms) + 1e-3)


def test_each_norm_of_queries_and_keys_is_one_more_kernel_that_moves_them_twice():
    machine = exact_machine()
    plain, model = machine.elementwise_ms(1000), machine.model
    for norms, heads in ((("q",), model.heads), (("k",), model.kv_heads), (("q", "k"), model.heads + model.kv_heads)):
        normed = replace(machine, model=replace(model, norms=norms)).elementwise_ms(1000)
        moved_bytes = 2 * 2 * 1000 * heads * 128
        assert normed - plain == pytest.approx(0.002 * len(norms) + moved_bytes / (0.8 * 3350e6))


def test_all_reduces_bend_at_the_tokens_they_were_measured_at():
    model = load_model("llama-3.1-8b")
    tables = flat_tables(model, 2)
    tables.allreduce[2] = Curve([512, 4096, 8192, 65_536, 1 << 22], [0.01, 0.02, 0.02, 0.1, 3.0])
    composition = Composition(tables, load_gpu("h100"), model, 2)
    assert composition.allreduce_bends(1000) == [1, 2, 16]
    assert composition.allreduce_bends(1024) == [1, 2, 16, 1024]
    assert Composition(tables, load_gpu("h100"), model, 1).allreduce_bends(1024) == []


def test_what_was_not_measured_is_refused():
    machine = exact_machine()
    with pytest.raises(ProfileError, match="no all-reduce among 2 h100 was measured"):
        replace(machine, tp=2)
    with pytest.raises(ProfileError, match=r"llama-3\.1-8b has heads of 64; attention was measured for 128"):
        replace(machine, model=replace(machine.model, head_size=64))


def test_attention_of_other_heads_makes_a_composition_transferred():
    machine = exact_machine()
    folded = replace(machine, model=replace(machine.model, heads=64, kv_heads=16))
    assert folded.is_transferred and not machine.is_transferred
    assert folded.decode_attention_ms(4, 100) == pytest.approx(machine.decode_attention_ms(8, 100))


@needs_shared
@pytest.mark.parametrize("gpu", ["a100", "h100"])
def test_composed_steps_are_those_of_the_reference_within_three_percent(gpu):
    tables = read_gpu(gpu, "bf16")
    for (name, model, tp), expected in COMPOSED_MS.items():
        if name == gpu:
            composition = Composition(tables, load_gpu(gpu), load_model(model), tp)
            ours = [composition.step_ms(1, length) for length in PROMPTS]
            ours += [composition.step_ms(decodes=b, context=context) for b, context in DECODES]
            np.testing.assert_allclose(ours, expected, rtol=0.03)


@needs_shared
def test_where_eight_bits_were_not_measured_there_is_no_table():
    with pytest.raises(ProfileError, match="no matrix product in fp8 was measured there"):
        KernelTables.read(AICONFIGURATOR / load_gpu("a100").calibration, "fp8")
