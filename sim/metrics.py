"""TTFT, TPOT, goodput and the rest, as functions of the tables that a run leaves behind.

Definitions are those of docs/glossary.md (vLLM's, where the field agrees). Percentiles are linear, as numpy's; a
request that was rejected or cut counts there as infinitely late, so that a cluster which refuses work never looks better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim import histogram
from sim.request import FINISH_REASONS, LENGTH, REJECTED, STOP
from sim.slo import Slo, Term

STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max")


@dataclass(frozen=True)
class Result:
    """What a run leaves: RECORD rows in order of leaving, STEP rows, counts of token gaps, and what they were made on."""

    records: np.ndarray
    steps: np.ndarray
    gaps: Mapping[int, int]
    step_count: int
    duration_s: float  # the time in which requests arrived
    instances: int
    gpus_per_instance: int
    kv_blocks: int
    seed: int

    def latencies_s(self) -> dict[str, np.ndarray]:
        """Per request, in order of `records`: ttft, tpot, itl (its worst gap), ntpot, e2el, queue. See `latencies_s`."""
        return latencies_s(self.records)

    def summary(self, slo: str | Slo | None = None) -> dict[str, Any]:
        """The run in numbers; see docs/glossary.md for every key."""
        return summary(self, Slo.parse(slo) if isinstance(slo, str) else slo)


def is_done(records: np.ndarray) -> np.ndarray:
    """Which requests got their whole answer."""
    return np.isin(records["finish_reason"], (STOP, LENGTH))


def latencies_s(records: np.ndarray) -> dict[str, np.ndarray]:
    """Seconds per request: ttft, tpot, itl (its worst gap), ntpot, e2el, queue.

    inf for a request that was not served; nan where a one-token answer has no gap (it passes any limit on one).
    """
    done = is_done(records)
    output_tokens = records["output_tokens"].astype("f8")
    arrival, first, last = (records[name] for name in ("arrival_ns", "first_token_ns", "finish_ns"))
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = (last - first) / 1e9 / (output_tokens - 1.0)
    out = {
        "ttft": (first - arrival) / 1e9,
        "tpot": np.where(output_tokens > 1, tpot, np.nan),
        "itl": np.where(output_tokens > 1, records["itl_max_ns"] / 1e9, np.nan),
        "ntpot": (last - arrival) / 1e9 / np.maximum(output_tokens, 1.0),
        "e2el": (last - arrival) / 1e9,
        "queue": (records["scheduled_ns"] - arrival) / 1e9,
    }
    return {name: np.where(done, value, np.inf) for name, value in out.items()}


def percentile(values: np.ndarray, q: float) -> float:
    """numpy's linear percentile, for values that may be inf; nan for none."""
    ordered = np.sort(values)
    if not len(ordered):
        return float("nan")
    rank = (len(ordered) - 1) * q / 100.0
    low = int(rank)
    share = rank - low
    if share == 0.0:
        return float(ordered[low])
    below, above = float(ordered[low]), float(ordered[low + 1])
    return above if above == float("inf") else below + (above - below) * share


def term_value(result: Result, term: Term, latencies: Mapping[str, np.ndarray] | None = None) -> float:
    """What a term about the run limits, in seconds: a percentile, the mean or the maximum of its metric.

    A percentile and the maximum count requests that were not served as infinite; the mean is of the served ones. The
    mean and percentiles of itl are over all gaps of all requests.
    """
    if term.metric == "itl" and term.stat != "max":
        return _pooled_gaps_s(result, term)
    values = (latencies or result.latencies_s())[term.metric]
    values = values[~np.isnan(values)]
    if term.percentile is None:
        values = values[np.isfinite(values)]
    if not len(values):
        return 0.0  # one-token answers alone: nothing that a limit could bind
    return float(np.mean(values)) if term.percentile is None else percentile(values, term.percentile)


def _pooled_gaps_s(result: Result, term: Term) -> float:
    """The mean or a percentile of all token gaps; a request that was not served counts as one infinite gap."""
    if term.percentile is None:
        return histogram.mean(result.gaps) / 1e9 if result.gaps else 0.0
    gaps, unserved = sum(result.gaps.values()), int(np.sum(~is_done(result.records)))
    share = term.percentile / 100.0 * (gaps + unserved)
    if share > gaps:
        return float("inf")
    return histogram.percentile(result.gaps, 100.0 * share / gaps) / 1e9 if gaps else 0.0


def good_requests(result: Result, slo: Slo, latencies: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
    """Which requests meet every term of the SLO that speaks of a request; only served ones can."""
    latencies = latencies or result.latencies_s()
    good = is_done(result.records)
    for term in slo.request_terms:
        value = latencies[term.metric]
        good &= np.isnan(value) | (value <= term.limit_s)
    return good


def verdict(result: Result, slo: Slo) -> list[dict[str, Any]]:
    """Each condition of the SLO with its value, its limit and whether it holds; seconds, or a share for the attainment."""
    latencies = result.latencies_s()
    rows: list[dict[str, Any]] = []
    for term in slo.run_terms:
        value = term_value(result, term, latencies)
        rows.append({"term": term.text, "key": term.key, "value": value, "limit": term.limit_s, "holds": value <= term.limit_s})
    if slo.request_terms:
        share = float(np.mean(good_requests(result, slo, latencies))) if len(result.records) else float("nan")
        text = " ".join(term.text for term in slo.request_terms)
        rows.append(
            {
                "term": text,
                "key": "slo_attainment_frac",
                "value": share,
                "limit": slo.attainment,
                "holds": share >= slo.attainment,
            }
        )
    return rows


def holds(result: Result, slo: Slo) -> bool:
    """Whether the run meets its SLO."""
    return all(row["holds"] for row in verdict(result, slo))


def summary(result: Result, slo: Slo | None = None) -> dict[str, Any]:
    """The run in numbers. Rates are over the time in which requests arrived; what came out later is left out of them."""
    records = result.records
    done = is_done(records)
    window_s = result.duration_s
    inside = done & (records["finish_ns"] <= round(window_s * 1e9))
    latencies = result.latencies_s()
    out: dict[str, Any] = {
        "requests": len(records),
        **{f"requests_{name}": int(np.sum(records["finish_reason"] == i)) for i, name in enumerate(FINISH_REASONS)},
        "duration_s": window_s,
        "makespan_s": float(np.max(records["finish_ns"], initial=0)) / 1e9,
        "instances": result.instances,
        "gpus": result.instances * result.gpus_per_instance,
        "gpu_hours": result.instances * result.gpus_per_instance * window_s / 3600.0,
        "kv_blocks": result.kv_blocks,
        "steps": result.step_count,
        "input_tokens": int(np.sum(records["input_tokens"], dtype="i8")),
        "cached_tokens": int(np.sum(records["cached_tokens"], dtype="i8")),
        "output_tokens": int(np.sum(records["output_tokens"][done], dtype="i8")),
        "preemptions": int(np.sum(records["preemptions"], dtype="i8")),
        "request_throughput_rps": int(np.sum(inside)) / window_s,
        "output_throughput_tps": int(np.sum(records["output_tokens"][inside], dtype="i8")) / window_s,
        "total_throughput_tps": int(np.sum((records["output_tokens"] + records["input_tokens"])[inside], dtype="i8"))
        / window_s,
        "mean_concurrency": int(np.sum((records["finish_ns"] - records["arrival_ns"])[done], dtype="i8")) / 1e9 / window_s,
        **_statistics(result, latencies),
    }
    if slo is not None:
        good = good_requests(result, slo, latencies)
        out["slo"] = str(slo)
        out["slo_holds"] = all(row["holds"] for row in verdict(result, slo))
        out["slo_terms"] = verdict(result, slo)
        out["slo_attainment_frac"] = float(np.mean(good)) if len(good) else None
        out["request_goodput_rps"] = int(np.sum(good & inside)) / window_s
        out["token_goodput_tps"] = int(np.sum(records["output_tokens"][good & inside], dtype="i8")) / window_s
    return out


def _statistics(result: Result, latencies: Mapping[str, np.ndarray]) -> dict[str, float]:
    out = {}
    for metric in ("ttft", "tpot", "itl", "ntpot", "e2el", "queue"):
        for stat in STATISTICS:
            out[f"{metric}_{stat}_s"] = term_value(result, Term("", metric, stat, 0.0), latencies)
    return out


def all_rejected(records: np.ndarray) -> bool:
    """Whether not one request could be served at all."""
    return bool(len(records)) and bool(np.all(records["finish_reason"] == REJECTED))


def pooled(results: Sequence[Result]) -> Result:
    """Replications of one setting as a single result: their records and gaps together, no steps, durations added."""
    first = results[0]
    gaps: dict[int, int] = {}
    for result in results:
        for index, count in result.gaps.items():
            gaps[index] = gaps.get(index, 0) + count
    return replace(
        first,
        records=np.concatenate([result.records for result in results]),
        steps=first.steps[:0],
        gaps=gaps,
        step_count=sum(result.step_count for result in results),
        duration_s=sum(result.duration_s for result in results),
    )
