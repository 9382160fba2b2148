"""Recipes that cannot mean what they say: every mistake is told, with its key and what was expected."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recipe_cases import SMALL, changed, small
from workloads import ClientPool, WorkloadError
from workloads.describe import describe
from workloads.recipe import pool_of, read_recipe, recipe_of
from workloads.recipe.laws import Law
from workloads.recipe.values import shown

SMALL_RECIPE = recipe_of(tomllib.loads(SMALL))


SAID = 'grade = "assumed", from = "a test"'


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("number = {value = 5", "number = {value = 0", "clients.number.value: expected a whole number from 1 to 100, got 0"),
        ("number = {value = 5", "number = {value = 5.0", "clients.number.value: expected a whole number"),
        ("number = {value = 5", "number = {value = true", "clients.number.value: expected a whole number"),
        ("rate_rps = {value = 2.0", "rate_rps = {value = nan", "clients.rate_rps.value: expected a number"),
        ("rate_rps = {value = 2.0", "rate_rps = {value = -inf", "clients.rate_rps.value: expected a number"),
        ("rate_rps = {value = 2.0", f"rate_rps = {{value = 0x{'f' * 5000}", "got a whole number of 20000 bits"),
        ("rate_rps", "rate_rsp", "clients.rate_rsp: no such key; nearest: rate_rps"),
        (
            '{value = 2.0, grade = "assumed", from = "a test"}',
            "2.0",
            "clients.rate_rps: expected a table with value, grade, from, got 2.0",
        ),
        (
            '2.0, grade = "assumed"',
            '2.0, grade = "asumed"',
            "rate_rps.grade: expected one of published, fitted, assumed, got 'asumed'; nearest: assumed",
        ),
        (
            'cv = {value = 1.5, grade = "assumed", from = "a test"}',
            'cv = {value = 1.5, grade = "assumed", from = " "}',
            "gaps.cv.from: expected a text",
        ),
        ("1, 1, 1, 1, 1, 1, 1, 2,", "1, 2,", "clients.daily_profile.value: expected a list of 24 values, got a list of 18"),
        ("1, 1, 1, 1, 1, 1, 1, 2,", "1, 1, 1, 1, 1, 1, -1, 2,", "daily_profile.value[6]: expected a number from 0"),
        (
            '"weibull"',
            '"weibul"',
            "gaps.family.value: expected one of exponential, gamma, weibull, got 'weibul'; nearest: weibull",
        ),
        (
            "[gaps]",
            f"top_shares = {{value = [{', '.join(['0.1'] * 5)}], {SAID}}}\n[gaps]",
            "expected fewer shares than clients",
        ),
        ("[gaps]", f"top_shares = {{value = [0.6, 0.4], {SAID}}}\n[gaps]", "expected fewer shares than clients, less than 1"),
        ("[gaps]", f"drift_correlation = {{value = 0.5, {SAID}}}\n[gaps]", "does nothing without clients.drift_log_sd"),
        ('"weibull"', '"exponential"', "gaps.cv: exponential gaps have a CV of 1"),
        ('"lognormal"', '"lognorm"', "input_tokens.laws.value[0].law: expected one of lognormal"),
        ("median = 100", "medain = 100", "laws.value[0].medain: no such key; nearest: median"),
        ("median = 100", "median = 9000", "laws.value[0]: a size of the lognormal lies outside limits, 1 to 4000"),
        ("share = 1.0", "share = 0.9", "lengths.input_tokens.laws.value: shares sum to 0.9, expected 1"),
        ("weights = [3, 1]", "weights = [3]", "laws.value[1].weights: expected 2 values"),
        ("[1, 4000]", "[4000, 1]", "input_tokens.limits.value: expected two numbers"),
        ("[1, 4000]", "[0, 4000]", "input_tokens.limits.value: expected two numbers from 1"),
        ("{value = 500, grade", "{value = 400, grade", "output_tokens.limits.value: longer than max_output_tokens"),
        ("[lengths.input_tokens]", "[lengths.inputs]", "lengths.inputs: no such key; nearest: input_tokens"),
        ("[lengths.input_tokens]", "[lengths.text_tokens]", "lengths.input_tokens: missing"),
        ("[lengths.input_tokens]", "[lengths.image_count]", "image_count.limits.value: expected two numbers from 0 to 1000"),
        (
            "[gaps]",
            '[items]\nshare_of_input = {value = 0.5, grade = "assumed", from = "a test"}\n[gaps]',
            "does nothing without items",
        ),
        ("[gaps]", "[gap]", "gap: no such key; nearest: gaps"),
        ('name = "small"', "", "name: missing"),
        ('name = "small"', 'name = "small', "not TOML"),
        ('name = "small"', "name = " + "[" * 10_000 + "]" * 10_000, "deep"),
        ('name = "small"', "name = " + "9" * 5000, "not TOML"),
        ('name = "small"', "name = 1979-05-27", "name: expected a text"),
        ('"Five clients for tests."', f'"{"x" * 300_000}"', "larger than 262144 bytes"),
    ],
)
def test_a_wrong_recipe_is_refused_with_key_and_expectation(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = small(tmp_path, (old, new))
    with pytest.raises(WorkloadError) as refusal:
        ClientPool.load(path)
    assert told in str(refusal.value) and str(path) in str(refusal.value)
    assert len(str(refusal.value)) < 4000


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    changes = [("value = 5,", "value = 500,"), ("rate_rps", "rate"), ('"weibull"', '"levy"'), ("log_sd = 1.0", "log_sd = -1")]
    with pytest.raises(WorkloadError) as refusal:
        read_recipe(small(tmp_path, *changes))
    lines = str(refusal.value).splitlines()
    assert len(lines) == 5  # the key that is unknown is missing, too
    for place in ("clients.number.value", "clients.rate:", "clients.rate_rps: missing", "gaps.family", "laws.value[0].log_sd"):
        assert any(place in line for line in lines), place


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"a = '\xe4'\n", b"PK\x03\x04" + bytes(100), b"\x1f\x8b" + bytes(50)]
)
def test_what_is_no_recipe_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(WorkloadError, match=r"broken\.toml"):
        ClientPool.load(path)


def test_a_path_without_a_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path / "none.npz", tmp_path):
        with pytest.raises(WorkloadError, match=str(path.name)):
            ClientPool.load(path)


def test_a_mean_that_the_limits_keep_out_of_reach_is_refused(tmp_path: Path) -> None:
    extra = 'limits = {value = [1, 500], grade = "assumed", from = "a test"}'
    mean = 'mean = {value = 480.0, grade = "assumed", from = "a test"}'
    with pytest.raises(WorkloadError, match=r"lengths\.output_tokens: its laws, within their limits, give a mean of"):
        ClientPool.load(small(tmp_path, (extra, f"{extra}\n{mean}")))


_ANY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.floats(), max_size=3), st.just({})
)


@settings(max_examples=150)
@given(st.data())
def test_any_value_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    """A parsed recipe with one leaf, at any depth, of any type: nothing but a list of mistakes comes of it."""
    content = tomllib.loads(SMALL)
    where: Any = content
    while True:
        key = data.draw(st.sampled_from(sorted(where) if isinstance(where, dict) else range(len(where))))
        if not isinstance(where[key], (dict, list)) or not where[key] or data.draw(st.integers(0, 5)) == 0:
            break
        where = where[key]
    where[key] = data.draw(_ANY)
    try:
        recipe_of(content)
    except WorkloadError as error:
        assert all(0 < len(mistake) < 400 for mistake in str(error).splitlines())


@given(_ANY)
def test_a_value_is_shown_in_a_few_characters(value: Any) -> None:
    assert len(shown(value)) < 200


@settings(max_examples=60)
@given(st.data())
def test_a_recipe_that_is_read_gives_a_pool_or_says_why_not(data: st.DataObject) -> None:
    """Any values within their ranges, the ends among them: no warning, no traceback, no number that is none."""
    low, high = data.draw(st.sampled_from([(1.0, 2.0), (1.0, 500.0), (3.0, 1e6)]))
    size = st.floats(low, high)
    one = st.one_of(
        st.builds(lambda m, s: ("lognormal", {"median": m, "log_sd": s}), size, st.floats(0.01, 4.0)),
        st.builds(lambda m, e: ("pareto", {"least": m, "exponent": e}), size, st.floats(0.2, 20.0)),
        st.builds(lambda m: ("exponential", {"mean": m}), size),
        st.builds(lambda m, s: ("normal", {"mean": m, "sd": s}), size, st.floats(1e-6, 1e7)),
        st.builds(lambda a: ("atoms", {"at": a, "weights": [1.0] * len(a)}), st.lists(size, min_size=1, max_size=5)),
    )
    parts = data.draw(st.lists(one, min_size=1, max_size=3))
    values = {
        "clients.number": data.draw(st.sampled_from([1, 2, 100])),
        "clients.zipf_exponent": data.draw(st.sampled_from([0.0, 4.0])),
        "clients.rate_rps": data.draw(st.sampled_from([1e-3, 1.0, 1e5])),
        "clients.clock_sd_h": data.draw(st.sampled_from([0.0, 12.0])),
        "clients.drift_log_sd": data.draw(st.sampled_from([0.0, 2.0])),
        "clients.drift_correlation": data.draw(st.sampled_from([0.0, 0.999])),
        "gaps.family": data.draw(st.sampled_from(["gamma", "weibull"])),
        "gaps.cv": data.draw(st.sampled_from([0.1, 30.0])),
        "gaps.cv_log_sd": data.draw(st.sampled_from([0.0, 1.5])),
        "lengths.input_tokens.laws": [Law(name, 1.0 / len(parts), of) for name, of in parts],
        "lengths.input_tokens.limits": [low, high],
        "lengths.input_tokens.size_log_sd": data.draw(st.sampled_from([0.0, 3.0])),
        "lengths.input_tokens.share_log_sd": data.draw(st.sampled_from([0.0, 5.0])),
    }
    recipe = changed(SMALL_RECIPE, **{key.replace(".", "__"): value for key, value in values.items()})
    try:
        pool = pool_of(recipe)
    except WorkloadError as error:
        assert "give a mean of" in str(error)
        return
    assert np.isfinite(pool.count).all() and (pool.count >= 0).all() and pool.count.sum() > 0
    assert np.isfinite(pool.shape).all() and (pool.shape > 0).all() and (pool.cv[pool.count > 0] > 0).all()
    table = pool.lengths["input_tokens"]
    assert np.isfinite(table.knots).all() and (np.diff(table.knots, axis=1) >= 0).all()
    assert low - 0.5 < table.knots.min() and table.knots.max() < high + 0.5
    assert np.isfinite(table.mean).all() and np.isfinite(table.tail_shape).all()
    json.dumps(describe(pool))
