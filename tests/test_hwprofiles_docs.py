"""docs/hardware.md says what the package does: its table and its worked example are computed again."""

import re
from pathlib import Path

import pytest

from hwprofiles import kv_blocks, list_profiles, load_step_cost, memory_budget
from hwprofiles.steptable import TICKS_PER_MS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "hardware.md").read_text()


def test_the_table_of_what_is_shipped_is_what_is_shipped():
    rows = []
    for row in list_profiles():
        error = load_step_cost(row.gpu, row.model, row.precision, row.tp).error
        figures = (error.mape_frac, error.worst_5pct_frac, error.max_frac, error.knot_left_out_mape_frac)
        percent = " | ".join(f"{figure:.2%}" for figure in figures)
        blocks = kv_blocks(row.gpu, row.model, row.precision, row.tp)
        rows.append(f"| {row.gpu} | {row.model} | {row.precision} | {row.tp} | {row.grade} | {percent} | {blocks} |")
    section = PAGE.split("## What is shipped")[1].split("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("| ")][1:] == rows


def test_the_number_of_steps_judged_is_as_stated():
    steps = [load_step_cost(row.gpu, row.model, row.precision, row.tp).error.steps for row in list_profiles()]
    low, high = re.search(r"over (\d+) to (\d+)\nsteps", PAGE).groups()
    assert (min(steps), max(steps)) == (int(low), int(high))


def worked_terms():
    """The last column of the worked example, by term."""
    section = PAGE.split("### One step by hand")[1].split("## What is shipped")[0]
    rows = re.findall(r"^\| (.+?) \|.*\| \**([\d.]+)\** \|$", section, re.MULTILINE)
    return {term.strip("* "): float(ms) for term, ms in rows}


def test_the_worked_example_is_the_formula_by_hand():
    cost = load_step_cost("h100", "llama-3.1-8b")
    c, terms = cost.coefficients_ms(), worked_terms()
    by_hand = {
        "f_tok(1032)": cost.tokens.ticks_at(1032) / TICKS_PER_MS,
        "head(33)": cost.samples.ticks_at(33) / TICKS_PER_MS,
        "host": c["step"] + 33 * c["sample"],
        "prefill attention": c["prefill_step"] + 1000 * c["prefill_token"] + 1_000_000 * c["prefill_work"],
        "decode attention": c["decode_step"] + 32 * c["decode"] + 32_768 * c["decode_context_token"],
    }
    assert {term: ms for term, ms in terms.items() if term != "step"} == pytest.approx(by_hand, abs=5e-5)
    assert terms["step"] == pytest.approx(sum(by_hand.values()), abs=1e-4)


def test_the_worked_example_is_what_the_table_answers():
    kv_tokens = memory_budget("h100", "llama-3.1-8b").kv_tokens
    assert f"{kv_tokens:_}" in PAGE
    table = load_step_cost("h100", "llama-3.1-8b").table(8192, 1024, 131_072, kv_tokens)
    mixed, alone = table.step_ns(1000, 1_000_000, 32, 32_768, 33), table.step_ns(0, 0, 32, 32_768, 32)
    assert f"{mixed:,} ns".replace(",", " ") in PAGE
    assert f"{alone:,} ns".replace(",", " ") in PAGE
    assert f"delays each of them by {(mixed - alone) / 1e6:.1f} ms" in PAGE
