"""Composition: kernel tables are read past their traps, and whole steps come out as the reference has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.composition import Composition, Curve, KernelTables
from hwprofiles.datasheet import ProfileError, load_gpu, load_model
from tests.shared_data import SHARED, needs_shared

AICONFIGURATOR = SHARED / "calibration" / "aiconfigurator"
CONTEXT = {"kv_cache_dtype": "bfloat16", "head_dim": 128}

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


def write_table(folder, operation, table, rows, version="0.14.0"):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow", reason="kernel tables are parquet files")
    target = folder / operation / "vllm" / version
    target.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(target / f"{table}_perf.parquet")


def small_tables(folder):
    """One GPU's folder with a few made-up kernels, and beside the right rows the wrong ones a reader could take."""
    gemm = [
        {"gemm_dtype": "bfloat16", "m": m, "n": n, "k": k, "latency": m + n / 64 + k / 128}
        for m in (1, 8, 64)
        for n in (64, 65_536)
        for k in (128, 256)
    ]
    wrong_dtype = [{**row, "gemm_dtype": "fp8", "latency": 99.0} for row in gemm]
    write_table(folder, "gemm", "gemm", [*gemm, *wrong_dtype])
    message = {"allreduce_dtype": "bfloat16", "num_gpus": 2, "message_size": 128}
    rows = [
        {**message, "backend": "vllm_graph", "latency": 0.5},
        {**message, "backend": "vllm_graph", "message_size": 256, "latency": 0.7},
        {**message, "backend": "vllm_eager", "latency": 99.0},
    ]
    write_table(folder, "comm", "custom_allreduce", rows)
    heads = {**CONTEXT, "num_heads": 8, "num_key_value_heads": 2, "batch_size": 1}
    prompt = {**heads, "isl": 128, "window_size": 0}
    rows = [{**prompt, "latency": ms} for ms in (3.0, 5.0, 40.0)]
    rows += [{**prompt, "window_size": 128, "latency": 0.1}, {**prompt, "head_dim": 64, "latency": 0.1}]
    write_table(folder, "attention", "context_attention", rows)
    decode = [{**heads, "batch_size": b, "step": s, "latency": b * s / 10} for b in (1, 4) for s in (15, 31)]
    write_table(folder, "attention", "generation_attention", decode)
    return folder


def test_each_trap_of_the_tables_is_stepped_over(tmp_path):
    tables = KernelTables.read(small_tables(tmp_path), "bf16")
    assert tables.prompts[8, 2][1].ms(128) == 5.0  # the median of three, full attention, this head size
    assert tables.allreduce[2].ms(128) == 0.5  # in CUDA graphs
    assert tables.decode_attention_ms((8, 2), 1, 16) == 1.5  # 15 tokens before the one computed now
    assert tables.decode_attention_ms((8, 2), 2, 16) == pytest.approx(3.0)  # between batches
    assert tables.decode_attention_ms((8, 2), 1, 64) == pytest.approx(6.3)  # beyond the longest context, straight on
    assert tables.gemm_ms(8, 64, 192) == pytest.approx(8 + 1 + 1.5)  # between widths
    assert tables.gemm_ms(8, 131_072, 128) == pytest.approx(2 * (8 + 1024 + 1))  # in proportion beyond 65536
    assert tables.gemm_ms(128, 64, 128) == pytest.approx(128 + 1 + 1)  # beyond the most rows, straight on


def test_the_newest_version_is_read(tmp_path):
    small_tables(tmp_path)
    rows = [{"gemm_dtype": "bfloat16", "m": m, "n": 64, "k": 64, "latency": 7.0} for m in (1, 2)]
    write_table(tmp_path, "gemm", "gemm", rows, version="0.9.1")
    assert KernelTables.read(tmp_path, "bf16").versions["gemm"] == "0.14.0"


@pytest.mark.parametrize("spoil", ["missing", "garbage", "columns", "latency", "empty"])
def test_a_folder_that_is_no_kernel_table_is_refused_with_its_path(tmp_path, spoil):
    path = small_tables(tmp_path) / "gemm" / "vllm" / "0.14.0" / "gemm_perf.parquet"
    row = {"gemm_dtype": "bfloat16", "m": 1, "n": 64, "k": 64, "latency": 1.0}
    if spoil == "missing":
        path.unlink()
    elif spoil == "garbage":
        path.write_bytes(b"PAR1 and then nothing")
    elif spoil == "columns":
        write_table(tmp_path, "gemm", "gemm", [{"m": 1, "latency": 1.0}])
    elif spoil == "latency":
        write_table(tmp_path, "gemm", "gemm", [{**row, "latency": float("nan")}])
    else:
        write_table(tmp_path, "gemm", "gemm", [{**row, "gemm_dtype": "fp8"}])
    with pytest.raises(ProfileError, match=r"gemm_perf\.parquet"):
        KernelTables.read(tmp_path, "bf16")


def test_a_folder_without_measurements_is_refused(tmp_path):
    with pytest.raises(ProfileError, match="no measured version there"):
        KernelTables.read(tmp_path, "bf16")


@given(st.dictionaries(st.integers(1, 100), st.floats(0.01, 10), min_size=2, max_size=6), st.integers(1, 100))
def test_a_curve_meets_its_points_and_never_leaves_their_range_inside(points, size):
    curve = Curve(points.keys(), points.values())
    assert all(curve.ms(at) == pytest.approx(ms) for at, ms in points.items())
    if size <= max(points):
        assert min(points.values()) - 1e-9 <= curve.ms(size) <= max(points.values()) + 1e-9


def counting_tables(model, tp, gemm_calls):
    """Tables of a machine where every kernel takes a time that tells which kernel it was."""

    class Counting(KernelTables):
        def gemm_ms(self, m, n, k):
            gemm_calls.append((m, n, k))
            return 1e-3

    heads = model.heads // tp, model.kv_heads_per_gpu(tp)
    flat = Curve([1, 2], [0.01, 0.01])
    return Counting({}, {}, {tp: Curve([0, 1e9], [0.0, 1.0])}, {heads: {1: flat}}, {heads: {1: flat}})


@pytest.mark.parametrize("tp", [1, 4, 8])
def test_a_layer_is_its_four_products_split_over_the_gpus(tp):
    model, calls = load_model("llama-3.1-70b"), []
    composition = Composition(counting_tables(model, tp, calls), load_gpu("h100"), model, tp)
    milliseconds = composition.step_ms(1, 100, decodes=28, context=50)
    assert sorted(calls) == sorted(
        [
            (128, (64 + 16) * 128 // tp, 8192),
            (128, 8192, 64 * 128 // tp),
            (128, 2 * 28_672 // tp, 8192),
            (128, 8192, 28_672 // tp),
            (29, 128_256 // tp, 8192),
        ]
    )
    moved = 2 * 128 * (8 * 8192 + 3 * 28_672 / tp + 4 * (64 + 8) * 128 / tp)
    layer = 4e-3 + 0.01 + moved / (0.8 * 3350e6) + (2 * 128 * 8192 / 1e9 if tp > 1 else 0)
    assert milliseconds == pytest.approx(80 * (layer + 0.01 + 0.01) + 1e-3)


@needs_shared
@pytest.mark.parametrize("gpu", ["a100", "h100"])
def test_composed_steps_are_those_of_the_reference_within_three_percent(gpu):
    pytest.importorskip("pyarrow", reason="kernel tables are parquet files")
    tables = KernelTables.read(AICONFIGURATOR / load_gpu(gpu).calibration, "bf16")
    for (name, model, tp), expected in COMPOSED_MS.items():
        if name == gpu:
            composition = Composition(tables, load_gpu(gpu), load_model(model), tp)
            ours = [composition.step_ms(1, length) for length in PROMPTS]
            ours += [composition.step_ms(decodes=b, context=context) for b, context in DECODES]
            np.testing.assert_allclose(ours, expected, rtol=0.03)
