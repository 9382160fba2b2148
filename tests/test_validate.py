"""Validation: every measured figure is judged or skipped with a reason, and what is judged is what was measured."""

import csv
import gzip
import io
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.errors import UserError
from experiments.validate import validate, validate_points, validate_run
from experiments.validate.point import NEEDED, OPTIONAL, Setting, read_points
from experiments.validate.prediction import Unplayable, predict
from experiments.validate.replay import kv_frac_at, looks_at
from experiments.validate.run_folder import read_run
from experiments.validate.shipped import gpu_of, model_of, refusal
from experiments.validate.traffic import OPEN_REQUESTS, ROUNDS, traffic_of
from hwprofiles import kv_blocks, load_software, load_step_cost
from sim import Cluster, Engine, simulate
from sim.latency import latencies_s
from sim.request import STEP
from tests.shared_data import SHARED, needs_shared
from workloads import Stream
from workloads.stream import new_rows

ROW = {
    "id": "a",
    "gpu": "H100-SXM-80GB",
    "model": "Llama-3.1-8B",
    "precision": "bf16",
    "tp": "1",
    "software": "vLLM",
    "isl": "512",
    "osl": "32",
    "load_kind": "closed_concurrency",
    "load_value": "4",
    "metric": "tpot_mean_s",
    "measured": "0.01",
}
BASE = Setting("H100-SXM-80GB", "Llama-3.1-8B", "bf16", 1, "vLLM", 512, 32, "closed_concurrency", 4.0)
PAGE = Path(__file__).resolve().parents[1] / "docs" / "validation.md"


def text_of(*rows):
    """A file of rows, each ROW with some cells changed."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [*NEEDED, *OPTIONAL], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(ROW | row for row in rows)
    return out.getvalue()


def judged(tmp_path, *rows, **options):
    path = tmp_path / "points.csv"
    path.write_text(text_of(*rows))
    return validate_points(path, quiet=True, **options)


# ---- laws ----

CELLS = st.fixed_dictionaries(
    {
        "id": st.sampled_from("ab"),
        "metric": st.sampled_from(["ttft_mean_s", "tpot_p99_s", "e2e_median_s", "output_tokens_per_s", "power_mean_w"]),
        "measured": st.sampled_from(["0.01", "0.02", "0.5"]),
        "suspect": st.sampled_from(["", "", "1"]),
        "load_value": st.sampled_from(["2", "3"]),
        "mode": st.sampled_from(["", "agg", "epd"]),
    }
)


@settings(max_examples=30)
@given(st.lists(CELLS, max_size=12))
def test_every_row_is_in_exactly_one_point_and_every_simulated_point_in_one_group(tmp_path_factory, rows):
    told = judged(tmp_path_factory.mktemp("law"), *rows)
    points, groups = told["points"], told["groups"]
    assert sum(point["rows"] for point in points) == len(rows)
    asked = Counter((row["id"], row["metric"]) for row in rows)
    found = Counter()
    for point in points:
        found[point["id"], point["metric"]] += point["rows"]
    assert asked == found
    assert all((point["skipped"] is None) == (point["predicted"] is not None) for point in points)
    given = [group for group in groups if not group["derived"]]
    assert sum(group["n"] for group in given) == sum(point["skipped"] is None for point in points)
    assert sum(entry["n"] for entry in told["skipped"]) == sum(point["skipped"] is not None for point in points)
    for group in given:
        errors = [p["predicted"] / p["measured"] - 1 for p in points if p["metric"] == group["metric"] and p["predicted"]]
        assert group["mape_frac"] == pytest.approx(sum(map(abs, errors)) / len(errors))
        assert group["bias_frac"] == pytest.approx(sum(errors) / len(errors))


@settings(max_examples=150)
@given(st.binary(max_size=80), st.integers(0, 600), st.integers(0, 30))
def test_a_damaged_file_is_read_or_refused_in_sentences(tmp_path_factory, junk, at, cut):
    path = tmp_path_factory.mktemp("damaged") / "points.csv"
    sound = text_of({}, {"id": "b", "isl": "64"}).encode()
    path.write_bytes(sound[:at] + junk + sound[at + cut :])
    try:
        read_points(path)
    except UserError as error:
        assert str(path) in str(error)


def test_predictions_as_measurements_have_no_error(tmp_path):
    metrics = ["ttft_mean_s", "ttft_p99_s", "tpot_median_s", "e2e_p90_s", "output_tokens_per_s", "requests_per_s"]
    for load_kind, load_value in [
        ("closed_concurrency", "4"),
        ("poisson_rate", "8"),
        ("static_batch", "3"),
        ("single", ""),
        ("saturated", "inf"),
    ]:
        rows = [{"metric": metric, "load_kind": load_kind, "load_value": load_value} for metric in metrics]
        few = [row | {"notes": "requests=60"} for row in rows]
        first = judged(tmp_path, *few)["points"]
        again = [row | {"measured": repr(point["predicted"])} for row, point in zip(few, first)]
        assert [point["error_frac"] for point in judged(tmp_path, *again)["points"]] == [0.0] * len(metrics)
        halved = [row | {"measured": repr(point["predicted"] / 2)} for row, point in zip(few, first)]
        assert [point["error_frac"] for point in judged(tmp_path, *halved)["points"]] == [1.0] * len(metrics)


# ---- what is simulated, by hand ----


def step_s(prefill=0, decodes=0, context=0, samples=0):
    """A step of Llama-3.1-8B on one H100."""
    table = load_step_cost("h100", "llama-3.1-8b").table(8192, 1024, 131_072, 16 * kv_blocks("h100", "llama-3.1-8b"))
    return table.step_ns(prefill, prefill * prefill, decodes, context, samples) / 1e9


def test_a_single_request_takes_its_prefill_and_its_decodes():
    prediction = predict(replace(BASE, load_kind="single", load=1.0, input_tokens=100, output_tokens=4))
    first, rest = step_s(100, samples=1), [step_s(0, 1, 100 + k, 1) for k in (1, 2, 3)]
    api_s = load_software("vllm-2026").api_ms / 1e3
    assert prediction.of("ttft_mean_s") == pytest.approx(api_s + first, abs=2e-9)
    assert prediction.of("tpot_mean_s") == pytest.approx(sum(rest) / 3, abs=2e-9)
    assert prediction.of("e2e_mean_s") == pytest.approx(api_s + first + sum(rest), abs=2e-9)
    assert prediction.of("output_tokens_per_s") == pytest.approx(4 / (first + sum(rest)))
    assert prediction.of("total_tokens_per_s") == pytest.approx(104 / (first + sum(rest)))
    assert prediction.grade == "measured"


def test_a_closed_loop_begins_with_all_its_requests_at_once():
    loop = traffic_of(BASE, seed=1)
    assert list(loop.first()["arrival_ns"]) == [0] * 4 and loop.requests == ROUNDS * 4
    few = predict(replace(BASE, requests=4)).of("ttft_mean_s")
    assert few == pytest.approx(predict(replace(BASE, load_kind="static_batch")).of("ttft_mean_s"))
    assert few > 3 * step_s(512, samples=1)  # four prompts in one step


def test_a_static_batch_is_one_call_that_ends_with_its_last_answer():
    batch = replace(BASE, load_kind="static_batch", load=40.0, input_tokens=1024)  # 40,960 prompt tokens: five budgets
    prediction = predict(batch)
    ends = prediction.window.records["finish_ns"] / 1e9
    assert ends.max() > ends.min()
    assert prediction.of("e2e_mean_s") == ends.max()
    once = predict(replace(batch, traits=frozenset(["time of a run with one output token"])))
    assert set(once.window.records["output_tokens"]) == {1}
    assert once.of("ttft_mean_s") == once.window.records["finish_ns"].max() / 1e9 < prediction.of("e2e_mean_s")


def test_requests_of_the_warm_up_are_not_counted():
    every, later = predict(BASE), predict(replace(BASE, warmup_requests=4))
    assert len(later.window.records) == len(every.window.records) - 4
    assert later.of("ttft_mean_s") == pytest.approx(latencies_s(every.window.records[4:])["ttft"].mean())
    assert 0 < later.window.span_s < every.window.span_s
    with pytest.raises(Unplayable, match="warm-up"):
        predict(replace(BASE, warmup_requests=10_000))


@pytest.mark.parametrize("load_kind", ["closed_concurrency", "poisson_rate"])
def test_a_cached_share_of_the_prompt_is_computed_once(load_kind):
    base = replace(BASE, load_kind=load_kind, input_tokens=1000, requests=20)
    cold, warm = predict(base), predict(replace(base, cached_prompt_frac=0.75))
    assert cold.window.records["cached_tokens"].sum() == 0
    assert list(warm.window.records["cached_tokens"][-10:]) == [750 // 16 * 16] * 10
    assert warm.of("ttft_mean_s") < cold.of("ttft_mean_s")
    seen = predict(replace(base, cached_prompt_frac=1.0)).window.records["cached_tokens"].max()
    assert seen < 1000  # a prompt's last token is computed whatever is cached


def test_open_loops_arrive_at_their_rate():
    base = replace(BASE, load_kind="poisson_rate", load=8.0)
    poisson, constant = (traffic_of(replace(base, arrivals=kind), 1).collect() for kind in ("poisson", "constant"))
    assert np.unique(np.diff(constant["arrival_ns"])).tolist() == [125_000_000]
    gaps_s = np.diff(poisson["arrival_ns"]) / 1e9
    assert len(gaps_s) == OPEN_REQUESTS - 1
    assert gaps_s.mean() == pytest.approx(1 / 8, rel=4 / OPEN_REQUESTS**0.5)
    assert gaps_s.std() == pytest.approx(1 / 8, rel=0.1)  # an exponential's is its mean
    again, other = traffic_of(base, 1).collect(), traffic_of(base, 2).collect()
    assert np.array_equal(poisson, again) and not np.array_equal(poisson, other)


def test_repeats_count_as_their_median(tmp_path):
    measured = ["0.01", "0.04", "0.02"]
    (point,) = judged(tmp_path, *({"measured": value} for value in measured))["points"]
    assert (point["measured"], point["rows"]) == (median(map(float, measured)), 3)
    assert point["spread_frac"] == pytest.approx(1.5)


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 600), st.integers(1, 90), st.integers(1, 40), st.floats(0.0, 1.4))
def test_a_loop_whose_prompts_share_nothing_is_played_alike_without_the_prefix_cache(
    n, input_tokens, output_tokens, requests, room
):
    blocks = n * int(input_tokens / 16 + room * output_tokens / 16 + 1) + 8  # from the prompts alone to more than is needed
    cluster = Cluster(gpu="h100", model="llama-3.1-8b", engine=Engine(num_gpu_blocks_override=blocks))
    setting = replace(BASE, load=float(n), input_tokens=input_tokens, output_tokens=output_tokens, requests=requests)
    with_cache = simulate(traffic_of(setting, 1), cluster, keep_steps=False).records
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.validate.prediction.cluster_of", lambda target: cluster)
        told = predict(setting).window.records
    assert np.array_equal(np.sort(with_cache, order=("arrival_ns", "request_id")), told)


def test_settings_that_are_simulated_alike_are_simulated_once(tmp_path, monkeypatch):
    played = []
    monkeypatch.setattr("experiments.validate.points.predict", lambda *given: played.append(given) or predict(*given))
    changes = [{}, {"id": "b", "model": "Llama-3-8B", "precision": "fp16", "gpu": "h100"}, {"id": "c", "osl": "33"}]
    points = judged(tmp_path, *changes)["points"]
    assert len(played) == 2 and points[0]["predicted"] == points[1]["predicted"] != points[2]["predicted"]


def test_a_loop_that_does_not_fit_is_averaged_apart(tmp_path):
    wide = {"isl": "8192", "load_value": "64", "notes": "requests=64"}  # 526,336 tokens where 441,488 fit
    (group,) = judged(tmp_path, {}, {"id": "b", **wide})["groups"]
    assert (group["n"], group["capped_n"]) == (1, 1)
    assert group["mape_frac"] != group["capped_mape_frac"]


# ---- what is skipped ----


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"gpu": "GH200-96GB"}, "no GPU GH200-96GB"),
        ({"gpu": "A100-40GB"}, "no GPU A100-40GB is shipped, only a100 with 80 GiB"),
        ({"model": "Gemma-7B"}, "no model Gemma-7B"),
        ({"precision": "int3"}, "no step cost for h100 llama-3.1-8b int3 tp 1"),
        ({"tp": "64"}, "no step cost .* tp 64"),
        ({"tp": ""}, "tp is not recorded"),
        ({"pp": "2"}, "pipeline"),
        ({"n_gpus": "8"}, "more GPUs than tp"),
        ({"mode": "epd"}, "mode epd"),
        ({"osl": ""}, "data set"),
        ({"osl": "1"}, "no TPOT"),
        ({"metric": "goodput_qps"}, "goodput_qps"),
        ({"metric": "tpot_p42_s"}, "tpot_p42_s"),
        ({"load_kind": "poisson_rate", "load_value": "max"}, "search for a rate"),
        ({"suspect": "1"}, "suspect"),
        ({"notes": "SUSPECT: too fast"}, "suspect: too fast"),
        ({"notes": "moe; attention_dp=2"}, "data-parallel"),
        ({"notes": "moe_tp=1; moe_ep=8"}, "expert"),
        ({"notes": "multimodal"}, "images"),
        ({"isl": "200000"}, "do not fit"),
        ({"notes": "warmup_requests=1000"}, "warm-up"),
        ({"load_kind": "poisson_rate", "load_value": "1e-30"}, "arrive over more than"),
    ],
)
def test_what_cannot_be_simulated_is_skipped_with_its_reason(tmp_path, change, reason):
    told = judged(tmp_path, change)
    (point,) = told["points"]
    assert re.search(reason, point["skipped"])
    assert (point["predicted"], point["error_frac"], told["groups"]) == (None, None, [])
    assert told["skipped"] == [{"reason": point["skipped"], "n": 1}]


def test_suspect_rows_are_judged_on_demand(tmp_path):
    (point,) = judged(tmp_path, {"suspect": "1"}, include_suspect=True)["points"]
    assert point["skipped"] is None


def test_names_of_gpus_and_models_are_matched_by_word():
    assert [gpu_of(name) for name in ("H100-SXM-80GB", "h100", "A100_80GB", "H10", "GH100", "")] == [
        "h100",
        "h100",
        "a100",
        None,
        None,
        None,
    ]
    assert gpu_of("NVIDIA H100 80GB HBM3") == gpu_of("nvidia-h100") == "h100" and gpu_of("nvidia") is None
    assert model_of("meta-llama/Llama-3.1-8B") == model_of("Llama-3-8B") == "llama-3.1-8b"
    assert model_of("Llama-3.1-8") is None
    assert refusal(replace(BASE, precision="fp16"), "ttft_mean_s") == ""


def test_gpus_whose_words_run_together_are_matched_by_letters_and_digits(monkeypatch):
    for shipped in ("rtx_pro_6000", "rtx_pro_6000_server"):
        monkeypatch.setattr("experiments.validate.shipped.known_gpus", lambda name=shipped: ["h100", name])
        names = ("RTXPRO6000", "RTX PRO 6000", "NVIDIA RTX-PRO-6000")
        assert [gpu_of(name) for name in names] == [shipped] * len(names)
        assert gpu_of("RTXPRO600") is gpu_of("RTXPRO60000") is None


# ---- broken files ----


@pytest.mark.parametrize(
    "change, told",
    [
        ({"measured": "nan"}, "line 2, measured = 'nan': expected a number"),
        ({"measured": "-1"}, "line 2, measured = '-1'"),
        ({"measured": "0"}, "expected more than 0"),
        ({"measured": "1e999"}, "line 2, measured = '1e999'"),
        ({"measured": "1_0"}, "line 2, measured = '1_0'"),
        ({"measured": "12 ms"}, "line 2, measured = '12 ms'"),
        ({"measured": "2e5"}, "line 2, measured = '2e5': expected a number from 0 to 100000"),
        ({"metric": "tpot_mean_ms"}, "metric = 'tpot_mean_ms': expected a latency in seconds, such as tpot_mean_s"),
        ({"metric": ""}, "line 2, metric = '': expected a text"),
        ({"isl": "-5"}, "line 2, isl = '-5'"),
        ({"isl": "1.5"}, "line 2, isl = '1.5': expected a whole number"),
        ({"osl": "9" * 5000}, "line 2, osl = '" + "9" * 40 + "'"),
        ({"tp": "0"}, "line 2, tp = '0'"),
        ({"load_kind": "closed_concurency"}, "load_kind = .*did you mean 'closed_concurrency'"),
        ({"load_value": "1e9"}, "line 2, load_value = '1e9'"),
        ({"load_value": ""}, "line 2, load_value = ''"),
        ({"load_kind": "saturated", "load_value": "7"}, "load_value = '7': expected inf"),
        ({"load_kind": "poisson_rate", "load_value": "0"}, "expected more than 0 requests/s, or max"),
        ({"cached_prompt_frac": "75"}, "cached_prompt_frac = '75': expected a number from 0 to 1"),
        ({"arrivals": "bursty"}, "arrivals = 'bursty': expected one of poisson, constant"),
        ({"suspect": "yes"}, "suspect = 'yes'"),
        ({"notes": "requests=many"}, "expected requests= a whole number"),
    ],
)
def test_a_wrong_cell_is_told_with_line_and_column(tmp_path, change, told):
    with pytest.raises(UserError) as error:
        judged(tmp_path, change)
    assert re.search(told, str(error.value)) and len(error.value.mistakes) == 1


def test_all_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(UserError) as error:
        judged(tmp_path, {"isl": "x"}, {"id": "b"}, {"id": "c", "tp": "y", "measured": ""})
    places = {re.search(r"line \d+, \w+", mistake)[0] for mistake in error.value.mistakes}
    assert places == {"line 2, isl", "line 4, tp", "line 4, measured"}


def test_one_id_names_one_configuration(tmp_path):
    with pytest.raises(UserError, match=r"line 3, id = 'a': input_tokens 64, but 512 on line 2"):
        judged(tmp_path, {}, {"isl": "64", "metric": "ttft_mean_s"})


@pytest.mark.parametrize(
    "damage, told",
    [
        (lambda text: b"", "empty"),
        (lambda text: text.replace(b"measured", b"measure", 1), "'measured' is missing; did you mean 'measure'"),
        (lambda text: text.replace(b"source", b"isl", 1), "line 1: column 'isl' occurs 2 times"),
        (lambda text: text.replace(b"cached_prompt_frac", b"cached_prompt_fraction"), "did you mean 'cached_prompt_frac'"),
        (lambda text: text + b"a,b\n", "line 3: 2 cells, expected 21"),
        (lambda text: text + b"\xff\xfe\n", "line 3: not UTF-8"),
        (lambda text: text + b'"' + b"x," * 20 + b"\n", "line 3: not readable as CSV"),
        (lambda text: text + b"x" * (2 << 20), "line 3: longer than"),
        (lambda text: gzip.compress(text)[:-9], "not readable"),
        (lambda text: gzip.compress(text + b"\n" * (80 << 20)), "unpacks to more than"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, damage, told):
    path = tmp_path / "points.csv"
    path.write_bytes(damage(text_of({}).encode()))
    with pytest.raises(UserError, match=told):
        validate_points(path)


def test_columns_of_others_are_passed_over(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(text_of({}).replace("licence", "whose"))
    assert len(read_points(path)) == 1


def test_a_missing_file_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        validate(tmp_path / "points.csv")
    with pytest.raises(UserError, match=r"no meta\.json"):
        validate(tmp_path)


# ---- the JSON file ----


def test_the_json_file_is_what_is_returned(tmp_path):
    target = tmp_path / "out.json"
    told = judged(tmp_path, {}, {"id": "b", "gpu": "TPU"}, json_out=target)
    assert json.loads(target.read_text()) == json.loads(json.dumps(told))


def test_a_mistake_leaves_no_file_and_no_changed_one(tmp_path):
    target = tmp_path / "out.json"
    target.write_text("before")
    with pytest.raises(UserError):
        judged(tmp_path, {"isl": "x"}, json_out=target)
    assert target.read_text() == "before"
    for place in (tmp_path, tmp_path / "none" / "out.json"):
        with pytest.raises(UserError, match="--json"):
            judged(tmp_path, {}, json_out=place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "points.csv"]


def test_the_screen_shows_points_groups_and_reasons(tmp_path, capsys):
    judged(tmp_path, {}, {"id": "b", "metric": "ttft_mean_s"}, {"id": "c", "gpu": "TPU"})
    printed = capsys.readouterr().out
    assert "tpot_mean_s" in printed and "MAPE" in printed
    assert "2 simulated, 1 skipped:" in printed and "no GPU TPU is shipped" in printed


# ---- recorded runs ----

META = {"gpu": "H100", "model": "meta-llama/Llama-3.1-8B", "vllm_version": "0.33"}
COLUMNS = ("request_id", "arrival_s", "input_tokens", "output_tokens", "scheduled_s", "first_token_s", "last_token_s")


def recorded(folder, edit=lambda lines: lines, meta=META, looks=None, blocks=True):
    """A run folder that the simulator itself recorded: 30 requests in 3 s that begin with the same 64 tokens."""
    rows = new_rows(30)
    rows["request_id"] = np.arange(30)
    rows["arrival_ns"] = np.arange(30) * 100_000_000
    rows["input_tokens"], rows["output_tokens"] = 100 + 8 * np.arange(30), 20 + np.arange(30)
    rows["max_tokens"] = rows["output_tokens"]
    pieces = np.zeros(60, [("segment_id", "i8"), ("tokens", "i4")])
    pieces["tokens"][0::2], pieces["tokens"][1::2] = 64, rows["input_tokens"] - 64
    pieces["segment_id"][1::2] = np.arange(1, 31)
    rows["segments_start"], rows["segments_count"] = 2 * np.arange(30), 2
    stream = Stream(3.0, lambda: (rows,), segments=pieces if blocks else None)
    if not blocks:
        rows["segments_count"] = 0
    records = np.sort(simulate(stream, Cluster(gpu="h100", model="llama-3.1-8b")).records, order="request_id")
    times = ("arrival_ns", "scheduled_ns", "first_token_ns", "finish_ns")
    lines = [",".join((*COLUMNS, "block16_ids"))]
    for record in records:
        arrival, scheduled, first, last = (f"{record[name] / 1e9:.9f}" for name in times)
        cells = [record["request_id"], arrival, record["input_tokens"], record["output_tokens"], scheduled, first, last]
        lines.append(",".join(map(str, [*cells, "7 8 9 10" if blocks else ""])))
    folder.mkdir(exist_ok=True)
    (folder / "requests.csv").write_text("\n".join(edit(lines)) + "\n")
    (folder / "meta.json").write_text(meta if isinstance(meta, str) else json.dumps(meta))
    if looks is not None:
        (folder / "timeseries.csv").write_text(looks)
    return folder


@pytest.mark.parametrize("blocks", [True, False])
def test_a_run_of_the_simulator_replays_to_itself(tmp_path, blocks):
    told = validate_run(recorded(tmp_path / "run", blocks=blocks), tmp_path / "out.json", quiet=True)
    metrics = {f"{name}_{stat}_s" for name in ("ttft", "tpot", "e2e") for stat in ("mean", "median", "p90", "p99")}
    assert {point["metric"] for point in told["points"]} == metrics | {"running_mean", "waiting_mean"}
    for point in told["points"]:
        assert point["predicted"] == pytest.approx(point["measured"], rel=1e-6, abs=1e-9), point["metric"]
    assert len(told["over_time"]) >= 3
    for moment in told["over_time"]:
        assert moment["running_measured"] == moment["running_predicted"] > -1
        assert moment["waiting_measured"] == moment["waiting_predicted"]
    assert json.loads((tmp_path / "out.json").read_text())["over_time"] == told["over_time"]


def test_shared_blocks_are_shared_in_the_replay(tmp_path):
    shared, own = (validate_run(recorded(tmp_path / name), quiet=True) for name in ("shared", "own"))
    assert shared["points"][0]["predicted"] == own["points"][0]["predicted"]
    folder = recorded(tmp_path / "cut", edit=lambda lines: [line.replace("7 8 9 10", "") for line in lines])
    assert validate_run(folder, quiet=True)["points"][0]["predicted"] > shared["points"][0]["predicted"]


def test_a_request_waits_until_it_is_scheduled_and_runs_until_its_last_token():
    looks = looks_at(np.array([0.5, 1.0, 2.5, 4.0]), *map(np.array, ([0.0, 1.0, 2.0], [0.0, 2.0, 3.0], [2.0, 3.0, 4.0])))
    assert looks[["t_s", "running", "waiting"]].tolist() == [(0.5, 1, 0), (1.0, 1, 1), (2.5, 1, 1), (4.0, 0, 0)]
    assert np.isnan(looks["kv_frac"]).all()


def test_the_server_s_own_counts_are_taken_where_they_are_there(tmp_path):
    told = validate_run(recorded(tmp_path / "run", looks="t,running,waiting\n0.5,3,1\n1.5,5,0\n"), quiet=True)
    means = {point["metric"]: point["measured"] for point in told["points"]}
    assert (means["running_mean"], means["waiting_mean"]) == (4.0, 0.5)
    assert [moment["t_s"] for moment in told["over_time"]] == [0.5, 1.5]


def test_the_share_of_kv_blocks_at_a_moment_is_that_of_the_step_under_way():
    steps = np.zeros(2, STEP)
    steps["start_ns"], steps["duration_ns"], steps["kv_blocks_used"] = [10**9, 3 * 10**9], 10**9, [25, 50]
    at_s = np.array([0.5, 1.0, 1.5, 2.5, 3.5, 9.0])
    assert kv_frac_at(at_s, steps, num_blocks=101).tolist() == [0.0, 0.25, 0.25, 0.0, 0.5, 0.0]


def test_kv_shares_are_compared_where_they_are_recorded(tmp_path, capsys):
    told = validate_run(recorded(tmp_path / "run", looks="t,running,waiting,kv_cache_pct\n0.5,3,1,0\n1.5,5,0,50\n"))
    (point,) = (point for point in told["points"] if point["metric"] == "kv_mean_frac")
    assert point["measured"] == 0.25 and 0.0 < point["predicted"] < 0.01  # some hundred tokens of 441,488
    assert [moment["kv_frac_measured"] for moment in told["over_time"]] == [0.0, 0.5]
    assert "kv_frac_measured" in capsys.readouterr().out


def test_a_column_of_zero_kv_shares_was_not_recorded(tmp_path, capsys):
    told = validate_run(recorded(tmp_path / "run", looks="t,running,waiting,kv_cache_pct\n0.5,3,1,0.0\n1.5,5,0,0.0\n"))
    assert "kv_mean_frac" not in {point["metric"] for point in told["points"]}
    assert {moment["kv_frac_measured"] for moment in told["over_time"]} == {None}
    assert all(moment["kv_frac_predicted"] > 0.0 for moment in told["over_time"])
    assert "kv_frac_measured" not in capsys.readouterr().out


def test_a_kv_share_beyond_all_blocks_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="line 2, kv_cache_pct = '101': expected a number from 0 to 100"):
        read_run(recorded(tmp_path / "run", looks="t,running,waiting,kv_cache_pct\n0.5,3,1,101\n"))


@pytest.mark.parametrize(("recorded_as", "played"), [("fp8", "fp8"), (None, "auto")])
def test_the_type_of_the_kv_cache_of_a_run_is_the_one_recorded(tmp_path, recorded_as, played):
    run = read_run(recorded(tmp_path / "run", meta=META | {"engine_kwargs": {"kv_cache_dtype": recorded_as}}))
    assert Engine(**run.served.engine).kv_cache_dtype == played


def test_the_engine_of_a_run_is_the_one_recorded(tmp_path):
    one_seat = META | {"engine_kwargs": {"max_num_seqs": 1, "max_num_batched_tokens": 2048, "dtype": "bfloat16"}}
    free, narrow = (
        {point["metric"]: point["predicted"] for point in validate_run(folder, quiet=True)["points"]}
        for folder in (recorded(tmp_path / "free"), recorded(tmp_path / "narrow", meta=one_seat))
    )
    assert narrow["running_mean"] <= 1.0 < free["running_mean"]
    assert narrow["waiting_mean"] > free["waiting_mean"]


@pytest.mark.parametrize(
    "meta, reason",
    [
        ({"gpu": "RTXPRO9999"}, "no GPU RTXPRO9999"),
        ({"engine_kwargs": {"data_parallel_size": 2}}, "more GPUs than tp"),
        ({"engine_kwargs": {"enable_expert_parallel": True}}, "expert"),
        ({"engine_kwargs": {"max_model_len": 64}}, "do not fit"),
    ],
)
def test_a_run_that_cannot_be_simulated_is_skipped_with_its_reason(tmp_path, meta, reason):
    told = validate_run(recorded(tmp_path / "run", meta=META | meta), quiet=True)
    assert {bool(re.search(reason, point["skipped"])) for point in told["points"]} == {True}
    assert {moment["running_predicted"] for moment in told["over_time"]} == {None}


def changed(line, column, cell):
    """Replace a cell of requests.csv."""

    def edit(lines):
        cells = lines[line - 1].split(",")
        cells[COLUMNS.index(column) if column in COLUMNS else -1] = cell
        return [*lines[: line - 1], ",".join(cells), *lines[line:]]

    return edit


@pytest.mark.parametrize(
    "edit, told",
    [
        (changed(3, "request_id", "0"), "line 3, request_id = '0': expected an id of its own; it is that of line 2"),
        (changed(3, "arrival_s", "nan"), "line 3, arrival_s = 'nan'"),
        (changed(3, "last_token_s", "0.05"), "line 3, last_token_s = '0.05': expected not before first_token_s"),
        (changed(3, "output_tokens", "-2"), "line 3, output_tokens = '-2'"),
        (changed(3, "input_tokens", "16"), "line 3, block16_ids = .*: expected at most 1 full blocks"),
        (changed(3, "block16_ids", "1 -2"), "line 3, block16_ids = '1 -2'"),
        (changed(1, "input_tokens", "isl"), "column 'input_tokens' is missing"),
        (lambda lines: lines[:1], "no requests"),
    ],
)
def test_a_broken_run_is_refused(tmp_path, edit, told):
    with pytest.raises(UserError, match=told):
        read_run(recorded(tmp_path / "run", edit))


@pytest.fixture(scope="module")
def sound_run(tmp_path_factory):
    """The bytes of the files of a run folder."""
    folder = recorded(tmp_path_factory.mktemp("sound"), looks="t,running,waiting\n1,2,0\n2,1,0\n")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=150)
@given(st.data(), st.sampled_from(["meta.json", "requests.csv", "timeseries.csv"]), st.binary(max_size=60), st.integers(0, 30))
def test_a_damaged_run_is_read_or_refused_in_sentences(tmp_path_factory, sound_run, data, name, junk, cut):
    folder = tmp_path_factory.mktemp("damaged")
    at = data.draw(st.integers(0, min(len(sound_run[name]), 400)))
    for other, sound in sound_run.items():
        (folder / other).write_bytes(sound[:at] + junk + sound[at + cut :] if other == name else sound)
    try:
        assert len(read_run(folder).requests)
    except UserError as error:
        assert name in str(error)


@pytest.mark.parametrize(
    "meta, told",
    [
        ("[" * 100_000, "not readable as JSON"),
        ("[]", "expected a table"),
        ("\xff", "expected|not readable"),
        ({"model": "m"}, "gpu = 'None': expected a text"),
        (META | {"engine_kwargs": {"max_num_seqs": -1}}, "max_num_seqs = '-1': expected a whole number"),
        (META | {"engine_kwargs": {"max_num_seqs": True}}, "max_num_seqs = 'True'"),
        (META | {"engine_kwargs": {"gpu_memory_utilization": float("nan")}}, "gpu_memory_utilization = 'nan'"),
        (META | {"engine_kwargs": {"kv_cache_dtype": "fp6"}}, "kv_cache_dtype = 'fp6': .*; did you mean 'fp8'"),
        (META | {"engine_kwargs": {"kv_cache_dtype": ["fp8"]}}, "kv_cache_dtype = .*: expected auto, bfloat16, fp8"),
        (META | {"engine_kwargs": 3}, "engine_kwargs = '3': expected a table"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, meta, told):
    with pytest.raises(UserError, match=told):
        read_run(recorded(tmp_path / "run", meta=meta))


def test_the_mistakes_of_all_files_of_a_run_are_told_at_once(tmp_path):
    folder = recorded(tmp_path / "run", changed(2, "input_tokens", "x"), {"gpu": 1}, "t,running,waiting\n1,1,1\n1,2,2\n")
    with pytest.raises(UserError) as error:
        read_run(folder)
    for place in ("meta.json: gpu", "requests.csv, line 2, input_tokens", "timeseries.csv, line 3, t ="):
        assert place in str(error.value)
    assert len(error.value.mistakes) == 4  # gpu, model, input_tokens, t


# ---- the page, and the project's own measurements ----


def table_of(title):
    """The rows of the first table under a heading of the page."""
    inside = PAGE.read_text().split(f"\n{title}\n", 1)[1].split("\n## ")[0]
    rows = [line for line in inside.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows[2:]]


def test_the_page_names_every_column():
    assert {row[0].strip("`") for row in table_of("## Columns")} == {*NEEDED, *OPTIONAL}


@needs_shared
def test_the_recorded_run_of_the_reference_data_can_be_read():
    folders = [path.parent for path in (SHARED / "validation").glob("runs/*/requests.csv")]
    for folder in folders:
        run = read_run(folder)
        assert len(run.requests) == 300 and len(run.looks) > 30
        assert sum(map(bool, run.blocks)) > 250
