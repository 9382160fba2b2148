"""The reference pages say what the program does: keys, flags and columns are compared both ways, and blocks are run."""

import contextlib
import io
import itertools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
import typer.main
from pydantic import BaseModel

from experiments.cli import app, main
from experiments.scenario import Scenario
from experiments.scenario_file import load_scenario, scenario_of
from experiments.traffic import stream_of
from hwprofiles import known_gpus, known_models, known_software
from sim import ROUTERS
from sim.slo import METRICS
from workloads.naive import KINDS

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
SCENARIOS = {
    "one_hour": "simulate",
    "plan": "plan",
    "compare": "compare",
    "closed_loop": "simulate",
    "own_trace": "simulate",
    "conversations": "simulate",
}
COMPLETION = {"--install-completion", "--show-completion"}  # typer adds them where they are shown
BASE = {"workload": {"pool": "m-mid", "rate": 1.0}, "cluster": {"gpu": "h100", "model": "llama-3.1-8b"}}


def text_of(page):
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def section(page, title):
    """The text under a heading, up to the next of its level or above."""
    level = title.index(" ")
    inside = text_of(page).split(f"\n{title}\n", 1)[1]
    return re.split(rf"^#{{1,{level}}} ", inside, maxsplit=1, flags=re.MULTILINE)[0]


def first_table(text):
    """The rows of the first table, as cells; the head and the line under it left out."""
    lines = itertools.dropwhile(lambda line: not line.startswith("|"), text.splitlines())
    rows = [line.split("|")[1:-1] for line in itertools.takewhile(lambda line: line.startswith("|"), lines)]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def names_in(cell):
    """The code words of a cell, with `{a,b}` written out."""
    return [name for word in re.findall(r"`([^`]+)`", cell) for name in written_out(word)]


def written_out(word):
    parts = [part.strip("{}").split(",") for part in re.split(r"(\{[^}]*\})", word)]
    return ["".join(choice) for choice in itertools.product(*parts)]


def blocks(page, language):
    """The fenced blocks of a page whose info string this is."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return fence.findall(page.read_text(encoding="utf-8"))


def run(*words):
    """A command of servecast in this process: its exit code and what it printed."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["servecast", *map(str, words)])
        main()
    return end.value.code, printed.getvalue()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The examples, and a run of naive traffic, as their verbs leave them."""
    out = tmp_path_factory.mktemp("runs")
    for name, verb in SCENARIOS.items():
        workers = () if verb == "simulate" else ("--workers", 1)
        code, _ = run(verb, EXAMPLES / f"{name}.toml", *workers, "--quiet", "--result-dir", out / name)
        assert code == 0, name
    naive = ["--set", "workload.naive=poisson", "--set", "workload.duration=10min", "--result-dir", out / "naive"]
    assert run("simulate", EXAMPLES / "one_hour.toml", "--quiet", *naive)[0] == 0
    asked = ["--by-client", "--by-window", "60s", "--no-rows", "--result-dir", out / "asked"]
    assert run("simulate", EXAMPLES / "own_trace.toml", "--quiet", *asked)[0] == 0
    return out


# docs/scenario.md


def documented_tables():
    """{table: {key: (type, default, bounds, verbs, meaning)}}; the keys outside any table under "Top level"."""
    titles = re.findall(r"^## (Top level|`\[\w+\]`)$", text_of("scenario.md"), re.MULTILINE)
    rows = {title.strip("`[]"): first_table(section("scenario.md", f"## {title}")) for title in titles}
    return {name: {row[0].strip("`"): row[1:] for row in table} for name, table in rows.items()}


def real_tables():
    fields = Scenario.model_fields
    tables = {name: table for name, field in fields.items() if (table := table_of(field.annotation))}
    out = {name: table.model_fields for name, table in tables.items()}
    return {"Top level": {name: field for name, field in fields.items() if name not in tables}, **out}


def table_of(annotation):
    """The table that a key is, or may be; None for a plain value."""
    choices = (annotation, *get_args(annotation))
    return next((one for one in choices if isinstance(one, type) and issubclass(one, BaseModel)), None)


def test_every_key_of_a_scenario_is_documented_and_every_documented_key_exists():
    assert {name: set(keys) for name, keys in documented_tables().items()} == {n: set(k) for n, k in real_tables().items()}


def test_documented_defaults_are_the_defaults():
    for name, keys in real_tables().items():
        for key, field in keys.items():
            default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
            expected = "–" if default == "`null`" else default
            assert documented_tables()[name][key][1] == expected, (name, key)


def test_every_choice_of_a_router_gpu_model_and_naive_kind_is_listed():
    cluster = documented_tables()["cluster"]
    for key, known in (("router", ROUTERS), ("gpu", known_gpus()), ("model", known_models()), ("software", known_software())):
        assert set(names_in(cluster[key][2])) == set(known)
    assert set(names_in(documented_tables()["workload"]["naive"][2])) == {'"none"', *(f'"{kind}"' for kind in KINDS)}


@pytest.mark.parametrize("source", ["pool", "trace", "concurrency"])
def test_the_table_of_sources_says_which_keys_go_together(source, tmp_path):
    (tmp_path / "t.csv").write_text("arrival_s,input_tokens,output_tokens\n0,1,1\n")
    values = {"pool": "m-mid", "trace": "t.csv", "concurrency": 1, "input_tokens": 1, "output_tokens": 1}
    values |= {"start": "1h", "duration": "1h", "naive": "poisson", "rate": 1.0, "scale": 1.0, "trace_format": "csv"}
    values |= {"dejitter": False, "arrivals": "gap", "rates": "smooth", "correlation": 0.3, "max_tokens": 9}
    values |= {"repeated_items": 0.1}
    table = first_table(text_of("scenario.md").split("Which keys go with which source")[1])
    needs, may, refuses = next([names_in(cell) for cell in row[1:]] for row in table if source in names_in(row[0]))
    least = {key: values[key] for key in [source, *needs]}

    def accepts(workload):
        try:
            scenario_of({**BASE, "workload": workload}, "", folder=tmp_path)
        except ValueError:
            return False
        return True

    assert accepts(least)
    assert all(accepts({**least, key: values[key]}) for key in may)
    assert not any(accepts({**least, key: values[key]}) for key in refuses)
    assert not any(accepts({k: v for k, v in least.items() if k != key}) for key in needs)
    assert not accepts({**least, "rate": 1.0, "scale": 1.0})


def test_a_pool_without_rate_and_scale_sends_at_its_own():
    workload = {"pool": "deepseek-r1", "duration": "1min"}
    own, scaled = (stream_of(scenario_of({**BASE, "workload": {**workload, **more}}, "")) for more in ({}, {"scale": 1.0}))
    assert len(own.collect()) > 0
    assert (own.collect() == scaled.collect()).all()


# docs/commands.md


def commands():
    """{"workload list": the click command, ...}"""
    out = {}
    for name, command in typer.main.get_command(app).commands.items():
        parts = getattr(command, "commands", {})
        out |= {f"{name} {verb}": part for verb, part in parts.items()} or {name: command}
    return out


def flags_of(command):
    return {name for param in command.params for name in param.opts if name.startswith("--")} - {"--help"}


def documented_flags(text):
    return {name for row in first_table(text) for name in re.findall(r"^`(--[\w-]+)", row[0])} - {"--help"}


def test_every_verb_has_a_section_and_every_section_a_verb():
    titles = re.findall(r"^## servecast (.+)$", text_of("commands.md"), re.MULTILINE)
    assert titles == list(dict.fromkeys(titles))
    assert set(titles) == set(commands())


@pytest.mark.parametrize("verb", sorted(commands()))
def test_every_flag_of_a_verb_is_documented_and_every_documented_flag_exists(verb):
    text = section("commands.md", f"## servecast {verb}")
    common = documented_flags(section("commands.md", "## Common flags")) if "(#common-flags)" in text else set()
    assert documented_flags(text) | common == flags_of(commands()[verb])


def test_the_flags_of_the_program_itself_are_documented():
    assert documented_flags(section("commands.md", "## servecast")) == flags_of(typer.main.get_command(app)) | COMPLETION


def test_exit_codes_are_as_documented(tmp_path):
    scenario = EXAMPLES / "own_trace.toml"
    assert run("simulate", scenario, "--quiet", "--result-dir", tmp_path / "a", "--assert-slo")[0] == 3
    assert (tmp_path / "a" / "summary.json").is_file()
    assert run("simulate", scenario, "--quiet", "--result-dir", tmp_path / "a")[0] == 2
    assert run("simulate", scenario, "--quiet", "--result-dir", tmp_path / "a", "--force")[0] == 0
    assert run("simulate", scenario, "--set", "cluster.tpp=1")[0] == 2
    assert run("simulate", scenario, "--dry-run")[0] == 0
    assert run("report", tmp_path / "a")[0] == 0
    assert run("report", tmp_path)[0] == 2


# docs/formats.md


def key_paths(value, path=""):
    """The dotted path of every value in a JSON file, `[]` after a list."""
    if isinstance(value, dict):
        return {found for key, item in value.items() for found in key_paths(item, f"{path}.{key}" if path else key)}
    if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
        return {found for item in value for found in key_paths(item, f"{path}[]")}
    return {path}


def documented_keys(title):
    return {name for row in first_table(section("formats.md", title)) for name in names_in(row[0])}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_key_of_a_summary_is_documented_and_written(folders):
    written = set().union(*(key_paths(read(path)) for path in folders.glob("*/summary.json")))
    own = {key for key in written if not key.startswith("workload.")}
    assert own | {"workload.source"} == documented_keys("## summary.json")


def test_the_description_of_every_source_has_the_documented_keys(folders):
    rows = first_table("| source |" + section("formats.md", "## summary.json").split("| source |")[1])
    documented = {names_in(row[0])[0]: set(names_in(row[1])) for row in rows}
    written = {}
    for path in folders.glob("*/summary.json"):
        about = read(path)["workload"]
        paths = {re.sub(r"^fitted_on\..*", "fitted_on", path) for path in key_paths(about)}
        written.setdefault(about["source"], set()).update(paths - {"source"})
    assert written == documented


def test_every_key_of_a_plan_is_documented_and_written(folders):
    assert key_paths(read(folders / "plan" / "plan.json")) == documented_keys("## plan.json")


def test_every_key_of_a_comparison_is_documented_and_written(folders):
    written = set()
    for path in key_paths(read(folders / "compare" / "compare.json")):
        path = re.sub(r"\.naive\.poisson\.fit\..*", ".naive.KIND.fit", path).replace(".naive.poisson", ".naive.KIND")
        path = re.sub(r"^(profile|workload)\..*", r"\1", path)
        written.add(re.sub(r"\.curves\.\w+", ".curves.TRAFFIC", path))
    assert written == documented_keys("## compare.json")


def test_every_key_of_the_environment_is_documented_and_written(folders):
    for folder in folders.iterdir():
        assert key_paths(read(folder / "environment.json")) == documented_keys("## environment.json")


@pytest.mark.parametrize(
    ("title", "folder", "stem"),
    [
        ("## Requests", "own_trace", "requests"),
        ("## Steps", "own_trace", "steps"),
        ("## By client", "asked", "by_client"),
        ("## By window", "asked", "by_window"),
    ],
)
def test_every_column_is_documented_with_its_type_and_written_in_that_order(folders, title, folder, stem):
    frame = table(folders / folder, stem)
    documented = [(name, row[1]) for row in first_table(section("formats.md", title)) for name in names_in(row[0])]
    assert documented == [(name, str(kind)) for name, kind in frame.dtypes.items()]


def table(folder, stem):
    path = folder / f"{stem}.parquet"
    return pd.read_parquet(path) if path.exists() else pytest.skip("types are those of Parquet; pyarrow is not installed")


def test_every_file_of_a_folder_is_documented(folders):
    columns = {"simulate": 1, "plan": 2, "compare": 3}
    for name, verb in SCENARIOS.items():
        rows = first_table(text_of("formats.md"))
        documented = {word for row in rows if row[columns[verb]] for word in names_in(row[0])}
        written = {path.name.replace(".csv.gz", ".parquet") for path in (folders / name).iterdir()}
        assert written == {word.replace("KIND", "poisson") for word in documented}


def test_every_file_that_a_flag_adds_or_leaves_out_is_documented(folders):
    rows = first_table("| file | flag |" + text_of("formats.md").split("| file | flag |")[1])
    without, added = (
        {name for row in rows if ("not with" in row[1]) == left for name in names_in(row[0])} for left in (True, False)
    )
    plain, asked = (
        {path.name.replace(".csv.gz", ".parquet") for path in (folders / name).iterdir()} for name in ("own_trace", "asked")
    )
    assert plain - asked == without and asked - plain == added


def test_null_and_nan_mean_what_the_page_says(folders):
    summary, requests = read(folders / "own_trace" / "summary.json"), table(folders / "own_trace", "requests")
    assert summary["requests_rejected"] == 1
    assert summary["ttft_max_s"] is None
    rejected = requests["finish_reason"] == "rejected"
    times = [name for name in requests if name.endswith("_s") and name != "arrival_s"]
    assert requests.loc[rejected, times].isna().all().all()
    gaps_undefined = requests["output_tokens"] <= 1
    assert requests[["tpot_s", "itl_max_s"]].isna().all(axis=1).equals(gaps_undefined)
    assert not requests.loc[~rejected, "ttft_s"].isna().any()


def test_a_resolved_scenario_can_be_run_again(folders):
    for name, verb in SCENARIOS.items():
        path = folders / name / "scenario.toml"
        code, printed = run(verb, path, "--dry-run", "--quiet")
        assert code == 0
        assert tomllib.loads(printed) == tomllib.loads(path.read_text(encoding="utf-8"))


# docs/glossary.md


def test_times_of_a_request_add_up_as_the_glossary_says(folders):
    requests = table(folders / "one_hour", "requests")
    n = requests["output_tokens"]
    for name, value in {
        "ttft_s": requests["queue_s"] + requests["prefill_s"] + requests["api_s"],
        "e2el_s": requests["ttft_s"] + requests["decode_s"],
        "ntpot_s": requests["e2el_s"] / n,
        "tpot_s": (requests["decode_s"] / (n - 1)).where(n > 1),
    }.items():
        pd.testing.assert_series_equal(requests[name], value, check_names=False, rtol=1e-9, atol=1e-9)


def test_every_metric_of_an_slo_has_its_key_in_the_glossary():
    keys = [name for row in first_table(section("glossary.md", "## Times of a request")) for name in names_in(row[1])]
    assert keys == list(METRICS)


# Blocks, examples, links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_toml_blocks_are_scenarios_or_parts_of_one(page):
    for number, text in enumerate(blocks(page, "toml"), 1):
        scenario_of(tomllib.loads(text), f"{page.name}, block {number}")
    for number, text in enumerate(blocks(page, "toml fragment"), 1):
        scenario_of({**BASE, **tomllib.loads(text)}, f"{page.name}, fragment {number}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, text in enumerate(blocks(page, "python"), 1):
        exec(compile(text, f"{page.name}, block {number}", "exec"), names)


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_scripts_print_what_they_are_said_to(script):
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == script.with_suffix(".out").read_text(encoding="utf-8")


def test_examples_open_with_what_they_show_and_are_all_on_the_map():
    for path in EXAMPLES.iterdir():
        if path.suffix in (".toml", ".py"):
            assert path.read_text(encoding="utf-8").startswith(("# ", '"""')), path.name
        if path.suffix != ".out" and path.is_file():
            assert f"(../examples/{path.name})" in text_of("index.md"), path.name
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == set(SCENARIOS)


def test_every_page_is_on_the_map():
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in text_of("index.md"), page.name


def test_the_scenario_that_ships_is_the_one_the_commands_page_tells():
    demo = load_scenario(ROOT / "experiments" / "demo.toml")
    assert demo.cluster.tp == 4
    told = f"{demo.compare.hours} hours of `{demo.workload.pool}` for `{demo.cluster.model}` on 4 x `{demo.cluster.gpu}`"
    assert told in " ".join(section("commands.md", "## servecast demo").split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}"


def anchors(page):
    """Anchors of headings, as GitHub and most others make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
