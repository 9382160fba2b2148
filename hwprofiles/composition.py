"""Composition: the time of a whole step as the sum of its kernels, from measured kernel tables (development time only).

The tables are those of aiconfigurator: parquet files with the latency in ms of one kernel call on one GPU. Per GPU, a
step of m tokens under tensor parallelism p, of a model with L layers of hidden width h and MLP width i, with nq query
and nk KV heads of size d, takes

    L * (gemm(m, (nq + 2 nk) d/p, h) + gemm(m, h, nq d/p) + gemm(m, 2i/p, h) + gemm(m, h, i/p) + elementwise(m))
    + 2 L * allreduce(m h elements, p) + L * attention of the prompts + L * attention of the decodes + gemm(B, V/p, h)

with gemm(m, n, k) an (m, k) by (k, n) matrix product and B sampled rows of V logits. The host's time is not part of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hwprofiles.datasheet import Gpu, Model, ProfileError

BACKEND = "vllm"
DTYPE = {"bf16": "bfloat16"}
"""The tables' word for a precision."""

ELEMENTWISE_KERNELS = 5
"""Fused kernels of a layer that are not matrix products: norms, rotary embedding, KV write, activation."""
ELEMENTWISE_LAUNCH_MS = 0.002
ELEMENTWISE_BANDWIDTH_FRAC = 0.8
"""Share of the data sheet's memory bandwidth that elementwise kernels are taken to reach."""

MAX_FILE_BYTES = 64 << 20


class Curve:
    """Measured ms at increasing sizes: linear in between, and along the last two beyond the end."""

    def __init__(self, sizes: Iterable[float], latencies_ms: Iterable[float]) -> None:
        pairs = sorted(zip(sizes, latencies_ms))
        self.sizes = np.array([size for size, _ in pairs], dtype=float)
        self.latencies_ms = np.array([ms for _, ms in pairs], dtype=float)

    def ms(self, size: float) -> float:
        """The latency at `size`; below the smallest measurement, that measurement."""
        x, y = self.sizes, self.latencies_ms
        if size <= x[-1] or len(x) == 1:
            return float(np.interp(size, x, y))
        return float(y[-1] + (y[-1] - y[-2]) / (x[-1] - x[-2]) * (size - x[-1]))


@dataclass(frozen=True)
class KernelTables:
    """The measured kernels of one GPU for one precision, one Curve per shape."""

    versions: dict[str, str]
    """Version of the measured software by operation."""
    gemm: dict[tuple[int, int], Curve]
    """(n, k) -> curve over m."""
    allreduce: dict[int, Curve]
    """GPUs -> curve over elements of 16 bits."""
    prompts: dict[tuple[int, int], dict[int, Curve]]
    """(query heads, KV heads) of one GPU -> prompts in the step -> curve over the length of each."""
    decodes: dict[tuple[int, int], dict[int, Curve]]
    """(query heads, KV heads) of one GPU -> decodes in the step -> curve over the context of each."""

    @classmethod
    def read(cls, folder: Path, precision: str) -> "KernelTables":
        """The tables in `folder`, one GPU's in an aiconfigurator checkout; ProfileError names what is missing."""
        dtype = DTYPE[precision]
        gemm = _read(folder, "gemm", "gemm", ("gemm_dtype", "m", "n", "k"), {"gemm_dtype": dtype})
        # Only the latencies of calls captured in CUDA graphs: eager calls pay a launch that serving engines do not.
        graph = {"backend": f"{BACKEND}_graph", "allreduce_dtype": "bfloat16"}
        allreduce = _read(folder, "comm", "custom_allreduce", ("num_gpus", "message_size", *graph), graph)
        return cls(
            versions={op: _newest(folder, op).name for op in ("gemm", "comm", "attention")},
            gemm={(n, k): curve for (n, k), curve in _curves(gemm, ("n", "k"), "m").items()},
            allreduce={gpus: curve for (gpus,), curve in _curves(allreduce, ("num_gpus",), "message_size").items()},
            prompts=_attention(folder, "context_attention", "isl", dtype),
            decodes=_attention(folder, "generation_attention", "step", dtype),
        )

    @property
    def sizes(self) -> list[int]:
        """The token counts that every matrix product was measured at."""
        return sorted(set.intersection(*({int(size) for size in curve.sizes} for curve in self.gemm.values())))

    def gemm_ms(self, m: int, n: int, k: int) -> float:
        """An (m, k) by (k, n) matrix product: bilinear in n and k, and in proportion to n beyond the widest one."""
        ks = _bracket(sorted({k for _, k in self.gemm}), k)
        ns = sorted({n for n, _ in self.gemm if all((n, k) in self.gemm for k, _ in ks)})
        beyond = max(1.0, n / ns[-1])
        corners = ((self.gemm[at_n, at_k], wn * wk) for at_n, wn in _bracket(ns, n) for at_k, wk in ks)
        return beyond * sum(weight * curve.ms(m) for curve, weight in corners if weight)

    def prompt_attention_ms(self, heads: tuple[int, int], prompts: int, length: int) -> float:
        """One layer's attention of so many prompts, each of `length` tokens, nothing computed before."""
        return _batch_ms(self.prompts[heads], prompts, length)

    def decode_attention_ms(self, heads: tuple[int, int], decodes: int, context: float) -> float:
        """One layer's attention of so many decodes with `context` tokens each, the one computed now included."""
        return _batch_ms(self.decodes[heads], decodes, context)


@dataclass(frozen=True)
class Composition:
    """Step times of one model on one kind of GPU with tensor parallelism `tp`, all in ms and without host time."""

    tables: KernelTables
    gpu: Gpu
    model: Model
    tp: int

    @property
    def heads(self) -> tuple[int, int]:
        """(query heads, KV heads) of one GPU, the key of the attention tables."""
        return self.model.heads // self.tp, self.model.kv_heads_per_gpu(self.tp)

    def step_ms(self, prompts: int = 0, length: int = 0, decodes: int = 0, context: float = 0) -> float:
        """One step of `prompts` whole prompts of `length` tokens and `decodes` with `context` tokens; all sample."""
        attention = self.prompt_attention_ms(prompts, length) + self.decode_attention_ms(decodes, context)
        return self.tokens_ms(prompts * length + decodes) + attention + self.head_ms(prompts + decodes)

    def tokens_ms(self, m: int) -> float:
        """Everything of a step of m tokens but attention and output head."""
        model, gemm, p = self.model, self.tables.gemm_ms, self.tp
        query_width = model.heads * model.head_size // p
        kv_width = self.heads[1] * model.head_size
        layer = (
            gemm(m, query_width + 2 * kv_width, model.hidden)
            + gemm(m, model.hidden, query_width)
            + gemm(m, 2 * model.mlp_width // p, model.hidden)
            + gemm(m, model.hidden, model.mlp_width // p)
            + self.elementwise_ms(m)
        )
        if p > 1:
            layer += 2 * self.tables.allreduce[p].ms(m * model.hidden)
        return model.layers * layer

    def elementwise_ms(self, m: int) -> float:
        """The elementwise kernels of one layer: their launches, and the bytes they read and write at 16 bits."""
        model = self.model
        attention_width = 4 * (model.heads // self.tp + self.heads[1]) * model.head_size
        moved_bytes = 2 * m * (8 * model.hidden + 3 * model.mlp_width / self.tp + attention_width)
        bandwidth_bytes_per_ms = ELEMENTWISE_BANDWIDTH_FRAC * self.gpu.bandwidth_gb_per_s * 1e6
        return ELEMENTWISE_KERNELS * ELEMENTWISE_LAUNCH_MS + moved_bytes / bandwidth_bytes_per_ms

    def head_ms(self, samples: int) -> float:
        """The output head for so many sampled rows."""
        return self.tables.gemm_ms(samples, self.model.vocabulary // self.tp, self.model.hidden) if samples else 0.0

    def prompt_attention_ms(self, prompts: int, length: int) -> float:
        """All layers' attention of so many prompts of `length` tokens."""
        return self.model.layers * self.tables.prompt_attention_ms(self.heads, prompts, length) if prompts else 0.0

    def decode_attention_ms(self, decodes: int, context: float) -> float:
        """All layers' attention of so many decodes with `context` tokens each."""
        return self.model.layers * self.tables.decode_attention_ms(self.heads, decodes, context) if decodes else 0.0

    def is_decode_measured(self, decodes: int, context: int) -> bool:
        """Whether such decodes lie inside the measurements, so that nothing is extrapolated."""
        by_batch = self.tables.decodes[self.heads]
        return decodes <= max(by_batch) and all(
            context <= by_batch[b].sizes[-1] for b, _ in _bracket(sorted(by_batch), decodes)
        )


def _batch_ms(by_batch: Mapping[int, Curve], batch: int, length: float) -> float:
    return sum(weight * by_batch[b].ms(length) for b, weight in _bracket(sorted(by_batch), batch) if weight)


def _bracket(grid: list[int], value: float) -> list[tuple[int, float]]:
    """The grid points around `value` with their weights; the nearest alone where the grid ends."""
    if value <= grid[0] or len(grid) == 1:
        return [(grid[0], 1.0)]
    if value >= grid[-1]:
        return [(grid[-1], 1.0)]
    right = next(i for i, point in enumerate(grid) if point >= value)
    low, high = grid[right - 1], grid[right]
    share = (value - low) / (high - low)
    return [(low, 1 - share), (high, share)]


def _attention(folder: Path, table: str, length: str, dtype: str) -> dict[tuple[int, int], dict[int, Curve]]:
    wanted = {"kv_cache_dtype": dtype, "head_dim": 128}
    key = ("num_heads", "num_key_value_heads", "batch_size", length)
    frame = _read(folder, "attention", table, (*key, *wanted), wanted)
    if "window_size" in frame.columns:
        frame = frame[frame["window_size"] == 0]  # 0 is full attention; other values are sliding windows
    if length == "step":
        frame = frame.assign(step=frame["step"] + 1)  # the tables count the tokens before the one computed now
    nested: dict[tuple[int, int], dict[int, Curve]] = {}
    for (heads, kv_heads, batch), curve in _curves(frame, key[:3], length).items():
        nested.setdefault((heads, kv_heads), {})[batch] = curve
    return nested


def _curves(frame: pd.DataFrame, key: tuple[str, ...], size: str) -> dict[tuple[int, ...], Curve]:
    """One curve over `size` for each value of `key`; of several measurements of one point, the median."""
    medians = frame.groupby([*key, size])["latency"].median().reset_index()
    return {
        tuple(int(part) for part in values): Curve(group[size], group["latency"])
        for values, group in medians.groupby(list(key))
    }


def _read(folder: Path, operation: str, table: str, columns: tuple[str, ...], wanted: dict[str, Any]) -> pd.DataFrame:
    """Rows of the newest table that have the wanted values; ProfileError where there is no such table."""
    path = _newest(folder, operation) / f"{table}_perf.parquet"
    if not path.is_file():
        raise ProfileError(f"{path}: no such file; the folder must be laid out as aiconfigurator's systems/data/<gpu>")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ProfileError(f"{path}: larger than {MAX_FILE_BYTES} bytes, which no kernel table is")
    try:
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise ProfileError("reading kernel tables needs pyarrow: pip install 'servecast[parquet]'") from error
    except (OSError, ValueError) as error:
        raise ProfileError(f"{path}: not a readable parquet table: {error}") from error
    missing = [name for name in (*columns, "latency") if name not in frame.columns]
    if missing:
        raise ProfileError(f"{path}: no column {', '.join(missing)}; there are: {', '.join(frame.columns)}")
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    if frame.empty:
        raise ProfileError(f"{path}: no row with {', '.join(f'{name} {value}' for name, value in wanted.items())}")
    latency = frame["latency"]
    if not (np.isfinite(latency) & (latency > 0)).all():
        raise ProfileError(f"{path}: a latency is not a finite number above 0")
    return frame


def _newest(folder: Path, operation: str) -> Path:
    """The folder of the newest measured version of an operation."""
    versions = [path for path in (folder / operation / BACKEND).glob("*") if path.is_dir()]
    if not versions:
        raise ProfileError(f"{folder / operation / BACKEND}: no measured version there")
    return max(versions, key=lambda path: [int(part) if part.isdigit() else -1 for part in path.name.split(".")])
