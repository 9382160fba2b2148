"""Cells of CSV: thousands at once give what each gives alone, to the nanosecond, and take nothing that it would not."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import WorkloadError
from workloads.files.csv_cells import INSTANT, SECONDS, WHOLE, columns_of
from workloads.files.csv_table import _at_once, _by_cells, read_table
from workloads.stream import LONGEST_S

NS = 10**9
KINDS = {"whole": WHOLE, "seconds": SECONDS, "instant": INSTANT}

signs = st.text(alphabet="0123456789.-+eE :_x\t", max_size=30)
numbers = st.integers(-(10**18) - 5, 10**18 + 5).map(str) | st.from_regex(r"[0-9]{0,20}", fullmatch=True)
decimals = st.from_regex(r"[0-9]{0,9}(\.[0-9]{0,11})?", fullmatch=True)
instants = st.datetimes().map(str) | st.from_regex(
    r"20[0-9]{2}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,10})?(\+00:00|\+02:00|Z)?", fullmatch=True
)
cells = {"whole": numbers | signs, "seconds": decimals | numbers | signs, "instant": instants | signs}


def at_once(kind, texts):
    columns = columns_of("".join(text + "\n" for text in texts).encode(), 1)
    return None if columns is None else kind.of_all(columns[0])


@pytest.mark.parametrize("name", KINDS)
@given(st.data())
@settings(max_examples=300)
def test_all_cells_at_once_are_the_cells_one_by_one(name, data):
    texts = data.draw(st.lists(cells[name], min_size=1, max_size=3))
    found = at_once(KINDS[name], texts)
    if found is not None:
        assert found.tolist() == [KINDS[name].of_one(text) for text in texts]


@given(st.lists(st.integers(0, LONGEST_S * NS), min_size=1, max_size=20), st.integers(0, 9))
def test_seconds_are_exact_over_the_longest_trace_and_common_text_takes_the_short_way(times_ns, digits):
    unit = 10 ** (9 - digits)
    times_ns = [ns // unit * unit for ns in times_ns]
    texts = [f"{ns // NS}" + (f".{ns % NS:09d}"[: digits + 1] if digits else "") for ns in times_ns]
    assert at_once(SECONDS, texts).tolist() == times_ns == [Fraction(text) * NS for text in texts]


@given(st.lists(st.integers(-(10**18) + 1, 10**18 - 1), min_size=1, max_size=20))
def test_whole_numbers_of_18_digits_take_the_short_way(values):
    assert at_once(WHOLE, [str(value) for value in values]).tolist() == values


@given(st.lists(st.integers(0, 2 * 10**18), min_size=1, max_size=20), st.sampled_from(["", "+00:00"]))
def test_instants_are_what_numpy_prints_of_them(times_ns, zone):
    times_ns = [ns // 100 * 100 for ns in times_ns]
    texts = [str(np.datetime64(ns, "ns")).replace("T", " ")[:27] + zone for ns in times_ns]
    assert at_once(INSTANT, texts).tolist() == times_ns


def test_an_instant_in_another_zone_is_the_same_moment():
    assert INSTANT.of_one("2024-05-10 02:00:00.5+02:00") == INSTANT.of_one("2024-05-10 00:00:00.500000000Z")
    assert at_once(INSTANT, ["2024-05-10 00:00:00.5"]).tolist() == [INSTANT.of_one("2024-05-10 00:00:00.5+00:00")]


@pytest.mark.parametrize(
    "text", ["", "2024-02-30 00:00:00", "2024-05-10", "2024-05-10 00:00:00.", "9999-05-10 00:00:00", "NaT"]
)
def test_what_is_no_instant_is_none(text):
    assert INSTANT.of_one(text) is None and at_once(INSTANT, [text]) is None


@given(st.lists(st.tuples(numbers, decimals), min_size=1, max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_a_table_read_at_once_is_the_table_read_cell_by_cell(tmp_path_factory, rows, end):
    text = "".join(f"{a},{b}{end}" for a, b in rows).encode()
    names, kinds = ["a", "b"], {"a": WHOLE, "b": SECONDS}
    quick = _at_once(text, 2, names, kinds)
    if quick is not None:
        careful = _by_cells(tmp_path_factory.getbasetemp() / "x.csv", text, 2, names, kinds)
        assert all(np.array_equal(quick.columns[name], careful.columns[name]) for name in names)
        assert np.array_equal(quick.line, careful.line)


def test_lines_that_end_as_azures_do_take_the_short_way():
    part = _at_once(b"1,2\r\n3,4\r\n", 2, ["a", "b"], {"a": WHOLE, "b": SECONDS})
    assert part is not None and part.columns["b"].tolist() == [2 * NS, 4 * NS]


def test_quoted_and_padded_cells_and_blank_lines_read_as_plain_ones(tmp_path):
    (tmp_path / "x.csv").write_bytes(b'a,b\n"1", 2.5\n\n  \n3,"4"\n')
    parts = list(read_table(tmp_path / "x.csv", lambda source, names: {"a": WHOLE, "b": SECONDS}))
    assert parts[0].columns["a"].tolist() == [1, 3] and parts[0].columns["b"].tolist() == [2_500_000_000, 4 * NS]
    assert parts[0].line.tolist() == [2, 5]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"1", "line 3: 1 cells, expected 2"),
        (b"1,2,3", "line 3: 3 cells, expected 2"),
        (b'1,"2', "line 3: not readable as CSV: unexpected end of data"),
        (b"1,\xff", "line 3: not UTF-8 text at byte 3"),
        (b"1_0,2", "line 3, a = '1_0': expected a whole number"),
        (b"1,nan", "line 3, b = 'nan': expected seconds from 0 to 10000000"),
        (b"1,1e9", "line 3, b = '1e9': expected seconds"),
        ("١,2".encode(), "line 3, a = '١': expected a whole number"),
        (b"1" * 5000 + b",1", "line 3: longer than 4096 bytes"),
        (b"1,\x00", "line 3, b = '\\x00': expected seconds"),
    ],
)
def test_a_wrong_cell_is_told_with_line_column_and_what_was_expected(tmp_path, line, told):
    (tmp_path / "x.csv").write_bytes(b"a,b\n1,2\n" + line + b"\n3,4\n")
    with pytest.raises(WorkloadError) as error:
        list(read_table(tmp_path / "x.csv", lambda source, names: {"a": WHOLE, "b": SECONDS}))
    assert told in str(error.value) and "x.csv" in str(error.value)
