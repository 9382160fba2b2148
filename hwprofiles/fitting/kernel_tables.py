"""Kernel tables: measured times of single kernels on one GPU, read and interpolated (development time only).

The files are laid out as aiconfigurator's: `<operation>/<engine>/<version>/<table>_perf.parquet`, one row a measurement, with
the latency in ms of one call on one GPU.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hwprofiles.fitting.curve import SPIKE, Curve
from hwprofiles.records import ProfileError

ENGINE = "vllm"
"""Whose kernels are read."""

DTYPE = {"bf16": "bfloat16", "fp8": "fp8"}
"""The tables' word for a precision of matrices or of the KV cache."""

HEAD_SIZE = 128
"""Of the attention measurements: that of all models here."""

MAX_FILE_BYTES = 64 << 20

FEWEST_SIZES = 2
"""That all matrix products must have in common."""

Heads = tuple[int, int]
"""(query heads, KV heads) of one GPU."""


class Attention:
    """Attention of one layer, by heads, sequences in the step, and length of each.

    Heads that were not measured are made of those that were: between two numbers of query heads on as many KV heads the time
    is linear, and so many sequences of many KV heads are as many times more sequences of fewer heads, since kernels work on
    every pair of sequence and KV head apart.
    """

    def __init__(self, measured: Mapping[Heads, Mapping[int, Curve]]) -> None:
        self.measured = measured

    def ms(self, heads: Heads, batch: int, length: float) -> float:
        """Time for `batch` sequences of `length` tokens each (decodes: of context, the token computed now included)."""
        folds, parts = self._made_of(heads)
        return sum(weight * _batch_ms(self.measured[measured], batch * folds, length) for measured, weight in parts if weight)

    def is_measured(self, heads: Heads, batch: int, length: float) -> bool:
        """Whether this lies inside the measurements, so that nothing is extrapolated."""
        folds, parts = self._made_of(heads)
        return all(_is_inside(self.measured[measured], batch * folds, length) for measured, weight in parts if weight)

    def is_folded(self, heads: Heads) -> bool:
        """Whether KV heads are more than any that were measured, so that other batches stand for these."""
        return self._made_of(heads)[0] > 1

    def _made_of(self, heads: Heads) -> tuple[int, list[tuple[Heads, float]]]:
        """(sequences that stand for one, [(heads measured, weight)])."""
        queries, kv = heads
        there = {kv_heads for _, kv_heads in self.measured}
        folds = next((n for n in range(1, kv + 1) if kv % n == 0 and queries % n == 0 and kv // n in there), None)
        if folds is None:
            raise ProfileError(f"no attention was measured for {queries} query and {kv} KV heads, nor for a part of them")
        grid = sorted(q for q, k in self.measured if k == kv // folds)
        return folds, [((q, kv // folds), weight) for q, weight in bracket(grid, queries // folds)]


@dataclass(frozen=True)
class KernelTables:
    """The measured kernels of one GPU for one precision, one Curve per shape."""

    precision: str
    versions: dict[str, str]
    """Version of the measured software by operation."""
    gemm: dict[tuple[int, int], Curve]
    """(n, k) -> curve over m, of the layers' matrices."""
    wide_gemm: dict[tuple[int, int], Curve]
    """The same at 16 bits, for the output head."""
    allreduce: dict[int, Curve]
    """GPUs -> curve over elements of 16 bits."""
    prompts: dict[str, Attention]
    """Attention of whole prompts by precision of the KV cache."""
    decodes: dict[str, Attention]
    """Attention of decodes by precision of the KV cache."""

    @classmethod
    def read(cls, folder: Path, precision: str, engine: str = ENGINE) -> "KernelTables":
        """The tables in `folder`, one GPU's; ProfileError names what is missing or cannot be."""
        source = _Source(folder, engine)
        gemm = source.read("gemm", "gemm", ("gemm_dtype", "m", "n", "k"))
        prompts, decodes = source.attention("context_attention", "isl"), source.attention("generation_attention", "step")
        if "bf16" not in prompts.keys() & decodes.keys():
            raise ProfileError(f"{folder}: no full attention with heads of {HEAD_SIZE} and a KV cache of bfloat16 was measured")
        return cls(
            precision=precision,
            versions={operation: source.newest(operation).name for operation in ("gemm", "comm", "attention")},
            gemm=_gemms(gemm, precision, folder),
            wide_gemm=_gemms(gemm, "bf16", folder),
            allreduce=source.allreduce(),
            prompts=prompts,
            decodes=decodes,
        )

    @property
    def sizes(self) -> list[int]:
        """1, and the token counts that every matrix product was measured at; ProfileError where those are too few."""
        common = set.intersection(*({int(size) for size in curve.sizes} for curve in self.gemm.values()))
        if len(common) < FEWEST_SIZES:
            (n, k), fewest = min(self.gemm.items(), key=lambda item: len(item[1].sizes))
            raise ProfileError(
                f"matrix products have {len(common)} sizes m in common; expected {FEWEST_SIZES} at least. "
                f"The fewest were measured for n {n}, k {k}: {', '.join(f'{size:.0f}' for size in fewest.sizes[:8])}"
            )
        return sorted({1} | common)


def gemm_ms(curves: Mapping[tuple[int, int], Curve], m: int, n: int, k: int) -> float:
    """An (m, k) by (k, n) matrix product: bilinear in n and k, and in proportion to n beyond the widest one."""
    ks = bracket(sorted({k for _, k in curves}), k)
    first, *others = [at_k for at_k, _ in ks]
    ns = sorted(at_n for at_n, at_k in curves if at_k == first and all((at_n, other) in curves for other in others))
    if not ns:
        raise ProfileError(f"no width n of matrix products was measured at both k {ks[0][0]} and k {ks[-1][0]}, around k {k}")
    beyond = max(1.0, n / ns[-1])
    corners = ((curves[at_n, at_k], wn * wk) for at_n, wn in bracket(ns, n) for at_k, wk in ks)
    return beyond * sum(weight * curve.ms(m) for curve, weight in corners if weight)


def bracket(grid: list[int], value: float) -> list[tuple[int, float]]:
    """The grid points around `value` with their weights; the nearest alone where the grid ends."""
    if value <= grid[0] or len(grid) == 1:
        return [(grid[0], 1.0)]
    if value >= grid[-1]:
        return [(grid[-1], 1.0)]
    right = next(i for i, point in enumerate(grid) if point >= value)
    low, high = grid[right - 1], grid[right]
    share = (value - low) / (high - low)
    return [(low, 1 - share), (high, share)]


def _batch_ms(by_batch: Mapping[int, Curve], batch: int, length: float) -> float:
    """Linear in the batch between measured ones; beyond the largest in proportion."""
    grid = sorted(by_batch)
    beyond = max(1.0, batch / grid[-1])
    return beyond * sum(weight * by_batch[b].ms(length) for b, weight in bracket(grid, batch) if weight)


def _is_inside(by_batch: Mapping[int, Curve], batch: int, length: float) -> bool:
    return batch <= max(by_batch) and all(length <= by_batch[b].sizes[-1] for b, _ in bracket(sorted(by_batch), batch))


def _gemms(frame: pd.DataFrame, precision: str, folder: Path) -> dict[tuple[int, int], Curve]:
    rows = frame[frame["gemm_dtype"] == DTYPE[precision]]
    if rows.empty:
        raise ProfileError(f"{folder}: no matrix product in {precision} was measured there")
    return {(n, k): curve for (n, k), curve in _curves(rows, ("n", "k"), "m").items()}


def _curves(frame: pd.DataFrame, key: tuple[str, ...], size: str) -> dict[tuple[int, ...], Curve]:
    """One curve over `size` for each value of `key`; of several measurements of one point, the median."""
    medians = frame.groupby([*key, size])["latency"].median().reset_index()
    found = {}
    for values, group in medians.groupby(list(key)):
        curve = Curve(group[size], group["latency"])
        mistakes = [_spike(frame, dict(zip((*key, size), (*values, curve.sizes[i])))) for i in curve.spikes()]
        found[tuple(int(part) for part in values)] = Curve(group[size], group["latency"], "\n".join(mistakes))
    return found


def _spike(frame: pd.DataFrame, point: Mapping[str, float]) -> str:
    """What to say of a measurement that does not go with its neighbours; rows are counted from 0."""
    rows = frame[(frame[list(point)] == list(point.values())).all(axis=1)]
    where = ", ".join(f"{name} {value:.0f}" for name, value in point.items())
    latencies = ", ".join(f"row {row}: {ms:g} ms" for row, ms in rows["latency"].items())
    place = frame.attrs.get("place", "kernel table")
    return f"{place}: {latencies} at {where}; expected 1/{SPIKE:g} to {SPIKE:g} times what the neighbouring sizes take"


@dataclass(frozen=True)
class _Source:
    """The files of one GPU and one engine."""

    folder: Path
    engine: str

    def newest(self, operation: str) -> Path:
        """The folder of the newest measured version of an operation."""
        versions = [path for path in (self.folder / operation / self.engine).glob("*") if path.is_dir()]
        if not versions:
            raise ProfileError(f"{self.folder / operation / self.engine}: no measured version there")
        return max(versions, key=lambda path: [int(part) if part.isdigit() else -1 for part in path.name.split(".")])

    def allreduce(self) -> dict[int, Curve]:
        """Curves by GPUs, of calls captured in CUDA graphs alone: eager calls pay a launch that serving engines do not."""
        keys = ("num_gpus", "message_size", "allreduce_dtype")
        frame = self.read("comm", "custom_allreduce", keys)
        frame = frame[frame["allreduce_dtype"] == "bfloat16"]
        if "backend" in frame.columns:
            frame = frame[frame["backend"].str.endswith("_graph")]
        return {gpus: curve for (gpus,), curve in _curves(frame, ("num_gpus",), "message_size").items()}

    def attention(self, table: str, length: str) -> dict[str, Attention]:
        """Full attention with heads of HEAD_SIZE, by precision of the KV cache."""
        key = ("num_heads", "num_key_value_heads", "batch_size", length)
        frame = self.read("attention", table, (*key, "kv_cache_dtype", "head_dim"))
        is_meant = frame["head_dim"] == HEAD_SIZE
        for name, value in (("attn_dtype", "bfloat16"), ("window_size", 0)):  # 0 is full attention; others slide
            if name in frame.columns:
                is_meant &= frame[name] == value
        frame = frame[is_meant]
        if length == "step":
            frame = frame.assign(step=frame["step"] + 1)  # the tables count the tokens before the one computed now
        found = {}
        for precision, dtype in DTYPE.items():
            nested: dict[Heads, dict[int, Curve]] = {}
            for (heads, kv_heads, batch), curve in _curves(frame[frame["kv_cache_dtype"] == dtype], key[:3], length).items():
                nested.setdefault((heads, kv_heads), {})[batch] = curve
            if nested:
                found[precision] = Attention(nested)
        return found

    def read(self, operation: str, table: str, columns: tuple[str, ...]) -> pd.DataFrame:
        """The rows of the newest table; ProfileError where it is not there, or not what it should be."""
        path = self.newest(operation) / f"{table}_perf.parquet"
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
        mistakes = [f"{path}: {sentence}" for name in (*columns, "latency") for sentence in _wrong_cells(frame[name])]
        if mistakes:
            raise ProfileError("\n".join(mistakes))
        frame.attrs["place"] = str(path)
        return frame.reset_index(drop=True)


def _wrong_cells(column: pd.Series) -> Iterator[str]:
    """Sentences about the first cell of a column that cannot be; rows are counted from 0."""
    name = str(column.name)
    if name.endswith("dtype"):
        return
    expected = "a finite number of ms above 0" if name == "latency" else "a whole number of 1 or more"
    least = 0 if name in ("latency", "step") else 1  # the tables count the tokens before a decode
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        yield f"column {name} is of {column.dtype}; expected {expected}"
        return
    is_right = np.isfinite(column) & (column >= least)
    is_right &= (column > 0) if name == "latency" else (column % 1 == 0)
    if not is_right.all():
        row = int(np.argmin(is_right))
        yield f"row {row}: {name} is {column.iloc[row]}; expected {expected}"
