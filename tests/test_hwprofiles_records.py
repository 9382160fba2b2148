"""Records: files are checked at the door, every mistake at once, and nothing but ProfileError comes out."""

import json
import subprocess
import sys
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwprofiles
from hwprofiles.costmodel import StepCost
from hwprofiles.datasheet import Gpu, Model
from hwprofiles.records import MAX_FILE_BYTES, ProfileError, parse_record

JSON_FILE = files("hwprofiles").joinpath("measured", "h100_llama-3.1-8b_fp8_tp1.json")


def keys(table: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The places of everything in a file: tables, and what is in them."""
    inner = [key for name, value in table.items() if isinstance(value, dict) for key in keys(value, (*above, name))]
    return [(*above, name) for name in table] + inner


JSON_KEYS = keys(json.loads(JSON_FILE.read_text()))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def gpu_toml() -> str:
    return files("hwprofiles").joinpath("gpus", "h100.toml").read_text()


def read_gpu(text: str) -> Gpu:
    return parse_record(Gpu, text.encode(), "my.toml", {"id": "mine"})


@given(st.binary(max_size=200), st.sampled_from(["x.toml", "x.json"]), st.sampled_from([Gpu, Model, StepCost]))
def test_any_bytes_give_a_profile_error(content, place, record):
    with pytest.raises(ProfileError):
        parse_record(record, content, place)


@given(st.sampled_from(JSON_KEYS), ANY_JSON)
def test_any_value_in_a_step_cost_is_taken_or_refused_as_a_profile_error(key, value):
    table = inner = json.loads(JSON_FILE.read_text())
    for name in key[:-1]:
        inner = inner[name]
    inner[key[-1]] = value
    try:
        cost = parse_record(StepCost, json.dumps(table).encode(), "x.json")
    except ProfileError:
        return
    assert isinstance(cost, StepCost)
    assert not list(cost.problems())


def test_every_mistake_of_a_file_is_named_with_its_line():
    text = gpu_toml().replace("tdp_w = 700.0", "tdb_w = 700.0").replace("gpus_per_node = 8", 'gpus_per_node = "eight"')
    with pytest.raises(ProfileError) as raised:
        read_gpu(text)
    lines = text.splitlines()
    tdp = next(number for number, line in enumerate(lines, 1) if line.startswith("tdb_w"))
    node = next(number for number, line in enumerate(lines, 1) if line.startswith("gpus_per_node"))
    assert str(raised.value).splitlines() == [
        f"my.toml:{tdp}: tdb_w is not a key of a profile; did you mean 'tdp_w'?",
        f"my.toml:{node}: gpus_per_node must be a whole number from 0 to 2^63 - 1, not 'eight'",
        "my.toml: tdp_w is missing",
    ]


@pytest.mark.parametrize("bad", ["-1", "nan", "inf", "true", "[1]", "9223372036854775808", "8.0"])
def test_a_count_is_a_whole_number_that_64_bits_hold(bad):
    with pytest.raises(ProfileError, match="gpus_per_node must be a whole number"):
        read_gpu(gpu_toml().replace("gpus_per_node = 8", f"gpus_per_node = {bad}"))


@pytest.mark.parametrize("bad", ["-1.0", "nan", "inf", "'fast'"])
def test_a_rate_is_a_finite_number_from_zero_up(bad):
    with pytest.raises(ProfileError, match=r"peak_tflops.bf16 must be a finite number"):
        read_gpu(gpu_toml().replace("bf16 = 989.0", f"bf16 = {bad}"))


def test_a_zero_in_a_data_sheet_is_refused():
    with pytest.raises(ProfileError, match="bandwidth_gb_per_s must be above 0"):
        read_gpu(gpu_toml().replace("bandwidth_gb_per_s = 3350.0", "bandwidth_gb_per_s = 0"))


def test_a_file_larger_than_any_profile_is_refused_unread():
    with pytest.raises(ProfileError, match="bytes; a profile has at most"):
        parse_record(Gpu, b"#" * (MAX_FILE_BYTES + 1), "my.toml")


def test_nesting_beyond_the_parser_is_a_profile_error():
    with pytest.raises(ProfileError):
        parse_record(StepCost, b"[" * 100_000, "deep.json")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"tokens": {', '"tokens": {"at": [1, 3, 2], "ticks": [1, 2, 3]}, "x": {', "tokens.at must increase"),
        ('"tokens": {', '"tokens": {"at": [1, 2], "ticks": [9, 8]}, "x": {', "tokens.ticks must never decrease"),
        ('"tokens": {', '"tokens": {"at": [1, 2], "ticks": [9]}, "x": {', "must be equally long"),
        ('"tokens": {', '"tokens": {"at": [2, 3], "ticks": [8, 9]}, "x": {', "tokens.at must begin at 1"),
    ],
)
def test_knots_that_cannot_be_are_refused(old, new, sentence):
    """Those of f_tok; every other part of a table is checked by the same lines, under its own name."""
    table = json.loads(JSON_FILE.read_text().replace(old, new, 1))
    del table["x"]
    with pytest.raises(ProfileError, match=sentence):
        parse_record(StepCost, json.dumps(table).encode(), "x.json")


@pytest.mark.parametrize("place", [("samples",), ("attention", "fp8", "decodes"), ("attention", "bf16", "contexts")])
def test_every_part_of_a_table_has_knots_that_never_decrease(place):
    table = knots = json.loads(JSON_FILE.read_text())
    for key in place:
        knots = knots[key]
    knots["ticks"].reverse()
    with pytest.raises(ProfileError, match=rf"{'.'.join(place)}\.ticks must never decrease: more work is never faster"):
        parse_record(StepCost, json.dumps(table).encode(), "x.json")


def test_a_table_without_attention_at_sixteen_bits_is_refused():
    table = json.loads(JSON_FILE.read_text())
    del table["attention"]["bf16"]
    with pytest.raises(ProfileError, match="attention must have an entry bf16"):
        parse_record(StepCost, json.dumps(table).encode(), "x.json")


def test_importing_and_pricing_load_no_numerical_library():
    code = (
        "import sys, hwprofiles as h;"
        "h.kv_blocks('h100', 'llama-3.1-8b');"
        "h.load_step_cost('h100', 'llama-3.1-8b').table(64, 8, 1024, 4096).step_ns(1, 1, 0, 0, 1);"
        "print([m for m in ('numpy', 'pandas', 'scipy', 'numba', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_exported_name_is_there():
    for name in hwprofiles.__all__:
        assert getattr(hwprofiles, name) is not None
    with pytest.raises(AttributeError):
        hwprofiles.registry  # noqa: B018
