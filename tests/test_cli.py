"""The command line: answers, exit codes, mistakes on one screen, and nothing half-written."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from experiments import cli
from sim.choice import FAMILIES

SMALL = """
name = "small"
slo = "ttft.p99:5s tpot.p99:50ms"
[workload]
pool = "deepseek-r1"
start = "12h"
duration = "2min"
rate = 2.0
[cluster]
gpu = "h100"
model = "llama-3.1-8b"
instances = 2
[engine]
enable_prefix_caching = false
async_scheduling = false
[plan]
replications = 2
[compare]
hours = 1
naive = ["poisson"]
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run servecast in an empty folder that holds small.toml; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(SMALL)

    def servecast(*words):
        monkeypatch.setattr(sys, "argv", ["servecast", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return servecast


def files(folder="."):
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


def test_help_loads_nothing_heavy_and_answers_at_once():
    code = (
        "import sys, resource; sys.argv = ['servecast', '--help']\n"
        "from experiments.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'numpy', 'numba', 'pandas', 'scipy', 'matplotlib', 'simpy', 'pydantic'} & set(sys.modules)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print('heavy:', sorted(heavy), file=sys.stderr)\n"
        "print('cpu_s:', used.ru_utime + used.ru_stime, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert "heavy: []" in done.stderr and "demo" in done.stdout and "compare" in done.stdout


def test_simulate_leaves_a_whole_folder_and_says_how_to_repeat_it(run):
    code, out, _ = run("simulate", "small.toml", "--quiet", "--result-dir", "out")
    assert code == 0 and "seed 1 · again: servecast simulate small.toml" in out and "report: out/report.html" in out
    assert files("out") == [
        "environment.json",
        "report.html",
        "requests.parquet",
        "scenario.toml",
        "steps.parquet",
        "summary.json",
    ]
    summary = json.loads(Path("out/summary.json").read_text())
    requests, steps = pd.read_parquet("out/requests.parquet"), pd.read_parquet("out/steps.parquet")
    assert summary["requests"] == len(requests) > 100 and summary["simulated"] is True
    assert summary["steps"] == len(steps)
    parts = requests.queue_s + requests.encode_s + requests.transfer_s + requests.prefill_s + requests.api_s
    assert (parts - requests.ttft_s).abs().max() < 1e-9
    assert (requests.ttft_s + requests.decode_s - requests.e2el_s).abs().max() < 1e-9
    assert requests.arrival_s.is_monotonic_increasing
    environment = json.loads(Path("out/environment.json").read_text())
    assert environment["engine"] == "fast" and environment["engine_reason"] and environment["seed"] == 1


def test_a_run_says_which_of_its_requests_are_longer_than_its_step_costs_were_fitted_to(run):
    text = Path("small.toml").read_text()
    cluster = text[text.index("[cluster]") :]
    for tokens, told in ((300, []), (20_000, ["prompts to 20,000 tokens, fitted to 16,384"])):
        asked = f'[workload]\nconcurrency = 2\ninput_tokens = {tokens}\noutput_tokens = 3\nduration = "1s"\n'
        Path("loop.toml").write_text(asked + cluster)
        code, _, said = run("simulate", "loop.toml", "--quiet", "--result-dir", f"out{tokens}")
        assert code == 0, said
        assert json.loads(Path(f"out{tokens}/summary.json").read_text())["profile"]["extrapolated"] == told
        page = Path(f"out{tokens}/report.html").read_text()
        assert ("extrapolated" in page) == bool(told)


def test_a_run_without_rows_comes_to_the_same_and_says_so(run):
    flags = "simulate", "small.toml", "--quiet", "--goodput", "ttft.p99:5s tpot:50ms"
    assert run(*flags, "--result-dir", "rows")[0] == 0
    assert run(*flags, "--result-dir", "none", "--no-rows", "--by-client", "--by-window", "30s")[0] == 0
    assert Path("none/summary.json").read_bytes() == Path("rows/summary.json").read_bytes()
    known = ["environment.json", "report.html", "scenario.toml", "summary.json"]
    assert files("none") == sorted([*known, "by_client.parquet", "by_window.parquet"])
    page = Path("none/report.html").read_text()
    assert "rows were not kept (--no-rows)" in page and "by_client.parquet" in page
    requests = pd.read_parquet("rows/requests.parquet")
    by_client, by_window = pd.read_parquet("none/by_client.parquet"), pd.read_parquet("none/by_window.parquet")
    assert by_client.requests.tolist() == requests.groupby("client_id").size().tolist()
    assert by_window.start_s.tolist() == [0.0, 30.0, 60.0, 90.0]
    assert by_window.slo_attainment_frac.tolist() == requests.groupby(requests.arrival_s // 30).slo_ok.mean().tolist()


@pytest.mark.parametrize("suffix", ["parquet", "csv.gz"])
def test_many_requests_are_written_as_they_leave_and_drawn_in_part(run, monkeypatch, suffix):
    monkeypatch.setattr("experiments.tables.has_pyarrow", lambda: suffix == "parquet")
    monkeypatch.setattr("sim.probes.CHUNK_ROWS", 30)
    flags = "simulate", "small.toml", "--quiet", "--goodput", "ttft:1s"
    code, _, err = run(*flags, "--result-dir", "few")
    assert code == 0, err
    monkeypatch.setattr("sim.tally.EXACT_ROWS", 100)
    assert run(*flags, "--result-dir", "many")[0] == 0
    read = pd.read_parquet if suffix == "parquet" else pd.read_csv
    few, many = (read(f"{folder}/requests.{suffix}") for folder in ("few", "many"))
    assert len(many) > 100 and (many.arrival_s + many.e2el_s).round(6).is_monotonic_increasing
    pd.testing.assert_frame_equal(many.sort_values(["arrival_s", "request_id"], ignore_index=True), few)
    assert "Drawn from one in 4 of all requests" in Path("many/report.html").read_text()
    near, exact = (json.loads(Path(f"{folder}/summary.json").read_text()) for folder in ("many", "few"))
    assert near["ttft_p99_s"] != exact["ttft_p99_s"] and near["ttft_p99_s"] == pytest.approx(exact["ttft_p99_s"], rel=1 / 256)
    assert {key for key in exact if near[key] != exact[key]} <= {key for key in exact if re.search(r"_p\d+_s$", key)}


def test_the_resolved_scenario_repeats_the_run_to_the_byte(run):
    run("simulate", "small.toml", "--quiet", "--result-dir", "one")
    code, *_ = run("simulate", "one/scenario.toml", "--quiet", "--result-dir", "two")
    assert code == 0
    for name in ("summary.json", "requests.parquet", "steps.parquet", "scenario.toml"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes(), name


def test_plan_writes_its_answer_and_the_runs_behind_it(run):
    code, out, _ = run("plan", "small.toml", "--quiet", "--workers", "1", "--result-dir", "out", "--set", "workload.rate=20")
    plan = json.loads(Path("out/plan.json").read_text())
    assert code == 0 and f"{plan['instances']} instance" in out
    assert plan["lo"] <= plan["instances"] <= plan["hi"] and plan["verdict"] == "HOLDS"
    at = {row["instances"]: row["holds"] for row in plan["curve"]}
    assert at[plan["instances"]] and not at.get(plan["instances"] - 1, False)
    assert {run["seed"] for run in plan["runs"]} == {2, 3}
    assert json.loads(Path("out/summary.json").read_text())["instances"] == plan["instances"]


def test_compare_judges_naive_plans_on_the_real_mix(run):
    flags = ("--quiet", "--workers", "2", "--result-dir", "out", "--set", "workload.rate=2", "--set", "plan.replications=1")
    code, out, _ = run("compare", "small.toml", *flags)
    hour = json.loads(Path("out/compare.json").read_text())["hours"][0]
    assert code == 0 and "For its real clients this workload needs" in out
    naive, real = hour["naive"]["poisson"], hour["per_client"]
    assert {"instances", "ttft_p99_s", "tpot_p99_s", "attainment_frac"} <= set(naive)
    if naive["instances"] == real["instances"]:  # the same plan under the same traffic
        assert (naive["ttft_p99_s"], naive["tpot_p99_s"]) == (real["ttft_p99_s"], real["tpot_p99_s"])
    assert hour["start_s"] == 43200.0
    assert {"requests_per_client.parquet", "requests_naive_poisson.parquet", "report.html"} <= set(files("out"))


def test_a_closed_loop_keeps_its_requests_in_flight(run):
    Path("closed.toml").write_text(
        '[workload]\nconcurrency = 8\ninput_tokens = 64\noutput_tokens = 32\nduration = "20s"\n'
        '[cluster]\ngpu = "h100"\nmodel = "llama-3.1-8b"\n'
    )
    assert run("simulate", "closed.toml", "--quiet", "--result-dir", "out")[0] == 0
    requests = pd.read_parquet("out/requests.parquet")
    assert (requests.arrival_s == 0).sum() == 8
    ends = requests.arrival_s + requests.e2el_s
    middle = [((requests.arrival_s <= t) & (ends > t)).sum() for t in (3.21, 7.77, 15.05)]
    assert middle == [8, 8, 8]


def test_a_used_folder_is_refused_and_replaced_only_when_asked(run):
    run("simulate", "small.toml", "--quiet", "--result-dir", "out")
    before = Path("out/summary.json").read_bytes()
    code, _, err = run("simulate", "small.toml", "--quiet", "--result-dir", "out", "--seed", "9")
    assert code == 2 and "already holds results; --force" in err and Path("out/summary.json").read_bytes() == before
    assert run("simulate", "small.toml", "--quiet", "--result-dir", "out", "--seed", "9", "--force")[0] == 0
    assert Path("out/summary.json").read_bytes() != before
    assert files() == sorted([*(f"out/{name}" for name in files("out")), "small.toml"])


def test_force_never_replaces_a_folder_that_no_run_made(run):
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("years of work")
    code, _, err = run("simulate", "small.toml", "--quiet", "--result-dir", "mine", "--force")
    assert code == 2 and "was not made by servecast" in err and files("mine") == ["thesis.tex"]


def test_dry_run_prints_a_scenario_that_reads_back_and_writes_nothing(run):
    code, out, _ = run("simulate", "small.toml", "--dry-run", "--set", "cluster.instances=5")
    resolved = tomllib.loads(out)
    assert code == 0 and resolved["cluster"]["instances"] == 5 and resolved["engine"]["max_num_seqs"] == 1024
    assert files() == ["small.toml"]


def test_assert_slo_turns_a_missed_slo_into_exit_code_3(run):
    flags = ("simulate", "small.toml", "--quiet", "--assert-slo")
    assert run(*flags, "--goodput", "ttft.p99:5s", "--result-dir", "a")[0] == 0
    assert run(*flags, "--goodput", "ttft.p99:1ms", "--result-dir", "b")[0] == 3


TRACE_HEAD = "arrival_s,input_tokens,output_tokens\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "workload.rat=3"], "workload.rat: unknown key; did you mean 'rate'?"),
        (["--set", "workload.rate=fast"], "expected a number, without a unit"),
        (["--set", "workload.duration=5lightyears"], "unknown unit 'lightyears'"),
        (["--set", "workload.rate=0"], "greater than 0"),
        (["--set", "workload.pool=deepsek-r1"], "did you mean 'deepseek-r1'?"),
        (["--set", "cluster.gpu=h10"], "did you mean 'h100'?"),
        (["--set", "cluster.model=llama-3.1-70b"], "the smallest tp that fits"),
        (["--set", "cluster.tp=3"], "does not divide"),
        (["--set", "workload.arrivals=weibul"], "workload.arrivals: expected one of"),
        (["--set", "clients.rates=3"], "did you mean 'rate_rps'?"),
        (["--set", "clients.cv=[3, 1]"], "the least before the most"),
        (["--set", "clients.rate_rps=[1e9, 2e9]"], "none of its 73 clients"),
        (["--set", "engine.max_model_len=3"], "all 2"),
        (["--set", "engine.max_num_seqs=9000"], "vLLM wants a token for every seat"),
        (["--set", "engine.enable_chunked_prefill=false", "--set", "engine.max_num_batched_tokens=4096"], "whole prompt"),
        (["--set", "engine.long_prefill_token_threshold=200000"], "vLLM wants 0 (off) to max_model_len"),
        (["--set", "engine.encoder_cache_size=100"], "both are 0 (text alone) or both are above"),
        (["--engine", "fats"], "expected auto, reference, fast; did you mean 'fast'?"),
        (["--by-window", "0s"], "--by-window 0s: expected a time of at least 0.001s"),
        (["--by-window", "60lightyears"], "--by-window: unknown unit 'lightyears'"),
    ],
)
def test_a_users_mistake_is_one_screen_exit_2_and_nothing_written(run, words, said):
    code, out, err = run("simulate", "small.toml", "--quiet", *words)
    assert code == 2 and said in err, err
    assert "Traceback" not in err and len(err.splitlines()) <= 24 and out == ""
    assert files() == ["small.toml"]


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        ("", "trace.csv"),
        (TRACE_HEAD, "no request"),
        (TRACE_HEAD + "-1.0,10,10\n", "line 2"),
        (TRACE_HEAD + "2.0,10,10\n1.0,10,10\n", "line 3"),
        (TRACE_HEAD + "0.0,-5,10\n", "line 2"),
        (TRACE_HEAD + "0.0,ten,10\n", "line 2"),
        ("arrival_s,input_tokns,output_tokens\n0.0,1,1\n", "input_tok"),
    ],
)
def test_a_broken_trace_is_named_with_its_line(run, trace, said):
    Path("trace.csv").write_text(trace)
    text = '[workload]\ntrace = "trace.csv"\n[cluster]\ngpu = "h100"\nmodel = "llama-3.1-8b"\n'
    Path("own.toml").write_text(text)
    code, _, err = run("simulate", "own.toml", "--quiet")
    assert code == 2 and said in err and "Traceback" not in err, err
    assert files() == ["own.toml", "small.toml", "trace.csv"]


def test_an_slo_that_nothing_can_hold_is_told_by_plan(run):
    code, _, err = run("plan", "small.toml", "--quiet", "--workers", "0")
    assert code == 2 and "--workers 0: expected at least 1" in err
    code, _, err = run("plan", "small.toml", "--quiet", "--goodput", "ttft.p99:1ms")
    assert code == 2 and "no number of instances can hold ttft.p99:1ms" in err and files() == ["small.toml"]
    flags = ("--goodput", "ttft.p99:700ms", "--set", "plan.max_instances=1", "--set", "workload.rate=60", "--workers", "1")
    code, _, err = run("plan", "small.toml", "--quiet", *flags)
    assert code == 2 and "plan.max_instances = 1" in err and files() == ["small.toml"]


def test_plan_and_compare_need_an_slo(run):
    Path("none.toml").write_text(SMALL.replace('slo = "ttft.p99:5s tpot.p99:50ms"', ""))
    for verb in ("plan", "compare"):
        code, _, err = run(verb, "none.toml", "--quiet")
        assert code == 2 and "slo: missing" in err


def test_requests_that_are_too_long_are_rejected_rows(run):
    Path("trace.csv").write_text(TRACE_HEAD + "0.0,10,10\n1.0,200000,10\n")
    Path("own.toml").write_text('[workload]\ntrace = "trace.csv"\n[cluster]\ngpu = "h100"\nmodel = "llama-3.1-8b"\n')
    code, out, _ = run("simulate", "own.toml", "--quiet", "--result-dir", "out")
    assert code == 0 and "1 rejected as too long" in out
    requests = pd.read_parquet("out/requests.parquet")
    assert requests.finish_reason.tolist() == ["length", "rejected"]
    assert requests.reject_reason.tolist() == ["", "max_model_len"]


def test_workload_and_profiles_verbs_answer(run):
    assert "deepseek-r1" in run("workload", "list")[1]
    assert "apache" in run("workload", "describe", "deepseek-r1")[1].lower()
    assert "measured" in run("profiles", "list")[1]
    assert "KV blocks" in run("profiles", "show", "h100", "llama-3.1-70b")[1]
    code, _, err = run("profiles", "show", "h10", "llama-3.1-70b")
    assert code == 2 and "did you mean 'h100'" in err


def test_generate_writes_a_stream_that_simulate_reads(run):
    words = ("workload", "generate", "--pool", "deepseek-r1", "--start", "12h", "--duration", "2min", "--rate", "2")
    assert run(*words, "--out", "s.csv")[0] == 0
    code, _, err = run(*words, "--out", "s.csv")
    assert code == 2 and "exists already" in err
    own = SMALL.replace('pool = "deepseek-r1"\nstart = "12h"\nduration = "2min"\nrate = 2.0', 'trace = "s.csv"')
    Path("own.toml").write_text(own)
    run("simulate", "own.toml", "--quiet", "--result-dir", "from_file")
    run("simulate", "small.toml", "--quiet", "--result-dir", "from_pool")
    one, two = (pd.read_parquet(f"{name}/requests.parquet") for name in ("from_file", "from_pool"))
    assert one.equals(two[one.columns])


def test_python_dash_m_is_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "--version"], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0 and done.stdout.startswith("servecast ")


def test_a_foreign_package_in_our_place_is_named(tmp_path):
    (tmp_path / "sim.py").write_text("")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[1]}"}
    code = "from experiments.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 2 and "is not servecast's" in done.stderr


def test_engines_leave_the_same_bytes_and_say_which_one_it_was(run):
    told = {}
    for engine in ("auto", "reference", "fast"):
        code, _, err = run("simulate", "small.toml", "--engine", engine, "--result-dir", engine)
        assert code == 0 and "engine: " in err
        told[engine] = json.loads(Path(engine, "environment.json").read_text())["engine"]
    assert told == {"auto": "fast", "reference": "reference", "fast": "fast"}
    for name in ("summary.json", "requests.parquet", "steps.parquet", "scenario.toml"):
        assert len({Path(engine, name).read_bytes() for engine in told}) == 1


def test_the_doctor_says_what_is_installed_and_what_is_compiled(run):
    code, out, _ = run("doctor")
    assert code == 0 and "numpy" in out and "kernel cache" in out
    assert all(f"simulation kernels, {family}: " in out for family in FAMILIES)
