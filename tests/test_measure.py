"""Measuring a GPU: the plan has what models need, and tables of a known machine give that machine's step times."""

import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.datasheet import Gpu, ProfileError, known_models, load_gpu, load_model
from hwprofiles.fitting.composition import Composition, KernelTables
from hwprofiles.measure.__main__ import main
from hwprofiles.measure.bench import Device
from hwprofiles.measure.describe import draft
from hwprofiles.measure.kernels import Decodes, Gemm, Heads, Prompts
from hwprofiles.measure.plan import (
    FULL,
    HELD_SHARE,
    MAX_DECODE_TOKENS,
    MAX_PROMPT_TOKENS,
    QUICK,
    heads_of,
    needed_products,
    plan_of,
)
from hwprofiles.measure.sanity import TOLERANCE, least_ms, refuse_impossible
from hwprofiles.records import parse_record

H100 = load_gpu("h100")
GIB = 1 << 30
LAUNCH_MS = 0.002


class Formulas:
    """A machine whose kernels take a launch and a fixed share of the H100's peaks: straight lines in every size."""

    def __init__(self, repeats=3, gpus=1, there=8, share=0.5):
        if gpus > there:
            raise ProfileError(f"--tp {gpus} takes {gpus} GPUs; visible here: {there}")
        self.repeats, self.share, self.timed = repeats, share, []
        self.device = Device("Test GPU 80GB", there, 80 * GIB, 79 * GIB, (9, 0), "2.11.0", "13.0")

    def ms(self, kernel):
        self.timed.append(kernel)
        bandwidth, peak = H100.bandwidth_gb_per_s * 1e6, H100.peak_tflops[kernel.precision] * 1e9
        return LAUNCH_MS + (kernel.read_bytes / bandwidth + kernel.flops / peak) / self.share

    def allreduce_ms(self, gpus, elements):
        return [LAUNCH_MS * gpus + 2 * size / (H100.link_gb_per_s * 1e6) for size in elements]

    def clocks(self):
        return [{"clocks.sm": "1980"}]


def measure(tmp_path, *words, bench=Formulas):
    pytest.importorskip("pyarrow", reason="kernel tables are parquet files")
    return main(["--out", str(tmp_path / "tables"), "--gpu", "h100", *words], bench)


# The plan

SHARES = st.tuples(
    st.lists(st.sampled_from(known_models()), min_size=1, max_size=3),
    st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=2),
    st.sampled_from([["bf16"], ["fp8"], ["bf16", "fp8"]]),
)


def planned(shares, memory_gib=80, grid=QUICK, whole=False):
    names, degrees, precisions = shares
    return plan_of([load_model(name) for name in names], degrees, precisions, memory_gib * GIB, grid, whole)


@given(SHARES)
def test_every_shape_a_model_needs_is_in_the_plan(shares):
    plan = planned(shares)
    products = {(kernel.precision, kernel.n, kernel.k) for kernel in plan.gemms}
    for model in map(load_model, shares[0]):
        for tp in shares[1]:
            assert all(set(needed_products(model, tp, precision).values()) <= products for precision in shares[2])
            heads = heads_of(model, tp)
            assert heads in {kernel.heads for kernel in plan.prompts} & {kernel.heads for kernel in plan.decodes}
            assert tp == 1 or max(plan.allreduces[tp]) >= max(QUICK.rows) * model.hidden


@given(SHARES, st.booleans())
def test_no_kernel_is_timed_twice(shares, whole):
    plan = planned(shares, whole=whole)
    for kernels in (plan.gemms, plan.prompts, plan.chunks, plan.decodes, *plan.allreduces.values()):
        assert len(set(kernels)) == len(kernels)


@given(SHARES, st.integers(8, 200), st.booleans())
def test_no_kernel_holds_more_than_its_share_of_the_memory(shares, memory_gib, whole):
    try:
        plan = planned(shares, memory_gib, FULL, whole)
    except ProfileError as error:
        assert "half of the free memory" in str(error)
        return
    kernels = (*plan.gemms, *plan.prompts, *plan.chunks, *plan.decodes)
    assert all(kernel.held_bytes <= HELD_SHARE * memory_gib * GIB for kernel in kernels)
    assert all(2 * size <= HELD_SHARE * memory_gib * GIB for sizes in plan.allreduces.values() for size in sizes)
    assert all(kernel.batch * kernel.length <= MAX_PROMPT_TOKENS for kernel in plan.prompts)
    assert all(kernel.batch * kernel.context <= MAX_DECODE_TOKENS for kernel in plan.decodes)


@given(SHARES, st.booleans())
def test_tables_have_no_holes(shares, whole):
    """Every product has all numbers of rows, and its neighbour at the next smaller k; every batch is a line."""
    plan = planned(shares, whole=whole)
    rows = {}
    for kernel in plan.gemms:
        rows.setdefault((kernel.precision, kernel.n, kernel.k), []).append(kernel.m)
    assert all(sizes == list(QUICK.rows) for sizes in rows.values())
    for name in shares[0]:
        for tp in shares[1]:
            for precision, n, k in (p for word in shares[2] for p in needed_products(load_model(name), tp, word).values()):
                smaller = [other for word, _, other in rows if word == precision and other < k]
                assert not smaller or (precision, n, max(smaller)) in rows
    for kernels, size in ((plan.prompts, "length"), (plan.decodes, "context")):
        lines = {}
        for kernel in kernels:
            lines.setdefault((kernel.heads, kernel.batch), []).append(getattr(kernel, size))
        grid = QUICK.prompt_lengths if size == "length" else QUICK.contexts
        assert all(len(sizes) > 1 and sizes == list(grid[: len(sizes)]) for sizes in lines.values())


def test_what_does_not_fit_is_left_out_from_the_largest_down_and_refused_where_it_is_needed():
    small, large = (planned((["llama-3.1-8b"], [1], ["bf16"]), gib, FULL) for gib in (8, 80))
    assert set(small.decodes) < set(large.decodes) and set(small.prompts) <= set(large.prompts)
    assert max(kernel.context for kernel in small.decodes if kernel.batch == 1) == max(FULL.contexts)
    with pytest.raises(ProfileError, match=r"the output head of llama-3\.1-8b at tp 1, holds"):
        planned((["llama-3.1-8b"], [1], ["bf16"]), 4)


def test_the_whole_grid_adds_products_and_changes_nothing_else():
    few, many = (planned((["llama-3.1-8b"], [1], ["fp8"]), whole=whole) for whole in (False, True))
    assert set(few.gemms) < set(many.gemms) and few.decodes == many.decodes
    assert Gemm("fp8", 65_536, 65_536, 1) in many.gemms
    assert {kernel.n for kernel in many.gemms if kernel.precision == "bf16"} == {128_256}  # the head alone


def test_a_degree_that_does_not_divide_a_model_is_refused_with_those_that_do():
    with pytest.raises(ProfileError, match=r"--tp 8: qwen2\.5-7b cannot be split so; expected one of 1, 2, 4$"):
        planned((["llama-3.1-8b", "qwen2.5-7b"], [1, 8], ["bf16"]))


# Work and bounds of a kernel

HEADS = Heads(query=32, kv=8, size=128)


@given(st.integers(1, 64), st.integers(1, 64))
def test_a_prompt_in_two_chunks_does_the_work_of_the_whole(first, second):
    whole = Prompts(HEADS, 1, first + second).flops
    assert Prompts(HEADS, 1, first).flops + Prompts(HEADS, 1, second, past=first).flops == whole


@given(st.integers(1, 10_000))
def test_a_decode_is_a_chunk_of_one_token(context):
    decode, chunk = Decodes(HEADS, 3, context), Prompts(HEADS, 3, 1, past=context - 1)
    assert (decode.flops, decode.read_bytes, decode.held_bytes) == (chunk.flops, chunk.read_bytes, chunk.held_bytes)


@given(st.integers(1, 8192), st.sampled_from([128, 4096, 28_672]), st.floats(0.2, 3))
def test_a_time_is_refused_where_it_is_below_the_peak(m, n, times):
    kernel = Gemm("bf16", n, 4096, m)
    least = max(2 * m * n * 4096 / 989e9, 2 * n * 4096 / 3350e6)
    assert least_ms(kernel, H100) == pytest.approx(least)
    if times * TOLERANCE < 1:
        with pytest.raises(ProfileError, match=f"gemm of m {m}, n {n}, k 4096: .* expected at least"):
            refuse_impossible([(kernel, times * least)], H100)
    else:
        refuse_impossible([(kernel, times * least)], H100)
    refuse_impossible([(kernel, times * least)], None)


@pytest.mark.parametrize("ms", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_time_is_refused_with_and_without_a_data_sheet(ms):
    for gpu in (H100, None):
        with pytest.raises(ProfileError, match="expected a finite number above 0"):
            refuse_impossible([(Decodes(HEADS, 1, 16), ms)] * 20, gpu)


# The whole way


# The whole way


def own_sum_ms(composition, prompts, length, decodes, context):
    """A step's kernels added up from the machine's formulas, without any table."""
    machine, model, tp = Formulas(), composition.model, composition.tp
    m, heads = prompts * length + decodes, heads_of(model, tp)
    *layer, head = needed_products(model, tp, "bf16").values()
    ms = sum(machine.ms(Gemm(*product, m)) for product in layer) + composition.elementwise_ms(m)
    ms += 2 * machine.allreduce_ms(tp, [m * model.hidden])[0] if tp > 1 else 0
    ms += machine.ms(Prompts(heads, prompts, length)) if prompts else 0
    ms += machine.ms(Decodes(heads, decodes, context)) if decodes else 0
    return model.layers * ms + machine.ms(Gemm(*head, prompts + decodes))


@pytest.mark.parametrize("quick", [[], ["--quick"]])
def test_composed_steps_are_the_sums_of_the_machine_that_was_measured(tmp_path, quick):
    assert measure(tmp_path, "--models", "llama-3.1-8b,qwen2.5-7b", "--tp", "2,1", *quick) == 0
    tables = KernelTables.read(tmp_path / "tables" / "h100_sxm", "bf16")
    for name in ("llama-3.1-8b", "qwen2.5-7b"):
        for tp in (1, 2):
            composition = Composition(tables, H100, load_model(name), tp)
            for step in ((1, 512, 0, 0), (2, 2048, 0, 0), (0, 0, 8, 1024), (0, 0, 300, 3000), (1, 512, 48, 5000)):
                assert composition.step_ms(*step) == pytest.approx(own_sum_ms(composition, *step), rel=1e-9)


def test_tables_are_laid_out_and_named_as_those_of_aiconfigurator(tmp_path):
    pd = pytest.importorskip("pandas")
    assert measure(tmp_path, "--quick", "--precision", "fp8", "--models", "llama-3.1-70b", "--tp", "4") == 0
    folder = tmp_path / "tables" / "h100_sxm"
    files = {str(path.relative_to(folder)): path for path in folder.glob("*/*/*/*.parquet")}
    assert set(files) == {
        "gemm/vllm/2.11.0/gemm_perf.parquet",
        "attention/vllm/2.11.0/context_attention_perf.parquet",
        "attention/vllm/2.11.0/context_attention_past_perf.parquet",
        "attention/vllm/2.11.0/generation_attention_perf.parquet",
        "comm/vllm/2.11.0/custom_allreduce_perf.parquet",
    }
    frames = {path.stem: pd.read_parquet(path) for path in files.values()}
    gemm = frames["gemm_perf"]
    assert set(gemm.loc[gemm["gemm_dtype"] == "bfloat16", "n"]) == {128_256 // 4}
    assert set(gemm.loc[gemm["gemm_dtype"] == "fp8", "n"]) == {2560, 8192, 14_336}
    assert (frames["context_attention_perf"]["step"] == 0).all()
    assert set(frames["context_attention_past_perf"]["step"]) == set(QUICK.pasts)
    decodes = frames["generation_attention_perf"]
    assert set(decodes["step"] + 1) == set(QUICK.contexts) and (decodes["isl"] == 1).all()
    assert set(zip(decodes["num_heads"], decodes["num_key_value_heads"])) == {(16, 2)}
    assert set(frames["custom_allreduce_perf"]["backend"]) == {"vllm_graph"}
    assert all((frame["kernel_source"] == "torch").all() for frame in frames.values())


def test_with_one_gpu_there_is_a_table_of_no_all_reduces(tmp_path):
    pd = pytest.importorskip("pandas")
    assert measure(tmp_path, "--quick") == 0
    path = tmp_path / "tables/h100_sxm/comm/vllm/2.11.0/custom_allreduce_perf.parquet"
    frame = pd.read_parquet(path)
    assert len(frame) == 0 and {"num_gpus", "message_size", "allreduce_dtype", "backend"} <= set(frame.columns)
    assert frame["latency"].dtype == float


def test_beside_the_tables_stands_what_measured_them_and_no_date(tmp_path):
    assert measure(tmp_path, "--quick", "--tp", "1,2") == 0
    about = json.loads((tmp_path / "tables/h100_sxm/attention/vllm/2.11.0/collection_meta.json").read_text())
    assert (about["framework"], about["version"], about["device"]) == ("torch", "2.11.0", "Test GPU 80GB")
    assert (about["models"], about["tp"], about["precisions"]) == (["llama-3.1-8b"], [1, 2], ["bf16"])
    assert about["tables"]["generation_attention_perf"]["clocks"] == [{"clocks.sm": "1980"}]
    assert not any("time" in key or "date" in key for key in about)


def test_the_same_times_give_the_same_bytes(tmp_path):
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        assert measure(folder, "--quick") == 0
        contents.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]


# The door


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--models", "lama-3.1-8b"], "no model profile 'lama-3.1-8b'; did you mean 'llama-3.1-8b'?"),
        (["--precision", "fp88"], "--precision 'fp88'; did you mean 'fp8'?"),
        (["--tp", "0"], "--tp '0': expected GPUs of one node, from 1 to 64"),
        (["--tp", "1,two"], "--tp 'two'"),
        (["--tp", "16", "--models", "llama-3.1-70b"], "--tp 16 takes 16 GPUs; visible here: 8"),
        (["--tp", "3"], "--tp 3: llama-3.1-8b cannot be split so; expected one of 1, 2, 4, 8"),
        (["--gpu", "../h100"], "--gpu '../h100': expected a name"),
        (["--tp", ",".join(map(str, range(1, 40)))], "39 at once; expected at most 16"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_timed(tmp_path, capsys, words, expected):
    assert measure(tmp_path, *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and expected in said and "Traceback" not in said
    assert not list(tmp_path.rglob("*.parquet"))


def test_every_mistake_is_reported_at_once(tmp_path, capsys):
    assert measure(tmp_path, "--models", "llama,llama-3.1-8b", "--tp", "x", "--precision", "bf61", "--gpu", "a b") == 2
    said = capsys.readouterr().err
    assert [word in said for word in ("'llama'", "'x'", "'bf61'", "'a b'")] == [True] * 4


def test_a_folder_that_is_there_is_replaced_only_when_asked_and_only_if_it_holds_tables(tmp_path, capsys):
    assert measure(tmp_path, "--quick") == 0
    folder = tmp_path / "tables" / "h100_sxm"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert measure(tmp_path, "--quick", "--tp", "2") == 2
    assert "exists; expected a new folder, or --force" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert measure(tmp_path, "--quick", "--tp", "2", "--force") == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} != before
    (folder / "thesis.txt").write_text("mine")
    assert measure(tmp_path, "--quick", "--force") == 2
    assert "holds other things than measured tables" in capsys.readouterr().err
    assert (folder / "thesis.txt").read_text() == "mine"


class Broken(Formulas):
    def ms(self, kernel):
        if isinstance(kernel, Decodes):
            raise self.error
        return super().ms(kernel)


@pytest.mark.parametrize(
    ("error", "code"), [(ProfileError("out of memory"), 2), (OSError("gone"), 2), (KeyboardInterrupt(), 130)]
)
def test_what_ends_in_the_middle_leaves_nothing_behind(tmp_path, error, code):
    assert measure(tmp_path, "--quick", bench=type("Now", (Broken,), {"error": error})) == code
    assert list((tmp_path / "tables").iterdir()) == []


@pytest.mark.parametrize(("method", "of"), [("write_text", "collection_meta.json"), ("rename", ".tmp")])
def test_a_write_that_fails_keeps_the_old_tables_and_leaves_no_other_file(tmp_path, monkeypatch, method, of):
    assert measure(tmp_path, "--quick") == 0
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    whole = getattr(Path, method)

    def full(path, *given, **more):
        if path.name.endswith(of):
            raise OSError("no space left")
        return whole(path, *given, **more)

    monkeypatch.setattr(Path, method, full)
    assert measure(tmp_path, "--quick", "--tp", "2", "--force") == 2
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_machine_faster_than_its_data_sheet_is_a_mistake_and_not_written(tmp_path, capsys):
    def too_fast(repeats, gpus):
        return Formulas(repeats, gpus, share=3.0)

    assert measure(tmp_path, "--quick", bench=too_fast) == 2
    said = capsys.readouterr().err
    assert "mistakes of measurement:" in said and "the data sheet's peak of h100" in said and "more\n" in said
    assert list((tmp_path / "tables").iterdir()) == []
    assert measure(tmp_path, "--quick", "--gpu", "made-up", bench=too_fast) == 0  # no data sheet to hold it against


# A GPU that is not known yet


def test_the_draft_of_a_data_sheet_becomes_one_once_its_gaps_are_filled(capsys):
    assert main(["--describe", "--gpu", "mine"], Formulas) == 0
    text = capsys.readouterr().out
    with pytest.raises(ProfileError) as raised:
        parse_record(Gpu, text.encode(), "mine.toml", {"id": "mine"})
    gaps = {line.split(" = ")[0] for line in text.splitlines() if " = 0.0" in line}
    assert gaps == {"memory_gib", "bandwidth_gb_per_s", "link_gb_per_s", "tdp_w", "bf16", "fp8"}
    assert all(f"{gap} must be above 0" in str(raised.value) for gap in gaps - {"bf16", "fp8"})
    assert all("FILL IN" in line for line in text.splitlines() if " = 0.0" in line)
    gpu = parse_record(Gpu, text.replace("= 0.0", "= 500.0").encode(), "mine.toml", {"id": "mine"})
    assert (gpu.calibration, gpu.name, gpu.reported_memory_gib, gpu.gpus_per_node) == ("mine", "Test GPU 80GB", 80.0, 8)
    assert (gpu.max_num_batched_tokens, gpu.max_num_seqs) == (8192, 1024)


@pytest.mark.parametrize("gpu", ["a100", "h100"])
def test_a_draft_has_the_engine_defaults_of_the_profiles_that_ship(gpu):
    known = load_gpu(gpu)
    device = Device(known.name, 8, int(known.reported_memory_gib * GIB), 0, (8, 0), "2.11.0", "13.0")
    made = parse_record(Gpu, draft(gpu, device).replace("= 0.0", "= 500.0").encode(), f"{gpu}.toml", {"id": gpu})
    assert (made.max_num_batched_tokens, made.max_num_seqs) == (known.max_num_batched_tokens, known.max_num_seqs)
    assert made.reported_memory_gib == pytest.approx(known.reported_memory_gib, abs=0.01)
    assert "fp8" not in made.peak_tflops  # compute capability 8.0 has no such arithmetic


def test_without_torch_or_a_folder_the_command_says_what_is_missing(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["--gpu", "h100", "--out", str(tmp_path)]) == 2
    assert "needs PyTorch built for CUDA" in capsys.readouterr().err
    assert main(["--gpu", "h100"], Formulas) == 2
    assert "--out is missing" in capsys.readouterr().err
