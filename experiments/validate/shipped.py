"""What of a setting can be simulated: the GPU, model and table that stand for it, or the reason why none does."""

import re
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from experiments.validate.harness import harness_of
from experiments.validate.point import LOAD_WORDS, Setting
from hwprofiles import known_gpus, known_models, list_profiles, load_gpu

SAME_SHAPE = {
    "llama-3-8b": "llama-3.1-8b",
    "llama-3-70b": "llama-3.1-70b",
    "llama-3.3-70b": "llama-3.1-70b",
    "mistral-7b": "mistral-7b-v0.1",
    "qwen2-7b": "qwen2.5-7b",
    "qwen2-72b": "qwen2.5-72b",
}
"""Models whose layers have the same dimensions (config.json of each), so that a step costs the same."""

SAME_COST = {"fp16": "bf16"}
"""Number formats of the same size, multiplied at the same rate (NVIDIA data sheets, A100 on)."""

_METRIC = re.compile(r"(ttft|tpot|e2e)_(mean|median|p50|p90|p95|p99)_s|output_tokens_per_s|total_tokens_per_s|requests_per_s")
_MEMORY_TOLERANCE_FRAC = 0.1  # names say GB where data sheets of this package say GiB


class Target(NamedTuple):
    """A shipped step cost, by the names of hwprofiles."""

    gpu: str
    model: str
    precision: str
    tp: int
    software: str
    """The era whose host time it is."""


def refusal(setting: Setting, metric: str) -> str:
    """Why this figure cannot be simulated, in a sentence; empty where it can."""
    if not _METRIC.fullmatch(metric):
        return f"metric {metric} is not simulated"
    if setting.mode != "agg":
        return f"mode {setting.mode} is not simulated"
    if setting.input_tokens is None or setting.output_tokens is None:
        return "lengths are those of a data set that the file does not hold"
    if setting.output_tokens == 1 and metric.startswith("tpot"):
        return "an answer of one token has no TPOT"
    if setting.load is None and LOAD_WORDS[setting.load_kind] == "max":
        return "the load is a search for a rate, not a rate"
    return _trait_refusal(setting) or _layout_refusal(setting) or _table_refusal(setting)


def target_of(setting: Setting) -> Target:
    """What stands for a setting that `refusal` has nothing against."""
    gpu, model = gpu_of(setting.gpu), model_of(setting.model)
    assert gpu is not None and model is not None and setting.tp is not None
    return Target(gpu, model, _precision_of(setting.precision), setting.tp, harness_of(setting).software)


def as_shipped(setting: Setting) -> Setting:
    """The setting under the names of its target: equal for settings that are simulated alike."""
    target = target_of(setting)
    played = str(harness_of(setting))
    return replace(setting, gpu=target.gpu, model=target.model, precision=target.precision, software=played, source="")


def gpu_of(name: str) -> str | None:
    """The shipped GPU of that name, letter case and signs aside; one name may go on where the other ends between words.

    So NVIDIA H100-SXM-80GB is h100, and RTXPRO6000 would be rtx_pro_6000_server, but H20 is not h200.
    """
    beginnings = _beginnings(name)
    known = {gpu: _beginnings(gpu) for gpu in known_gpus()}
    shorter = [(len(theirs[0]), gpu) for gpu, theirs in known.items() if theirs[0] in beginnings]
    longer = [gpu for gpu, theirs in known.items() if beginnings and beginnings[0] in theirs]
    if shorter:
        return max(shorter)[1]
    return longer[0] if len(longer) == 1 else None


def model_of(name: str) -> str | None:
    """The shipped model of the same shape, the maker's name before a slash aside."""
    plain = name.rsplit("/", 1)[-1].lower()
    return next((model for model in (plain, SAME_SHAPE.get(plain)) if model in known_models()), None)


def _trait_refusal(setting: Setting) -> str:
    reasons = {
        "multimodal": "prompts hold images",
        "power-capped": "power capping is not modelled",
        "attention_dp": "data-parallel attention is not modelled",
        "moe_ep": "expert parallelism is not modelled",
    }
    return next((reason for trait, reason in reasons.items() if trait in setting.traits), "")


def _layout_refusal(setting: Setting) -> str:
    if setting.tp is None:
        return "tp is not recorded"
    if setting.pp not in (None, 1):
        return "pipeline parallelism is not modelled"
    if setting.gpus not in (None, setting.tp):
        return "it has more GPUs than tp, and how they share the load is not recorded"
    return ""


def _table_refusal(setting: Setting) -> str:
    gpu, model = gpu_of(setting.gpu), model_of(setting.model)
    if gpu is None:
        return f"no GPU {setting.gpu} is shipped"
    memory_gb = re.search(r"(\d+)GB\b", setting.gpu)
    there_gib = load_gpu(gpu).memory_gib
    if memory_gb and abs(there_gib - int(memory_gb[1])) > _MEMORY_TOLERANCE_FRAC * int(memory_gb[1]):
        return f"no GPU {setting.gpu} is shipped, only {gpu} with {there_gib:g} GiB"
    if model is None:
        return f"no model {setting.model} is shipped"
    if (gpu, model, _precision_of(setting.precision), setting.tp or 0) not in _tables():
        return f"no step cost for {gpu} {model} {setting.precision} tp {setting.tp} is shipped"
    return ""


def _precision_of(name: str) -> str:
    """The name itself where tables of it are shipped, else the format that costs the same."""
    return name if any(precision == name for _, _, precision, _ in _tables()) else SAME_COST.get(name, name)


def _beginnings(name: str) -> list[str]:
    """A name without signs, then without its last word, and so on: h10080gb, h100."""
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    words = words[1:] if words[:1] in (["nvidia"], ["amd"]) else words
    return ["".join(words[:count]) for count in range(len(words), 0, -1)]


@cache
def _tables() -> frozenset[tuple[str, str, str, int]]:
    return frozenset((row.gpu, row.model, row.precision, row.tp) for row in list_profiles())
