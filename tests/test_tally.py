"""The tally: the same numbers for any order, any split and any merge of the rows; exact while they are few, near when not."""

import json
from fractions import Fraction
from math import floor
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.folder import finite
from sim import RECORD, Cluster, Engine, Result, Slo, SloError, simulate
from sim.distribution import Distribution
from sim.latency import NO_GAP, good_requests, latencies_ns
from sim.probes import Kept, Tables
from sim.request import CUT, FAILED, LENGTH, REJECTED, STEP, STOP
from sim.tally import KEPT, Tally
from tests.cases import AffineCost, shared_streams, small_clusters, small_requests
from tests.cases import rows as stream_rows

SLO = Slo.parse("ttft:300ms tpot:20ms ttft.p90:1s itl.max:5s", 0.5)
WINDOW_NS = 2 * 10**9
few = settings(max_examples=60)


@st.composite
def records(draw, least=1, most=60):
    """RECORD rows as engines leave them: some not served, some of one token, some late."""
    n = draw(st.integers(least, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    out = np.zeros(n, RECORD)
    spread = 10 ** rng.integers(0, 11, (3, n))
    out["arrival_ns"] = rng.integers(0, 2 * WINDOW_NS, n)
    out["scheduled_ns"] = out["arrival_ns"] + rng.integers(0, spread[0])
    out["first_token_ns"] = out["scheduled_ns"] + rng.integers(0, spread[1]) + 1
    out["output_tokens"] = rng.integers(1, draw(st.sampled_from([2, 3, 500])), n)
    out["finish_ns"] = out["first_token_ns"] + (out["output_tokens"] - 1) * rng.integers(0, spread[2])
    out["itl_max_ns"] = np.where(out["output_tokens"] > 1, out["finish_ns"] - out["first_token_ns"], NO_GAP)
    out["api_ns"] = rng.integers(0, spread[0])
    out["input_tokens"], out["cached_tokens"] = rng.integers(1, 9999, n), rng.integers(0, 50, n)
    out["preemptions"], out["client_id"] = rng.integers(0, 3, n), rng.integers(0, 4, n)
    served = st.sampled_from([[STOP], [STOP, LENGTH], [STOP, LENGTH, REJECTED, FAILED, CUT]])
    out["finish_reason"] = rng.choice(draw(served), n)
    return out


limits = st.sampled_from([0, 7, 10**6])
"""EXACT_ROWS: all rows in histograms, some runs, none."""


def tally_of(*batches, slo=SLO, window_ns=WINDOW_NS):
    tally = Tally(window_ns, slo)
    for batch in batches:
        tally.add(batch)
    return tally


def result_of(tally, rows=None):
    gaps = {700: 3, 900: 1}
    return Result(tally, gaps, 5, WINDOW_NS / 1e9, 2, 4, 100, 1, np.empty(0, STEP), rows)


def text_of(tally):
    """All that can be told of a tally, as bytes that a file would hold."""
    return json.dumps(finite(result_of(tally).summary(SLO)))


def split(draw, table):
    cuts = sorted(draw(st.lists(st.integers(0, len(table)), max_size=5)))
    return np.split(table, cuts)


@few
@given(st.data(), records(), limits)
def test_order_and_batches_change_nothing(data, table, limit):
    order = np.random.default_rng(data.draw(st.integers(0, 999))).permutation(len(table))
    with patch("sim.tally.EXACT_ROWS", limit), patch("sim.tally._PIECE_ROWS", data.draw(st.integers(1, 70))):
        assert text_of(tally_of(*split(data.draw, table.take(order)))) == text_of(tally_of(table))


@few
@given(st.data(), records(), limits)
def test_tallies_merge_into_that_of_all_their_rows(data, table, limit):
    with patch("sim.tally.EXACT_ROWS", limit):
        whole = Tally(WINDOW_NS, SLO)
        for part in split(data.draw, table):
            other = tally_of(part)
            whole.merge(other)
            assert text_of(other) == text_of(tally_of(part)), "merging changed what was merged"
        assert text_of(whole) == text_of(tally_of(table))


@few
@given(records(), limits)
def test_percentiles_are_numpys_of_few_rows_and_near_them_of_many(table, limit):
    served = table[np.isin(table["finish_reason"], (STOP, LENGTH))]
    with patch("sim.tally.EXACT_ROWS", limit):
        tally = tally_of(table)
    for metric, distribution in tally.distributions.items():
        values = latencies_ns(served)[metric]
        values = values[values != NO_GAP]
        assert (distribution.count, distribution.total) == (len(values), sum(values.tolist()))
        for q in (1.0, 50.0, 90.0, 99.0, 99.9, 100.0) if len(values) else ():
            exact = float(np.percentile(values, q))
            error = 1e-12 if len(table) <= limit else 1 / 256
            assert distribution.percentile(q) == pytest.approx(exact, rel=error, abs=1.0 if error > 1e-9 else 1e-9), (metric, q)


@few
@given(records(), st.integers(1, 99))
def test_requests_that_were_not_served_are_the_slowest(table, q):
    done = np.isin(table["finish_reason"], (STOP, LENGTH))
    tally = tally_of(table)
    late = np.where(done, table["finish_ns"] + table["api_ns"] - table["arrival_ns"], np.inf)
    found = tally.distributions["e2el"].percentile(q, tally.unserved)
    with np.errstate(invalid="ignore"):
        expected = float(np.percentile(late, q))
    assert found == pytest.approx(expected) or (np.isinf(found) and not np.isfinite(expected))


@few
@given(records())
def test_counts_are_those_of_a_walk_over_the_rows(table):
    """The twin: one row at a time, from the definitions of docs/glossary.md."""
    sums = dict.fromkeys(("served", "inside", "good", "inside_good", "tokens", "inside_tokens", "inside_good_tokens"), 0)
    for row in table:
        if row["finish_reason"] not in (STOP, LENGTH):
            continue
        ttft, n = int(row["first_token_ns"] + row["api_ns"] - row["arrival_ns"]), int(row["output_tokens"])
        gaps = Fraction(int(row["finish_ns"] - row["first_token_ns"]), n - 1) if n > 1 else 0
        good = ttft <= 300_000_000 and floor(gaps + Fraction(1, 2)) <= 20_000_000
        inside = row["finish_ns"] <= WINDOW_NS
        sums["served"], sums["tokens"] = sums["served"] + 1, sums["tokens"] + n
        sums["inside"], sums["inside_tokens"] = sums["inside"] + inside, sums["inside_tokens"] + n * inside
        sums["good"], sums["inside_good"] = sums["good"] + good, sums["inside_good"] + (good and inside)
        sums["inside_good_tokens"] += n * (good and inside)
    told, window_s = result_of(tally_of(table)).summary(SLO), WINDOW_NS / 1e9
    assert told["requests"] == len(table) and told["requests_stop"] + told["requests_length"] == sums["served"]
    assert told["output_tokens"] == sums["tokens"] and told["slo_attainment_frac"] == sums["good"] / len(table)
    assert told["request_throughput_rps"] == sums["inside"] / window_s
    assert told["output_throughput_tps"] == sums["inside_tokens"] / window_s
    assert told["request_goodput_rps"] == sums["inside_good"] / window_s
    assert told["token_goodput_tps"] == sums["inside_good_tokens"] / window_s
    assert told["makespan_s"] == table["finish_ns"].max() / 1e9
    assert int(good_requests(table, SLO.request_terms).sum()) == sums["good"]


@given(st.integers(0, 10**12), st.integers(2, 10**6))
def test_tpot_and_ntpot_are_rounded_once_halves_up(span, tokens):
    table = np.zeros(1, RECORD)
    table["finish_ns"], table["output_tokens"] = span, tokens
    found = latencies_ns(table)
    assert found["tpot"][0] == floor(Fraction(span, tokens - 1) + Fraction(1, 2))
    assert found["ntpot"][0] == floor(Fraction(span, tokens) + Fraction(1, 2))


def test_sums_are_exact_beyond_64_bits():
    huge = np.full(9, (1 << 62) + 1)
    distribution = Distribution()
    distribution.add(huge)
    assert distribution.total == 9 * ((1 << 62) + 1)


def test_values_take_40_bytes_of_a_row_and_go_when_there_are_too_many():
    table = np.zeros(100_000, RECORD)
    table["output_tokens"] = 2
    with patch("sim.tally.EXACT_ROWS", 150_000):
        tally = tally_of(table)
        held = sum(block.nbytes for one in tally.distributions.values() for block in one._blocks)
        assert len(KEPT) * 8 * len(table) <= held <= 48 * len(table)
        tally.add(table[:50_000])
        assert all(one._bins is None for one in tally.distributions.values())
        tally.add(table[:1])
    assert all(one._blocks == [] and one._bins.nbytes < 100_000 for one in tally.distributions.values())


@few
@given(st.one_of(small_requests(), shared_streams()), small_clusters(), limits, st.sampled_from([1, 3, 65_536]))
def test_a_run_that_keeps_no_rows_comes_to_the_same(stream, cluster, limit, chunk_rows):
    got = Collector()
    with patch("sim.tally.EXACT_ROWS", limit), patch("sim.probes.CHUNK_ROWS", chunk_rows):
        kept = simulate(stream, cluster)
        counted = simulate(stream, cluster, keep_steps=False, keep_records=False, slo=SLO, sinks=[got])
        one, two = (json.dumps(finite(run.summary(SLO))) for run in (kept, counted))
    assert one == two and counted.rows is None and len(counted.steps) == 0
    assert got.closed and all(len(part) == chunk_rows for part in got.parts[:-1]) and len(got.parts[-1]) <= chunk_rows
    assert np.concatenate(got.parts).tobytes() == kept.records.tobytes()


class Collector:
    """A sink that shows what it got."""

    def __init__(self):
        self.parts, self.closed = [], False

    def add(self, records):
        assert not self.closed
        self.parts.append(records)

    def close(self):
        self.closed = True


@few
@given(st.data(), records(0), st.integers(1, 9))
def test_rows_look_the_same_one_by_one_and_in_arrays(data, table, chunk_rows):
    with patch("sim.probes.CHUNK_ROWS", chunk_rows):
        found = []
        for batches in ([table[i : i + 1] for i in range(len(table))], split(data.draw, table), [table]):
            sink = Collector()
            tables = Tables(False, Kept(RECORD), [sink])
            for batch in batches:
                if len(batch) == 1:
                    tables.request_left(batch[0].item())
                else:
                    again = batch.copy()
                    tables.requests_left(again)
                    again["arrival_ns"] = -5  # an engine may use its array again
            tables.flush()
            found.append([part.tobytes() for part in sink.parts])
    assert found[0] == found[1] == found[2]
    assert b"".join(found[0]) == table.tobytes()


def test_steps_given_in_arrays_and_one_by_one_are_one_table():
    steps = np.zeros(5, STEP)
    steps["start_ns"] = np.arange(5)
    tables = Tables(True, Kept(RECORD))
    tables.step_ended(steps[0].item())
    tables.steps_ended(steps[1:4])
    tables.step_ended(steps[4].item())
    tables.flush()
    assert tables.steps().tobytes() == steps.tobytes()


SMALL = Cluster(
    step_cost=AffineCost(),
    engine=Engine(max_num_seqs=4, max_num_batched_tokens=64, max_model_len=64, num_gpu_blocks_override=90),
)


def test_an_slo_may_be_given_as_text_and_is_read_before_anything_is_played():
    requests = stream_rows([(0, 3, 3, 3), (9, 60, 3, 3)])
    assert simulate(requests, SMALL, keep_records=False, slo="ttft:1s").summary("ttft:1s")["slo_attainment_frac"] == 1.0
    sink = Collector()
    with pytest.raises(SloError, match="did you mean 'ttft'"):
        simulate(requests, SMALL, slo="tfft:1s", sinks=[sink])
    assert not sink.closed


def test_sinks_are_closed_when_a_run_fails():
    sink = Collector()
    unsorted = stream_rows([(5, 3, 3, 3), (9, 3, 3, 3)])[::-1]
    with pytest.raises(ValueError, match="sorted"):
        simulate(unsorted, SMALL, sinks=[sink])
    assert sink.closed and sink.parts == []
