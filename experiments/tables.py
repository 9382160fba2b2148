"""Tables of a run as files: requests and steps, in seconds and with the columns that docs/formats.md lists."""

import gzip
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sim.metrics import Result, good_requests, latencies_s
from sim.request import FINISH_REASONS, REJECT_REASONS, REJECTED
from sim.slo import Slo

if TYPE_CHECKING:
    import pandas as pd


def requests_frame(result: Result, slo: Slo | None) -> "pd.DataFrame":
    """One row per request, by arrival. Times of requests that were not served are NaN."""
    import pandas as pd

    records = np.sort(result.records, order=("arrival_ns", "request_id"))
    ordered = Result(**{**result.__dict__, "records": records})
    latencies = latencies_s(records)
    served = records["finish_reason"] != REJECTED
    frame = pd.DataFrame(
        {name: records[name] for name in ("request_id", "client_id", "session_id", "turn", "model", "priority")}
    )
    frame["arrival_s"] = records["arrival_ns"] / 1e9
    for name in ("input_tokens", "output_tokens", "max_tokens", "cached_tokens", "instance_id"):
        frame[name] = records[name]
    frame["queue_s"] = latencies["queue"]
    frame["encode_s"] = frame["transfer_s"] = frame["api_s"] = 0.0  # stages that these runs do not have
    frame["prefill_s"] = (records["first_token_ns"] - records["scheduled_ns"]) / 1e9
    frame["decode_s"] = (records["finish_ns"] - records["first_token_ns"]) / 1e9
    for name in ("ttft", "tpot", "ntpot", "e2el"):
        frame[f"{name}_s"] = latencies[name]
    frame["itl_max_s"] = latencies["itl"]
    times = [name for name in frame if name.endswith("_s") and name != "arrival_s"]
    frame.loc[~served, times] = np.nan
    frame["preemptions"] = records["preemptions"]
    frame["finish_reason"] = pd.Categorical.from_codes(records["finish_reason"], list(FINISH_REASONS))
    frame["reject_reason"] = pd.Categorical.from_codes(records["reject_reason"], list(REJECT_REASONS))
    if slo is not None and slo.request_terms:
        frame["slo_ok"] = good_requests(ordered, slo, latencies)
    return frame


def steps_frame(result: Result) -> "pd.DataFrame":
    """One row per iteration, by instance and start."""
    import pandas as pd

    steps = result.steps[np.lexsort((result.steps["start_ns"], result.steps["instance_id"]))]
    instance = steps["instance_id"]
    first = np.searchsorted(instance, instance)
    frame = pd.DataFrame({"instance_id": instance, "step": np.arange(len(steps)) - first})
    frame["start_s"] = steps["start_ns"] / 1e9
    frame["dur_s"] = steps["duration_ns"] / 1e9
    for name in (
        "prefill_tokens",
        "decode_tokens",
        "encode_tokens",
        "running",
        "waiting",
        "kv_blocks_used",
        "preempted",
    ):
        frame[name] = steps[name]
    return frame


def write_frame(frame: "pd.DataFrame", folder: Path, stem: str) -> Path:
    """Write as Parquet where pyarrow is installed, as compressed CSV where not; the same bytes for the same frame."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        path = folder / f"{stem}.csv.gz"
        text = io.StringIO()
        frame.to_csv(text, index=False, float_format="%.9g")
        path.write_bytes(gzip.compress(text.getvalue().encode(), 6, mtime=0))
        return path
    path = folder / f"{stem}.parquet"
    frame.to_parquet(path, index=False, compression="zstd")
    return path
