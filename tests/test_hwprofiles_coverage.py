"""Coverage: what kernel tables say something about, and why nothing is made of the rest."""

from dataclasses import replace

import pytest

from hwprofiles.datasheet import ProfileError, load_gpu, load_model
from hwprofiles.fitting.coverage import covered, tables_of, why_not
from tests.kernel_cases import change_table, gpu_folder, write_table

H100, SMALL, BIG = load_gpu("h100"), load_model("llama-3.1-8b"), load_model("llama-3.1-70b")


@pytest.fixture
def tables(tmp_path):
    """Of llama-3.1-8b, at 16 bits; all-reduces among 2 alone."""
    gpu_folder(tmp_path / H100.calibration)
    return tables_of(tmp_path, H100)


def test_what_has_no_room_cannot_be_split_or_was_not_measured_is_not_covered(tables):
    made = [(one.model.id, one.tp) for one in covered(tables, H100, [SMALL, BIG], [1, 3, 8])]
    assert made == [("llama-3.1-8b", 1)]


@pytest.mark.parametrize(
    ("model", "tp", "said"),
    [
        (SMALL, 3, "tp 3 does not divide"),
        (SMALL, 8, "no all-reduce among 8 h100 was measured"),
        (BIG, 1, "the smallest tp that fits is 2"),
        (replace(SMALL, head_size=64, heads=64), 1, "attention was measured for 128"),
        (
            replace(SMALL, mlp_width=1 << 17, layers=1),
            1,
            "a matrix product of llama-3.1-8b has n 262144 and k 4096; measured are",
        ),
        (replace(SMALL, hidden=32, layers=1), 1, "and k 32; measured are"),
    ],
)
def test_what_is_not_covered_says_why(tables, model, tp, said):
    assert said in why_not(tables["bf16"], H100, model, tp)
    assert why_not(tables["bf16"], H100, SMALL, 1) is None


def test_a_precision_that_was_not_measured_is_left_out(tables):
    assert list(tables) == ["bf16"] and "fp8" in H100.peak_tflops


def test_tables_that_cannot_be_read_are_refused_and_not_left_out(tmp_path):
    folder = gpu_folder(tmp_path / H100.calibration)
    change_table(folder, "gemm", "gemm", lambda frame: frame.assign(gemm_dtype="fp8"))
    with pytest.raises(ProfileError, match="no matrix product in bf16 was measured there"):
        tables_of(tmp_path, H100)
    write_table(folder, "gemm", "gemm", [{"gemm_dtype": "bfloat16", "m": 1, "latency": 1.0}])
    with pytest.raises(ProfileError, match="no column n, k"):
        tables_of(tmp_path, H100)


def test_attention_of_prompts_and_of_decodes_has_the_same_kv_caches(tmp_path):
    folder = gpu_folder(tmp_path / H100.calibration)
    pd = pytest.importorskip("pandas")
    both = lambda frame: pd.concat([frame, frame.assign(kv_cache_dtype="fp8")])  # noqa: E731
    change_table(folder, "attention", "context_attention", both)
    with pytest.raises(ProfileError, match="attention of prompts has a KV cache in bf16, fp8, that of decodes in bf16"):
        tables_of(tmp_path, H100)
