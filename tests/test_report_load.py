"""What a folder must hold for a report: whatever is missing or wrong is told, all at once, with its place."""

import json

import numpy as np
import pytest

from experiments.report import ReportError
from experiments.report.load import load_run
from tests.test_report_folders import compare, make_folder, plan, requests_table, summary_of, to_csv


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "run", n=20)


def refusal(folder):
    with pytest.raises(ReportError) as caught:
        load_run(folder)
    return str(caught.value)


def test_folder_that_does_not_exist_is_refused(tmp_path):
    assert "no such folder" in refusal(tmp_path / "nowhere")


def test_foreign_folder_is_refused_by_the_names_it_lacks(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    assert "expected summary.json or plan.json or compare.json, found nothing of a run" in refusal(tmp_path)


def test_misspelt_file_is_told_with_the_nearest_name(tmp_path):
    (tmp_path / "sumary.json").write_text("{}")
    (tmp_path / "scenario.toml").write_text("")
    assert "found only scenario.toml" in refusal(tmp_path)
    assert "sumary.json: did you mean summary.json?" in refusal(tmp_path)


def test_interrupted_run_is_refused_by_what_it_lacks(folder):
    (folder / "summary.json").unlink()
    (folder / "plan.json").write_text(json.dumps(plan()))
    assert "summary.json: missing, though the folder has a table" in refusal(folder)


def test_every_mistake_is_told_at_once(folder):
    (folder / "environment.json").write_text("{")
    (folder / "scenario.toml").write_text("name =")
    (folder / "summary.json").write_text(json.dumps(summary_of(requests_table(20)) | {"requests": -1, "seed": "one"}))
    (folder / "steps.parquet").write_bytes(b"PAR1 not really")
    text = refusal(folder)
    for place in (
        "environment.json: ",
        "scenario.toml: not TOML",
        "summary.json: requests: ",
        "summary.json: seed: ",
        "steps.parquet: ",
    ):
        assert f"run/{place}" in text


def test_missing_key_is_told_with_its_place_and_the_nearest_name(folder):
    search = plan()
    search["runs"][2]["instanses"] = search["runs"][2].pop("instances")
    (folder / "plan.json").write_text(json.dumps(search))
    assert "plan.json: runs.2.instances: missing; there is 'instanses': did you mean 'instances'?" in refusal(folder)


def test_newer_schema_is_refused(folder):
    (folder / "summary.json").write_text(json.dumps(summary_of(requests_table(20)) | {"schema_version": 2}))
    assert "summary.json: schema_version: Input should be 1" in refusal(folder)


def test_bad_slo_is_told_with_its_file(folder):
    (folder / "summary.json").write_text(json.dumps(summary_of(requests_table(20)) | {"slo": "tftt.p99:2s"}))
    assert "summary.json: slo: 'tftt.p99:2s': no metric 'tftt'; did you mean 'ttft'?" in refusal(folder)


def test_missing_column_is_told_with_the_nearest_one(folder):
    requests_table(20).rename(columns={"ttft_s": "tttf_s"}).to_parquet(folder / "requests.parquet")
    assert "requests.parquet: columns missing: ttft_s (there is 'tttf_s')" in refusal(folder)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("arrival_s", np.nan, "arrival_s: row 4 holds nan, expected a number >= 0"),
        ("ttft_s", -1.0, "ttft_s: row 4 holds -1.0, expected a number >= 0"),
        ("e2el_s", np.inf, "e2el_s: row 4 holds inf, expected a number >= 0"),
        ("finish_reason", "stopped", "finish_reason: no reason 'stopped'; known: stop, length, rejected, failed, cut"),
    ],
)
@pytest.mark.parametrize("convert", [lambda folder: folder, to_csv])
def test_wrong_row_is_told_with_its_number(folder, convert, column, value, words):
    table = requests_table(20)
    table.loc[3, column] = value
    table.to_parquet(folder / "requests.parquet")
    assert words in refusal(convert(folder))


def test_text_in_a_column_of_numbers_is_refused(folder):
    requests_table(20).assign(arrival_s="soon").to_parquet(folder / "requests.parquet")
    assert "requests.parquet: not a table of numbers" in refusal(folder)


def test_table_that_unpacks_without_end_is_refused(folder, monkeypatch):
    monkeypatch.setattr("experiments.report.tables.MAX_CSV_BYTES", 500)
    assert "larger than" in refusal(to_csv(folder))


@pytest.mark.parametrize("convert", [lambda folder: folder, to_csv])
def test_table_with_too_many_rows_is_refused(folder, monkeypatch, convert):
    monkeypatch.setattr("experiments.report.tables.MAX_ROWS", 19)
    assert "requests" in refusal(convert(folder)) and "rows" in refusal(folder)


@pytest.mark.parametrize("convert", [lambda folder: folder, to_csv])
def test_long_table_of_requests_is_read_in_part_and_evenly(folder, monkeypatch, convert):
    whole = load_run(convert(folder)).requests
    monkeypatch.setattr("sim.tally.EXACT_ROWS", 6)
    monkeypatch.setattr("experiments.report.tables._PIECE_ROWS", 7)
    part = load_run(folder).requests
    assert (whole.every, whole.sampling, part.every) == (1, None, 2 ** int(np.ceil(np.log2(len(whole) / 6))))
    assert part.arrival_s.tolist() == whole.arrival_s[:: part.every].tolist()
    assert part.ttft_s.tolist() == whole.ttft_s[:: part.every].tolist()


def test_table_of_more_steps_than_can_be_drawn_is_left_out(folder, monkeypatch):
    assert load_run(folder).steps is not None
    monkeypatch.setattr("experiments.report.tables.MAX_STEPS", 10)
    assert load_run(folder).steps is None


def test_huge_json_is_refused_before_it_is_parsed(folder, monkeypatch):
    monkeypatch.setattr("experiments.report.load.MAX_TEXT_BYTES", 100)
    assert "summary.json: larger than" in refusal(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, "null", '"x"', "\x00", "{}", "1" * 5000])
def test_strange_json_is_a_report_error(folder, text):
    (folder / "summary.json").write_text(text)
    assert "summary.json: " in refusal(folder)


def test_unserved_requests_are_infinite_and_one_token_answers_have_no_tpot(folder):
    table = requests_table(20, unserved=2)
    table.loc[0, ["output_tokens", "tpot_s"]] = [1, 0.0]
    table.to_parquet(folder / "requests.parquet")
    requests = load_run(folder).requests
    assert np.isinf(requests.ttft_s[-2:]).all() and np.isfinite(requests.ttft_s[:-2]).all()
    assert np.isnan(requests.tpot_s[0]) and len(requests.latency_s("tpot")) == 19


def test_naive_name_that_is_a_path_reads_nothing(tmp_path):
    folder = make_folder(tmp_path / "run", "compare", n=5, compare=compare(names=("../poisson", "n_hour")))
    (folder / "requests_naive_..").mkdir()
    requests_table(5).to_parquet(folder / "requests_naive_.." / "poisson.parquet")
    assert list(load_run(folder).traffics) == ["per_client", "n_hour"]
