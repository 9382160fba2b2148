"""Kernel tables: read past their traps, interpolated in every direction, and refused at the door with place and row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.datasheet import ProfileError
from hwprofiles.fitting.curve import SPIKE, Curve
from hwprofiles.fitting.kernel_tables import Attention, KernelTables, gemm_ms
from tests.kernel_cases import change_table, small_tables, write_table

KV = (1, 2, 4)
QUERIES = (4, 8, 16, 32)


def formula_attention(queries=QUERIES, kv=KV, batches=(1, 2, 64)):
    """Attention that takes batch x length x (query heads + 3 KV heads) units, as so many sequences more would."""
    return Attention(
        {(q, k): {b: Curve([1, 4096], [b * (q + 3 * k), 4096 * b * (q + 3 * k)]) for b in batches} for q in queries for k in kv}
    )


def test_each_trap_of_the_tables_is_stepped_over(tmp_path):
    tables = KernelTables.read(small_tables(tmp_path), "bf16")
    assert tables.prompts["bf16"].ms((8, 2), 1, 128) == 5.0  # the median of three, full attention, this head size
    assert tables.allreduce[2].ms(128) == 0.5  # in CUDA graphs
    decodes = tables.decodes["bf16"]
    assert decodes.ms((8, 2), 1, 16) == 1.5  # 15 tokens before the one computed now
    assert decodes.ms((8, 2), 2, 16) == pytest.approx(3.0)  # between batches
    assert decodes.ms((8, 2), 1, 64) == pytest.approx(6.3)  # beyond the longest context, straight on
    assert decodes.ms((8, 2), 8, 16) == pytest.approx(12.0)  # beyond the most decodes, in proportion
    assert gemm_ms(tables.gemm, 8, 64, 192) == pytest.approx(8 + 1 + 1.5)  # between widths
    assert gemm_ms(tables.gemm, 8, 131_072, 128) == pytest.approx(2 * (8 + 1024 + 1))  # in proportion beyond 65536
    assert gemm_ms(tables.gemm, 128, 64, 128) == pytest.approx(128 + 1 + 1)  # beyond the most rows, straight on


def test_each_precision_has_kernels_of_its_own_and_the_head_stays_at_16_bits(tmp_path):
    wide, narrow = (KernelTables.read(small_tables(tmp_path), precision) for precision in ("bf16", "fp8"))
    assert gemm_ms(narrow.gemm, 8, 64, 128) == 99.0
    assert gemm_ms(narrow.wide_gemm, 8, 64, 128) == gemm_ms(wide.wide_gemm, 8, 64, 128) == gemm_ms(wide.gemm, 8, 64, 128) == 10
    assert wide.decodes["fp8"].ms((8, 2), 1, 16) == 0.75 == wide.decodes["bf16"].ms((8, 2), 1, 16) / 2


def test_the_newest_version_is_read(tmp_path):
    small_tables(tmp_path)
    rows = [{"gemm_dtype": "bfloat16", "m": m, "n": 64, "k": 64, "latency": 7.0} for m in (1, 2)]
    write_table(tmp_path, "gemm", "gemm", rows, version="0.9.1")
    assert KernelTables.read(tmp_path, "bf16").versions["gemm"] == "0.14.0"


@given(st.dictionaries(st.integers(1, 100), st.floats(0.01, 10), min_size=2, max_size=6), st.integers(1, 100))
def test_a_curve_meets_its_points_and_never_leaves_their_range_inside(points, size):
    curve = Curve(points.keys(), points.values())
    assert all(curve.ms(at) == pytest.approx(ms) for at, ms in points.items())
    if size <= max(points):
        assert min(points.values()) - 1e-9 <= curve.ms(size) <= max(points.values()) + 1e-9


@given(st.integers(4, 32), st.sampled_from(KV), st.integers(1, 64), st.integers(1, 8192))
def test_query_heads_between_two_measured_numbers_are_interpolated_on_a_line(queries, kv, batch, length):
    expected = batch * length * (queries + 3 * kv)
    assert formula_attention().ms((queries, kv), batch, length) == pytest.approx(expected)


@given(st.integers(1, 5), st.sampled_from(QUERIES), st.integers(1, 200), st.integers(1, 8192))
def test_heads_folded_are_as_many_more_sequences(folds, queries, batch, length):
    """KV heads that were not measured, three times a measured number or more: each part of them is a sequence of its own."""
    attention, kv = formula_attention(kv=(3,), queries=QUERIES), 3
    heads = queries * folds, kv * folds
    assert attention.is_folded(heads) == (folds > 1)
    assert attention.ms(heads, batch, length) == pytest.approx(attention.ms((queries, kv), batch * folds, length))
    assert attention.is_measured(heads, batch, length) == (batch * folds <= 64 and length <= 4096)


def test_as_few_heads_as_possible_are_folded():
    assert not formula_attention().is_folded((32, 4))
    assert formula_attention().ms((64, 8), 1, 1) == 2 * (32 + 12)


def test_heads_that_no_measured_ones_are_a_part_of_are_refused():
    with pytest.raises(ProfileError, match="no attention was measured for 7 query and 3 KV heads"):
        formula_attention(kv=(2, 4)).ms((7, 3), 1, 1)


@pytest.mark.parametrize("spoil", ["missing", "garbage", "columns", "latency", "empty", "text", "fraction", "zero", "negative"])
def test_a_folder_that_is_no_kernel_table_is_refused_with_its_path(tmp_path, spoil):
    path = small_tables(tmp_path) / "gemm" / "vllm" / "0.14.0" / "gemm_perf.parquet"
    row = {"gemm_dtype": "bfloat16", "m": 1, "n": 64, "k": 64, "latency": 1.0}
    rows = {
        "columns": {"m": 1, "latency": 1.0},
        "latency": {**row, "latency": float("nan")},
        "empty": {**row, "gemm_dtype": "fp8"},
        "text": {**row, "n": "wide"},
        "fraction": {**row, "k": 64.5},
        "zero": {**row, "m": 0},
        "negative": {**row, "latency": -1.0},
    }
    if spoil == "missing":
        path.unlink()
    elif spoil == "garbage":
        path.write_bytes(b"PAR1 and then nothing")
    else:
        write_table(tmp_path, "gemm", "gemm", [rows[spoil]])
    with pytest.raises(ProfileError, match=str(tmp_path) if spoil == "empty" else r"gemm_perf\.parquet"):
        KernelTables.read(tmp_path, "bf16")


def test_every_column_that_is_missing_is_named_with_those_there_are(tmp_path):
    write_table(small_tables(tmp_path), "gemm", "gemm", [{"m": 1, "n": 2, "latency": 1.0}])
    with pytest.raises(ProfileError, match="no column gemm_dtype, k; there are: m, n, latency"):
        KernelTables.read(tmp_path, "bf16")


def test_every_wrong_column_is_named_with_its_first_wrong_row(tmp_path):
    row = {"gemm_dtype": "bfloat16", "m": 1, "n": 64, "k": 64, "latency": 1.0}
    write_table(small_tables(tmp_path), "gemm", "gemm", [row, {**row, "m": -4, "latency": 0.0}])
    with pytest.raises(ProfileError) as raised:
        KernelTables.read(tmp_path, "bf16")
    found = [line.split(": ", 1)[1] for line in str(raised.value).splitlines()]
    assert found == [
        "row 1: m is -4; expected a whole number of 1 or more",
        "row 1: latency is 0.0; expected a finite number of ms above 0",
    ]


def test_a_folder_without_measurements_is_refused(tmp_path):
    with pytest.raises(ProfileError, match="no measured version there"):
        KernelTables.read(tmp_path, "bf16")


def test_tables_without_attention_of_16_bits_are_refused(tmp_path):
    folder = small_tables(tmp_path)
    change_table(folder, "attention", "context_attention", lambda frame: frame.assign(kv_cache_dtype="fp8"))
    with pytest.raises(ProfileError, match="no full attention with heads of 128 and a KV cache of bfloat16"):
        KernelTables.read(folder, "bf16")


@given(st.lists(st.integers(1, 60), min_size=4, max_size=12), st.data())
def test_one_latency_a_hundred_times_its_neighbours_is_the_spike_that_is_found(gaps, data):
    """Of times from constant to the power of 1.5 of sizes that are at most four times apart."""
    sizes = np.cumprod(1 + np.array(gaps) / 20).round(4)
    times_ms = 0.01 + sizes ** data.draw(st.sampled_from((0.0, 0.5, 1.0, 1.5)))
    assert Curve(sizes, times_ms).spikes() == []
    at = data.draw(st.integers(0, len(sizes) - 1))
    times_ms[at] *= data.draw(st.sampled_from((100.0, 0.001)))
    assert Curve(sizes, times_ms).spikes() == [at]


def test_a_spike_is_refused_with_its_row_where_it_is_needed(tmp_path):
    def spike(frame):
        frame.loc[(frame["m"] == 8) & (frame["n"] == 64) & (frame["k"] == 128), "latency"] = 7000.0
        return frame

    path = change_table(small_tables(tmp_path), "gemm", "gemm", spike)
    tables = KernelTables.read(tmp_path, "bf16")
    with pytest.raises(ProfileError) as raised:
        gemm_ms(tables.gemm, 1, 64, 128)
    assert str(raised.value).startswith(f"{path}: row 4: 7000 ms at n 64, k 128, m 8; expected 1/{SPIKE:g} to {SPIKE:g} times")
    assert gemm_ms(tables.gemm, 8, 65_536, 256) == 8 + 1024 + 2


def test_a_size_that_some_shapes_lack_is_used_by_none(tmp_path):
    path = change_table(small_tables(tmp_path), "gemm", "gemm", lambda frame: frame.drop(index=4))
    tables = KernelTables.read(tmp_path, "bf16")
    assert path.is_file() and tables.sizes == [1, 64]
    assert gemm_ms(tables.gemm, 8, 64, 128) == pytest.approx(8 + 1 + 1)  # on the line between 1 and 64


def test_sizes_begin_at_one_whatever_was_measured(tmp_path):
    change_table(small_tables(tmp_path), "gemm", "gemm", lambda frame: frame[frame["m"] > 1])
    assert KernelTables.read(tmp_path, "bf16").sizes == [1, 8, 64]


def test_shapes_with_nothing_in_common_are_named(tmp_path):
    change_table(small_tables(tmp_path), "gemm", "gemm", lambda frame: frame[(frame["m"] == 8) | (frame["n"] != 64)])
    with pytest.raises(ProfileError, match=r"1 sizes m in common.*The fewest were measured for n 64, k 128: 8"):
        _ = KernelTables.read(tmp_path, "bf16").sizes
    change_table(tmp_path, "gemm", "gemm", lambda frame: frame[(frame["n"] == 64) == (frame["k"] == 128)])
    with pytest.raises(ProfileError, match="no width n of matrix products was measured at both k 128 and k 256, around k 200"):
        gemm_ms(KernelTables.read(tmp_path, "bf16").gemm, 8, 64, 200)
