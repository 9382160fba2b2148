"""The reader of published client data: what it takes, and what it refuses with file and line."""

import contextlib
import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared_data import SHARED, needs_shared
from workloads import ClientPool, WorkloadError, compose
from workloads.arrival_models import bulk_of
from workloads.arrivals import GAMMA, WEIBULL
from workloads.servegen import parse_table, read_servegen

WINDOWS = 72  # two blocks of 6 h


def trace_text(requests: int = 600, active: range = range(WINDOWS), row: str = "1.25,Gamma,0.64,1.5625") -> str:
    lines = [f"{600 * w},{requests / 600},{row}" if w in active else f"{600 * w},0,0,,0,0" for w in range(WINDOWS)]
    return "\n".join(lines) + "\n"


def dataset_text(table: str = "{10: 0.5, 20: 0.5}", answer: str = "{0: 0.25, 1: 0.25, 5: 0.5}") -> str:
    return json.dumps({str(21600 * b): {"input_tokens": table, "output_tokens": answer} for b in range(2)})


def files_of(clients: int = 3) -> dict[str, str]:
    files = {}
    for client in range(clients):
        files[f"chunk-{client}-trace.csv"] = trace_text(600 * (client + 1))
        files[f"chunk-{client}-dataset.json"] = dataset_text()
    return files


def folder_of(path: Path, files: dict[str, str] | None = None) -> Path:
    folder = path / "tiny"
    folder.mkdir(exist_ok=True)
    for name, text in (files_of() if files is None else files).items():
        (folder / name).write_text(text)
    return folder


def archive_of(path: Path, files: dict[str, str], *, links: dict[str, str] | None = None) -> Path:
    archive = path / "tiny.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return archive


def refusal(path: Path) -> str:
    with pytest.raises(WorkloadError) as error:
        read_servegen(path)
    return str(error.value)


def changed(name: str, text: str) -> dict[str, str]:
    return {**files_of(), name: text}


def test_folder_and_archive_give_the_same_pool(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, {f"data/language/tiny/{k}": v for k, v in files_of().items()})
    streams = [compose(ClientPool.from_servegen(p), duration="2h", scale=1.0).collect() for p in (archive, folder_of(tmp_path))]
    assert np.array_equal(*streams)


def test_clients_come_in_numeric_order(tmp_path: Path) -> None:
    assert list(ClientPool.from_servegen(folder_of(tmp_path, files_of(12))).client_ids) == list(range(12))


def test_even_gamma_windows_have_shape_one_over_cv_squared_and_no_pause(tmp_path: Path) -> None:
    pool = ClientPool.from_servegen(folder_of(tmp_path, changed("chunk-0-trace.csv", trace_text(row="1.1,Gamma,0.8264,1.2"))))
    bulk = bulk_of("weibull_gap", pool.count, pool.cv, pool.family, pool.shape)
    assert np.all(bulk.family == GAMMA) and np.all(bulk.pause_s[0] == 0.0)
    assert bulk.shape[0] == pytest.approx(1 / 1.1**2)


def test_weibull_windows_pause_where_the_bulk_is_too_even_and_are_tilted_where_it_is_too_bursty(tmp_path: Path) -> None:
    files = {
        **changed("chunk-0-trace.csv", trace_text(row="3.0,Weibull,0.8,1.0")),
        "chunk-1-trace.csv": trace_text(row="1.5,Weibull,0.4,1.0"),
    }
    pool = ClientPool.from_servegen(folder_of(tmp_path, files))
    assert np.all(pool.family[:2] == WEIBULL) and pool.shape[0] == pytest.approx(0.8) and pool.shape[1] == pytest.approx(0.4)
    bulk = bulk_of("weibull_gap", pool.count, pool.cv, pool.family, pool.shape)
    assert bulk.shape[0] == pytest.approx(0.8) and np.all(bulk.pause_s[0] > 10.0)
    assert np.all(bulk.shape[1] > 0.6)


def test_a_length_of_zero_counts_as_one(tmp_path: Path) -> None:
    rows = compose(ClientPool.from_servegen(folder_of(tmp_path)), duration="1h", scale=1.0).collect()
    assert rows["output_tokens"].min() == 1
    assert (rows["output_tokens"] == 1).mean() == pytest.approx(0.5, abs=0.05)


def test_clients_without_lengths_are_left_out_and_said(tmp_path: Path) -> None:
    files = files_of()
    del files["chunk-2-dataset.json"]
    pool = ClientPool.from_servegen(folder_of(tmp_path, files))
    assert pool.absent_ids == (2,) and list(pool.client_ids) == [0, 1]
    assert pool.present_share(0.0, 3600.0) == pytest.approx(0.5)
    notes = compose(pool, duration="1h", scale=1.0).description["notes"]
    assert "50.0%" in notes[0]


def test_imputed_clients_borrow_lengths_and_are_marked(tmp_path: Path) -> None:
    files = files_of()
    files["chunk-0-dataset.json"] = dataset_text("{7: 1.0}")
    del files["chunk-2-dataset.json"]
    pool = ClientPool.from_servegen(folder_of(tmp_path, files), missing="impute")
    assert pool.imputed_ids == (2,) and pool.absent_ids == ()
    assert [c.imputed for c in pool.clients] == [False, False, True]
    assert pool.length_row[2].tolist() == pool.length_row[1].tolist()  # client 1 is the nearer in rate
    notes = compose(pool, duration="1h", scale=1.0).description["notes"]
    assert "1 clients, with 50.0% of the span's requests, have imputed lengths: those of similar clients" in notes


def test_windows_without_any_client_are_gaps(tmp_path: Path) -> None:
    active = range(6, WINDOWS)
    files = {k: trace_text(active=active) if k.endswith("csv") else v for k, v in files_of().items()}
    pool = ClientPool.from_servegen(folder_of(tmp_path, files))
    assert pool.gaps_s() == [(0.0, 3600.0)]
    stream = compose(pool, duration="2h", scale=1.0)
    assert stream.description["gap_s"] == 3600.0 and "gap" in stream.description["notes"][0]
    assert stream.collect()["arrival_ns"].min() >= 3600 * 10**9


def test_placeholder_blocks_are_no_lengths(tmp_path: Path) -> None:
    blocks = json.loads(dataset_text())
    blocks["21600"] = {"input_tokens": "{0: 1.0}", "output_tokens": "{0: 1.0}"}
    files = changed("chunk-0-dataset.json", json.dumps(blocks))
    assert "key 21600: no lengths, yet the client is active" in refusal(folder_of(tmp_path, files))
    files["chunk-0-trace.csv"] = trace_text(active=range(36))
    assert read_servegen(folder_of(tmp_path, files)).lengths[0].keys() == {0}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("600,1,1,Gamma,1", "5 cells, expected 6"),
        ("600,nan,1,Gamma,1,1", "rate = 'nan'"),
        ("600,-1,1,Gamma,1,1", "rate = '-1'"),
        ("600,1,1,Gama,1,1", "nearest: Gamma"),
        ("700,1,1,Gamma,1,1", "t = 700, expected 600"),
        ("600,1,0,Gamma,1,1", "above 0"),
        ("600,1e9,1,Gamma,1,1", "at most"),
    ],
)
def test_a_bad_row_is_told_with_file_and_line(tmp_path: Path, line: str, told: str) -> None:
    lines = trace_text().splitlines()
    lines[1] = line
    message = refusal(folder_of(tmp_path, changed("chunk-1-trace.csv", "\n".join(lines))))
    assert "chunk-1-trace.csv, line 2" in message and told in message


def test_all_bad_rows_are_told_at_once(tmp_path: Path) -> None:
    lines = trace_text().splitlines()
    lines[1] = lines[5] = "x"
    message = refusal(folder_of(tmp_path, changed("chunk-1-trace.csv", "\n".join(lines))))
    assert "line 2" in message and "line 6" in message


@pytest.mark.parametrize(
    "text",
    [
        "{1: __import__('os').system('true')}",
        "{1: 0.5, 2: 0.5",
        "{1, 2: 3, 4}",
        "{1: 0.5: 2: 0.5}",
        "{-1: 1.0}",
        "{1: nan}",
        "{2: 0.5, 1: 0.5}",
        "{1: 0.5}",
        "{99999999: 1.0}",
        "[1, 2]",
        "",
        None,
    ],
)
def test_only_tables_of_tokens_are_tables(text: str | None) -> None:
    with pytest.raises(ValueError):
        parse_table(text)


def test_code_in_a_table_is_refused_with_file_key_and_field(tmp_path: Path) -> None:
    files = changed("chunk-0-dataset.json", dataset_text(table="{1: print('hello')}"))
    message = refusal(folder_of(tmp_path, files))
    assert "chunk-0-dataset.json, key '0'" in message and "input_tokens" in message


@pytest.mark.parametrize("name", ["../chunk-3-trace.csv", "/chunk-3-trace.csv", "a/../../chunk-3-trace.csv"])
def test_a_name_that_leaves_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    assert "leaves the archive" in refusal(archive_of(tmp_path, {**files_of(), name: trace_text()}))


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, files_of(), links={"chunk-9-trace.csv": "/etc/hostname"})
    assert "neither a file nor a folder" in refusal(archive)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """The begin of a member of 20 GB: who it is does not matter, as skipping it would unpack it."""
    archive = tmp_path / "tiny.tar.gz"
    info = tarfile.TarInfo("readme.txt")
    info.size = 20 << 30
    with gzip.open(archive, "wb") as packed:
        packed.write(info.tobuf() + bytes(1 << 20))
    assert "bytes, expected at most" in refusal(archive)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000,
        '{"0": ' * 10_000,
        json.dumps({"0": {"input_tokens": "{__import__('os'): 1.0}", "output_tokens": "{1: 1.0}"}}),
    ],
)
def test_nested_and_live_datasets_are_refused(tmp_path: Path, text: str) -> None:
    told = refusal(folder_of(tmp_path, changed("chunk-1-dataset.json", text)))
    assert "chunk-1-dataset.json" in told and ("not JSON" in told or "expected a table" in told)


@given(st.binary(max_size=60), st.integers(0, 2000), st.sampled_from(["chunk-0-trace.csv", "chunk-0-dataset.json"]))
@settings(max_examples=60, deadline=None)
def test_spoilt_files_are_refused_or_read_and_never_raise_anything_else(tmp_path_factory, noise, at, name) -> None:
    files = {key: value.encode() for key, value in files_of(1).items()}
    content = files[name]
    files[name] = content[: at % len(content)] + noise + content[at % len(content) + len(noise) :]
    folder = tmp_path_factory.mktemp("spoilt") / "tiny"
    folder.mkdir()
    for key, value in files.items():
        (folder / key).write_bytes(value)
    with contextlib.suppress(WorkloadError):
        read_servegen(folder)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, files_of(20))
    archive.write_bytes(archive.read_bytes()[:-200])
    assert "not a whole .tar.gz" in refusal(archive)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "x.tar.gz"
    other.write_text("hello")
    assert "not a whole .tar.gz" in refusal(other)


def test_missing_sources_and_files_are_told(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nowhere")
    assert "no chunk-N-trace.csv" in refusal(tmp_path)
    files = files_of()
    del files["chunk-1-trace.csv"]
    assert "there is no chunk-1-trace.csv" in refusal(folder_of(tmp_path, files))


def test_two_pools_in_one_source_are_refused(tmp_path: Path) -> None:
    files = {"a/chunk-0-trace.csv": trace_text(), "b/chunk-1-trace.csv": trace_text()}
    assert "several pools" in refusal(archive_of(tmp_path, files))


def test_other_fields_are_refused_by_name(tmp_path: Path) -> None:
    text = dataset_text().replace("input_tokens", "text_tokens")
    assert "expected a field image_count" in refusal(folder_of(tmp_path, changed("chunk-0-dataset.json", text)))
    text = dataset_text().replace("input_tokens", "prompt_tokens")
    assert "expected a field input_tokens" in refusal(folder_of(tmp_path, changed("chunk-0-dataset.json", text)))


@needs_shared
def test_the_published_reasoning_pool_has_the_known_counts() -> None:
    """facts: 73 clients, 1.384 M requests, mean 16.0 and peak 42.5 requests/s."""
    pool = ClientPool.from_servegen(SHARED / "servegen" / "deepseek-r1.tar.gz")
    known = pool.describe()
    assert (known["clients"], known["requests"]) == (73, 1_383_669)
    assert known["rate_peak_rps"] == pytest.approx(42.52)
    assert known["lengths"]["input_tokens"]["mean"] == pytest.approx(1268, rel=0.002)
