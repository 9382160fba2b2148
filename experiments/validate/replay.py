"""Judging a recorded run: its requests arrive again at a simulated engine, and when both sent which token is compared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.console import Console
from experiments.validate.judgement import Group, Judged, check_target, judgement, percent, tell, write
from experiments.validate.point import Setting
from experiments.validate.prediction import LATENCIES, cluster_of, grade_of, statistic_of
from experiments.validate.run_folder import BLOCK_TOKENS, LOOK, RunFolder, read_run
from experiments.validate.shipped import refusal, target_of
from hwprofiles import ProfileError
from sim import ClusterError, Engine, simulate
from sim.latency import is_done, latencies_s
from workloads import SEGMENTS, Stream
from workloads.stream import NS_PER_S, new_rows

STATISTICS = ("mean", "median", "p90", "p99")
COUNTS = ("running", "waiting")
KINDS = ("measured", "predicted")
MOMENTS_SHOWN = 12
"""Of load and memory over time, on the screen; the JSON file has all."""

Figures = dict[str, float]


def validate_run(folder: Path, json_out: Path | None = None, *, quiet: bool = False) -> dict[str, Any]:
    """Replay a recorded run, print the errors, write them to `json_out`, and return what was written.

    Compared are mean, median, p90 and p99 of TTFT, TPOT and E2E, the mean of requests running and waiting, and, where it is
    recorded, of the share of KV blocks that they hold. Keys are points, groups and skipped as of `validate_points`, and
    `over_time`: all three at each moment. UserError with the mistakes of the files.
    """
    check_target(json_out)
    run = read_run(folder)
    setting = _setting(run)
    looks = run.looks if len(run.looks) else _measured_looks(run.requests)
    measured = _measured(run.requests) | _means(looks)
    group = Group(run.served.gpu, run.served.model, run.served.precision, run.served.tp, run.served.software, "replay", "")
    judged = [Judged(folder.resolve().name, replace(group, metric=metric), value) for metric, value in measured.items()]
    predicted = np.empty(0, LOOK)
    reason = refusal(setting, "ttft_mean_s")
    if not reason:
        try:
            figures, predicted = _replay(run, setting, looks["t_s"])
            grade = grade_of(target_of(setting))
            judged = [replace(one, predicted=figures[one.group.metric], grade=grade) for one in judged]
        except (ClusterError, ProfileError) as error:
            reason = str(error).splitlines()[0]
    if reason:
        judged = [replace(one, skipped=reason) for one in judged]
    told = judgement(judged) | {"over_time": _over_time(looks, predicted)}
    console = Console(quiet)
    tell(console, judged, told, with_groups=False)
    if not reason:
        _tell_over_time(console, told["over_time"])
    write(told, json_out)
    return told


def stream_of(run: RunFolder) -> Stream:
    """The run's requests as a stream; where blocks are recorded, prompts share them."""
    order = np.lexsort((run.requests["request_id"], run.requests["arrival_s"]))
    requests = run.requests[order]
    rows = new_rows(len(requests))
    rows["arrival_ns"] = np.rint(requests["arrival_s"] * NS_PER_S).astype(np.int64)
    rows["request_id"] = np.arange(len(rows))
    rows["input_tokens"] = requests["input_tokens"]
    rows["output_tokens"] = rows["max_tokens"] = requests["output_tokens"]
    blocks = [run.blocks[i] for i in order]
    duration_s = max(int(rows["arrival_ns"][-1]), 1) / NS_PER_S
    return Stream(duration_s, lambda: (rows,), segments=_name(rows, blocks) if any(blocks) else None)


def looks_at(at_s: np.ndarray, arrival_s: np.ndarray, scheduled_s: np.ndarray, last_s: np.ndarray) -> np.ndarray:
    """LOOK rows: waiting until first scheduled, running until the last token, preempted or not; of KV nothing is known."""
    looks = np.zeros(len(at_s), LOOK)
    looks["kv_frac"] = np.nan
    arrived, scheduled, left = (np.searchsorted(np.sort(times), at_s, "right") for times in (arrival_s, scheduled_s, last_s))
    looks["t_s"], looks["running"], looks["waiting"] = at_s, scheduled - left, arrived - scheduled
    return looks


def kv_frac_at(at_s: np.ndarray, steps: np.ndarray, num_blocks: int) -> np.ndarray:
    """The share of blocks held when the last step before each moment began; one block is the null block, which nobody holds.

    It is 0 where no step is under way. steps: STEP rows of one instance.
    """
    last = np.searchsorted(steps["start_ns"], at_s * NS_PER_S, "right") - 1
    is_under_way = (last >= 0) & (at_s * NS_PER_S <= (steps["start_ns"] + steps["duration_ns"])[last])
    return np.where(is_under_way, steps["kv_blocks_used"][last] / max(num_blocks - 1, 1), 0.0)


def _name(rows: np.ndarray, blocks: list[list[int]]) -> np.ndarray:
    """SEGMENTS of prompts of recorded blocks, the rest of each its own; writes the slices into the rows."""
    own_id = max(max(ids, default=0) for ids in blocks) + 1
    pieces: list[tuple[int, int]] = []
    for number, ids in enumerate(blocks):
        start, rest = len(pieces), int(rows["input_tokens"][number]) - len(ids) * BLOCK_TOKENS
        pieces += [(block, BLOCK_TOKENS) for block in ids]
        pieces += [(own_id + number, rest)] if rest else []
        rows["segments_start"][number], rows["segments_count"][number] = start, len(pieces) - start
    return np.array(pieces, SEGMENTS)


def _setting(run: RunFolder) -> Setting:
    """The run as a setting, for what is shipped of it; its lengths and load are the recorded ones."""
    served = run.served
    traits = frozenset(("moe_ep",) if served.has_expert_parallel else ())
    gpus = served.tp * served.instances
    return Setting(
        served.gpu, served.model, served.precision, served.tp, served.software, 2, 2, "single", 1.0, gpus=gpus, traits=traits
    )


def _replay(run: RunFolder, setting: Setting, at_s: np.ndarray) -> tuple[Figures, np.ndarray]:
    """Predicted figures by metric, and LOOK rows at these times. ClusterError where a request is refused."""
    cluster = replace(cluster_of(target_of(setting)), engine=Engine(**run.served.engine))
    result = simulate(stream_of(run), cluster)
    records = result.records.copy()
    records["api_ns"] = 0  # the times recorded are the engine's, before the API server adds its own
    if not is_done(records).all():
        raise ClusterError("some of its requests do not fit into the model's context or the KV blocks")
    latencies = latencies_s(records)
    times = [records[name] / 1e9 for name in ("arrival_ns", "scheduled_ns", "finish_ns")]
    looks = looks_at(at_s, *times)
    looks["kv_frac"] = kv_frac_at(at_s, result.steps, result.kv_blocks)
    return _figures({name: latencies[key] for name, key in LATENCIES.items()}) | _means(looks), looks


def _measured(requests: np.ndarray) -> Figures:
    gaps = np.where(requests["output_tokens"] > 1, requests["output_tokens"] - 1.0, np.nan)
    return _figures({
        "ttft": requests["first_token_s"] - requests["arrival_s"],
        "tpot": (requests["last_token_s"] - requests["first_token_s"]) / gaps,
        "e2e": requests["last_token_s"] - requests["arrival_s"],
    })  # fmt: skip


def _figures(latencies: dict[str, np.ndarray]) -> Figures:
    return {
        f"{name}_{statistic}_s": statistic_of(values, statistic)
        for name, values in latencies.items()
        if not np.isnan(values).all()
        for statistic in STATISTICS
    }


def _means(looks: np.ndarray) -> Figures:
    shares = looks["kv_frac"][~np.isnan(looks["kv_frac"])]
    kv = {"kv_mean_frac": float(shares.mean())} if len(shares) else {}
    return {f"{name}_mean": float(looks[name].mean()) for name in COUNTS} | kv


def _measured_looks(requests: np.ndarray) -> np.ndarray:
    """What a look at each whole second would have seen."""
    at_s = np.arange(1.0, max(float(requests["last_token_s"].max()), 1.0) + 1.0)
    return looks_at(at_s, *(requests[name] for name in ("queued_s", "scheduled_s", "last_token_s")))


def _tell_over_time(console: Console, moments: list[dict[str, Any]]) -> None:
    """Print the counts, and the KV share where it was recorded, at some moments, the last one among them."""
    every = max(len(moments) // MOMENTS_SHOWN, 1)
    shown = moments[::-1][::every][::-1]
    console.say()
    columns = [f"{name}_{kind}" for name in COUNTS for kind in KINDS]
    shares = [f"kv_frac_{kind}" for kind in KINDS] if any(moment["kv_frac_measured"] is not None for moment in moments) else []
    rows = [
        [f"{moment['t_s']:g}", *(moment[name] for name in columns), *(percent(moment[name], "") for name in shares)]
        for moment in shown
    ]
    console.table(["t_s", *columns, *shares], rows)


def _over_time(measured: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
    """Counts and KV share at each moment; the predicted ones are None where nothing was simulated."""
    return [
        {
            "t_s": float(look["t_s"]),
            **{f"{name}_measured": int(look[name]) for name in COUNTS},
            **{f"{name}_predicted": int(predicted[name][i]) if len(predicted) else None for name in COUNTS},
            "kv_frac_measured": _known(look["kv_frac"]),
            "kv_frac_predicted": _known(predicted["kv_frac"][i]) if len(predicted) else None,
        }
        for i, look in enumerate(measured)
    ]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
