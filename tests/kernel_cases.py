"""Made-up machines: kernel tables in files, and machines whose kernels follow a formula."""

import pytest

from hwprofiles.datasheet import load_gpu, load_model
from hwprofiles.fitting import fit_error
from hwprofiles.fitting.composition import Composition
from hwprofiles.fitting.curve import Curve
from hwprofiles.fitting.kernel_tables import Attention, KernelTables
from tests.shared_data import SHARED

AICONFIGURATOR = SHARED / "calibration" / "aiconfigurator"

VERSION = "0.14.0"
SIZES = (1, 16, 256, 1024, 4096, 8192)


def read_gpu(gpu, precision):
    """The kernel tables of a shipped GPU in the reference data."""
    pytest.importorskip("pyarrow", reason="kernel tables are parquet files")
    return KernelTables.read(AICONFIGURATOR / load_gpu(gpu).calibration, precision)


def write_table(folder, operation, table, rows, version=VERSION):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow", reason="kernel tables are parquet files")
    target = folder / operation / "vllm" / version
    target.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(target / f"{table}_perf.parquet")


def change_table(folder, operation, table, change):
    """Write a table again as `change` returns its rows."""
    pd = pytest.importorskip("pandas")
    path = folder / operation / "vllm" / VERSION / f"{table}_perf.parquet"
    change(pd.read_parquet(path)).to_parquet(path)
    return path


def small_tables(folder):
    """One GPU's folder with a few made-up kernels, and beside the right rows the wrong ones a reader could take."""
    gemm = [
        {"gemm_dtype": "bfloat16", "m": m, "n": n, "k": k, "latency": m + n / 64 + k / 128}
        for m in (1, 8, 64)
        for n in (64, 65_536)
        for k in (128, 256)
    ]
    other_dtype = [{**row, "gemm_dtype": "fp8", "latency": 99.0} for row in gemm]
    write_table(folder, "gemm", "gemm", [*gemm, *other_dtype])
    message = {"allreduce_dtype": "bfloat16", "num_gpus": 2, "message_size": 128}
    rows = [
        {**message, "backend": "vllm_graph", "latency": 0.5},
        {**message, "backend": "vllm_graph", "message_size": 256, "latency": 0.7},
        {**message, "backend": "vllm_eager", "latency": 99.0},
    ]
    write_table(folder, "comm", "custom_allreduce", rows)
    heads = {"kv_cache_dtype": "bfloat16", "head_dim": 128, "num_heads": 8, "num_key_value_heads": 2, "batch_size": 1}
    prompt = {**heads, "isl": 128, "window_size": 0}
    rows = [{**prompt, "latency": ms} for ms in (3.0, 5.0, 40.0)]
    rows += [{**prompt, "window_size": 128, "latency": 0.1}, {**prompt, "head_dim": 64, "latency": 0.1}]
    write_table(folder, "attention", "context_attention", rows)
    decode = [{**heads, "batch_size": b, "step": s, "latency": b * s / 10} for b in (1, 4) for s in (15, 31)]
    narrow = [{**row, "kv_cache_dtype": "fp8", "latency": row["latency"] / 2} for row in decode]
    write_table(folder, "attention", "generation_attention", [*decode, *narrow])
    return folder


def gpu_folder(folder, gpu="h100", slower=1.0):
    """Kernel tables in `folder` of llama-3.1-8b on one such GPU, each kernel at twice the least time of the data sheet."""
    peak_flop_per_ms, bytes_per_ms = load_gpu(gpu).peak_tflops["bf16"] * 1e9, load_gpu(gpu).bandwidth_gb_per_s * 1e6

    def ms(flops, moved_bytes):
        return slower * (0.005 + 2 * max(flops / peak_flop_per_ms, moved_bytes / bytes_per_ms))

    gemm = [
        {"gemm_dtype": "bfloat16", "m": m, "n": n, "k": k, "latency": ms(2 * m * n * k, 2 * n * k)}
        for m in (1, 16, 64, 256, 1024, 4096, 16_384)
        for n in (1024, 4096, 32_768, 65_536)
        for k in (1024, 4096, 16_384)
    ]
    write_table(folder, "gemm", "gemm", gemm)
    message = {"allreduce_dtype": "bfloat16", "num_gpus": 2, "backend": "vllm_graph"}
    write_table(folder, "comm", "custom_allreduce", [{**message, "message_size": s, "latency": 0.01} for s in (1024, 4096)])
    heads = {"kv_cache_dtype": "bfloat16", "head_dim": 128, "num_heads": 32, "num_key_value_heads": 8}
    lengths, decodes = (128, 512, 2048, 8192, 16_384), (1, 8, 64, 512, 1024)
    prompt = [
        {**heads, "batch_size": b, "isl": n, "latency": ms(2 * 32 * 128 * b * n * n, 0)} for b in (1, 2, 4, 8) for n in lengths
    ]
    write_table(folder, "attention", "context_attention", prompt)
    decode = [
        {**heads, "batch_size": b, "step": n - 1, "latency": ms(0, 4 * 8 * 128 * b * n)}
        for b in decodes
        for n in (64, *lengths, 65_536)
    ]
    write_table(folder, "attention", "generation_attention", decode)
    return folder


class Formula(Curve):
    """A kernel that takes exactly what a formula says."""

    def __init__(self, formula):
        super().__init__([1, 1e9], [0, 0])
        self.formula = formula

    def ms(self, size):
        return self.formula(size)


def once_ms(decodes):
    """d of a layer of the exact machine: neither straight nor convex in the decodes."""
    return 0.02 + 1e-3 * decodes**0.5


def context_ms(decodes):
    """e of a layer of the exact machine."""
    return 3e-6 * decodes + 1e-5 * decodes**0.5


def exact_machine(
    gpu="h100", name="llama-3.1-8b", step=0.01, token=1e-5, work=2e-8, slower=1.0, once=once_ms, context=context_ms
):
    """A machine whose attention is exactly of the fitted form."""
    model = load_model(name)
    heads = model.heads, model.kv_heads
    prompts = {b: Formula(lambda n, b=b: slower * (step + token * b * n + work * b * n * n)) for b in (1, 2, 3, 4, 6, 8)}
    decodes = {b: Formula(lambda n, b=b: slower * (once(b) + context(b) * n)) for b in fit_error.DECODES}
    shapes = [(n, k) for n in (1024, 65_536) for k in (1024, 65_536)]
    gemm = {shape: Curve(SIZES, [slower * (0.05 + m * 1e-3) for m in SIZES]) for shape in shapes}
    wide = {shape: Curve(SIZES, [slower * (0.2 + m * 1e-3) for m in SIZES]) for shape in shapes}
    attention = ({"bf16": Attention({heads: curves})} for curves in (prompts, decodes))
    return Composition(KernelTables("bf16", {}, gemm, wide, {}, *attention), load_gpu(gpu), model, 1)
