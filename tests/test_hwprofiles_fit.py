"""The fit: it finds what was put in, is monotone, keeps to the data sheet, and refuses what cannot be."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.bounds import broken_bounds
from hwprofiles.datasheet import ProfileError, load_gpu, load_model
from hwprofiles.fitting import fit, fit_error
from hwprofiles.fitting.composition import Composition
from hwprofiles.fitting.curve import Curve
from hwprofiles.fitting.kernel_tables import KernelTables
from hwprofiles.profiles import load_step_cost
from hwprofiles.steptable import TICKS_PER_MS
from tests.kernel_cases import (
    change_table,
    context_ms,
    exact_machine,
    gpu_folder,
    once_ms,
    read_gpu,
)
from tests.shared_data import needs_shared

# Fitted once before, independently, on the same kernel tables: a0, a1, a2 (of half our prefill work), d0, d2 (of each token
# of context, whatever the decodes are) in ms.
ATTENTION_MS = {
    ("a100", "llama-3.1-8b", 1): (0.309, 8.74e-4, 2.88e-6, 0.542, 8.75e-5),
    ("a100", "llama-3.1-70b", 4): (0.830, 1.02e-3, 3.81e-6, 1.463, 6.20e-5),
    ("a100", "llama-3.1-70b", 8): (0.920, 4.85e-4, 2.03e-6, 1.199, 3.00e-5),
    ("h100", "llama-3.1-8b", 1): (0.394, 3.83e-4, 7.96e-7, 0.336, 4.35e-5),
    ("h100", "llama-3.1-70b", 4): (1.071, 3.97e-4, 9.72e-7, 0.920, 2.63e-5),
    ("h100", "llama-3.1-70b", 8): (1.108, 2.45e-4, 4.51e-7, 0.956, 1.27e-5),
}


def ms(ticks: int | Sequence[int]) -> np.ndarray:
    return np.array(ticks) / TICKS_PER_MS


def test_the_fit_finds_the_machine_it_was_shown():
    machine = exact_machine()
    cost = fit.fit_step_cost(machine, "made up")
    layers, a = machine.model.layers, cost.attention["bf16"]
    found = ms((a.prefill_step, a.prefill_token, a.prefill_work))
    assert found == pytest.approx((0.01 * layers, 1e-5 * layers, 2e-8 * layers), rel=1e-4)
    assert a.decodes.at == a.contexts.at == fit_error.DECODES
    assert ms(a.decodes.ticks) == pytest.approx([layers * once_ms(b) for b in a.decodes.at], rel=1e-4)
    assert ms(a.contexts.ticks) == pytest.approx([layers * context_ms(b) for b in a.contexts.at], rel=1e-4)
    assert cost.error.max_frac < 1e-4
    assert cost.error.steps == len(list(fit_error.judged_steps(machine, "bf16"))) > 100
    assert (cost.grade, cost.layers, cost.source) == ("measured", 32, "made up")


def test_what_lies_between_the_knots_that_are_left_is_the_held_out_error():
    """A machine that is straight between every other knot is found from these alone; this one bends at every knot."""
    straight = exact_machine(once=lambda decodes: 0.02 + 1e-4 * decodes, context=lambda decodes: 4e-6 * decodes)
    straight_error, error = (fit.fit_step_cost(machine, "made up").error for machine in (straight, exact_machine()))
    assert straight_error.held_out_mape_frac < 1e-4 < 1e-3 < error.held_out_mape_frac
    half = fit_error.half_grid(straight)
    assert (half.sizes, half.decodes) == ([1, 256, 4096, 8192], [1, 4, 16, 64, 256, 1024])
    assert set(half.lengths) < set(fit_error.LENGTHS) and set(half.contexts) < set(fit_error.CONTEXTS)


def test_the_error_of_a_wrong_table_is_the_error_it_has():
    """A machine with kernels all a tenth slower than the table says is missed by 1/11 everywhere, elementwise ones aside."""
    cost, slower = fit.fit_step_cost(exact_machine(), "made up"), exact_machine(slower=1.1)
    error = fit_error.measure_error(cost, cost, slower)
    assert error.mape_frac == error.held_out_mape_frac == pytest.approx(1 / 11, abs=0.005)
    assert error.steps == len(list(fit_error.judged_steps(slower, "bf16")))


def test_a_table_is_monotone_and_within_the_data_sheet_whatever_was_measured():
    """A machine that gets faster with every decode, and whose products get faster with every row."""
    machine = exact_machine(once=lambda decodes: 5.0 / decodes)
    for curve in machine.tables.gemm.values():
        curve.latencies_ms[:] = np.linspace(9, 8, len(curve.latencies_ms))
    cost = fit.fit_step_cost(machine, "made up")
    assert not list(cost.problems())
    assert not list(broken_bounds(cost, machine.gpu, machine.model))


def test_measurements_faster_than_the_data_sheet_are_raised_to_it():
    """Caches make small attention faster than memory; a table says what memory allows."""
    machine = exact_machine()
    gpu = replace(machine.gpu, bandwidth_gb_per_s=machine.gpu.bandwidth_gb_per_s / 4)
    cost = fit.fit_step_cost(replace(machine, gpu=gpu), "made up")
    assert broken_bounds_of_kernels(fit.fit_step_cost(machine, "made up"), gpu, machine.model)
    assert not broken_bounds_of_kernels(cost, gpu, machine.model)


def broken_bounds_of_kernels(cost, gpu, model):
    return [sentence for sentence in broken_bounds(cost, gpu, model) if "of context" in sentence]


@given(st.lists(st.floats(0.001, 1000), min_size=2, max_size=30))
def test_knots_never_decrease_and_keep_what_was_monotone(times_ms):
    knots = fit._monotone_knots(range(1, len(times_ms) + 1), times_ms)
    assert not list(knots.problems("knots"))
    assert sum(knots.ticks) == pytest.approx(sum(times_ms) * TICKS_PER_MS, rel=1e-9)
    again = fit._monotone_knots(knots.at, [ticks / TICKS_PER_MS for ticks in knots.ticks])
    assert np.allclose(again.ticks, knots.ticks, rtol=1e-9)
    if times_ms == sorted(times_ms):
        assert list(knots.ticks) == pytest.approx([time_ms * TICKS_PER_MS for time_ms in times_ms], abs=1)


@given(st.lists(st.integers(1, 8192), min_size=2, max_size=8, unique=True))
def test_the_knots_of_f_tok_contain_the_bends_of_all_reduces(tokens):
    """So that what is composed is met exactly at every size where anything was measured."""
    machine = exact_machine()
    hidden = machine.model.hidden
    sizes = sorted(m * hidden for m in tokens)
    machine.tables.allreduce[2] = Curve(sizes, np.cumsum(np.arange(1, len(sizes) + 1)) * 0.01)
    heads = (machine.model.heads // 2, machine.model.kv_heads // 2)
    for attention in (machine.tables.prompts["bf16"], machine.tables.decodes["bf16"]):
        attention.measured[heads] = attention.measured[machine.model.heads, machine.model.kv_heads]
    split = replace(machine, tp=2)
    cost = fit._cost(split, fit_error.full_grid(split), "made up")
    assert set(cost.tokens.at) == {*split.tables.sizes, *tokens}
    for m in tokens:
        assert ms(cost.tokens.ticks_at(m)) == pytest.approx(split.tokens_ms(m), rel=1e-6)


def test_kernel_tables_of_files_make_a_table_that_is_within_the_data_sheet(tmp_path):
    tables, gpu, model = KernelTables.read(gpu_folder(tmp_path), "bf16"), load_gpu("h100"), load_model("llama-3.1-8b")
    cost = fit.fit_step_cost(Composition(tables, gpu, model, 1), fit.source_of(tmp_path, gpu, tables))
    assert not list(broken_bounds(cost, gpu, model)) and not list(cost.problems())
    assert list(cost.attention) == ["bf16"] and "kernel tables of" in cost.source
    assert cost.error.mape_frac < 0.05


@pytest.mark.parametrize(("slower", "unit"), [(1e-3, "s"), (1e3, "us")])
def test_latencies_in_another_unit_are_refused_with_every_part_that_says_so(tmp_path, slower, unit):
    """Latencies are in ms: those in seconds are a thousand times too small, those in microseconds as many times too large."""
    tables = KernelTables.read(gpu_folder(tmp_path, slower=slower), "bf16")
    with pytest.raises(ProfileError) as raised:
        fit.fit_step_cost(Composition(tables, load_gpu("h100"), load_model("llama-3.1-8b"), 1), unit)
    lines = str(raised.value).splitlines()
    parts = ("f_tok", "head", "attention of prefill", "attention of decodes")
    assert len(lines) == 4 and all(f"tp 1: {part}" in line for part, line in zip(parts, lines))
    assert all("expected 0.25 to 50 times where it is fastest. Are all latencies in ms?" in line for line in lines)


def test_one_row_that_is_a_hundred_times_too_slow_stops_the_fit_with_its_place(tmp_path):
    def spike(frame):
        frame.loc[17, "latency"] *= 100
        return frame

    path = change_table(gpu_folder(tmp_path), "gemm", "gemm", spike)
    composition = Composition(KernelTables.read(tmp_path, "bf16"), load_gpu("h100"), load_model("llama-3.1-8b"), 1)
    with pytest.raises(ProfileError, match=f"{path}: row 17: .* ms at n 4096, k 16384, m 16; expected 1/20 to 20 times"):
        fit.fit_step_cost(composition, "made up")


def test_attention_measured_at_one_length_alone_is_refused(tmp_path):
    change_table(gpu_folder(tmp_path), "attention", "generation_attention", lambda frame: frame[frame["step"] == 63])
    composition = Composition(KernelTables.read(tmp_path, "bf16"), load_gpu("h100"), load_model("llama-3.1-8b"), 1)
    with pytest.raises(ProfileError, match=r"attention of decodes with KV bf16 was measured for .* two lengths at least"):
        fit.fit_step_cost(composition, "made up")


def test_a_folder_that_is_a_copy_says_of_which_commit(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    gpu = load_gpu("h100")
    tables = KernelTables.read(gpu_folder(tmp_path / gpu.calibration), "bf16")
    (tmp_path / "SOURCE.txt").write_text(f"taken from commit {commit}")
    assert fit.source_of(tmp_path, gpu, tables).startswith(f"ai-dynamo/aiconfigurator, commit {commit}, h100_sxm")


@pytest.mark.parametrize(("combination", "expected"), ATTENTION_MS.items())
def test_attention_takes_about_what_it_does_by_the_coefficients_of_the_reference(combination, expected):
    gpu, model, tp = combination
    a, (a0, a1, a2, d0, d2) = load_step_cost(gpu, model, tp=tp).attention["bf16"], expected
    for n in (2048, 4096, 8192):
        ours_ms = ms(a.prefill_step + a.prefill_token * n + a.prefill_work * n * n)
        assert ours_ms == pytest.approx(a0 + a1 * n + a2 * n * n / 2, rel=0.08)
    for decodes, context in ((32, 4096), (64, 2048), (64, 4096), (128, 2048)):
        ours_ms = ms(a.decodes.ticks_at(decodes) + a.contexts.ticks_at(decodes) * context)
        assert ours_ms == pytest.approx(d0 + d2 * decodes * context, rel=0.15)  # the reference's line is one for all decodes


@needs_shared
@pytest.mark.parametrize("gpu", ["a100", "h100", "rtx_pro_6000"])
def test_the_reference_data_have_no_kernel_that_cannot_be_where_tables_need_it(gpu):
    for precision in load_gpu(gpu).peak_tflops:
        tables = read_gpu(gpu, precision)
        needed = [*tables.gemm.values(), *tables.wide_gemm.values(), *tables.allreduce.values()]
        assert not any(curve.mistake for curve in needed)
