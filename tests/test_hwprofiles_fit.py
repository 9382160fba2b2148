"""The fit: it finds what was put in, is monotone, writes whole files, and makes the shipped tables again."""

import json
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles import fit
from hwprofiles.composition import Composition, Curve, KernelTables
from hwprofiles.costmodel import load_step_cost, profile_name
from hwprofiles.datasheet import ProfileError, load_gpu, load_model
from hwprofiles.records import parse_record
from hwprofiles.steptable import TICKS_PER_MS
from tests.shared_data import SHARED, needs_shared

AICONFIGURATOR = SHARED / "calibration" / "aiconfigurator"

# Fitted once before, independently, on the same kernel tables: a0, a1, a2 (of half our prefill work), d0, d2 in ms.
ATTENTION_MS = {
    ("a100", "llama-3.1-8b", 1): (0.309, 8.74e-4, 2.88e-6, 0.542, 8.75e-5),
    ("a100", "llama-3.1-70b", 4): (0.830, 1.02e-3, 3.81e-6, 1.463, 6.20e-5),
    ("a100", "llama-3.1-70b", 8): (0.920, 4.85e-4, 2.03e-6, 1.199, 3.00e-5),
    ("h100", "llama-3.1-8b", 1): (0.394, 3.83e-4, 7.96e-7, 0.336, 4.35e-5),
    ("h100", "llama-3.1-70b", 4): (1.071, 3.97e-4, 9.72e-7, 0.920, 2.63e-5),
    ("h100", "llama-3.1-70b", 8): (1.108, 2.45e-4, 4.51e-7, 0.956, 1.27e-5),
}
SIZES = (1, 16, 256, 1024, 4096, 8192)


class Attention(Curve):
    """A machine whose attention is exactly of the fitted form."""

    def __init__(self, formula):
        super().__init__([1, 1e9], [0, 0])
        self.formula = formula

    def ms(self, size):
        return self.formula(size)


def exact_machine(gpu="h100", name="llama-3.1-8b", step=0.01, token=1e-5, work=1e-8, rows=(0.02, 1e-4, 1e-6)):
    model = load_model(name)
    prompts = {b: Attention(lambda n, b=b: step + token * b * n + work * b * n * n) for b in (1, 2, 3, 4, 6, 8)}
    d0, d1, d2 = rows
    decodes = {b: Attention(lambda n, b=b: d0 + d1 * b + d2 * b * n) for b in (*fit.JUDGED_DECODES, 1024)}
    gemm = {(n, k): Curve(SIZES, [0.05 + m * 1e-3 for m in SIZES]) for n in (1024, 65_536) for k in (1024, 65_536)}
    heads = model.heads, model.kv_heads
    tables = KernelTables({}, gemm, {}, {heads: prompts}, {heads: decodes})
    return Composition(tables, load_gpu(gpu), model, 1)


def test_the_fit_finds_the_machine_it_was_shown():
    machine = exact_machine()
    cost = fit.fit_step_cost(machine, "made up")
    layers, c = machine.model.layers, cost.coefficients_ms()
    found = (c["prefill_step"], c["prefill_token"], c["prefill_work"])
    assert found == pytest.approx((0.01 * layers, 1e-5 * layers, 1e-8 * layers), rel=1e-4)
    found = (c["decode_step"], c["decode"], c["decode_context_token"])
    assert found == pytest.approx((0.02 * layers, 1e-4 * layers, 1e-6 * layers), rel=1e-4)
    assert (c["step"], c["sample"]) == pytest.approx((0.4, 0.01))
    assert cost.error.max_frac < 1e-4
    assert cost.error.knot_left_out_mape_frac < 1e-4


def test_the_error_of_a_wrong_table_is_the_error_it_has():
    """A machine with kernels all a tenth slower than the table says is missed by 1/11 everywhere."""
    cost = fit.fit_step_cost(exact_machine(), "made up")
    slower = exact_machine(step=0.011, token=1.1e-5, work=1.1e-8, rows=(0.022, 1.1e-4, 1.1e-6))
    gemm = {key: Curve(SIZES, 1.1 * curve.latencies_ms) for key, curve in slower.tables.gemm.items()}
    slower.tables.gemm.update(gemm)
    error = fit.measure_error(cost, slower)
    assert error.mape_frac == pytest.approx(1 / 11, abs=0.005)
    assert error.steps == len(list(fit.judged_steps(slower)))


def test_coefficients_are_never_negative():
    """A machine that gets faster with every decode would be fitted by a negative slope."""
    cost = fit.fit_step_cost(exact_machine(rows=(5.0, -1e-3, 1e-6)), "made up")
    assert min(vars(cost.coefficients).values()) >= 0


@given(st.lists(st.floats(0.001, 1000), min_size=2, max_size=30))
def test_knots_never_decrease_and_keep_what_was_monotone(times_ms):
    knots = fit._monotone_knots(range(1, len(times_ms) + 1), times_ms)
    assert not list(knots.problems("knots"))
    assert sum(knots.ticks) == pytest.approx(sum(times_ms) * TICKS_PER_MS, rel=1e-9)
    again = fit._monotone_knots(knots.at, [ticks / TICKS_PER_MS for ticks in knots.ticks])
    assert np.allclose(again.ticks, knots.ticks, rtol=1e-9)
    if times_ms == sorted(times_ms):
        assert list(knots.ticks) == [round(ms * TICKS_PER_MS) for ms in times_ms]


def test_a_file_is_read_as_it_was_written(tmp_path):
    cost = fit.fit_step_cost(exact_machine(), "made up")
    (path,) = fit.write_tables([cost], tmp_path / "new")
    assert parse_record(type(cost), path.read_bytes(), path.name) == cost
    assert [entry.name for entry in path.parent.iterdir()] == ["h100_llama-3.1-8b_bf16_tp1.json"]


def test_a_table_that_is_there_is_only_replaced_when_asked(tmp_path):
    cost = fit.fit_step_cost(exact_machine(), "made up")
    (path,) = fit.write_tables([cost], tmp_path)
    path.write_text("mine")
    with pytest.raises(ProfileError, match="--force replaces"):
        fit.write_tables([cost], tmp_path)
    assert path.read_text() == "mine"
    fit.write_tables([cost], tmp_path, force=True)
    assert json.loads(path.read_text())["gpu"] == "h100"


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    cost = fit.fit_step_cost(exact_machine(), "made up")
    (path,) = fit.write_tables([cost], tmp_path)
    before = path.read_bytes()

    def interrupt(*_):
        raise OSError("no space left")

    monkeypatch.setattr(fit.os, "replace", interrupt)
    with pytest.raises(OSError, match="no space left"):
        fit.write_tables([cost], tmp_path, force=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_line_refuses_a_folder_without_tables(tmp_path, capsys):
    assert fit.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "no folder of kernel tables; expected one or more of a100_sxm, h100_sxm" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@needs_shared
def test_the_shipped_tables_come_from_the_reference_data_byte_for_byte(tmp_path):
    pytest.importorskip("pyarrow", reason="kernel tables are parquet files")
    assert fit.main([str(AICONFIGURATOR), "--out", str(tmp_path)]) == 0
    shipped = {path.name: path.read_bytes() for path in files("hwprofiles").joinpath("measured").iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == shipped


@pytest.mark.parametrize(("combination", "expected"), ATTENTION_MS.items())
def test_attention_coefficients_are_about_those_of_the_reference(combination, expected):
    gpu, model, tp = combination
    c = load_step_cost(gpu, model, tp=tp).coefficients_ms()
    found = (c["prefill_step"], c["prefill_token"], 2 * c["prefill_work"], c["decode_step"], c["decode_context_token"])
    assert found == pytest.approx(expected, rel=0.08)
    assert profile_name(gpu, model, "bf16", tp) == f"{gpu}_{model}_bf16_tp{tp}"
