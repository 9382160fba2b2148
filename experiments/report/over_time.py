"""The fourth section: load, latency and the state of the cluster, in windows of time."""

import numpy as np

from experiments.report import timeline, windows
from experiments.report.load import PER_CLIENT, Run
from experiments.report.markup import Html, join, tag
from experiments.report.schema import Summary
from experiments.report.svg import picture
from experiments.report.tables import Requests, Steps
from experiments.report.words import METRIC_NAMES, count, duration, slo_lines

_PER_RATE_WINDOW = 20  # requests or steps that a window should hold
_PER_BAND_WINDOW = 100  # requests that a window's p99 should rest on
_MAX_BAND_WINDOWS = 120
_LEAST_WINDOWS = 30


def over_time(run: Run) -> Html | None:
    """Arrivals, latency bands, queues, KV blocks; of a comparison, its first hour as the per-client plan serves it."""
    requests = run.requests if run.requests is not None else run.traffics.get(PER_CLIENT)
    steps = run.steps
    if requests is None and steps is None:
        return None
    arriving_s = run.summary.duration_s if run.summary else run.compare.hours[0].duration_s if run.compare else 0.0
    if requests:
        arriving_s = max(arriving_s, float(np.max(requests.arrival_s)))
    end_s = max(arriving_s, float(np.max(steps.start_s + steps.dur_s)) if steps else 0.0) or 1.0
    pictures: list[Html | None] = []
    if requests:
        pictures += [*_load(requests, arriving_s or 1.0, end_s), *_latency(run, requests, arriving_s or 1.0, end_s)]
    if steps and run.summary:
        pictures += _cluster(steps, run.summary, end_s)
    if not any(pictures):
        return tag("p", "Nothing happened in this run.", class_="note")
    which = None if run.requests is not None or not run.traffics else "The first hour, served by the per-client plan."
    missing = None if steps is not None else "No table of steps, or too long a one: queues and KV blocks are not drawn."
    note = " ".join(text for text in (which, requests.sampling if requests else None, missing) if text)
    return join([tag("div", *pictures, class_="figures two"), tag("p", note, class_="note") if note else None])


def _load(requests: Requests, span_s: float, end_s: float) -> list[Html | None]:
    edges = windows.edges_s(span_s, max(_LEAST_WINDOWS, len(requests) // _PER_RATE_WINDOW))
    every = f"windows of {duration(float(edges[1]))}"
    tokens = f"Prompt tokens, and the tokens of their answers, per second at arrival; {every}."
    rates = timeline.arrivals(requests, edges, end_s), timeline.tokens(requests, edges, end_s)
    return [
        picture("time-arrivals", "Requests arriving", f"Arrivals per second; {every}.", rates[0]),
        picture("time-tokens", "Tokens arriving with them", tokens, rates[1]),
    ]


def _latency(run: Run, requests: Requests, span_s: float, end_s: float) -> list[Html | None]:
    most = np.clip(len(requests) // _PER_BAND_WINDOW, _LEAST_WINDOWS, _MAX_BAND_WINDOWS)
    edges = windows.edges_s(span_s, int(most))
    caption = f"p50 to p99 of the requests that arrive in each window of {duration(float(edges[1]))}."
    if run.slo:
        caption += " The SLO speaks of the whole run, not of a window."
    pictures = []
    for metric in ("ttft", "tpot"):
        figure = timeline.latency_band(requests, metric, slo_lines(run.slo, metric, "p99"), edges, end_s)
        pictures.append(picture(f"time-{metric}", f"{METRIC_NAMES[metric]} by time of arrival", caption, figure))
    return pictures


def _cluster(steps: Steps, summary: Summary, end_s: float) -> list[Html | None]:
    edges = windows.edges_s(end_s, max(_LEAST_WINDOWS, len(steps) // _PER_RATE_WINDOW))
    every = f"windows of {duration(float(edges[1]))}"
    preempted = int(steps.preempted.sum())
    ticks = f"{count(preempted, 'preemption')}, ticked at the top" if preempted else "no preemptions"
    blocks = f"Share of the {summary.kv_blocks:,} blocks of an instance; {every}; {ticks}."
    state = timeline.kv_blocks(steps, summary.kv_blocks, summary.instances, edges, end_s)
    queues = timeline.queues(steps, edges, end_s)
    return [
        picture("time-queues", "Requests running and waiting", f"In the whole cluster, mean over {every}.", queues),
        picture("time-kv", "KV blocks in use", blocks, state),
    ]
