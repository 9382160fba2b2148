"""A scenario whose model is one's own file: read from where the scenario lies, and as good as a name from then on."""

import json
import tomllib

import pytest

from experiments.errors import UserError
from experiments.scenario_file import load_scenario, scenario_of, to_toml
from experiments.workers import cluster_of
from hwprofiles import load_model
from tests.test_hwprofiles_hf_config import config_of

LLAMA_8B = config_of(load_model("llama-3.1-8b"))

SCENARIO = """
[workload]
concurrency = 2
input_tokens = 10
output_tokens = 3
duration = "1s"

[cluster]
gpu = "h100"
model = "{model}"
"""


def written(folder, model, config=LLAMA_8B):
    """A scenario beside a folder with a config.json."""
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "checkpoint" / "config.json").write_text(json.dumps(config))
    path = folder / "own.toml"
    path.write_text(SCENARIO.format(model=model))
    return path


@pytest.mark.parametrize("model", ["checkpoint/config.json", "./checkpoint", "{tmp}/checkpoint"])
def test_a_model_s_file_is_taken_from_the_scenario_s_folder_and_serves_like_its_twin_that_ships(tmp_path, model):
    scenario = load_scenario(written(tmp_path, model.replace("{tmp}", str(tmp_path))))
    named = cluster_of(scenario_of(tomllib.loads(SCENARIO.format(model="llama-3.1-8b")), "x.toml"))
    plan, same = cluster_of(scenario).plan(), named.plan()
    assert scenario.cluster.model_name == "llama-3.1-8b"
    assert (plan.engine, plan.num_blocks, plan.api_ns) == (same.engine, same.num_blocks, same.api_ns)
    step = (100, 10_000, 7, 700, 8)
    assert plan.step_cost.step_ns(*step) == same.step_cost.step_ns(*step)


def test_the_resolved_scenario_reads_back_to_the_same_from_any_folder(tmp_path):
    scenario = load_scenario(written(tmp_path / "here", "checkpoint/config.json"))
    (tmp_path / "there").mkdir()
    again = tmp_path / "there" / "scenario.toml"
    again.write_text(to_toml(scenario.resolved()))
    assert load_scenario(again) == scenario


def test_all_mistakes_of_a_model_s_file_are_told_with_those_of_other_files(tmp_path):
    broken = LLAMA_8B | {"num_hidden_layers": 0, "num_attention_heads": "many"}
    path = written(tmp_path, "checkpoint/config.json", broken)
    with pytest.raises(UserError) as error:
        load_scenario(path)
    assert len(error.value.mistakes) >= 2
    assert all(f"{path}: cluster.model: " in line and "config.json" in line for line in error.value.mistakes)
    tables = {"workload": {"trace": "gone.csv"}, "cluster": {"gpu": "h100", "model": "./gone"}}
    with pytest.raises(UserError) as error:
        scenario_of(tables, "x.toml", folder=tmp_path)
    assert [line.split(" ")[1].rstrip(":") for line in error.value.mistakes] == ["workload.trace", "cluster.model"]


@pytest.mark.parametrize("name", ["x" * 5000 + "/config.json", "a\\u0000b/config.json", "own.toml", "own.txt/", "/"])
def test_a_place_that_is_no_model_is_refused_in_a_sentence(tmp_path, name):
    with pytest.raises(UserError, match=r"cluster\.model"):
        load_scenario(written(tmp_path, name))


def test_a_model_of_another_shape_is_called_as_its_folder(tmp_path):
    scenario = load_scenario(written(tmp_path, "./checkpoint", LLAMA_8B | {"num_hidden_layers": 30}))
    assert scenario.cluster.model_name == "checkpoint"
    assert load_model(scenario.cluster.model).layers == 30
