"""A harness: how a family of published measurements was made, where the points themselves do not say.

What its load generator sends, which settings its engine had, and which software era stands for it. Found by the source of a
point or, where it names none, by its software. Nothing here is chosen by the error that it leads to.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.validate.point import Setting
from hwprofiles import known_software, load_software
from hwprofiles.software import DEFAULT

TRTLLM = ("trtllm-2024", "trtllm-2025")
AICONFIGURATOR = r"aiconfigurator|^(vLLM 0\.12\.0|TRT-LLM 1\.[02]\.0rc|SGLang 0\.5\.[18]\.post1)"
"""The repository, and the software of its silicon_sample.csv."""
SYNCHRONOUS = ("engines-2023", "vllm-2024", "vllm-2025", "trtllm-2024")
"""Eras that plan a step when the one before has returned."""

TRTLLM_REQUESTS = {
    (128, 128): 30_000,
    (128, 2048): 3_000,
    (128, 4096): 1_500,
    (500, 2000): 3_000,
    (1000, 1000): 3_000,
    (1000, 2000): 1_500,
    (2048, 128): 3_000,
    (2048, 2048): 1_500,
    (5000, 500): 1_500,
    (20_000, 2000): 1_000,
}
"""Requests of a throughput run by (input, output) tokens: docs/source/performance/perf-overview.md of TensorRT-LLM 1.0."""


@dataclass(frozen=True)
class Harness:
    """How the points of one load generator and one kind of server are played."""

    shortest_frac: float = 1.0
    """Lengths of prompts and answers are uniform from this share of isl and osl to the whole."""
    saturated_requests: int | None = None
    """Sent at once to saturate."""
    reserves_answers: bool = False
    """A request is admitted only where its whole answer has room."""
    free_memory_frac: float | None = None
    """Share for KV blocks of the memory that weights, activations and the engine leave; None: as vLLM counts."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `sim.Engine` that differ from vLLM's defaults."""
    software: str = DEFAULT
    """The software era whose host time it is."""


def harness_of(setting: Setting) -> Harness:
    """The harness of a setting; vLLM's defaults where none is known."""
    era, named = era_of(setting.software), setting.source or setting.software
    if "InferenceX" in setting.software:
        return _inferencex(setting)
    if setting.load_kind == "closed_concurrency" and re.search(AICONFIGURATOR, named):
        return _aiconfigurator(setting, era)
    if setting.load_kind == "saturated" and re.search(r"TensorRT-LLM|TRT-LLM", named):
        return _trtllm_bench(setting, era)
    return Harness(engine={"async_scheduling": era not in SYNCHRONOUS}, software=era)


def _inferencex(setting: Setting) -> Harness:
    """Client and server commands in the README of InferenceMAX, as InferenceX was called; the KV cache has no type there."""
    limits = {"max_num_seqs": int(setting.load or 1), "max_num_batched_tokens": 8192, "gpu_memory_utilization": 0.9}
    return Harness(shortest_frac=0.8, engine=limits | {"enable_prefix_caching": False}, software="vllm-2025-async")


def _aiconfigurator(setting: Setting, era: str) -> Harness:
    """A seat for each request in flight, and a budget of as many tokens, a prompt, and 1500.

    ai-dynamo/aiconfigurator, src/aiconfigurator/generator/rule_plugin/benchmark: trtllm.rule, vllm.rule. TensorRT-LLM computes
    prompts whole unless told otherwise (llm_args.py, enable_chunked_prefill).
    """
    n, prompt, answer = int(setting.load or 1), setting.input_tokens or 0, setting.output_tokens or 0
    limits: dict[str, Any] = {"max_num_seqs": n, "max_num_batched_tokens": n + prompt + 1500}
    limits["async_scheduling"] = era not in SYNCHRONOUS
    if era in TRTLLM:
        limits |= _kv_type(setting) | {"enable_chunked_prefill": answer > n + 1500, "max_model_len": prompt + answer}
    return Harness(engine=limits, software=era)


def _trtllm_bench(setting: Setting, era: str) -> Harness:
    """trtllm-bench: docs/source/performance, perf-overview.md and perf-benchmarking.md of TensorRT-LLM.

    At most 2048 requests and 8192 tokens a step, 0.95 of the memory that is free once the model is loaded, and an admission
    policy that never evicts (guaranteed_no_evict, the default of its --scheduler_policy).
    """
    lengths = (setting.input_tokens or 0, setting.output_tokens or 0)
    limits = {"max_num_seqs": 2048, "max_num_batched_tokens": 8192} | _kv_type(setting)
    requests = TRTLLM_REQUESTS.get(lengths)
    return Harness(1.0, requests, reserves_answers=True, free_memory_frac=0.95, engine=limits, software=era)


def _kv_type(setting: Setting) -> dict[str, str]:
    """The fp8 checkpoints that NVIDIA publishes ask for an fp8 cache (hf_quant_config.json), and TensorRT-LLM obeys."""
    return {"kv_cache_dtype": "fp8"} if setting.precision == "fp8" else {}


def era_of(software: str) -> str:
    """The software era whose host time stands for a text such as `TRT-LLM 1.0.0rc3`; the newest vLLM where none is known.

    Of several eras of that engine the one that began last before the version; without a version the default or the last.
    """
    eras = [era for era in map(load_software, known_software()) if era.since]
    mine = sorted((_version(era.since), era.id) for era in eras if era.engine.lower() in software.lower())
    found = re.search(r"\d+(\.\d+)+", software)
    before = [era for since, era in mine if found and since <= _version(found[0])]
    return before[-1] if before else mine[-1][1] if mine else DEFAULT


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
