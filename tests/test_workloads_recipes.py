"""Recipes: pools made of a few parameters, which they say, keep, and grade."""

import hashlib
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from tests.recipe_cases import changed, small
from workloads import ClientPool, WorkloadError, check_stream, compose, known_pools
from workloads.clients import POOLS
from workloads.fields import REASON, TEXT, count_of, is_shifted, meant, modalities
from workloads.lengths import LengthTable
from workloads.recipe import pool_of, read_recipe
from workloads.recipe.keys import GRADES
from workloads.recipe.laws import Law, cumulative
from workloads.recipe.lengths import Field, normals, table_of
from workloads.traffic_model import TrafficModel

RECIPES = sorted(path.stem for path in POOLS.glob("*.toml"))
OF_THE_PAPER = {"m-long", "m-rp", "m-code", "mm-audio", "mm-video", "mm-omni", "deepqwen-r1"}


def weights_of(pool: Any) -> np.ndarray:
    return pool.count.sum(axis=1) / pool.count.sum()


def drawn(table: LengthTable, weights: np.ndarray, number: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Draws of each client at evenly spaced probabilities, and how much each weighs."""
    grid = (np.arange(number) + 0.5) / number
    rows = np.repeat(np.arange(len(weights)), number)
    return table.sample(rows, np.tile(grid, len(weights))), np.repeat(weights / number, number)


# What every recipe keeps


@pytest.mark.parametrize("name", RECIPES)
def test_a_pool_has_the_means_that_its_recipe_states(name: str) -> None:
    recipe, pool = read_recipe(POOLS / f"{name}.toml"), ClientPool.load(name)
    stated = {key.split(".")[1]: value for key, value in recipe.values.items() if key.endswith(".mean")}
    assert stated and set(stated) <= set(pool.lengths)
    for field, mean in stated.items():
        tokens, weight = drawn(pool.lengths[field], weights_of(pool))
        assert (meant(field, tokens) * weight).sum() == pytest.approx(mean, rel=0.02)


@pytest.mark.parametrize("name", RECIPES)
def test_draws_have_the_mean_of_the_laws_where_none_is_stated(name: str) -> None:
    """Also of counts and sizes that cluster, of which a sketch keeps every 1/40 of the requests at worst."""
    pool = ClientPool.load(name)
    for field, table in pool.lengths.items():
        tokens, weight = drawn(table, weights_of(pool))
        wanted = float((meant(field, table.mean) * weights_of(pool)).sum())
        assert float((meant(field, tokens) * weight).sum()) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize(("name", "share"), [("mm-audio", 0.66), ("mm-video", 0.86)])
def test_items_have_the_published_share_of_a_prompt(name: str, share: float) -> None:
    """ServeGen, Fig. 9: the mean over requests of what is not text."""
    pool = ClientPool.load(name)
    assert read_recipe(POOLS / f"{name}.toml").values["items.share_of_input"] == share
    stream = compose(pool, 0, "1d", rate=0.4, seed=3)
    rows, items = stream.collect(), stream.items
    owner = np.repeat(np.arange(len(rows)), rows["items_count"])
    tokens = np.bincount(owner, items["tokens"], minlength=len(rows))
    assert len(rows) > 30_000
    assert (tokens / rows["input_tokens"]).mean() == pytest.approx(share, abs=0.02)


def test_an_omni_request_has_at_most_the_published_items() -> None:
    pool = ClientPool.load("mm-omni")
    most = {kind: int(np.rint(pool.lengths[count_of(kind)].knots.max())) - 1 for kind in modalities(pool.lengths)}
    assert most == {"image": 36, "audio": 7, "video": 24}


@pytest.mark.parametrize("name", RECIPES)
def test_a_day_has_the_requests_of_the_stated_rate(name: str) -> None:
    value, pool = read_recipe(POOLS / f"{name}.toml").values, ClientPool.load(name)
    assert pool.count.sum() == pytest.approx(value["clients.rate_rps"] * 86_400, abs=len(pool.client_ids))
    assert pool.count.shape == (value["clients.number"], 144)
    assert np.array_equal(pool.count, np.floor(pool.count))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_can_be_composed(name: str) -> None:
    pool = ClientPool.load(name)
    stream = compose(pool, "20h", "30min", rate=1.0, seed=1)
    rows = stream.collect()
    check_stream(rows)
    assert 1000 < len(rows) < 3000 and rows["max_tokens"].max() == pool.max_output_tokens
    assert (rows["output_tokens"] <= rows["max_tokens"]).all()
    assert (rows["items_count"].sum() > 0) == bool(modalities(pool.lengths))
    assert (rows["reason_tokens"].sum() > 0) == (REASON in pool.lengths)


@pytest.mark.parametrize("name", RECIPES)
def test_every_parameter_says_whose_word_it_is(name: str) -> None:
    grades, recipe = ClientPool.load(name).describe()["grades"], read_recipe(POOLS / f"{name}.toml")
    assert set(grades) == set(recipe.parameters) and recipe.name == name
    for key, text in grades.items():
        grade, rest = text.split(": ", 1)
        assert grade in GRADES and len(rest.split("; ", 1)[1]) > 5, key


def test_the_pools_that_the_paper_names_but_nobody_published_are_there() -> None:
    assert {*OF_THE_PAPER, "burstgpt"} == set(RECIPES) and len(known_pools()) == 13
    assert sum((POOLS / f"{name}.toml").stat().st_size for name in RECIPES) < 60_000
    assert not {path.stem for path in POOLS.glob("*.npz")} & set(RECIPES)


def test_only_what_a_paper_or_a_readme_shows_is_called_published() -> None:
    said = {
        name: [k for k, of in read_recipe(POOLS / f"{name}.toml").parameters.items() if of.grade == "published"]
        for name in RECIPES
    }
    assert {name: keys for name, keys in said.items() if keys} == {
        "burstgpt": ["clients.rate_rps", "gaps.family", "failures.share"],
        "mm-audio": ["items.share_of_input"],
        "mm-omni": ["lengths.image_count.limits", "lengths.audio_count.limits", "lengths.video_count.limits"],
        "mm-video": ["items.share_of_input"],
    }


def test_deepqwen_has_the_day_and_the_lengths_of_deepseek() -> None:
    one, other = ClientPool.load("deepqwen-r1"), ClientPool.load("deepseek-r1")
    hours = [pool.count.sum(axis=0).reshape(24, 6).sum(axis=1) for pool in (one, other)]
    assert np.corrcoef(*hours)[0, 1] > 0.7
    mine, theirs = one.describe()["lengths"], other.describe()["lengths"]
    for field in mine:
        assert mine[field]["mean"] == pytest.approx(theirs[field]["mean"], rel=0.02)
        assert mine[field]["p50"] == pytest.approx(theirs[field]["p50"], rel=0.2)
        assert mine[field]["p99"] == pytest.approx(theirs[field]["p99"], rel=0.4)


def test_burstgpt_keeps_sessions_and_failures_for_who_wants_them() -> None:
    pool = ClientPool.load("burstgpt")
    assert set(pool.provenance["sessions"]) == {"multi_turn_share", "extra_turns", "itt_median_s", "itt_sigma"}
    assert sum(weight for weight, _ in pool.provenance["sessions"]["extra_turns"]) == pytest.approx(1.0)
    assert pool.provenance["failed_share_frac"] == pytest.approx(1 - 1404.3 / 1429.7, abs=1e-4)
    assert "fail" in pool.describe()["notice"]


def test_burstgpt_is_bursty() -> None:
    rows = compose(ClientPool.load("burstgpt"), 0, "1d", scale=1.0, seed=1).collect()
    gaps = np.diff(rows["arrival_ns"].astype(np.float64))
    assert gaps.std() / gaps.mean() > 1.3


# Same recipe, same clients


def digest_of(name: str) -> str:
    """Of all that the recipe decides: a sketch's last segment follows from its knots and mean."""
    pool, found = ClientPool.load(name), hashlib.sha256()
    for array in (
        pool.count,
        pool.cv,
        pool.shape,
        *(of for table in pool.lengths.values() for of in (table.knots, table.mean)),
    ):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


DIGESTS: dict[str, str] = {
    "burstgpt": "ccef637ef2420bd1",
    "deepqwen-r1": "46272ae0e43f1804",
    "m-code": "10066f22303e0188",
    "m-long": "56243cc16b4f4be1",
    "m-rp": "058acfa441342c43",
    "mm-audio": "434c84c82dd6c643",
    "mm-omni": "80bbc4b5de1a96ff",
    "mm-video": "eb9abf964f51c058",
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_gives_the_same_bits_on_every_machine(name: str) -> None:
    """Recorded: only + - * / sqrt and our own exp and log decide them. They change with the recipe."""
    assert digest_of(name) == DIGESTS[name]


def test_one_more_client_changes_nothing_of_what_the_others_draw() -> None:
    assert np.array_equal(normals("a", "drift", 5, 144), normals("a", "drift", 9, 144)[:5])
    assert not np.array_equal(normals("a", "drift", 5, 144), normals("b", "drift", 5, 144))
    assert not np.array_equal(normals("a", "drift", 5), normals("a", "clocks", 5))
    many = normals("a", "x", 20_000)
    assert abs(many.mean()) < 0.03 and many.std() == pytest.approx(1.0, abs=0.02)


# Traffic


def test_shares_are_the_given_ones_then_those_of_zipf(tmp_path: Path) -> None:
    recipe = changed(
        read_recipe(small(tmp_path)), clients__rate_rps=1000.0, clients__top_shares=[0.4, 0.3], clients__zipf_exponent=2.0
    )
    assert weights_of(pool_of(recipe)) == pytest.approx(
        [0.4, 0.3, *(0.3 * np.array([9, 16, 25.0]) ** -1 / sum([1 / 9, 1 / 16, 1 / 25]))], rel=1e-4
    )


def test_hours_follow_the_profile_and_clocks_shift_them(tmp_path: Path) -> None:
    recipe = changed(read_recipe(small(tmp_path)), clients__rate_rps=5000.0)
    hours = pool_of(recipe).count.reshape(5, 24, 6).sum(axis=2)
    profile = np.array(recipe.values["clients.daily_profile"])
    own = (
        0.125 * np.roll(profile, 1) + 0.75 * profile + 0.125 * np.roll(profile, -1)
    ) / profile.sum()  # straight between middles
    assert hours / hours.sum(axis=1)[:, None] == pytest.approx(np.tile(own, (5, 1)), rel=1e-3)
    ahead = pool_of(changed(recipe, clients__clock_sd_h=3.0)).count
    same = pool_of(recipe).count
    for client, z in enumerate(normals("small", "clocks", 5)):
        assert ahead[client] == pytest.approx(np.roll(same[client], -round(3.0 * 6 * z)), abs=1.0)


def test_drift_is_as_wide_and_as_lasting_as_it_says(tmp_path: Path) -> None:
    recipe = changed(
        read_recipe(small(tmp_path)),
        clients__number=100,
        clients__zipf_exponent=0.0,
        clients__rate_rps=1e5,
        clients__daily_profile=[1.0] * 24,
        clients__drift_log_sd=0.4,
        clients__drift_correlation=0.8,
    )
    logs = np.log(pool_of(recipe).count)
    logs -= logs.mean()
    assert logs.std() == pytest.approx(0.4, rel=0.06)
    assert np.corrcoef(logs[:, :-1].ravel(), logs[:, 1:].ravel())[0, 1] == pytest.approx(0.8, abs=0.04)


def test_gaps_have_the_stated_cv_as_far_as_so_few_requests_can(tmp_path: Path) -> None:
    few = pool_of(changed(read_recipe(small(tmp_path)), gaps__cv=10.0))
    sent = few.count > 0
    assert few.cv.max() > 2.0
    assert (few.cv[sent] <= np.maximum(0.5 * np.sqrt(few.count[sent] - 1), 1.0) * 1.006).all()
    many = pool_of(changed(read_recipe(small(tmp_path)), clients__rate_rps=1000.0))
    assert many.cv == pytest.approx(1.5, rel=0.006)
    rows = compose(many, "12h", "10min", clients=[0], scale=1.0, model=TrafficModel(arrivals="published")).collect()
    gaps = np.diff(rows["arrival_ns"].astype(np.float64))
    assert gaps.std() / gaps.mean() == pytest.approx(1.5, rel=0.05)


# Lengths


@pytest.mark.parametrize(
    ("law", "twin"),
    [
        (Law("lognormal", 1.0, {"median": 300.0, "log_sd": 0.8}), lambda x: special.ndtr(np.log(x / 300.0) / 0.8)),
        (Law("pareto", 1.0, {"least": 40.0, "exponent": 1.7}), lambda x: 1 - np.minimum(40.0 / x, 1.0) ** 1.7),
        (Law("exponential", 1.0, {"mean": 90.0}), lambda x: 1 - np.exp(-x / 90.0)),
        (Law("normal", 1.0, {"mean": 500.0, "sd": 60.0}), lambda x: special.ndtr((x - 500.0) / 60.0)),
        (Law("atoms", 1.0, {"at": [70.0, 20.0], "weights": [3.0, 1.0]}), lambda x: 0.25 * (x >= 20) + 0.75 * (x >= 70)),
    ],
)
def test_a_single_client_has_the_law_itself(law: Law, twin: Callable[[np.ndarray], np.ndarray]) -> None:
    assert cumulative(law, np.arange(2.0, 3000.0), np.ones(1), 0.0)[0] == pytest.approx(twin(np.arange(2.0, 3000.0)), abs=1e-12)
    table = table_of("twin", Field("input_tokens", [law], (1.0, 4000.0), None, 0.0, 0.0), np.ones(1))
    tokens, _ = drawn(table, np.ones(1), 20_000)
    sizes = np.unique(np.geomspace(2, 3000, 300).astype(int))
    seen = np.searchsorted(np.sort(tokens), sizes, side="right") / len(tokens)
    assert seen == pytest.approx(twin(sizes + 0.5), abs=0.02)


@settings(max_examples=25)
@given(
    st.lists(st.floats(0.02, 1.0), min_size=1, max_size=20),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.5),
    st.floats(60.0, 900.0),
    st.booleans(),
)
def test_the_mean_over_all_clients_is_as_stated_however_they_differ(
    shares: list[float], size_log_sd: float, share_log_sd: float, mean: float, has_atoms: bool
) -> None:
    laws = [Law("lognormal", 0.6, {"median": 100.0, "log_sd": 1.0}), Law("pareto", 0.4, {"least": 50.0, "exponent": 1.5})]
    if has_atoms:
        laws = [law._replace(share=law.share * 0.7) for law in laws] + [Law("atoms", 0.3, {"at": [50.0], "weights": [1.0]})]
    weights = np.array(shares) / sum(shares)
    table = table_of("any", Field("input_tokens", laws, (1.0, 30_000.0), mean, size_log_sd, share_log_sd), weights)
    assert float((table.mean * weights).sum()) == pytest.approx(mean, rel=1e-3)
    assert (np.diff(table.knots, axis=1) >= 0).all() and table.knots.min() > 0.5 and table.knots.max() < 30_000.5


def test_clients_that_differ_leave_the_shares_of_laws_as_they_are() -> None:
    """Weighted by requests: a quarter of the answers is 1, three quarters are 100, though clients have 5 to 70 % of either."""
    laws = [Law("atoms", 0.25, {"at": [1.0], "weights": [1.0]}), Law("atoms", 0.75, {"at": [100.0], "weights": [1.0]})]
    weights = np.arange(1.0, 21.0) / 210.0
    table = table_of("any", Field("output_tokens", laws, (1.0, 100.0), None, 0.0, 1.0), weights)
    of_ones = (100.0 - table.mean) / 99.0
    assert float((of_ones * weights).sum()) == pytest.approx(0.25, abs=1e-6)
    assert of_ones.min() < 0.12 and of_ones.max() > 0.45


def test_clients_differ_by_the_stated_spread_of_their_means() -> None:
    laws = [Law("lognormal", 1.0, {"median": 100.0, "log_sd": 1.2})]
    even = np.full(100, 0.01)
    table = table_of("any", Field("input_tokens", laws, (1.0, 1_000_000.0), None, 0.7, 0.0), even)
    assert np.log(table.mean).std() == pytest.approx(0.7, rel=0.15)
    tokens, weight = drawn(table, even)  # and all of them together are as wide as the law
    logs = np.log(tokens.astype(float))
    assert math.sqrt((weight * logs**2).sum() - (weight * logs).sum() ** 2) == pytest.approx(1.2, rel=0.1)


def test_a_sketch_begins_and_ends_where_its_laws_do() -> None:
    atoms = Law("atoms", 1.0, {"at": [50.0, 90.0], "weights": [1.0, 1.0]})
    table = table_of("any", Field("input_tokens", [atoms], (1.0, 200.0), None, 0.0, 0.0), np.ones(1))
    assert table.knots.min() >= 49.5 and table.knots.max() <= 90.5


def test_counts_and_shares_are_kept_as_tables_keep_them() -> None:
    for name, mean in ((count_of("image"), 1.5), (REASON, 250.5)):
        atoms = {"at": [0.5] if name == REASON else [1.0, 2.0], "weights": [1.0] if name == REASON else [1.0, 1.0]}
        table = table_of(
            "any", Field(name, [Law("atoms", 1.0, atoms)], (0.0, 1.0 if name == REASON else 5.0), None, 0.0, 0.0), np.ones(1)
        )
        assert is_shifted(name) and float(meant(name, table.mean)[0]) == pytest.approx(mean, abs=0.6)


# By name and by path


def test_ones_own_recipe_loads_by_its_path(tmp_path: Path) -> None:
    pool = ClientPool.load(str(small(tmp_path)))
    assert pool.name == "small" and len(pool.clients) == 5 and pool.describe()["lengths"]["input_tokens"]["p50"] > 50
    again = ClientPool.load(POOLS / "deepseek-r1.npz")
    assert np.array_equal(again.count, ClientPool.load("deepseek-r1").count)


def test_reading_a_recipe_loads_no_pandas_scipy_or_numba() -> None:
    code = (
        "import sys, workloads as w\nw.ClientPool.load('mm-omni')\n"
        "sys.exit(any(m in sys.modules for m in ('pandas', 'scipy', 'numba', 'pyarrow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_text_of_a_prompt_is_stretched_to_the_share_of_items(tmp_path: Path) -> None:
    recipe = read_recipe(POOLS / "mm-video.toml")
    means = [pool_of(changed(recipe, items__share_of_input=share)).lengths[TEXT].mean.mean() for share in (0.9, 0.8, 0.7)]
    assert means[0] < means[1] < means[2]
    with pytest.raises(WorkloadError, match=r"no length of text gives 0\.01"):
        pool_of(changed(recipe, items__share_of_input=0.01, lengths__text_tokens__limits=[1.0, 1000.0]))
