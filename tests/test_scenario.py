"""Scenario files: what is wrong is told at once, with its place; what is right reads back to the same."""

import tomllib

import pytest

from experiments.errors import UserError
from experiments.scenario_file import load_scenario, scenario_of, to_toml

DESIGN_EXAMPLE = """
name = "chat-on-h100"
seed = 1
slo = "ttft.p99:5s tpot.p99:50ms"

[workload]
pool = "deepseek-r1"
start = "20h"
duration = "1h"
rate = 40.0
naive = "none"

[cluster]
gpu = "h100"
model = "llama-3.1-70b"
precision = "bf16"
tp = 4
instances = 8
router = "power_of_two"
gpu_price_per_hour = "2.5 $/h"

[engine]
scheduler = "vllm"
max_num_seqs = 1024
max_num_batched_tokens = 8192
enable_prefix_caching = true
async_scheduling = true

[plan]
max_instances = 64
replications = "auto"

[compare]
hours = 24
naive = ["poisson", "n_hour"]
"""


def tables(**changes):
    """A right scenario, with `table__key=value` changes; None takes a key away."""
    out = tomllib.loads(DESIGN_EXAMPLE)
    for path, value in changes.items():
        *table, key = path.split("__")
        target = out[table[0]] if table else out
        if value is None:
            target.pop(key)
        else:
            target[key] = value
    return out


def mistakes(**changes):
    with pytest.raises(UserError) as error:
        scenario_of(tables(**changes), "x.toml")
    return error.value.mistakes


def test_the_example_of_the_design_is_read_as_it_stands(tmp_path):
    path = tmp_path / "chat.toml"
    path.write_text(DESIGN_EXAMPLE)
    scenario = load_scenario(path)
    assert scenario.workload.start == 72000.0 and scenario.workload.duration == 3600.0
    assert scenario.cluster.gpu_price_per_hour == 2.5
    assert scenario.engine.async_scheduling and scenario.engine.enable_prefix_caching


def test_a_resolved_scenario_reads_back_to_the_same():
    scenario = scenario_of(tables(), "x.toml")
    assert scenario_of(tomllib.loads(to_toml(scenario.resolved())), "y.toml") == scenario


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"workload__rat": 2.0}, "workload.rat: unknown key; did you mean 'rate'?"),
        ({"cluster__instences": 2}, "did you mean 'instances'?"),
        ({"worklod": {}}, "worklod: unknown key; did you mean 'workload'?"),
        ({"workload__rate": "fast"}, 'workload.rate = "fast": expected'),
        ({"workload__rate": 0.0}, "workload.rate = 0.0: expected greater than 0"),
        ({"workload__rate": -3.0}, "workload.rate = -3.0: expected greater than 0"),
        ({"workload__duration": "1 fortnight"}, "unknown unit 'fortnight'"),
        ({"workload__duration": 0}, "workload.duration"),
        ({"cluster__gpu_price_per_hour": "2.5 €/h"}, "expected dollars per GPU and hour"),
        ({"workload__pool": "deepsek-r1"}, "did you mean 'deepseek-r1'?"),
        ({"cluster__gpu": "h10"}, "did you mean 'h100'?"),
        ({"cluster__model": "llama-3-70b"}, "did you mean 'llama-3.1-70b'?"),
        ({"cluster__router": "power_of_too"}, "did you mean 'power_of_two'?"),
        ({"cluster__tp": 4.5}, "cluster.tp = 4.5: expected"),
        ({"cluster__instances": 0}, "cluster.instances = 0: expected"),
        ({"cluster__gpu": None}, "cluster.gpu: missing"),
        ({"slo": "ttft.p99:5sec"}, "no unit 'sec'"),
        ({"attainment": 0.9}, "attainment would do nothing"),
        ({"workload__scale": 1.0}, "rate or scale, not both"),
        ({"workload__concurrency": 5}, "exactly one of pool, servegen, trace, concurrency; found pool and concurrency"),
        ({"workload__pool": None}, "found none"),
        ({"workload__input_tokens": 5}, "input_tokens would do nothing with pool"),
        ({"compare__naive": ["poisson", "poison"]}, "did you mean 'poisson'?"),
        ({"compare__naive": ["poisson", "poisson"]}, "each kind once"),
        ({"plan__replications": "some"}, "plan.replications"),
        ({"name": "../evil"}, "names a folder"),
        ({"engine__block_size": 0}, "engine.block_size = 0: expected"),
        ({"engine__policy": "fifo"}, "no policy 'fifo'"),
        ({"cluster__software": "vllm-2062"}, "no software 'vllm-2062'; did you mean 'vllm-2026'?"),
        ({"cluster__model": "gone/config.json"}, 'cluster.model = "gone/config.json": no such file'),
        ({"engine__kv_cache_dtype": "pf8"}, "no kv_cache_dtype 'pf8'; did you mean 'fp8'?"),
        ({"engine__watermark": 1.0}, "engine.watermark = 1.0: expected less than 1"),
    ],
)
def test_a_mistake_names_its_place_and_what_is_expected(changes, said):
    told = mistakes(**changes)
    assert any(said in line for line in told), told
    assert all(line.startswith("x.toml: ") for line in told)


def test_all_mistakes_are_told_at_once():
    told = mistakes(workload__rat=1.0, cluster__gpu="h20", slo="tfft.p99:1s", seed="one")
    assert len(told) == 4


def test_overrides_change_any_key_and_their_mistakes_are_named(tmp_path):
    path = tmp_path / "chat.toml"
    path.write_text(DESIGN_EXAMPLE)
    scenario = load_scenario(path, ["cluster.tp=8", "workload.start=21h", "slo=ttft.p99:2s"])
    assert (scenario.cluster.tp, scenario.workload.start, scenario.slo) == (8, 75600.0, "ttft.p99:2s")
    with pytest.raises(UserError, match=r"--set cluster\.tp: expected key=value"):
        load_scenario(path, ["cluster.tp"])
    with pytest.raises(UserError, match="'seed' is not a table"):
        load_scenario(path, ["seed.x=1"])


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"name = ", "not TOML"), (b"\xff\xfe", "not UTF-8"), (b"x" * 1_000_001, "larger than a scenario")],
)
def test_a_file_that_is_no_scenario_is_refused(tmp_path, content, said):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_scenario(path)


def test_a_missing_file_is_named_with_its_neighbour(tmp_path):
    (tmp_path / "chat.toml").write_text(DESIGN_EXAMPLE)
    with pytest.raises(UserError, match=r"no such file; did you mean 'chat\.toml'"):
        load_scenario(tmp_path / "chatt.toml")
    with pytest.raises(UserError, match="a folder"):
        load_scenario(tmp_path)


def test_a_missing_trace_is_named_with_where_it_was_looked_for(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('[workload]\ntrace = "gone.csv"\n[cluster]\ngpu = "h100"\nmodel = "llama-3.1-8b"\n')
    with pytest.raises(UserError, match=r"workload\.trace = .gone\.csv.: no such file"):
        load_scenario(path)
