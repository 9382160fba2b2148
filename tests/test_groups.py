"""Requests by client and by window: each group is the tally of its own rows."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import RECORD, Slo
from sim.groups import ByClient, ByWindow, SparseCounts
from sim.request import STOP
from sim.tally import MetricsError
from tests.test_tally import SLO, few, records, split, tally_of


def both(slo=SLO):
    return ByClient(slo), ByWindow(0.25, slo)


@few
@given(st.data(), records(0))
def test_order_and_batches_change_nothing(data, table):
    order = np.random.default_rng(data.draw(st.integers(0, 999))).permutation(len(table))
    with patch("sim.groups._PIECE_ROWS", data.draw(st.integers(1, 70))), patch("sim.groups._MOST_UNSORTED", 5):
        for whole, parts in zip(both(), both()):
            whole.add(table)
            for part in split(data.draw, table.take(order)):
                parts.add(part)
            assert {name: column.tobytes() for name, column in whole.table().items()} == {
                name: column.tobytes() for name, column in parts.table().items()
            }


@few
@given(records())
def test_each_group_comes_to_what_its_rows_alone_would(table):
    by_client, by_window = both()
    for groups, of_row in ((by_client, table["client_id"]), (by_window, table["arrival_ns"] // 250_000_000 * 0.25)):
        groups.add(table)
        found = groups.table()
        assert found[groups.key].tolist() == sorted(set(of_row.tolist()))
        for i, key in enumerate(found[groups.key].tolist()):
            expect(tally_of(table[of_row == key]), {name: column[i].item() for name, column in found.items()})


def expect(tally, row):
    """The row of a table is that of the tally of its requests, whose percentiles are exact."""
    good, served = tally.good_by(SLO.request_terms)["requests"], tally.good_by(())
    assert (row["requests"], row["served"], row["input_tokens"]) == (len(tally), served["requests"], tally.sums["input_tokens"])
    assert (row["output_tokens"], row["slo_attainment_frac"]) == (served["output_tokens"], good / len(tally))
    for metric in ("ttft", "tpot", "e2el"):
        distribution = tally.distributions[metric]
        p99_s = distribution.percentile(99.0, tally.unserved) / 1e9
        if distribution.count:
            assert row[f"{metric}_mean_s"] == distribution.mean() / 1e9
            assert row[f"{metric}_p99_s"] == pytest.approx(p99_s, rel=1 / 256, abs=1e-9)
        else:
            assert np.isnan(row[f"{metric}_mean_s"])
            assert row[f"{metric}_p99_s"] == p99_s or (p99_s == 0.0 and np.isnan(row[f"{metric}_p99_s"]))


def test_sums_are_exact_beyond_64_bits():
    table = np.zeros(3, RECORD)
    table["finish_ns"], table["output_tokens"], table["finish_reason"] = (1 << 62) + 1, 1, STOP
    groups = ByClient()
    groups.add(table)
    assert groups._sums[0][7] == 3 * ((1 << 62) + 1)


def test_good_requests_are_told_only_where_the_slo_speaks_of_requests():
    for slo, told in ((None, False), (Slo.parse("ttft.p99:1s"), False), (Slo.parse("ttft:1s"), True)):
        assert ("slo_attainment_frac" in ByClient(slo).table()) == told


@given(st.lists(st.lists(st.integers(-9, 9)), max_size=20), st.integers(1, 9))
def test_sparse_counts_are_a_histogram(batches, room):
    with patch("sim.groups._MOST_UNSORTED", room):
        counts = SparseCounts()
        for batch in batches:
            counts.add(np.array(batch, "i8"))
    whole = [value for batch in batches for value in batch]
    keys, found = counts.sorted()
    assert dict(zip(keys.tolist(), found.tolist())) == {value: whole.count(value) for value in whole}


@pytest.mark.parametrize("window_s", [0.0, -1.0, 1e-4, float("nan"), float("inf")])
def test_a_window_that_is_none_is_refused(window_s):
    with pytest.raises(MetricsError, match="window_s"):
        ByWindow(window_s)
