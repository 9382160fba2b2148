"""One's own model, from a file: a TOML like those that ship, or a Hugging Face config.json."""

import re
from dataclasses import replace
from pathlib import Path

from hwprofiles.hf_config import read_config
from hwprofiles.model import Model, known_models, parse_model, shipped_model
from hwprofiles.records import MAX_FILE_BYTES, ProfileError

CONFIG = "config.json"


def is_path(model: str | Path) -> bool:
    """Whether this is meant as a place rather than a name: a slash, or the ending of a file."""
    return isinstance(model, Path) or "/" in model or "\\" in model or model.endswith((".toml", ".json"))


def own_model(path: Path) -> Model:
    """The model in a .toml, a config.json or the folder that holds one; ProfileError with every mistake.

    A model of the same shape as one that ships takes that one's id, and so its step-cost tables. A file that has the
    name of a shipped model and another shape is refused: its name would lead to tables that are not its own.
    """
    file = path / CONFIG if path.is_dir() else path
    if file.suffix not in (".toml", ".json"):
        raise ProfileError(f"{_shown(file)}: expected a model's .toml, a {CONFIG}, or a folder that holds one")
    content = _read(file)
    if file.suffix == ".toml":
        model = parse_model(content, _shown(file), _id(file.stem))
    else:
        name = file.absolute().parent.name if file.name == CONFIG else file.stem
        model = read_config(content, _shown(file), _id(name))
    return _known_shape(model, file)


def _known_shape(model: Model, file: Path) -> Model:
    for name in known_models():
        shipped = shipped_model(name)
        if shipped.shape == model.shape:
            return replace(model, id=name)
    if model.id in known_models():
        raise ProfileError(
            f"{_shown(file)}: {model.id!r} is a model that ships, of other dimensions; expected a name of its own"
        )
    return model


def _read(file: Path) -> bytes:
    """At most one byte more than a profile may have, so that a reader sees where there is too much."""
    if not file.is_file():
        raise ProfileError(f"{_shown(file)}: no such file; expected a model's .toml, a {CONFIG}, or a folder that holds one")
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ProfileError(f"{_shown(file)}: cannot be read: {error.strerror}") from error


def _id(name: str) -> str:
    """A name that is safe in that of a file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:80].strip("-.") or "model"


def _shown(file: Path) -> str:
    """The path as it was given, on one line."""
    return "".join(character if character.isprintable() else "?" for character in str(file))
