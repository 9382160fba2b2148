"""TTFT, TPOT, goodput and the rest: what a run comes to, from its tally.

Definitions are those of docs/glossary.md (vLLM's, where the field agrees). Percentiles are linear, as numpy's; a
request that was rejected or cut counts there as infinitely late, so that a cluster which refuses work never looks better.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sim import histogram
from sim.choice import REFERENCE, Choice
from sim.latency import latencies_s
from sim.request import FINISH_REASONS
from sim.slo import METRICS, Slo, Term
from sim.tally import MetricsError, Tally

STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max")


@dataclass(frozen=True)
class Result:
    """What a run leaves: the tally of its requests, counts of token gaps, what they were made on, and the tables kept."""

    tally: Tally
    gaps: Mapping[int, int]  # by bin of sim.histogram
    step_count: int
    duration_s: float  # the time in which requests arrived
    instances: int
    gpus_per_instance: int
    kv_blocks: int
    seed: int
    steps: np.ndarray  # STEP rows, empty where they were not kept
    rows: np.ndarray | None = None  # RECORD rows in order of leaving, None where they were not kept
    choice: Choice = REFERENCE  # which engine played it, and why; results do not depend on it
    paths: Mapping[str, int] = field(default_factory=dict)  # iterations on each path of that engine
    api_ns: int = 0  # what the API server added to each request; in every TTFT and E2E

    @property
    def records(self) -> np.ndarray:
        """RECORD rows in order of leaving. MetricsError where they were not kept."""
        if self.rows is None:
            raise MetricsError("the run kept no rows of its requests: expected simulate(..., keep_records=True)")
        return self.rows

    def latencies_s(self) -> dict[str, np.ndarray]:
        """Per request, in order of `records`: ttft, tpot, itl (its worst gap), ntpot, e2el, queue. See `latencies_s`."""
        return latencies_s(self.records)

    def summary(self, slo: str | Slo | None = None) -> dict[str, Any]:
        """The run in numbers; see docs/glossary.md for every key."""
        return summary(self, Slo.parse(slo) if isinstance(slo, str) else slo)


def summary(result: Result, slo: Slo | None = None) -> dict[str, Any]:
    """The run in numbers. Rates are over the time in which requests arrived; what came out later is left out of them.

    MetricsError for an SLO with terms on each request that the run did not count and has no rows to count by.
    """
    tally, window_s = result.tally, result.duration_s
    sums, served = tally.sums, tally.good_by(())
    out: dict[str, Any] = {
        "requests": len(tally),
        **{f"requests_{name}": sums[f"requests_{name}"] for name in FINISH_REASONS},
        "duration_s": window_s,
        "makespan_s": tally.largest["finish_ns"] / 1e9,
        "instances": result.instances,
        "gpus": result.instances * result.gpus_per_instance,
        "gpu_hours": result.instances * result.gpus_per_instance * window_s / 3600.0,
        "kv_blocks": result.kv_blocks,
        "steps": result.step_count,
        "api_s": result.api_ns / 1e9,
        "input_tokens": sums["input_tokens"],
        "cached_tokens": sums["cached_tokens"],
        "output_tokens": served["output_tokens"],
        "preemptions": sums["preemptions"],
        "request_throughput_rps": served["inside"] / window_s,
        "output_throughput_tps": served["inside_output_tokens"] / window_s,
        "total_throughput_tps": (served["inside_output_tokens"] + sums["inside_input_tokens"]) / window_s,
        "mean_concurrency": tally.distributions["e2el"].total / 1e9 / window_s,
    }
    for metric in METRICS:
        out |= {f"{metric}_{stat}_s": term_value(result, Term("", metric, stat, 0.0)) for stat in STATISTICS}
    if slo is not None:
        good, terms = requests_within(result, slo.request_terms), verdict(result, slo)
        out["slo"] = str(slo)
        out["slo_holds"] = all(term["holds"] for term in terms)
        out["slo_terms"] = terms
        out["slo_attainment_frac"] = good["requests"] / len(tally) if len(tally) else None
        out["request_goodput_rps"] = good["inside"] / window_s
        out["token_goodput_tps"] = good["inside_output_tokens"] / window_s
    return out


def verdict(result: Result, slo: Slo) -> list[dict[str, Any]]:
    """Each condition of the SLO with its value, its limit and whether it holds; seconds, or a share for the attainment.

    MetricsError as for `summary`.
    """
    rows: list[dict[str, Any]] = []
    for term in slo.run_terms:
        value = term_value(result, term)
        rows.append({"term": term.text, "key": term.key, "value": value, "limit": term.limit_s, "holds": value <= term.limit_s})
    if slo.request_terms:
        share = share_within(result, slo.request_terms)
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


def term_value(result: Result, term: Term) -> float:
    """What a term about the run limits, in seconds: a percentile, the mean or the maximum of its metric.

    A percentile and the maximum count requests that were not served as infinite; the mean is of the served ones. The
    mean and percentiles of itl are over all gaps of all requests. Where nothing is there that a limit could bind, as
    in one-token answers alone, it is 0.
    """
    tally = result.tally
    if term.metric == "itl":
        return _pooled_gaps_s(result, term) if term.stat != "max" else _largest_gap_s(tally)
    distribution = tally.distributions[term.metric]
    value_ns = distribution.mean() if term.percentile is None else distribution.percentile(term.percentile, tally.unserved)
    return value_ns / 1e9


def share_within(result: Result, terms: Iterable[Term]) -> float:
    """The share of all requests that meet every limit as if it were one on each request; nan for no requests."""
    good = requests_within(result, terms)["requests"]
    return good / len(result.tally) if len(result.tally) else float("nan")


def requests_within(result: Result, terms: Iterable[Term]) -> Mapping[str, int]:
    """`Tally.good_by` of these limits, which are counted now where the run kept its rows and they were not counted before."""
    terms = tuple(terms)
    try:
        return result.tally.good_by(terms)
    except MetricsError:
        if result.rows is None:
            raise
    tally = Tally(result.tally.window_ns, Slo(terms))
    tally.add(result.rows)
    return tally.good_by(terms)


def pooled(results: Sequence[Result]) -> Result:
    """Replications of one setting as a single result: their requests and gaps together, no tables, durations added."""
    first = results[0]
    tally, gaps = Tally(first.tally.window_ns, first.tally.slo), Counter[int]()
    for result in results:
        tally.merge(result.tally)
        gaps.update(result.gaps)
    return replace(
        first,
        tally=tally,
        gaps=gaps,
        step_count=sum(result.step_count for result in results),
        duration_s=sum(result.duration_s for result in results),
        steps=first.steps[:0],
        rows=None,
    )


def _largest_gap_s(tally: Tally) -> float:
    return float("inf") if tally.unserved else tally.largest["itl_ns"] / 1e9


def _pooled_gaps_s(result: Result, term: Term) -> float:
    """The mean or a percentile of all token gaps; a request that was not served counts as one infinite gap."""
    if term.percentile is None:
        return histogram.mean(result.gaps) / 1e9 if result.gaps else 0.0
    gaps, unserved = sum(result.gaps.values()), result.tally.unserved
    share = term.percentile / 100.0 * (gaps + unserved)
    if share > gaps:
        return float("inf")
    return histogram.percentile(result.gaps, 100.0 * share / gaps) / 1e9 if gaps else 0.0
