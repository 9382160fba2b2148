"""The real bench: PyTorch kernels in CUDA graphs, with weights and KV that have to come from memory.

A graph holds several calls of one kernel, each with operands of its own, as a serving engine's graph holds those of its
layers. Before each replay a buffer larger than the L2 cache is written, so that no operand is still cached from the one
before. The latency is the median over the replays of the time between two CUDA events, divided by the calls.
"""

import importlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hwprofiles.datasheet import ProfileError
from hwprofiles.measure.bench import Device
from hwprofiles.measure.kernels import Decodes, Gemm, Kernel, Prompts

OLDEST = (2, 5)
"""PyTorch from which attention takes fewer KV heads than query heads."""
CALLS = 16
"""Calls in a graph where memory allows: a graph's launch of a few microseconds is shared by all of them."""
CALLS_SHARE = 0.25
"""Share of the free memory that the operands of all calls of a graph may hold, unless a single call needs more."""
WARM_UPS = 3
L2_BYTES = 128 << 20
"""Taken where PyTorch does not say how large the L2 cache is: as large as any (GB200 has 126 MB)."""
CLOCKS = ("name", "driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "power.limit")
"""Asked of nvidia-smi; clocks in MHz, power in W."""
WORKER = "hwprofiles.measure.allreduce"
WORKER_LIMIT_S = 1800

Call = Callable[[], Any]


class TorchBench:
    """Times kernels on the first visible GPU, and all-reduces over the first ones."""

    def __init__(self, repeats: int, gpus: int = 1) -> None:
        """ProfileError without PyTorch, without a GPU that it can use, or with fewer of them than `gpus`."""
        torch = self._torch = _torch()
        there = torch.cuda.device_count()
        if gpus > there:
            raise ProfileError(f"--tp {gpus} takes {gpus} GPUs; visible here: {there}")
        self.repeats = repeats
        properties = torch.cuda.get_device_properties(0)
        self.device = Device(
            name=properties.name,
            gpus=there,
            memory_bytes=properties.total_memory,
            free_bytes=torch.cuda.mem_get_info(0)[0],
            capability=(properties.major, properties.minor),
            version=_release(torch),
            cuda=str(torch.version.cuda),
        )
        l2_bytes = getattr(properties, "L2_cache_size", 0) or L2_BYTES
        self._more_than_l2 = torch.empty(2 * l2_bytes, dtype=torch.uint8, device="cuda")

    def ms(self, kernel: Kernel) -> float:
        """The latency of one kernel; ProfileError with the library's words where it cannot be run."""
        try:
            return self._replayed_ms(kernel)
        except (RuntimeError, TypeError) as error:  # out of memory is a RuntimeError
            words = str(error).strip().splitlines() or [type(error).__name__]
            raise ProfileError(f"{kernel}: cannot be run here: {words[0]:.200}") from error
        finally:
            self._torch.cuda.empty_cache()

    def allreduce_ms(self, gpus: int, elements: Sequence[int]) -> list[float]:
        """The latencies of NCCL over so many GPUs, from processes that torchrun starts, one a GPU."""
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder) / "allreduce.json"
            words = [str(answer), str(self.repeats), *map(str, elements)]
            run = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}", "-m", WORKER, *words]
            root = str(Path(__file__).resolve().parents[2])
            paths = os.pathsep.join(path for path in (root, os.environ.get("PYTHONPATH")) if path)
            env = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
            try:
                done = subprocess.run(
                    [sys.executable, *run], env=env, capture_output=True, text=True, errors="replace", timeout=WORKER_LIMIT_S
                )
            except subprocess.TimeoutExpired as error:
                raise ProfileError(f"all-reduce over {gpus} GPUs: no answer within {WORKER_LIMIT_S} s") from error
            if done.returncode or not answer.is_file():
                lines = [line for line in done.stderr.splitlines() if "Error" in line] or [f"exit code {done.returncode}"]
                raise ProfileError(f"all-reduce over {gpus} GPUs: cannot be run here: {lines[0].strip():.200}")
            return json.loads(answer.read_text())

    def clocks(self) -> list[Mapping[str, Any]]:
        """What nvidia-smi says of every GPU; nothing without it."""
        program = shutil.which("nvidia-smi")
        if program is None:
            return []
        asked = [program, f"--query-gpu={','.join(CLOCKS)}", "--format=csv,noheader,nounits"]
        with suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout
            return [dict(zip(CLOCKS, map(str.strip, line.split(",")))) for line in said.splitlines() if line.strip()]
        return []

    def _replayed_ms(self, kernel: Kernel) -> float:
        calls = max(1, min(CALLS, int(CALLS_SHARE * self.device.free_bytes) // kernel.held_bytes))
        with self._torch.inference_mode():
            operands = [self._call(kernel) for _ in range(calls)]
            return replayed_ms(self._torch, operands, self.repeats, self._more_than_l2.zero_)

    def _call(self, kernel: Kernel) -> Call:
        """The kernel on random operands of its own: on zeros a GPU draws less power and clocks higher."""
        if isinstance(kernel, Gemm):
            return self._bf16_gemm(kernel) if kernel.precision == "bf16" else self._fp8_gemm(kernel)
        if isinstance(kernel, Prompts):
            return self._prompts(kernel)
        return self._decodes(kernel)

    def _bf16_gemm(self, kernel: Gemm) -> Call:
        rows, weights = self._random(kernel.m, kernel.k), self._random(kernel.n, kernel.k)
        return lambda: self._torch.nn.functional.linear(rows, weights)

    def _fp8_gemm(self, kernel: Gemm) -> Call:
        torch = self._torch
        rows, weights = (self._random(count, kernel.k).to(torch.float8_e4m3fn) for count in (kernel.m, kernel.n))
        one = torch.ones((), device="cuda")
        scales = {"scale_a": one, "scale_b": one}
        return lambda: torch._scaled_mm(rows, weights.t(), **scales, out_dtype=torch.bfloat16, use_fast_accum=True)

    def _prompts(self, kernel: Prompts) -> Call:
        heads, seen = kernel.heads, kernel.past + kernel.length
        query = self._tokens(kernel.batch, kernel.length, heads.query, heads.size)
        keys, values = (self._tokens(kernel.batch, seen, heads.kv, heads.size) for _ in "kv")
        if not kernel.past:
            return lambda: self._attention(query, keys, values, is_causal=True)
        bias = importlib.import_module("torch.nn.attention.bias")
        # is_causal would let the first new token see the first token alone, as if there were no past.
        mask = bias.causal_lower_right(kernel.length, seen)
        return lambda: self._attention(query, keys, values, attn_mask=mask)

    def _decodes(self, kernel: Decodes) -> Call:
        heads = kernel.heads
        query = self._tokens(kernel.batch, 1, heads.query, heads.size)
        keys, values = (self._tokens(kernel.batch, kernel.context, heads.kv, heads.size) for _ in "kv")
        return lambda: self._attention(query, keys, values)

    def _attention(self, query: Any, keys: Any, values: Any, **mask: Any) -> Any:
        """Flash attention or an error: PyTorch's other kernels are not those of a serving engine."""
        attention = importlib.import_module("torch.nn.attention")
        with attention.sdpa_kernel(attention.SDPBackend.FLASH_ATTENTION):
            function = self._torch.nn.functional.scaled_dot_product_attention
            return function(query, keys, values, enable_gqa=query.shape[1] != keys.shape[1], **mask)

    def _tokens(self, batch: int, tokens: int, heads: int, size: int) -> Any:
        """Tokens as engines lay them out, one after the other with all heads, seen head by head."""
        return self._random(batch, tokens, heads, size).transpose(1, 2)

    def _random(self, *shape: int) -> Any:
        return self._torch.randn(*shape, dtype=self._torch.bfloat16, device="cuda")


def replayed_ms(torch: Any, calls: Sequence[Call], repeats: int, before: Call) -> float:
    """The median latency in ms of one of `calls`, captured together; `before` runs ahead of each replay, untimed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # a capture needs libraries that were set up on another stream before
        for _ in range(WARM_UPS):
            for call in calls:
                call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # NCCL's watchdog thread asks for events meanwhile, which only this mode forgives.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for call in calls:
            call()
    graph.replay()  # the first launch uploads the graph
    spans = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in "se")
        before()
        start.record()
        graph.replay()
        end.record()
        spans.append((start, end))
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in spans) / len(calls)


def _torch() -> Any:
    """PyTorch with a GPU; ProfileError where there is none."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise ProfileError(f"timing kernels needs PyTorch built for CUDA: pip install torch ({error})") from error
    if not torch.cuda.is_available():
        raise ProfileError(f"PyTorch {torch.__version__} sees no CUDA device; expected an NVIDIA GPU and its driver")
    if tuple(int(part) for part in _release(torch).split(".")[:2]) < OLDEST:
        raise ProfileError(f"PyTorch {torch.__version__} is too old; expected {'.'.join(map(str, OLDEST))} or newer")
    return torch


def _release(torch: Any) -> str:
    """2.11.0 of 2.11.0+cu130 and of 2.11.0a0+git: what orders versions, and is safe as a folder's name."""
    found = re.match(r"\d+\.\d+(\.\d+)?", str(torch.__version__))
    return found[0] if found else "0.0"
