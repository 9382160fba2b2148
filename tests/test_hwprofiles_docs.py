"""docs/hardware.md says what the package does: its tables and its worked example are computed again.

`python -m tests.test_hwprofiles_docs` prints the tables that must stand on the page.
"""

import json
import re
from pathlib import Path

import pytest

from hwprofiles import known_software, list_profiles, load_software, load_step_cost, memory_budget
from hwprofiles.roofline import known_rooflines, load_roofline
from hwprofiles.steptable import TICKS_PER_MS
from tests.test_validation_errors import FILE

PAGE = Path(__file__).resolve().parents[1] / "docs" / "hardware.md"
DEGREES = (1, 2, 4, 8)

BARS = (
    ("H100 Llama-3.1-70B fp8, vLLM", "Llama-3.1-70B", "fp8", "vLLM", DEGREES, {"tpot": 5, "ttft": 25}),
    ("H100 Qwen3-32B bf16, vLLM 0.12", "Qwen3-32B", "bf16", "vLLM", DEGREES, {"tpot": 8, "ttft": 25}),
    ("H100 Llama-3.1-8B bf16, TRT-LLM, tp 1-2", "Llama-3.1-8B", "bf16", "TRT-LLM", (1, 2), {"tpot": 5, "ttft": 25}),
    ("H100 Llama-3.1-8B bf16, TRT-LLM, tp 4-8", "Llama-3.1-8B", "bf16", "TRT-LLM", (4, 8), {"tpot": 10, "ttft": 25}),
    ("H100 Qwen3-32B fp8, TRT-LLM 1.0", "Qwen3-32B", "fp8", "TRT-LLM 1.0.0", DEGREES, {}),
    ("H100 Qwen3-32B bf16, SGLang 0.5.1", "Qwen3-32B", "bf16", "SGLang 0.5.1", DEGREES, {}),
)
"""Closed loops: name, model, precision, software, degrees, and the highest mean error wanted, in per cent."""


def table_of(head, rows):
    return "".join("| " + " | ".join(line) + " |\n" for line in (head, ["---"] * len(head), *rows))


def shipped_table():
    """A row for each GPU, model and precision."""
    cells = {}
    for row in list_profiles():
        error = load_step_cost(row.gpu, row.model, row.precision, row.tp).error
        cell = f"{row.grade[0]} {100 * error.mape_frac:.2f} / {100 * error.held_out_mape_frac:.2f}"
        cells.setdefault((row.gpu, row.model, row.precision), {})[row.tp] = cell
    rows = [[*key, *(found.get(tp, "") for tp in DEGREES)] for key, found in cells.items()]
    return table_of(["GPU", "model", "precision", *(f"tp {tp}" for tp in DEGREES)], rows)


def software_table():
    """A row for each era."""
    eras = map(load_software, known_software())
    rows = [
        [
            f"`{era.id}`",
            era.name,
            f"{era.step_ms:g}",
            f"{era.layer_ms:g} + {era.parallel_layer_ms:g}",
            f"{era.sample_ms:g}" + (f", to {era.most_samples}" if era.most_samples < 1 << 22 else ""),
            f"{era.api_ms:g}",
        ]
        for era in eras
    ]
    head = ["era", "software", "step, ms", "each layer, + if split", "each sampling request", "API of a request"]
    return table_of(head, rows)


def roofline_table():
    """A row for each GPU, precision of the weights and of the KV cache."""
    rows = []
    for gpu in known_rooflines():
        for error in load_roofline(gpu).errors:
            worst = max(error.models, key=lambda model: model.left_out_mape_frac)
            figures = (error.mape_frac, error.left_out_mape_frac, error.left_out_worst_5pct_frac)
            worst_model = f"{worst.model} {worst.left_out_mape_frac:.1%}"
            rows.append([gpu, error.precision, error.kv, *(f"{figure:.1%}" for figure in figures), worst_model])
    head = ["GPU", "weights", "KV cache", "in sample", "model left out", "its worst 5 %", "worst model left out"]
    return table_of(head, rows)


def bars_table():
    """A row for each family of closed loops: mean errors over its points that do not queue, and what was wanted."""
    groups = json.loads(FILE.read_text())["groups"]
    rows = []
    for name, model, precision, software, degrees, wanted in BARS:
        cells = []
        for metric in ("tpot", "e2e", "ttft"):
            found = [
                g
                for g in groups
                if (g["model"], g["precision"], g["metric"]) == (model, precision, f"{metric}_mean_s")
                and g["gpu"].startswith("H100") and g["tp"] in degrees and g["software"].startswith(software)
                and g["load_kind"] == "closed_concurrency" and g["n"] > 2
            ]  # fmt: skip
            n = sum(g["n"] for g in found)
            error = sum(g["n"] * g["mape_frac"] for g in found) / n
            cells.append(f"{error:.1%}" + (f" ({wanted[metric]} %)" if metric in wanted else ""))
        rows.append([name, f"{n}", *cells])
    return table_of(["closed loops", "points", "TPOT (wanted)", "E2E", "TTFT (wanted)"], rows)


TABLES = (shipped_table, software_table, roofline_table, bars_table)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_a_table_of_the_page_is_what_the_files_hold(table):
    assert table() in PAGE.read_text()


def test_the_counts_of_the_page_are_those_of_the_files():
    page, errors = PAGE.read_text(), []
    for row in list_profiles():
        errors.append(load_step_cost(row.gpu, row.model, row.precision, row.tp).error)
    steps = [error.steps for error in errors]
    assert f"over {min(steps)} to {max(steps)}\nsteps" in page
    held_out = [error.held_out_mape_frac for error in errors]
    inside = sum(frac <= 0.02 for frac in held_out)
    assert f"{inside} of {len(errors)} stay within 2 %; the rest reach {100 * max(held_out):.1f} %" in page
    assert f"{sum(error.mape_frac <= 0.02 for error in errors)} of {len(errors)} tables are within 2 %" in page


def worked_terms():
    """The last column of the worked example, by term."""
    section = PAGE.read_text().split("### One step by hand")[1].split("## What is shipped")[0]
    rows = re.findall(r"^\| (.+?) \|.*\| \**([\d.]+)\** \|$", section, re.MULTILINE)
    return {term.strip("* "): float(ms) for term, ms in rows}


def test_the_worked_example_is_the_formula_by_hand():
    cost, era, terms = load_step_cost("h100", "llama-3.1-8b"), load_software("vllm-2026"), worked_terms()
    a = cost.attention["bf16"]
    by_hand = {
        "f_tok(1032)": cost.tokens.ticks_at(1032) / TICKS_PER_MS,
        "head(33)": cost.samples.ticks_at(33) / TICKS_PER_MS,
        "host": era.step_ms + 33 * era.sample_ms,
        "prefill attention": (a.prefill_step + 1000 * a.prefill_token + 1_000_000 * a.prefill_work) / TICKS_PER_MS,
        "decode attention": (a.decodes.ticks_at(32) + 1024 * a.contexts.ticks_at(32)) / TICKS_PER_MS,
    }
    assert {term: ms for term, ms in terms.items() if term != "step"} == pytest.approx(by_hand, abs=5e-5)
    assert terms["step"] == pytest.approx(sum(by_hand.values()), abs=1e-4)


def test_the_worked_example_is_what_the_table_answers():
    page, kv_tokens = PAGE.read_text(), memory_budget("h100", "llama-3.1-8b").kv_tokens
    assert f"{kv_tokens:_}" in page
    table = load_step_cost("h100", "llama-3.1-8b").table(8192, 1024, 131_072, kv_tokens)
    mixed, alone = table.step_ns(1000, 1_000_000, 32, 32_768, 33), table.step_ns(0, 0, 32, 32_768, 32)
    assert f"{mixed:,} ns".replace(",", " ") in page
    assert f"{alone:,} ns".replace(",", " ") in page
    assert f"delays each of them by {(mixed - alone) / 1e6:.1f} ms" in page


if __name__ == "__main__":
    for table in TABLES:
        print(table())
