"""A recipe small enough to be changed word by word."""

from pathlib import Path
from typing import Any

from workloads.recipe import Recipe
from workloads.recipe.keys import Parameter

SMALL = """
name = "small"
about = "Five clients for tests."
max_output_tokens = {value = 500, grade = "assumed", from = "a test"}
[clients]
number = {value = 5, grade = "assumed", from = "a test"}
zipf_exponent = {value = 1.0, grade = "assumed", from = "a test"}
rate_rps = {value = 2.0, grade = "assumed", from = "a test"}
daily_profile = {value = [
    1, 1, 1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 3, 2, 1, 1, 1, 1, 1, 1,
], grade = "assumed", from = "a test"}
[gaps]
family = {value = "weibull", grade = "assumed", from = "a test"}
cv = {value = 1.5, grade = "assumed", from = "a test"}
[lengths.input_tokens]
laws = {value = [{law = "lognormal", share = 1.0, median = 100, log_sd = 1.0}], grade = "assumed", from = "a test"}
limits = {value = [1, 4000], grade = "assumed", from = "a test"}
[lengths.output_tokens]
laws = {value = [
    {law = "exponential", share = 0.5, mean = 60},
    {law = "atoms", share = 0.5, at = [1, 500], weights = [3, 1]},
], grade = "assumed", from = "a test"}
limits = {value = [1, 500], grade = "assumed", from = "a test"}
"""


def small(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """The small recipe as a file, with texts in it changed."""
    text = SMALL
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "small.toml"
    path.write_text(text)
    return path


def changed(recipe: Recipe, **values: Any) -> Recipe:
    """A recipe with other values; two underscores stand for a dot."""
    new = {key.replace("__", "."): Parameter(value, "assumed", "a test") for key, value in values.items()}
    return Recipe(recipe.name, recipe.about, {**recipe.parameters, **new})
