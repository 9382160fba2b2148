"""The stream: its table, its windows, its files, and how mistakes in them are told."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import ITEMS, SEGMENTS, STREAM, Stream, WorkloadError, check_stream, parse_duration_s
from workloads.files.stream_table import KNOWN
from workloads.stream import new_rows, stream_mistakes
from workloads.stream_file import load, save

NS = 10**9


@st.composite
def stream_rows(draw: st.DrawFn, most_ns: int = 100 * NS) -> np.ndarray:
    arrivals = sorted(draw(st.lists(st.integers(0, most_ns), min_size=1, max_size=40)))
    rows = new_rows(len(arrivals))
    rows["arrival_ns"] = arrivals
    rows["request_id"] = np.arange(len(rows)) * 3
    for name in ("input_tokens", "output_tokens", "max_tokens"):
        rows[name] = draw(st.lists(st.integers(1, 10**6), min_size=len(rows), max_size=len(rows)))
    rows["client_id"] = draw(st.integers(0, 2**31 - 1))
    rows["priority"] = draw(st.integers(-5, 5))
    return rows


def stream_of(rows: np.ndarray, cut: int = 1) -> Stream:
    return Stream(101.0, lambda: np.array_split(rows, cut), {"source": "test"})


def text_file(path: Path, text: str, name: str = "trace.csv") -> Path:
    (path / name).write_text(text)
    return path / name


def refusal(path: Path, **settings_) -> str:
    with pytest.raises(WorkloadError) as error:
        load(path, **settings_)
    return str(error.value)


def test_the_tables_have_the_columns_of_the_treaty() -> None:
    assert [f"{n} {STREAM[n].str[1:]}" for n in STREAM.names or ()] == [
        "arrival_ns i8", "request_id i8", "client_id i4", "session_id i8", "turn i4", "model i2", "input_tokens i4",
        "output_tokens i4", "max_tokens i4", "priority i4", "segments_start i8", "segments_count i4", "items_start i8",
        "items_count i4", "reason_tokens i4",
    ]  # fmt: skip
    assert SEGMENTS.names == ("segment_id", "tokens") and ITEMS.names == (
        "modality", "offset", "tokens", "encoder_units", "item_id",
    )  # fmt: skip


@given(stream_rows(), st.floats(0.2, 200.0), st.integers(1, 7))
@settings(deadline=None)
def test_windows_hold_their_arrivals_however_blocks_are_cut(rows, window_s, cut) -> None:
    windows = list(stream_of(rows, cut).windows(window_s))
    width = round(window_s * NS)
    assert len(windows) == -(-101 * NS // width)
    assert np.array_equal(np.concatenate(windows), rows)
    for k, window in enumerate(windows):
        assert np.all(window["arrival_ns"] // width == k)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_an_arrival_on_a_windows_edge_belongs_to_the_later_window(cut: int) -> None:
    rows = new_rows(3)
    rows["arrival_ns"], rows["request_id"] = [0, 10 * NS, 20 * NS], [0, 1, 2]
    assert [len(window) for window in stream_of(rows, cut).windows(10.0)][:4] == [1, 1, 1, 0]


@given(stream_rows())
def test_rows_in_order_have_no_mistakes(rows) -> None:
    assert stream_mistakes(rows, str) == []
    check_stream(rows)  # raises where there is one


@given(stream_rows(), st.data())
def test_one_wrong_value_is_told_with_row_column_and_value(rows, data) -> None:
    row = data.draw(st.integers(0, len(rows) - 1))
    name, value = data.draw(st.sampled_from([("input_tokens", 0), ("output_tokens", -3), ("turn", 0), ("max_tokens", 10**8)]))
    rows[name][row] = value
    with pytest.raises(WorkloadError, match=f"row {row}, {name} = {value}:"):
        check_stream(rows)


def test_unsorted_and_repeated_rows_are_told() -> None:
    rows = new_rows(3)
    rows["arrival_ns"], rows["request_id"] = [5, 4, 4], [7, 8, 7]
    rows["input_tokens"] = rows["output_tokens"] = rows["max_tokens"] = 1
    with pytest.raises(WorkloadError) as error:
        check_stream(rows)
    assert "row 1, arrival_ns = 4" in str(error.value) and "row 2, request_id = 7: used" in str(error.value)
    with pytest.raises(WorkloadError, match="dtype STREAM"):
        check_stream(np.zeros(3))


def test_at_most_ten_mistakes_are_listed() -> None:
    rows = new_rows(50)
    rows["request_id"] = np.arange(50)
    with pytest.raises(WorkloadError) as error:
        check_stream(rows)
    assert len(str(error.value).splitlines()) == 11 and "further" in str(error.value)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
@given(rows=stream_rows(most_ns=1_900_000 * NS))
@settings(max_examples=15, deadline=None)
def test_a_saved_stream_reads_back_to_the_nanosecond(tmp_path_factory, name, rows) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("files") / name
    save(Stream(2e6, lambda: [rows]), path)
    assert np.array_equal(load(path).collect(), rows)
    assert [p.name for p in path.parent.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_saved_stream_has_the_same_bytes_every_time(tmp_path: Path, name: str) -> None:
    rows = new_rows(2)
    rows["request_id"], rows["arrival_ns"] = [0, 1], [1, 2]
    rows["input_tokens"] = rows["output_tokens"] = rows["max_tokens"] = 9
    contents = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save(stream_of(rows), tmp_path / folder / name)
        contents.append((tmp_path / folder / name).read_bytes())
    assert contents[0] == contents[1]


def test_saving_never_overwrites_unasked_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    target = text_file(tmp_path, "precious")
    with pytest.raises(WorkloadError, match="exists already"):
        save(stream_of(new_rows(0)), target)

    def broken():
        yield new_rows(1)
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError):
        save(Stream(101.0, broken), target, overwrite=True)
    assert target.read_text() == "precious" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(WorkloadError, match="expected a name that ends in"):
        save(stream_of(new_rows(0)), tmp_path / "a.xlsx")
    with pytest.raises(WorkloadError, match="no folder"):
        save(stream_of(new_rows(0)), tmp_path / "none" / "a.csv")


def test_optional_columns_have_defaults(tmp_path: Path) -> None:
    stream = load(text_file(tmp_path, "arrival_s,input_tokens,output_tokens\n0.5,10,20\n1.25,30,40\n"))
    rows = stream.collect()
    assert rows["request_id"].tolist() == [0, 1] and rows["max_tokens"].tolist() == [20, 40]
    assert set(rows["session_id"]) == {-1} and set(rows["turn"]) == {1} and set(rows["client_id"]) == {0}
    assert rows["arrival_ns"].tolist() == [500_000_000, 1_250_000_000] and stream.duration_s == 2.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty, or not readable as CSV; expected a line of column names"),
        ("arrival_s,input_tokens,output_tokens\n", "no requests"),
        ("arrival_s,input_tokens\n1,1\n", "column 'output_tokens' is missing"),
        ("arival_s,input_tokens,output_tokens\n1,1,1\n", "nearest: arrival_s"),
        ("arrival_s,arrival_s,input_tokens,output_tokens\n1,1,1,1\n", "occurs twice"),
        ("arrival_s,input_tokens,output_tokens\n1,1.5,1\n", "line 2, input_tokens = '1.5': expected a whole number"),
        ("arrival_s,input_tokens,output_tokens\n1,1,1\n2,x,1\n", "line 3, input_tokens = 'x'"),
        ("arrival_s,input_tokens,output_tokens\nnan,1,1\n", "line 2, arrival_s = 'nan'"),
        ("arrival_s,input_tokens,output_tokens\ninf,1,1\n", "line 2, arrival_s = 'inf'"),
        ("arrival_s,input_tokens,output_tokens\n-1,1,1\n", "line 2, arrival_s = '-1'"),
        ("arrival_s,input_tokens,output_tokens\n1e99,1,1\n", "line 2, arrival_s = '1e99'"),
        ("arrival_s,input_tokens,output_tokens\n2,1,1\n1,1,1\n", "line 3, arrival_ns = 1000000000: rows must be sorted"),
        ("arrival_s,input_tokens,output_tokens\n1,0,1\n", "line 2, input_tokens = 0: expected at least 1"),
        ("arrival_s,input_tokens,output_tokens\n1,99999999999,1\n", "expected at most 10000000"),
        ("arrival_s,input_tokens,output_tokens\n1,1\n", "line 2: 2 cells, expected 3"),
        ("arrival_s,input_tokens,output_tokens,request_id\n1,1,1,5\n2,1,1,5\n", "line 3, request_id = 5: used"),
        ("arrival_s,input_tokens,output_tokens\n1,1," + "1" * 5000 + "\n", "line 2: longer than"),
    ],
)
def test_mistakes_in_a_file_are_told_with_file_and_line(tmp_path: Path, text: str, told: str) -> None:
    message = refusal(text_file(tmp_path, text))
    assert told in message and "trace.csv" in message


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    message = refusal(text_file(tmp_path, "arrival_s,input_tokens,output_tokens\n1,x,1\n2,1,y\n"))
    assert "line 2" in message and "line 3" in message


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.csv")
    assert "more than 1 rows" in refusal(
        text_file(tmp_path, "arrival_s,input_tokens,output_tokens\n1,1,1\n2,1,1\n"), max_rows=1
    )
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"arrival_s,input_tokens,output_tokens\n" + b"1,1,1\n" * 999)[:-9])
    assert "cut.csv.gz: not readable: Compressed file ended" in refusal(tmp_path / "cut.csv.gz")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    assert "not readable as CSV" in refusal(tmp_path / "x.csv")
    pytest.importorskip("pyarrow")
    assert "not a Parquet file" in refusal(text_file(tmp_path, "hello", "x.parquet"))


def test_parquet_mistakes_are_told(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"arrival_s": [1.0, float("nan")], "input_tokens": [1, 1], "output_tokens": [1, 1]}
    parquet.write_table(arrow.table(columns), tmp_path / "a.parquet")
    assert "row 1, arrival_s = nan" in refusal(tmp_path / "a.parquet")
    parquet.write_table(arrow.table({**columns, "input_tokens": [1.5, None]}), tmp_path / "a.parquet")
    assert "column input_tokens: double, expected whole numbers" in refusal(tmp_path / "a.parquet")


def test_parquet_without_pyarrow_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(WorkloadError, match="needs pyarrow"):
        save(stream_of(new_rows(0)), tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


def test_the_documentation_names_every_column() -> None:
    text = (Path(__file__).parents[1] / "docs" / "traces.md").read_text()
    assert [name for name in KNOWN if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    ("text", "seconds"), [(90, 90), ("90s", 90), ("10min", 600), ("1.5 h", 5400), ("2d", 172_800), ("7", 7)]
)
def test_durations_are_read_as_written(text, seconds) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["1hour", "h", "-1s", "nan", "1 2", "", float("inf"), -1, True, None, "1e3s"])
def test_durations_that_mean_nothing_are_refused(text) -> None:
    with pytest.raises(WorkloadError):
        parse_duration_s(text)
