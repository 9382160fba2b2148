"""Tables of a run as files: requests, steps and groups of requests, in seconds, with the columns of docs/formats.md."""

import gzip
import io
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sim import tally
from sim.groups import Groups
from sim.latency import good_requests, is_done, latencies_s
from sim.request import FINISH_REASONS, REJECT_REASONS
from sim.slo import Slo

if TYPE_CHECKING:
    import pandas as pd


class RequestsFile:
    """A sink for `simulate` that leaves the table of requests in a folder.

    Up to EXACT_ROWS of them are sorted by arrival; more are written as they come, in order of leaving, in flat memory.
    """

    def __init__(self, folder: Path, slo: Slo | None, stem: str = "requests"):
        self.slo = slo
        self._file = FrameFile(folder, stem)
        self._held: list[np.ndarray] = []
        self._rows = 0

    def add(self, records: np.ndarray) -> None:
        """Hold them, or write them where there are too many to be sorted."""
        self._held.append(records)
        self._rows += len(records)
        if self._rows > tally.EXACT_ROWS:
            self._write_held()

    def close(self) -> None:
        """The last rows, and the file is whole."""
        if 0 < self._rows <= tally.EXACT_ROWS:
            self._held = [np.sort(np.concatenate(self._held), order=("arrival_ns", "request_id"))]
        self._write_held()
        self._file.close()

    def _write_held(self) -> None:
        for records in self._held:
            self._file.add(requests_frame(records, self.slo))
        self._held.clear()


class FrameFile:
    """A table that is written piece by piece: Parquet where pyarrow is installed, compressed CSV where not.

    The same pieces give the same bytes.
    """

    def __init__(self, folder: Path, stem: str):
        self._folder, self._stem = folder, stem
        self._writer: _Writer | None = None

    def add(self, frame: "pd.DataFrame") -> None:
        """Append rows; the first piece decides the columns and their types."""
        if self._writer is None:
            self._writer = _writer(self._folder, self._stem, frame)
        self._writer.add(frame)

    def close(self) -> None:
        """The file is whole; there is none where nothing was added."""
        if self._writer is not None:
            self._writer.close()


def requests_frame(records: np.ndarray, slo: Slo | None) -> "pd.DataFrame":
    """One row per RECORD row. Times of requests that were not served are NaN."""
    import pandas as pd

    latencies, served = latencies_s(records), is_done(records)
    frame = pd.DataFrame(
        {name: records[name] for name in ("request_id", "client_id", "session_id", "turn", "model", "priority")}
    )
    frame["arrival_s"] = records["arrival_ns"] / 1e9
    for name in ("input_tokens", "output_tokens", "max_tokens", "cached_tokens", "instance_id"):
        frame[name] = records[name]
    frame["queue_s"] = latencies["queue"]
    frame["encode_s"] = frame["transfer_s"] = 0.0  # stages that these runs do not have
    frame["api_s"] = records["api_ns"] / 1e9
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
        frame["slo_ok"] = good_requests(records, slo.request_terms)
    return frame


def steps_frame(steps: np.ndarray) -> "pd.DataFrame":
    """One row per STEP row, by instance and start."""
    import pandas as pd

    steps = steps[np.lexsort((steps["start_ns"], steps["instance_id"]))]
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


def groups_frame(groups: Groups) -> "pd.DataFrame":
    """One row per group: a client, or a window of time."""
    import pandas as pd

    return pd.DataFrame(groups.table())


def write_frame(frame: "pd.DataFrame", folder: Path, stem: str) -> None:
    """Write a whole table at once."""
    file = FrameFile(folder, stem)
    file.add(frame)
    file.close()


class _Writer(Protocol):
    def add(self, frame: "pd.DataFrame") -> None: ...

    def close(self) -> None: ...


def _writer(folder: Path, stem: str, frame: "pd.DataFrame") -> _Writer:
    if has_pyarrow():
        return _Parquet(folder / f"{stem}.parquet", frame)
    return _Csv(folder / f"{stem}.csv.gz")


def has_pyarrow() -> bool:
    """Whether Parquet can be written."""
    return find_spec("pyarrow") is not None


class _Parquet:
    """A row group for each piece."""

    def __init__(self, path: Path, frame: "pd.DataFrame"):
        import pyarrow.parquet

        self._table_of: Any = pyarrow.Table.from_pandas
        schema = self._table_of(frame, preserve_index=False).schema
        self._file = pyarrow.parquet.ParquetWriter(path, schema, compression="zstd")

    def add(self, frame: "pd.DataFrame") -> None:
        self._file.write_table(self._table_of(frame, preserve_index=False))

    def close(self) -> None:
        self._file.close()


class _Csv:
    """Gzip without a time or a name, so that it depends on its content alone."""

    def __init__(self, path: Path):
        self._raw = path.open("wb")
        self._text = io.TextIOWrapper(gzip.GzipFile("", "wb", 6, self._raw, mtime=0), encoding="utf-8", newline="")
        self._has_head = False

    def add(self, frame: "pd.DataFrame") -> None:
        frame.to_csv(self._text, index=False, header=not self._has_head, float_format="%.9g", lineterminator="\n")
        self._has_head = True

    def close(self) -> None:
        self._text.close()
        self._raw.close()
