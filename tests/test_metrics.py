"""Metrics as functions of tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import RECORD, Result, Slo
from sim.distribution import percentile
from sim.latency import good_requests, latencies_s
from sim.metrics import holds, pooled, summary, verdict
from sim.request import REJECTED, STEP, STOP
from sim.tally import MetricsError, Tally

MS = 1_000_000


def record(arrival=0, scheduled=5, first=10, finish=110, output=11, reason=STOP, gap=10):
    """A RECORD row; times in ms."""
    row = np.zeros(1, RECORD)
    row["arrival_ns"], row["scheduled_ns"] = arrival * MS, scheduled * MS
    row["first_token_ns"], row["finish_ns"], row["itl_max_ns"] = first * MS, finish * MS, gap * MS
    row["input_tokens"], row["output_tokens"], row["finish_reason"] = 20, output, reason
    return row


def result(*rows, gaps=None, duration_s=1.0, slo=None, keep=True):
    records = np.concatenate(rows)
    tally = Tally(round(duration_s * 1e9), slo)
    tally.add(records)
    return Result(tally, gaps or {}, 0, duration_s, 2, 4, 100, 1, np.empty(0, STEP), records if keep else None)


def test_latencies_of_one_request_by_hand():
    latencies = {name: float(value[0]) for name, value in latencies_s(record()).items()}
    assert latencies == pytest.approx(
        {"ttft": 0.010, "tpot": 0.010, "itl": 0.010, "ntpot": 0.010, "e2el": 0.110, "queue": 0.005}
    )


def test_a_one_token_answer_has_no_tpot_and_passes_any_limit_on_it():
    one = result(record(finish=10, output=1, gap=-1))
    assert np.isnan(one.latencies_s()["tpot"][0])
    assert holds(one, Slo.parse("tpot:1us tpot.p99:1us itl:1us"))


def test_a_rejected_request_is_infinitely_late_and_never_good():
    three = result(record(), record(), record(reason=REJECTED))
    assert three.summary()["ttft_max_s"] == float("inf")
    assert good_requests(three.records, Slo.parse("ttft:1s").terms).tolist() == [True, True, False]
    assert not holds(three, Slo.parse("ttft.p99:1000s"))
    assert holds(three, Slo.parse("ttft.p50:1s"))


def test_limits_are_inclusive():
    assert holds(result(record()), Slo.parse("ttft:10 ttft.p50:10"))
    assert not holds(result(record()), Slo.parse("ttft:9.999"))


def test_per_request_terms_hold_together_on_the_same_request():
    fast_then_slow, slow_then_fast = record(first=5, finish=505), record(first=50, finish=60)
    both = result(fast_then_slow, slow_then_fast)
    row = verdict(both, Slo.parse("ttft:20 tpot:20", attainment=0.5))[0]
    assert (row["key"], row["value"], row["holds"]) == ("slo_attainment_frac", 0.0, False)


def test_rates_count_only_what_came_out_while_requests_arrived():
    late = record(finish=2000)
    numbers = result(record(), late, duration_s=1.0).summary(Slo.parse("ttft:1s"))
    assert numbers["request_throughput_rps"] == 1.0 and numbers["request_goodput_rps"] == 1.0
    assert numbers["output_throughput_tps"] == 11.0 and numbers["output_tokens"] == 22
    assert numbers["gpus"] == 8 and numbers["gpu_hours"] == pytest.approx(8 / 3600)


def test_pooled_results_are_judged_as_one():
    whole = pooled([result(record(), gaps={5: 1}), result(record(first=50), gaps={5: 2, 6: 1}, duration_s=2.0)])
    assert len(whole.tally) == 2 and whole.gaps == {5: 3, 6: 1} and whole.duration_s == 3.0
    assert summary(whole)["ttft_max_s"] == pytest.approx(0.05)


def test_limits_that_were_not_counted_need_rows():
    slo = Slo.parse("ttft:20 tpot:20")
    rows = record(), record(first=50)
    kept, counted, neither = result(*rows), result(*rows, slo=slo, keep=False), result(*rows, keep=False)
    assert kept.summary(slo) == counted.summary(slo)
    assert counted.summary("tpot:20ms ttft:0.02s")["slo_attainment_frac"] == 0.5
    assert neither.summary("ttft.p99:1s")["slo_attainment_frac"] == 1.0
    for ask in (neither.summary, lambda slo: verdict(counted, Slo.parse("ttft:21"))):
        with pytest.raises(MetricsError, match=r"slo=.*keep_records=True"):
            ask(slo)
    with pytest.raises(MetricsError, match="keep_records=True"):
        _ = neither.records


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0, 100))
def test_percentile_is_numpys(values, q):
    assert percentile(np.array(values), q) == pytest.approx(float(np.percentile(values, q)), rel=1e-9, abs=1e-9)


def test_percentile_with_infinite_values_is_finite_below_them():
    values = np.array([1.0] * 98 + [np.inf] * 2)
    assert percentile(values, 50) == 1.0 and percentile(values, 99) == np.inf and not np.isnan(percentile(values, 98))
