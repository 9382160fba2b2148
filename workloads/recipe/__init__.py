"""Recipes: client pools made from a few parameters, each with its grade and its source, where nobody published clients.

A recipe is a TOML file. values.py and keys.py read it, laws.py has the laws of lengths that it may mix; traffic.py and
lengths.py make clients of it. The pool is a function of the file alone: what differs between clients is hashed from the
recipe's name.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from workloads.errors import WorkloadError, raise_all
from workloads.fields import FIELDS, TEXT
from workloads.pool_data import BLOCK_WINDOWS, DAY_WINDOWS, PoolData
from workloads.recipe.items import text_mean
from workloads.recipe.keys import RECIPE, Parameter, flat, joint_mistakes
from workloads.recipe.lengths import Field, table_of
from workloads.recipe.traffic import Traffic, traffic_of

_MAX_BYTES: Final = 256 << 10


@dataclass(frozen=True)
class Recipe:
    """Name, what it is, and parameters by dotted key, such as `clients.number`."""

    name: str
    about: str
    parameters: dict[str, Parameter]

    @property
    def values(self) -> dict[str, Any]:
        """The parameters' values alone."""
        return {key: parameter.value for key, parameter in self.parameters.items()}

    @property
    def fields(self) -> list[str]:
        """Names of the fields whose lengths it gives."""
        return [name for name in FIELDS if f"lengths.{name}.laws" in self.parameters]

    @property
    def grades(self) -> dict[str, str]:
        """For each parameter who says so, what it is, and where it is from."""
        return {key: f"{of.grade}: {_plain(of.value)}; {of.source}" for key, of in self.parameters.items()}


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """The recipe of a file. Raises WorkloadError with every mistake, each with its key and what was expected."""
    source = Path(path)
    return recipe_of(_content(source), f"{source}: ")


def recipe_of(content: dict[str, Any], place: str = "") -> Recipe:
    """The recipe of parsed TOML; `place` comes before each mistake in a WorkloadError."""
    mistakes: list[str] = []
    given = RECIPE(content, "", mistakes)
    parameters = {} if mistakes else {key: value for key, value in flat(given) if isinstance(value, Parameter)}
    mistakes += joint_mistakes(parameters) if parameters else []
    raise_all([f"{place}{mistake}" for mistake in mistakes])
    return Recipe(given["name"], given["about"], parameters)


def pool_of(recipe: Recipe) -> PoolData:
    """One day of the recipe's clients, numbered from 0 by rank. Raises WorkloadError for lengths that cannot be."""
    value = recipe.values
    traffic = traffic_of(recipe.name, value)
    tables = {}
    for name in recipe.fields:
        field = _field(name, value)
        if name == TEXT and "items.share_of_input" in value:
            continue
        tables[name] = table_of(recipe.name, field, traffic.share)
    if "items.share_of_input" in value:
        field = _field(TEXT, value)
        plain = table_of(recipe.name, field, traffic.share)
        mean = text_mean(recipe.name, plain, tables, traffic.share, value["items.share_of_input"])
        tables[TEXT] = table_of(recipe.name, field._replace(mean=mean), traffic.share)
    return _pool(recipe, traffic, {name: tables[name] for name in recipe.fields})


def read_recipe_pool(path: str | os.PathLike[str]) -> PoolData:
    """The pool of a recipe's file. Raises WorkloadError."""
    recipe = read_recipe(path)
    try:
        return pool_of(recipe)
    except WorkloadError as error:
        raise WorkloadError(f"{Path(path)}: {error}") from error


def _content(source: Path) -> dict[str, Any]:
    try:
        with source.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise WorkloadError(f"{source}: {error.strerror or error}") from error
    if len(data) > _MAX_BYTES:
        raise WorkloadError(f"{source}: larger than {_MAX_BYTES} bytes, expected a recipe")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise WorkloadError(f"{source}:{line}: not UTF-8") from error
    except RecursionError as error:
        raise WorkloadError(f"{source}: lists nested too deep, expected a recipe") from error
    except ValueError as error:
        raise WorkloadError(f"{source}: not TOML: {error}") from error


def _field(name: str, value: dict[str, Any]) -> Field:
    place = f"lengths.{name}"
    low, high = value[f"{place}.limits"]
    mean = value.get(f"{place}.mean")
    sizes, shares = (value.get(f"{place}.{key}", 0.0) for key in ("size_log_sd", "share_log_sd"))
    return Field(name, value[f"{place}.laws"], (low, high), mean, sizes, shares)


def _pool(recipe: Recipe, traffic: Traffic, tables: dict[str, Any]) -> PoolData:
    number, value = len(traffic.share), recipe.values
    return PoolData(
        name=recipe.name,
        client_ids=np.arange(number, dtype=np.int32),
        count=traffic.count,
        cv=traffic.cv,
        family=traffic.family,
        shape=traffic.shape,
        length_row=np.repeat(np.arange(number, dtype=np.int32)[:, None], DAY_WINDOWS // BLOCK_WINDOWS, axis=1),
        lengths=tables,
        max_output_tokens=value["max_output_tokens"],
        absent_ids=(),
        absent_count=np.zeros(DAY_WINDOWS),
        gap=np.zeros(DAY_WINDOWS, bool),
        provenance=_provenance(recipe),
    )


def _provenance(recipe: Recipe) -> dict[str, Any]:
    """Source and grades; sessions and failures, which no request of a pool has by itself, for who wants them."""
    value = recipe.values
    sessions = {key.split(".")[1]: value[key] for key in value if key.startswith("sessions.")}
    failed = value.get("failures.share", 0.0)
    notice = "Made of parameters, not of clients' data; each parameter says whether it is published, fitted or assumed."
    if failed:
        notice += f" Requests that fail, {failed:.1%} of the source's, are left out: rates are of those that succeed."
    return {
        "source": f"recipe: {recipe.about}",
        "recipe": recipe.name,
        "notice": notice,
        "grades": recipe.grades,
        "arrivals": value["gaps.family"],
        **({"sessions": sessions} if sessions else {}),
        **({"failed_share_frac": failed} if failed else {}),
    }


def _plain(value: Any) -> str:
    if isinstance(value, list):
        is_long = any(not isinstance(one, (int, float)) for one in value)
        return (" + " if is_long else " ").join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
