"""One's own model, from a file: a TOML like those that ship, or a Hugging Face config.json."""

from dataclasses import replace
from pathlib import Path

from hwprofiles.hf_config import read_config
from hwprofiles.model import Model, known_models, parse_model, shipped_model
from hwprofiles.own_file import file_id, read_file, shown
from hwprofiles.records import ProfileError

CONFIG = "config.json"

EXPECTED = f"a model's .toml, a {CONFIG}, or a folder that holds one"


def own_model(path: Path) -> Model:
    """The model in a .toml, a config.json or the folder that holds one; ProfileError with every mistake.

    A model of the same shape as one that ships takes that one's id, and so its step-cost tables. A file that has the
    name of a shipped model and another shape is refused: its name would lead to tables that are not its own.
    """
    file = path / CONFIG if path.is_dir() else path
    if file.suffix not in (".toml", ".json"):
        raise ProfileError(f"{shown(file)}: expected {EXPECTED}")
    content = read_file(file, EXPECTED)
    if file.suffix == ".toml":
        model = parse_model(content, shown(file), file_id(file.stem, "model"))
    else:
        name = file.absolute().parent.name if file.name == CONFIG else file.stem
        model = read_config(content, shown(file), file_id(name, "model"))
    return _known_shape(model, file)


def _known_shape(model: Model, file: Path) -> Model:
    for name in known_models():
        shipped = shipped_model(name)
        if shipped.shape == model.shape:
            return replace(model, id=name)
    if model.id in known_models():
        raise ProfileError(
            f"{shown(file)}: {model.id!r} is a model that ships, of other dimensions; expected a name of its own"
        )
    return model
