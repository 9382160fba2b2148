"""Scenario files: TOML in, mistakes told all at once, the resolved scenario out as TOML again."""

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from experiments.errors import UserError, nearest
from experiments.scenario import Scenario
from experiments.workload_tables import Asked
from hwprofiles import ProfileError, load_gpu, load_model
from hwprofiles.own_file import is_path
from workloads.clients import is_pool_file

MOST_BYTES = 1_000_000
Tables = TypeVar("Tables", bound=Asked)

_PATHS = {"workload": ("pool", "servegen", "trace"), "cluster": ("gpu", "model", "profiles")}
"""Keys whose value is a place, or may be."""

_IS_PATH = {"pool": is_pool_file, "gpu": is_path, "model": is_path}
"""How a place is told from a name, where a value may be either."""

_READERS: dict[str, Callable[[Path], Any]] = {"gpu": load_gpu, "model": load_model}
"""Files that are read at once, so that a mistake in them is told with those of the scenario."""

_EXPECTED = {
    "float_type": "expected a number, without a unit",
    "int_type": "expected a whole number, without a unit",
    "int_from_float": "expected a whole number",
    "bool_type": "expected true or false",
    "string_type": "expected a text in quotes",
}
"""pydantic's kinds of mistake in our words, where its own are not plain."""


def load_scenario(path: Path, overrides: Sequence[str] = ()) -> Scenario:
    """Read a file and apply `a.b=c` overrides. Paths in it are taken from where the file lies. UserError on any mistake."""
    return scenario_of(_read(path), str(path), overrides, path.parent)


def scenario_of(tables: dict[str, Any], place: str, overrides: Sequence[str] = (), folder: Path = Path()) -> Scenario:
    """The same from tables already read; `place` is what a mistake is said to be in."""
    return _validated(Scenario, tables, place, overrides, folder)


def asked_of(tables: dict[str, Any], place: str, overrides: Sequence[str] = ()) -> Asked:
    """The tables that say who asks, without a cluster; paths are taken from where the program runs."""
    return _validated(Asked, tables, place, overrides, Path())


def _validated(kind: type[Tables], tables: dict[str, Any], place: str, overrides: Sequence[str], folder: Path) -> Tables:
    mistakes = [message for text in overrides if (message := _override(tables, text))]
    if mistakes:
        raise UserError(mistakes)
    try:
        read = kind.model_validate(tables)
    except ValidationError as error:
        raise UserError([f"{place}: {_sentence(kind, item)}" for item in error.errors(include_url=False)]) from None
    return _with_paths(read, place, folder)


def to_toml(tables: dict[str, Any]) -> str:
    """Tables of plain values as TOML; values before tables, so that it reads back to the same."""
    plain = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    lines = [f"{key} = {_literal(value)}" for key, value in plain.items()]
    for name, table in tables.items():
        if isinstance(table, dict) and table:
            lines += ["", f"[{name}]"] + [f"{key} = {_literal(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: larger than a scenario can be ({MOST_BYTES:,} bytes)")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_neighbours(path)}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder; expected a scenario file (.toml)") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not TOML: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _neighbours(path: Path) -> str:
    folder = path.parent
    return nearest(path.name, (p.name for p in folder.glob("*.toml"))) if folder.is_dir() else ""


def _override(tables: dict[str, Any], text: str) -> str | None:
    """Apply `a.b=c` in place; a sentence if it cannot be."""
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts) or len(parts) > 2:
        return f"--set {text}: expected key=value or table.key=value"
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        parsed = value.strip()  # an unquoted text
    table = tables
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            return f"--set {text}: '{part}' is not a table"
    table[parts[-1]] = parsed
    return None


def _sentence(kind_of_file: type[Asked], error: Any) -> str:
    """One pydantic error as `table.key = value: what is expected`."""
    path = [str(part) for part in error["loc"] if not _is_branch(str(part))]
    key = ".".join(path)
    kind, value = error["type"], error.get("input")
    if kind == "extra_forbidden":
        return f"{key}: unknown key{nearest(path[-1], _keys_at(kind_of_file, path[:-1]))}"
    if kind == "missing":
        return f"{key}: missing"
    message = _EXPECTED.get(kind) or str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "expected")
    message = "; ".join(message.splitlines())
    shown = f" = {_shown(value)}" if path and not isinstance(value, dict) else ""
    if re.match(r"[a-z_]+: ", message):  # a table's own check, which names the key
        return f"{key}.{message}" if key else message
    return f"{key}{shown}: {message}" if key else message


def _is_branch(part: str) -> bool:
    """pydantic names the branches of a union in its paths; users do not know them."""
    return part.startswith(("literal[", "constrained-", "function-")) or part in ("int", "float", "str")


def _keys_at(kind: type[Asked], path: Sequence[str]) -> list[str]:
    table: type[BaseModel] = kind
    for part in path:
        annotation = table.model_fields[part].annotation if part in table.model_fields else None
        choices = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type) and issubclass(one, BaseModel)]
        if not choices:
            return []
        table = choices[0]
    return list(table.model_fields)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _with_paths(scenario: Tables, place: str, folder: Path) -> Tables:
    """Paths, taken from the scenario's folder and made absolute, so that the resolved scenario finds them from anywhere.

    UserError for what is not there, and with every mistake in the files of a GPU or a model.
    """
    changed, mistakes = {}, []
    for table in ("workload", "cluster"):
        of = getattr(scenario, table, None)
        paths = {}
        for key in _PATHS[table]:
            name = getattr(of, key, None)
            if name is None or not _IS_PATH.get(key, bool)(name):
                continue
            path = Path(name) if Path(name).is_absolute() else folder / name
            if not _exists(path):
                mistakes.append(f"{place}: {table}.{key} = {_shown(name)}: no such file (looked for {path})")
            else:
                paths[key] = str(path.resolve())
                mistakes += [f"{place}: {table}.{key}: {line}" for line in _file_mistakes(key, path)]
        if paths and of is not None:
            changed[table] = of.model_copy(update=paths)
    if mistakes:
        raise UserError(mistakes)
    return scenario.model_copy(update=changed) if changed else scenario


def _file_mistakes(key: str, path: Path) -> list[str]:
    """What is wrong inside the file of a GPU or a model."""
    if key not in _READERS:
        return []
    try:
        _READERS[key](path)
    except ProfileError as error:
        return str(error).splitlines()
    return []


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def _literal(value: Any) -> str:
    """A TOML literal; JSON's strings, numbers, booleans and lists are TOML's too."""
    return json.dumps(value, ensure_ascii=False)
