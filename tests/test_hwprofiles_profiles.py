"""The library of step costs: what ships, what a user's folder puts before it, and what is refused as too fast."""

import json
from dataclasses import replace
from importlib.resources import files

import pytest

from hwprofiles import profiles
from hwprofiles.bounds import Bounds, broken_bounds
from hwprofiles.costmodel import GRADES
from hwprofiles.datasheet import ProfileError, load_gpu, load_model
from hwprofiles.profiles import list_profiles, load_step_cost, profile_name
from hwprofiles.roofline import roofline_step_cost
from hwprofiles.steptable import TICKS_PER_MS

ROWS = list_profiles()
NAME = "h100_llama-3.1-8b_bf16_tp1"
SHIPPED = files("hwprofiles").joinpath("measured")


def own_table(folder, change=lambda table: None, name=NAME, of=NAME):
    """A user's folder with a copy of a shipped table, changed."""
    table = json.loads(SHIPPED.joinpath(f"{of}.json").read_text())
    change(table)
    (folder / "measured").mkdir(exist_ok=True)
    (folder / "measured" / f"{name}.json").write_text(json.dumps(table, indent=1))
    return folder


@pytest.mark.parametrize("row", ROWS, ids=lambda row: profile_name(row.gpu, row.model, row.precision, row.tp))
def test_every_shipped_table_says_what_it_is_worth_and_of_what(row):
    cost = load_step_cost(row.gpu, row.model, row.precision, row.tp)
    error = cost.error
    assert error.mape_frac == row.error_mape_frac == cost.error_mape_frac
    assert 0 < error.mape_frac <= error.worst_5pct_frac <= error.max_frac
    assert error.steps > 100 and "decodes" in error.measured_on
    assert "commit 0" in cost.source and cost.command == "servecast profiles fit DIR"
    assert cost.grade == row.grade in ("measured", "transferred")
    assert cost.layers == load_model(row.model).layers
    assert cost.fitted_tokens[0] == 1 and cost.fitted_tokens[1] >= 8192


@pytest.mark.parametrize("row", ROWS, ids=lambda row: profile_name(row.gpu, row.model, row.precision, row.tp))
def test_no_part_of_a_shipped_table_is_faster_than_the_data_sheet(row):
    cost = load_step_cost(row.gpu, row.model, row.precision, row.tp)
    assert not list(broken_bounds(cost, load_gpu(row.gpu), load_model(row.model)))


@pytest.mark.parametrize(("gpu", "precision"), sorted({(row.gpu, row.precision) for row in ROWS}))
@pytest.mark.parametrize(("model", "tp"), [("llama-3.1-8b", 1), ("llama-2-7b", 4), ("qwen3-32b", 8), ("qwen2.5-7b", 2)])
def test_no_part_of_a_roofline_is_faster_than_the_data_sheet(gpu, precision, model, tp):
    cost = roofline_step_cost(gpu, model, precision, tp)
    assert not list(broken_bounds(cost, load_gpu(gpu), load_model(model)))


def test_the_shipped_tables_cover_the_models_on_both_gpus_and_both_precisions():
    combinations = {(row.gpu, row.model, row.precision, row.tp) for row in ROWS}
    wanted = [("llama-3.1-8b", 1), ("llama-3.1-70b", 4), ("llama-3.1-70b", 8)]
    assert combinations >= {(gpu, model, "bf16", tp) for gpu in ("a100", "h100") for model, tp in wanted}
    assert combinations >= {("h100", model, "fp8", tp) for model, tp in wanted}


def test_a_users_folder_alone_is_asked_and_says_so(tmp_path):
    def slower(table):
        table["samples"]["ticks"] = [2 * ticks for ticks in table["samples"]["ticks"]]

    cost, shipped = (
        load_step_cost("h100", "llama-3.1-8b", folder=own_table(tmp_path, slower)),
        load_step_cost("h100", "llama-3.1-8b"),
    )
    assert (cost.grade, shipped.grade) == ("user", "measured")
    assert cost.samples.ticks == tuple(2 * ticks for ticks in shipped.samples.ticks)
    assert replace(cost, samples=shipped.samples, grade="measured") == shipped
    with pytest.raises(ProfileError, match=r"neither measured/h100_llama-3\.1-8b_bf16_tp2\.json nor rooflines/h100\.json"):
        load_step_cost("h100", "llama-3.1-8b", tp=2, folder=tmp_path)


def test_a_table_under_the_name_of_another_combination_is_refused(tmp_path):
    own_table(tmp_path, of="h100_llama-3.1-8b_bf16_tp2")
    with pytest.raises(ProfileError, match=r"its contents belong in h100_llama-3\.1-8b_bf16_tp2\.json"):
        load_step_cost("h100", "llama-3.1-8b", folder=tmp_path)


def divide(*keys):
    """Make the numbers at a place in a table a tenth of what they are."""

    def change(table):
        for key in keys[:-1]:
            table = table[key]
        value = table[keys[-1]]
        table[keys[-1]] = [ticks // 10 for ticks in value] if isinstance(value, list) else value // 10

    return change


@pytest.mark.parametrize(
    ("change", "key", "what"),
    [
        (divide("tokens", "ticks"), "tokens", r"f_tok of 1 tokens"),
        (divide("samples", "ticks"), "samples", r"head of 1 samples"),
        (divide("attention", "bf16", "prefill_work"), "attention.bf16.prefill_work", "a unit of prefill work"),
        (divide("attention", "fp8", "contexts", "ticks"), "attention.fp8.contexts", "a token of context of each of 1 decodes"),
    ],
)
def test_a_part_that_is_faster_than_the_data_sheet_is_refused_with_its_bound(tmp_path, change, key, what):
    with pytest.raises(ProfileError) as raised:
        load_step_cost("h100", "llama-3.1-8b", folder=own_table(tmp_path, change))
    lines = str(raised.value).splitlines()
    assert lines[0].startswith(f"{NAME}.json: {key} has {what} take ") and " ms at least, by the FLOP/s" in lines[0]
    assert all(line.startswith(f"{NAME}.json: {key} has ") for line in lines)


def test_context_that_costs_many_decodes_what_it_costs_one_is_refused_from_the_second_knot_on(tmp_path):
    def level(table):
        ticks = table["attention"]["bf16"]["contexts"]["ticks"]
        ticks[:] = [ticks[0]] * len(ticks)

    with pytest.raises(ProfileError) as raised:
        load_step_cost("h100", "llama-3.1-8b", folder=own_table(tmp_path, level))
    lines = str(raised.value).splitlines()
    knots = load_step_cost("h100", "llama-3.1-8b").attention["bf16"].contexts.at
    first = next(at for at in knots if f"each of {at} decodes" in lines[0])
    assert first > 1 and len(lines) == len([at for at in knots if at >= first])


def test_bounds_are_the_arithmetic_and_the_traffic_of_the_data_sheet():
    """llama-3.1-8b by hand on an H100: 6.98e9 parameters in layers, 989 TFLOP/s, 3350 GB/s."""
    wide, narrow = (Bounds(load_gpu("h100"), load_model("llama-3.1-8b"), precision, 1) for precision in ("bf16", "fp8"))
    assert wide.tokens_ms(1) == pytest.approx(2 * 6_979_321_856 / 3350e6)
    assert wide.tokens_ms(8192) == pytest.approx(2 * 6_979_321_856 * 8192 / 989e9)
    assert narrow.tokens_ms(1) == wide.tokens_ms(1) / 2 and narrow.tokens_ms(8192) < 0.51 * wide.tokens_ms(8192)
    assert narrow.head_ms(1) == wide.head_ms(1) == pytest.approx(2 * 128_256 * 4096 / 3350e6)
    assert wide.prefill_work_ms() == pytest.approx(2 * 32 * 32 * 128 / 989e9)
    assert wide.contexts_ms("bf16", 1) == 2 * wide.contexts_ms("fp8", 1) == pytest.approx(131_072 / 3350e6)


def test_what_no_table_covers_is_priced_by_the_roofline_or_refused():
    assert load_step_cost("h100", "llama-3.1-70b", tp=1).grade == "roofline"
    own = replace(load_model("llama-3.1-8b"), id="mine", layers=33, parameters=1)
    assert load_step_cost("a100", own).grade == "roofline"
    with pytest.raises(ProfileError, match=r"tp 3 does not divide the heads of llama-3\.1-8b.* valid: 1, 2, 4, 8"):
        load_step_cost("h100", "llama-3.1-8b", tp=3)
    with pytest.raises(ProfileError, match="tp 0 does not divide the heads"):
        load_step_cost("a100", "llama-3.1-8b", tp=0)
    with pytest.raises(ProfileError, match="no roofline of a100 for precision 'fp8'"):
        load_step_cost("a100", "llama-3.1-8b", precision="fp8")


def test_a_model_with_the_name_of_a_shipped_one_and_other_dimensions_is_not_given_its_table():
    other = replace(load_model("llama-3.1-8b"), layers=16)
    assert load_step_cost("h100", other).grade == "roofline"


def test_a_combination_without_table_or_roofline_is_met_with_the_nearest_and_all_there_are(monkeypatch):
    monkeypatch.setattr(profiles, "known_rooflines", list)
    with pytest.raises(ProfileError) as raised:
        load_step_cost("h100", "llama-3.1-70b", tp=3)
    first, *there = str(raised.value).splitlines()
    assert first.startswith("no step cost for h100 llama-3.1-70b bf16 tp 3; the nearest is h100 llama-3.1-70b bf16 tp 4")
    assert len(there) == len([row for row in ROWS if (row.gpu, row.model) == ("h100", "llama-3.1-70b")])
    with pytest.raises(ProfileError, match=r"the nearest is a100 llama-3\.1-8b bf16 tp 1"):
        load_step_cost("a100", "llama-3.1-8b", precision="fp8")


def test_a_gpu_of_ones_own_is_told_how_to_get_tables():
    with pytest.raises(ProfileError, match=r"no step cost for h300 llama-3\.1-70b bf16 tp 4.* servecast profiles fit"):
        load_step_cost(replace(load_gpu("h100"), id="h300"), "llama-3.1-70b", tp=4)


def test_the_same_model_on_another_gpu_is_nearer_than_another_model_on_the_same(monkeypatch):
    few = [row for row in ROWS if (row.gpu, row.model) in {("h100", "llama-3.1-8b"), ("a100", "llama-3.1-70b")}]
    monkeypatch.setattr(profiles, "list_profiles", lambda: few)
    monkeypatch.setattr(profiles, "known_rooflines", list)
    monkeypatch.setattr(profiles, "profile_names", lambda *_: [])
    with pytest.raises(ProfileError, match=r"the nearest is a100 llama-3\.1-70b bf16 tp 2"):
        load_step_cost("h100", "llama-3.1-70b", tp=1)


def test_a_users_folder_serves_a_gpu_that_does_not_ship(tmp_path):
    mine = replace(load_gpu("h100"), id="mine", name="Mine")
    own_table(tmp_path, lambda table: table.update(gpu="mine"), name="mine_llama-3.1-8b_bf16_tp1")
    assert load_step_cost(mine, "llama-3.1-8b", folder=tmp_path).grade == "user"
    slower = replace(mine, bandwidth_gb_per_s=9000.0, peak_tflops={"bf16": 50.0})
    with pytest.raises(ProfileError, match=r"on Mine it takes .* ms at least"):
        load_step_cost(slower, "llama-3.1-8b", folder=tmp_path)


def test_grades_are_listed_from_the_best_and_a_table_may_have_no_other(tmp_path):
    assert list(GRADES) == ["measured", "transferred", "roofline", "user"]
    with pytest.raises(ProfileError, match="grade 'guessed' is none of measured, transferred, roofline, user"):
        load_step_cost("h100", "llama-3.1-8b", folder=own_table(tmp_path, lambda table: table.update(grade="guessed")))


def test_a_tick_of_rounding_breaks_no_bound():
    cost, bounds = load_step_cost("h100", "llama-3.1-8b"), Bounds(load_gpu("h100"), load_model("llama-3.1-8b"), "bf16", 1)
    least = bounds.prefill_work_ms() * TICKS_PER_MS
    for ticks, is_broken in ((int(least), False), (int(least) - 1, True)):
        attention = {"bf16": replace(cost.attention["bf16"], prefill_work=ticks)}
        broken = list(broken_bounds(replace(cost, attention=attention), load_gpu("h100"), load_model("llama-3.1-8b")))
        assert bool(broken) == is_broken
