"""docs/formats.md, commands.md and scenario.md on profiles: keys of the files that ship, and commands as they are printed."""

import json
import re
import shlex
from importlib.resources import files
from pathlib import Path

import pytest
import typer.main

from experiments.cli import app
from hwprofiles import known_gpus
from tests.test_docs import documented_keys, key_paths, section

ROOT = Path(__file__).resolve().parents[1]


def keys_of(folder):
    """Keys of all files of a folder; the name of a precision of the KV cache is KV."""
    contents = (json.loads(path.read_text()) for path in files("hwprofiles").joinpath(folder).iterdir())
    return {re.sub(r"^attention\.\w+\.", "attention.KV.", key) for content in contents for key in key_paths(content)}


@pytest.mark.parametrize(("title", "folder"), [("## Step tables", "measured"), ("## Rooflines", "rooflines")])
def test_every_key_of_a_profile_is_documented_and_written(title, folder):
    assert keys_of(folder) == documented_keys(title)


@pytest.mark.parametrize("verb", ["profiles fit", "profiles show"])
def test_commands_of_the_page_are_taken_as_they_stand(verb):
    """Each parses; that they run is told by the tests of the verbs."""
    group, name = verb.split()
    command = typer.main.get_command(app).commands[group].commands[name]
    text = section("commands.md", f"## servecast {verb}")
    lines = re.findall(rf"^    servecast {verb} (.+)$", text, re.MULTILINE)
    assert lines
    for line in lines:
        command.make_context(name, shlex.split(line))


def test_the_commands_that_make_what_ships_name_every_gpu_that_ships():
    lines = re.findall(
        r"^    servecast profiles fit .*--out hwprofiles --force$", section("commands.md", "## servecast profiles fit"), re.M
    )
    named = [gpu for line in lines for gpu in re.search(r"--gpu (\S+)", line)[1].split(",")]
    assert sorted(named) == sorted(known_gpus())


def test_the_picture_of_the_page_is_one_of_the_command():
    text = (ROOT / "docs" / "pictures" / "h100-llama-3.1-8b.svg").read_text()
    assert "<svg" in text and "Llama-3.1-8B on 1 x H100" in text and "bound of the data sheet" in text
