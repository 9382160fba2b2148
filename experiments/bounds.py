"""What is known of a plan before anything is played: a floor under every latency, and a first guess.

The floor refuses a limit that no number of instances can hold. The guess is a place to start the search from; it
decides nothing.
"""

from collections.abc import Iterator

import numpy as np

from experiments.errors import UserError
from experiments.scenario import Scenario
from experiments.words import seconds
from experiments.workers import Collected
from sim.cluster import Plan
from sim.distribution import percentile

MEAN_STEP_SHARE = 0.65
"""Share of the TPOT limit that the mean step may take in a first guess: percentiles lie above the mean."""
SLICE_S = 600.0
"""The guess is for the busiest slice of this length: a p99 over an hour is made in its worst minutes."""
FEWEST_REQUESTS = 20
"""A slice with fewer says too little of its own load."""


def guess_instances(scenario: Scenario, stream: Collected, plan: Plan) -> int:
    """A first guess: the least number at which the busiest slice's mean load has a steady state within the TPOT limit."""
    if not len(stream.rows):
        raise UserError("the workload sends no request in this span")
    limits = [term.limit_s for term in scenario.parsed_slo().terms if term.metric in ("tpot", "itl")]
    limit_s = MEAN_STEP_SHARE * min(limits, default=1.0)
    need = 1
    for rows, length_s in _slices(stream):
        while need < scenario.plan.max_instances and _steady_step_s(rows, length_s * need, plan) > limit_s:
            need += 1
    return need


def _slices(stream: Collected) -> Iterator[tuple[np.ndarray, float]]:
    """The stream as a whole and its slices, each with its length in seconds."""
    rows, duration_s = stream.rows, stream.duration_s
    yield rows, duration_s
    which = rows["arrival_ns"] // round(SLICE_S * 1e9)
    for k in range(int(duration_s // SLICE_S)):
        part = rows[which == k]
        if len(part) >= FEWEST_REQUESTS:
            yield part, SLICE_S


def _steady_step_s(rows: np.ndarray, length_s: float, plan: Plan) -> float:
    """Step time at which one instance keeps up with `rows` arriving over `length_s`; inf where it cannot.

    In a step of t seconds r t prompts are computed and r t o answers of o tokens run at once (Little's law), with the
    context that a token of an answer sees on average, E[o (i + o/2)] / E[o]; t is the price of that step.
    """
    prompts, answers = rows["input_tokens"].astype("f8"), rows["output_tokens"].astype("f8")
    rate, answer = len(rows) / length_s, float(np.mean(answers))
    context = float(np.mean(answers * (prompts + answers / 2))) / answer
    engine, step_s = plan.engine, 0.001
    for _ in range(200):
        decodes, arrivals = rate * step_s * answer, rate * step_s
        prefill = arrivals * float(np.mean(prompts))
        if decodes * context > plan.num_blocks * engine.block_size or decodes > engine.max_num_seqs - arrivals:
            return float("inf")
        if prefill + decodes > engine.max_num_batched_tokens - 1:
            return float("inf")
        counts = [prefill, arrivals * float(np.mean(prompts**2)), decodes, decodes * context, decodes + arrivals]
        before, step_s = step_s, plan.step_cost.step_ns(*[round(x) for x in counts]) / 1e9
        if abs(step_s - before) < 1e-6:
            break
    return step_s


def check_floor(scenario: Scenario, stream: Collected, plan: Plan) -> None:
    """UserError for a limit that no number of instances can hold: each request alone on its instance breaks it already."""
    rows = stream.rows[_served(stream.rows, plan)]
    alone = _alone_s(rows, plan)
    mistakes = []
    for term in scenario.parsed_slo().terms if len(rows) else ():
        if term.metric not in alone or (term.metric == "itl" and term.stat not in (None, "max")):
            continue  # gaps are pooled over requests, and a floor of each request's says nothing of their percentiles
        q = term.percentile if term.stat else 100.0 * scenario.parsed_slo().attainment
        floor = float(np.mean(alone[term.metric])) if q is None else percentile(alone[term.metric], q)
        if floor > term.limit_s:
            mistakes.append(
                f"slo: no number of instances can hold {term.text}: alone on an instance the requests of this workload take "
                f"{seconds(floor)} there; expected a limit above that"
            )
    if mistakes:
        raise UserError(mistakes)


def _served(rows: np.ndarray, plan: Plan) -> np.ndarray:
    """Which requests an instance of this cluster takes at all."""
    longest = np.minimum(rows["max_tokens"], plan.engine.max_model_len - rows["input_tokens"])
    fits = rows["input_tokens"] + longest <= (plan.num_blocks - 1) * plan.engine.block_size
    return fits & (longest >= 1)


def _alone_s(rows: np.ndarray, plan: Plan) -> dict[str, np.ndarray]:
    """Latencies of each request on an instance of its own, at least: each decode is priced at its first context."""
    lengths, where = np.unique(rows["input_tokens"], return_inverse=True)
    cost, budget = plan.step_cost, plan.engine.max_num_batched_tokens
    ttft = [
        sum(cost.step_ns(n, n * (n + 2 * past), 0, 0, int(past + n == length)) for past, n in _chunks(length, budget))
        for length in lengths.tolist()
    ]
    first_s = (np.array(ttft) / 1e9)[where]
    gap_s = (np.array([cost.step_ns(0, 0, 1, length + 1, 1) for length in lengths.tolist()]) / 1e9)[where]
    answers = np.minimum(
        rows["output_tokens"], np.minimum(rows["max_tokens"], plan.engine.max_model_len - rows["input_tokens"])
    )
    last_s = first_s + (answers - 1) * gap_s
    tpot_s = np.where(answers > 1, gap_s, 0.0)
    return {"ttft": first_s, "tpot": tpot_s, "itl": tpot_s, "ntpot": last_s / answers, "e2el": last_s}


def _chunks(length: int, budget: int) -> Iterator[tuple[int, int]]:
    """A prompt cut into chunks of the budget: what is computed before each, and its tokens."""
    for past in range(0, int(length), budget):
        yield past, min(budget, int(length) - past)
