"""docs/models.md says what ships and what memory is made of: its tables are made again and compared."""

import re
from collections import defaultdict
from dataclasses import fields, replace
from pathlib import Path

import pytest

from hwprofiles.datasheet import Model, ProfileError, known_models, load_gpu, load_model
from hwprofiles.hf_config import ARCHITECTURES, READ
from hwprofiles.memory import GIB, kv_bytes_per_token, memory_budget, weight_bytes
from hwprofiles.profiles import list_profiles, load_step_cost

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "models.md").read_text(encoding="utf-8")


def rows(title):
    """The cells of the first table of a section, without its head."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def tables_of(model):
    """Degrees of the step tables of a model, and the GPUs with tables at just these: bf16 where nothing is said."""
    degrees, there = defaultdict(list), defaultdict(list)
    for row in list_profiles():
        if row.model == model:
            degrees[row.gpu if row.precision == "bf16" else f"{row.gpu} {row.precision}"].append(str(row.tp))
    for where, tps in degrees.items():
        there[", ".join(tps)].append(where)
    return "; ".join(f"{tps}: {', '.join(where)}" for tps, where in there.items())


def test_the_table_of_models_is_what_ships():
    expected = []
    for name in known_models():
        m = load_model(name)
        counts = [m.mlp_width, m.vocabulary, m.max_model_len, kv_bytes_per_token(m, 2, tp=1)]
        heads = f"{m.heads} / {m.kv_heads} x {m.head_size}"
        degrees = [", ".join(map(str, m.valid_tp(8))), tables_of(name)]
        expected.append(
            [f"`{name}`", f"{m.parameters / 1e9:.2f}", str(m.layers), str(m.hidden), heads, *map(str, counts), *degrees]
        )
    assert rows("What ships") == expected


@pytest.mark.parametrize("name", known_models())
def test_a_model_without_a_table_has_the_roofline_where_the_gpu_was_measured_at_that_precision(name):
    grade = load_step_cost("rtx_pro_6000", name, "fp8", tp=1).grade
    assert grade == ("measured" if "rtx_pro_6000" in tables_of(name) else "roofline")
    with pytest.raises(ProfileError, match="no roofline of a100 for precision 'fp8'; there is: bf16"):
        load_step_cost("a100", name, "fp8", tp=1)


def test_every_key_of_a_model_and_of_a_config_is_named():
    words = set(re.findall(r"`([\w.]+)`", PAGE))
    assert {field.name for field in fields(Model)} - {"id"} <= words
    assert set(ARCHITECTURES) <= words
    assert set(READ) - {"model_type", "hidden_act", "quantization_config"} <= words


def test_the_table_of_logs_is_computed_again():
    said = {what: float(here.replace(" ", "")) for what, _, here, _ in rows("Memory against what vLLM logs")}
    weights = [
        ("weights, Llama-2-7B", "llama-2-7b", "bf16", 1),
        ("weights, Llama-3.1-8B fp8", "llama-3.1-8b", "fp8", 1),
        ("weights, Qwen2.5-7B", "qwen2.5-7b", "bf16", 1),
        ("weights, Qwen2.5-32B, tp 2", "qwen2.5-32b", "bf16", 2),
        ("weights, DeepSeek-R1-Distill-Qwen-14B, tp 2", "qwen2.5-14b", "bf16", 2),
        ("weights, Qwen3-14B", "qwen3-14b", "bf16", 1),
    ]
    computed = {what: weight_bytes(load_model(name), precision, tp) / GIB for what, name, precision, tp in weights}
    for what, name, tp, gib in (
        ("tokens of 7.71 GiB, Qwen2.5-32B, tp 2", "qwen2.5-32b", 2, 7.71),
        ("tokens of 11.00 GiB, Qwen3-14B", "qwen3-14b", 1, 11.00),
    ):
        computed[what] = gib * GIB // kv_bytes_per_token(load_model(name), 2, tp) // 16 * 16
    for what, name, tp, memory_gib, tokens in (
        ("KV memory, Llama-3-8B on an 80 GB GPU at 0.9, vLLM of December 2024", "llama-3.1-8b", 1, 79.22, 8192),
        ("the same at tp 2", "llama-3.1-8b", 2, 79.22, 8192),
        ("KV memory, Qwen3-14B on a 46 GB GPU at 0.9, vLLM 0.8.5", "qwen3-14b", 1, 44.42, 2048),
        ("KV memory, Qwen2.5-32B on 46 GB GPUs without NVLink, tp 2, of 2025", "qwen2.5-32b", 2, 44.42, 10_000),
    ):
        gpu = replace(load_gpu("h100"), reported_memory_gib=memory_gib)
        computed[what] = memory_budget(gpu, name, "bf16", tp, 16, 0.9, tokens, 256).kv_bytes / GIB
    assert said == pytest.approx(computed, abs=0.0051)


def test_the_last_column_of_the_logs_is_here_over_logged():
    for _, logged, here, said in rows("Memory against what vLLM logs"):
        share = float(here.replace(" ", "")) / float(logged.removesuffix(" GiB").replace(" ", "")) - 1
        assert float(said.removesuffix(" %")) == pytest.approx(100 * share, abs=0.55 if abs(share) > 0.1 else 0.16)
