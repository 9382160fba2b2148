"""`servecast profiles fit`: kernel tables of any machine become a folder of profiles, whole or not at all, and it is used."""

import json
import os
from pathlib import Path

import pytest

from experiments import fit_profiles as verb
from experiments.cli import main as servecast
from hwprofiles import ProfileError, load_gpu, load_step_cost
from hwprofiles.costmodel import StepCost
from hwprofiles.fitting.tables_out import record_json, write_profiles
from hwprofiles.profile_folder import own_roofline
from hwprofiles.records import parse_record
from hwprofiles.roofline import Roofline, load_roofline
from sim import Cluster, ClusterError
from tests.own_profiles import measured, own_gpu
from tests.shared_data import SHARED, needs_shared

AICONFIGURATOR = SHARED / "calibration" / "aiconfigurator"
ONE = "mine_llama-3.1-8b_bf16_tp1.json"


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """mine.toml, tables/ of llama-3.1-8b at tp 1 and 2, and profiles/ made of them."""
    folder = tmp_path_factory.mktemp("bench")
    gpu = own_gpu(folder)
    tables = measured(folder, "--tp", "1,2")
    verb.fit_profiles(tables, [str(gpu)], ["llama-3.1-8b"], [], [], folder / "profiles", quiet=True)
    return folder


def tree(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in Path(folder).rglob("*")}


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["servecast", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        servecast()
    said = capsys.readouterr()
    return stop.value.code or 0, said.out, said.err


def fit(bench, out, *words, monkeypatch, capsys):
    arguments = (bench / "tables", "--gpu", bench / "mine.toml", "--out", out, *words)
    return run(monkeypatch, capsys, "profiles", "fit", *arguments)


# What is made


def test_a_gpu_measured_here_gets_tables_and_a_roofline(bench):
    made = sorted(name for name, content in tree(bench / "profiles").items() if content)
    assert made == [f"measured/{ONE}", f"measured/{ONE.replace('tp1', 'tp2')}", "rooflines/mine.json"]


def test_what_is_written_reads_back_to_the_same_and_has_the_form_of_what_ships(bench):
    for kind, folder in ((StepCost, "measured"), (Roofline, "rooflines")):
        for path in (bench / "profiles" / folder).iterdir():
            assert record_json(parse_record(kind, path.read_bytes(), path.name)) == path.read_text()
    text = (bench / "profiles" / "measured" / ONE).read_text()
    assert json.loads(text)["command"] == "servecast profiles fit DIR" and '"at": [1, 2, 4, 8' in text


@pytest.mark.parametrize("name", ["a100", "h100", "rtx_pro_6000"])
def test_a_shipped_roofline_is_written_to_the_bytes_that_ship(name):
    shipped = Path(verb.__file__).resolve().parents[1] / "hwprofiles" / "rooflines" / f"{name}.json"
    assert record_json(load_roofline(name)) == shipped.read_text()


def test_the_command_tells_a_line_a_table_and_the_errors_of_the_roofline(bench, tmp_path, monkeypatch, capsys):
    code, out, _ = fit(bench, tmp_path / "p", "--model", "llama-3.1-8b", "--tp", "1", monkeypatch=monkeypatch, capsys=capsys)
    error = load_step_cost(bench / "mine.toml", "llama-3.1-8b", folder=tmp_path / "p").error
    row = next(line for line in out.splitlines() if line.startswith("mine | llama"))
    cells = [cell.strip() for cell in row.split("|")]
    errors = [f"{of:.2%}" for of in (error.mape_frac, error.worst_5pct_frac, error.held_out_mape_frac)]
    assert code == 0 and cells == ["mine", "llama-3.1-8b", "bf16", "1", "measured", str(error.steps), *errors]
    left_out = own_roofline(tmp_path / "p", load_gpu(bench / "mine.toml")).error("bf16", "bf16").left_out_mape_frac
    assert f"{left_out:.2%}" in out and "1 step table and 1 roofline" in out


def test_models_that_the_tables_do_not_cover_are_left_out_and_refused_by_name(bench, tmp_path, monkeypatch, capsys):
    """A hidden width below any measured one: nothing says what its matrix products take."""
    code, _, said = fit(bench, tmp_path / "p", "--model", "qwen2.5-7b", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2 and "cover nothing of what was asked" in said and "tp 8: " in said
    assert not (tmp_path / "p").exists()


@needs_shared
def test_the_shipped_tables_are_what_the_command_makes(tmp_path):
    pytest.importorskip("pyarrow", reason="kernel tables are parquet files")
    asked = verb.Asked([verb.load_model("llama-3.1-8b")], ["bf16"], [1])
    plan = verb._plan(AICONFIGURATOR, load_gpu("a100"), asked)
    shipped = Path(verb.__file__).resolve().parents[1] / "hwprofiles"
    [cost] = verb._fit_tables(AICONFIGURATOR, plan, verb.Console(quiet=True))
    names = list(plan.files)
    assert names == ["measured/a100_llama-3.1-8b_bf16_tp1.json", "rooflines/a100.json"]
    assert record_json(cost) == (shipped / names[0]).read_text()


# Mistakes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpu", "h10"], "no gpu profile 'h10'; did you mean 'h100'?"),
        (["--model", "llama-3.1-8"], "did you mean 'llama-3.1-8b'?"),
        (["--precision", "bf61"], "--precision bf61: expected bf16 or fp8; did you mean 'bf16'?"),
        (["--precision", "bf16,fp8"], "--precision fp8: would do nothing"),
        (["--tp", "0"], "--tp '0': expected a whole number from 1 to 64"),
        (["--tp", "9" * 5000], "expected a whole number from 1 to 64"),
        (["--tp", "1,4"], "--tp 4: would do nothing"),
        (["--gpu", "h100"], "expected the kernel tables of h100, as its calibration says"),
        (["--model", "gone.toml"], "gone.toml: no such file"),
    ],
)
def test_a_mistake_names_its_place_and_nothing_is_written(bench, tmp_path, monkeypatch, capsys, words, said):
    code, _, told = fit(bench, tmp_path / "p", "--model", "llama-3.1-8b", *words, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2 and said in told and "Traceback" not in told
    assert all(line.startswith(("error: ", "  ")) for line in told.splitlines())
    assert list(tmp_path.iterdir()) == []


def test_all_mistakes_of_the_flags_are_told_at_once(bench, tmp_path, monkeypatch, capsys):
    words = ("--gpu", "h10", "--model", "lama", "--precision", "x", "--tp", "y")
    _, _, told = fit(bench, tmp_path / "p", *words, monkeypatch=monkeypatch, capsys=capsys)
    assert [word in told for word in ("'h10'", "'lama'", "--precision x", "--tp 'y'")] == [True] * 4


def test_a_folder_without_tables_of_any_known_gpu_is_refused_with_what_is_expected(tmp_path, monkeypatch, capsys):
    code, _, told = run(monkeypatch, capsys, "profiles", "fit", tmp_path)
    assert code == 2 and "expected one or more of a100_sxm, h100_sxm" in told
    code, _, told = run(monkeypatch, capsys, "profiles", "fit", tmp_path / "gone")
    assert code == 2 and "no such folder" in told


# Files


def test_what_is_there_is_refused_before_anything_is_fitted_and_replaced_when_asked(bench, tmp_path, monkeypatch, capsys):
    out, words = tmp_path / "p", ("--model", "llama-3.1-8b", "--tp", "1")
    (out / "measured").mkdir(parents=True)
    (out / "measured" / ONE).write_text("old")
    (out / "thesis.txt").write_text("mine")
    before = tree(out)
    with monkeypatch.context() as patch:
        patch.setattr(verb, "fit_step_cost", lambda *_: pytest.fail("it was fitted"))
        code, _, told = fit(bench, out, *words, monkeypatch=patch, capsys=capsys)
    assert code == 2 and f"already has measured/{ONE}; --force replaces them" in told and tree(out) == before
    assert fit(bench, out, *words, "--force", monkeypatch=monkeypatch, capsys=capsys)[0] == 0
    assert tree(out)[f"measured/{ONE}"] == (bench / "profiles" / "measured" / ONE).read_bytes()
    assert tree(out)["thesis.txt"] == b"mine" and not [name for name in tree(out) if ".profiles-" in name]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", range(1, 6))
def test_a_move_that_fails_leaves_every_file_as_it_was(bench, tmp_path, monkeypatch, at, error):
    """Three new files, two of which replace old ones: five moves, any of which may fail."""
    costs = [load_step_cost(bench / "mine.toml", "llama-3.1-8b", tp=tp, folder=bench / "profiles") for tp in (1, 2)]
    roofline = own_roofline(bench / "profiles", load_gpu(bench / "mine.toml"))
    out = tmp_path / "p"
    (out / "measured").mkdir(parents=True)
    for tp in (1, 2):
        (out / "measured" / ONE.replace("tp1", f"tp{tp}")).write_text(f"old {tp}")
    before, whole, calls = tree(out), os.replace, []

    def failing(source, target):
        calls.append(target)
        if len(calls) == at:
            raise error
        whole(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ProfileError):
        write_profiles(out, costs, [roofline], force=True)
    assert tree(out) == before and len(calls) >= at
    monkeypatch.setattr(os, "replace", whole)
    assert len(write_profiles(out, costs, [roofline], force=True)) == 3
    assert {name for name, content in tree(out).items() if content and content.startswith(b"{")} == {
        *(name for name in before if name.endswith(".json")),
        "rooflines/mine.json",
    }


def test_a_new_folder_that_could_not_be_filled_is_not_left_behind(bench, tmp_path, monkeypatch):
    cost = load_step_cost(bench / "mine.toml", "llama-3.1-8b", folder=bench / "profiles")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ProfileError, match="No space left on device; nothing was written"):
        write_profiles(tmp_path / "a" / "b", [cost], [], force=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_place_that_is_no_plain_file_or_no_folder_is_left_alone(bench, tmp_path, kind):
    cost = load_step_cost(bench / "mine.toml", "llama-3.1-8b", folder=bench / "profiles")
    out = tmp_path / "p"
    if kind == "file":
        out.write_text("mine")
    else:
        (out / "measured").mkdir(parents=True)
        (out / "measured" / ONE).mkdir() if kind == "folder" else (out / "measured" / ONE).symlink_to(tmp_path / "other")
    before = tree(tmp_path)
    with pytest.raises(ProfileError, match=r"is a file; expected a folder|is no plain file, so it is left as it is"):
        write_profiles(out, [cost], [], force=True)
    assert tree(tmp_path) == before


# A folder in use


def test_the_folder_prices_what_it_has_a_table_of_and_its_roofline_the_rest(bench):
    gpu, folder = bench / "mine.toml", bench / "profiles"
    table = load_step_cost(gpu, "llama-3.1-8b", folder=folder)
    other = load_step_cost(gpu, "llama-3.1-70b", tp=2, folder=folder)
    assert (table.grade, other.grade) == ("user", "user")
    assert table.error.mape_frac == json.loads((folder / "measured" / ONE).read_text())["error"]["mape_frac"]
    assert other.error.mape_frac == own_roofline(folder, load_gpu(gpu)).error("bf16", "bf16").left_out_mape_frac
    assert "models left out of the fit" in other.error.measured_on


def test_tables_of_the_folder_come_before_those_that_ship(bench, tmp_path):
    (tmp_path / "measured").mkdir()
    name = "h100_llama-3.1-8b_bf16_tp1.json"
    text = (bench / "profiles" / "measured" / ONE).read_text().replace('"gpu": "mine"', '"gpu": "h100"')
    (tmp_path / "measured" / name).write_text(text)
    own, shipped = (load_step_cost("h100", "llama-3.1-8b", folder=folder) for folder in (tmp_path, None))
    assert own.grade == "user" and own.tokens != shipped.tokens and shipped.grade == "measured"


def test_a_folder_that_says_nothing_about_the_combination_is_a_mistake_that_names_what_is_there(bench, tmp_path):
    with pytest.raises(ProfileError) as raised:
        load_step_cost("h100", "llama-3.1-8b", folder=bench / "profiles")
    assert "neither measured/h100_llama-3.1-8b_bf16_tp1.json nor rooflines/h100.json" in str(raised.value)
    assert f"did you mean 'measured/{ONE}'?" in str(raised.value) and "rooflines/mine.json" in str(raised.value)
    with pytest.raises(ProfileError, match="expected what servecast profiles fit wrote"):
        load_step_cost("h100", "llama-3.1-8b", folder=tmp_path)
    with pytest.raises(ProfileError, match="no such folder"):
        load_step_cost("h100", "llama-3.1-8b", folder=tmp_path / "gone")
    with pytest.raises(ProfileError, match="no roofline of mine for precision 'fp8'"):
        load_step_cost(bench / "mine.toml", "llama-3.1-8b", "fp8", folder=bench / "profiles")
    with pytest.raises(ProfileError, match="no precision 'int4' on mine"):
        load_step_cost(bench / "mine.toml", "llama-3.1-8b", "int4", folder=bench / "profiles")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"tp": 1', '"tp": 2', "its contents belong in mine_llama-3.1-8b_bf16_tp2.json"),
        ('"layers": 32', '"layers": 33', "layers is 33; llama-3.1-8b has 32"),
        ('"grade": "measured"', '"grade": "best"', "grade 'best' is none of"),
        ('"tokens": {', '"tokenz": {', "tokenz is not a key of a profile; did you mean 'tokens'?"),
        ('"prefill_work": ', '"prefill_work": -', "prefill_work must be a whole number"),
        ('"at": [1, 2', '"at": [1, true', "at must be a whole number"),
    ],
)
def test_a_table_with_a_mistake_is_refused_with_its_place(bench, tmp_path, old, new, said):
    (tmp_path / "measured").mkdir()
    path = tmp_path / "measured" / ONE
    path.write_text((bench / "profiles" / "measured" / ONE).read_text().replace(old, new))
    with pytest.raises(ProfileError) as raised:
        load_step_cost(bench / "mine.toml", "llama-3.1-8b", folder=tmp_path)
    assert said in str(raised.value) and str(raised.value).startswith(str(path))


def test_a_table_faster_than_the_users_own_data_sheet_is_refused(bench, tmp_path):
    slow = (bench / "mine.toml").read_text().replace("bandwidth_gb_per_s = 3350.0", "bandwidth_gb_per_s = 335.0")
    (tmp_path / "mine.toml").write_text(slow)
    with pytest.raises(ProfileError, match=r"it takes .* ms at least"):
        load_step_cost(tmp_path / "mine.toml", "llama-3.1-8b", folder=bench / "profiles")


def test_a_gpu_of_ones_own_without_a_folder_is_told_how_to_get_one(bench):
    with pytest.raises(ProfileError, match="servecast profiles fit"):
        load_step_cost(bench / "mine.toml", "llama-3.1-8b")


# A scenario with both

SCENARIO = """
[workload]
concurrency = 2
input_tokens = 300
output_tokens = 20
duration = "2s"
[cluster]
gpu = "./mine.toml"
model = "llama-3.1-8b"
profiles = "profiles"
"""


def test_a_scenario_names_ones_own_gpu_and_profiles_from_where_it_lies(bench, tmp_path, monkeypatch, capsys):
    (bench / "own.toml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    words = ("--result-dir", "run", "--quiet", "--no-report")
    code, out, said = run(monkeypatch, capsys, "simulate", bench / "own.toml", *words)
    assert (code, said) == (0, "") and str(bench / "mine.toml") not in out
    profile = json.loads(Path("run/summary.json").read_text())["profile"]
    cost = load_step_cost(bench / "mine.toml", "llama-3.1-8b", folder=bench / "profiles")
    assert (profile["grade"], profile["error_mape_frac"]) == ("user", cost.error_mape_frac)
    resolved = Path("run/scenario.toml").read_text()
    assert f'gpu = "{bench / "mine.toml"}"' in resolved and f'profiles = "{bench / "profiles"}"' in resolved
    assert run(monkeypatch, capsys, "simulate", "run/scenario.toml", "--result-dir", "again", *words[2:])[0] == 0
    assert Path("again/summary.json").read_bytes() == Path("run/summary.json").read_bytes()


def test_the_profiles_of_a_scenario_decide_its_step_times(bench, tmp_path, monkeypatch, capsys):
    """The formulas' machine reaches half of its peaks: slower than the H100 whose data sheet it has."""
    ttft_s = {}
    for name, cluster in (
        ("own", SCENARIO),
        ("h100", SCENARIO.replace("./mine.toml", "h100").replace('profiles = "profiles"', "")),
    ):
        (bench / f"{name}.toml").write_text(cluster)
        words = ("--result-dir", tmp_path / name, "--quiet", "--no-report")
        assert run(monkeypatch, capsys, "simulate", bench / f"{name}.toml", *words)[0] == 0
        ttft_s[name] = json.loads((tmp_path / name / "summary.json").read_text())["ttft_mean_s"]
    assert ttft_s["own"] > 1.3 * ttft_s["h100"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("./mine.toml", "./gone.toml", 'cluster.gpu = "./gone.toml": no such file (looked for '),
        ('"profiles"', '"gone"', 'cluster.profiles = "gone": no such file (looked for '),
        ('"llama-3.1-8b"', '"./gone.json"', 'cluster.model = "./gone.json": no such file (looked for '),
        ("./mine.toml", "h100", "neither measured/h100_llama-3.1-8b_bf16_tp1.json nor rooflines/h100.json"),
        ('"profiles"', '""', 'cluster.profiles = ""'),
    ],
)
def test_a_place_in_a_scenario_that_holds_nothing_is_a_mistake(bench, monkeypatch, capsys, old, new, said):
    (bench / "bad.toml").write_text(SCENARIO.replace(old, new))
    code, _, told = run(monkeypatch, capsys, "simulate", bench / "bad.toml", "--dry-run")
    assert code == 2 and said in told and told.startswith(f"error: {bench / 'bad.toml'}: ")


def test_a_profiles_folder_with_a_step_cost_of_ones_own_would_do_nothing():
    with pytest.raises(ClusterError, match=r"cluster\.profiles = 'p': would do nothing with a step_cost of its own"):
        Cluster(step_cost=object(), profiles="p").plan()
