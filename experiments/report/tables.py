"""Tables of requests and of steps, read from Parquet or gzipped CSV into plain arrays; pandas is known only here."""

import gzip
import io
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from experiments.report import ReportError
from sim import tally
from sim.request import FINISH_REASONS

MAX_ROWS = 1_000_000_000
MAX_STEPS = 20_000_000  # beyond which they are not drawn
MAX_CSV_BYTES = 256 << 30  # of a CSV file once unpacked

_PIECE_ROWS = 1 << 16
_SERVED = ("stop", "length")
_REQUEST_NUMBERS = ("arrival_s", "input_tokens", "output_tokens", "ttft_s", "tpot_s", "e2el_s")
_STEP_NUMBERS = ("instance_id", "start_s", "dur_s", "running", "waiting", "kv_blocks_used", "preempted")


@dataclass(frozen=True)
class Requests:
    """One entry per request, or where there are too many one for every so many of them, as evenly as they left.

    Latencies in seconds: inf if not served, nan where a one-token answer has no gap.
    """

    arrival_s: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    ttft_s: np.ndarray
    tpot_s: np.ndarray
    e2el_s: np.ndarray
    every: int = 1

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def sampling(self) -> str | None:
        """What a reader should know of figures that show a sample."""
        return None if self.every == 1 else f"Drawn from one in {self.every:,} of all requests."

    def column_s(self, metric: str) -> np.ndarray:
        """The latencies "ttft", "tpot" or "e2el", one entry per request."""
        return {"ttft": self.ttft_s, "tpot": self.tpot_s, "e2el": self.e2el_s}[metric]

    def latency_s(self, metric: str) -> np.ndarray:
        """The same of those requests that have one: unserved ones count as inf, one-token answers have no TPOT."""
        values = self.column_s(metric)
        return values[~np.isnan(values)]


@dataclass(frozen=True)
class Steps:
    """One entry per iteration of an instance."""

    instance_id: np.ndarray
    start_s: np.ndarray
    dur_s: np.ndarray
    running: np.ndarray
    waiting: np.ndarray
    kv_blocks_used: np.ndarray
    preempted: np.ndarray

    def __len__(self) -> int:
        return len(self.start_s)


def read_requests(path: Path) -> Requests:
    """A `requests` table, conventions of `requests.parquet`; ReportError names wrong columns and rows.

    Of more than EXACT_ROWS it is every second, fourth, ... one, read in flat memory.
    """
    numbers, reasons, every = _read(path, _REQUEST_NUMBERS, "finish_reason", tally.EXACT_ROWS)
    unknown = sorted(set(reasons) - set(FINISH_REASONS))
    if unknown:
        known = ", ".join(FINISH_REASONS)
        raise ReportError(f"{path.name}: finish_reason: no reason {str(unknown[0])!r}; known: {known}")
    served = np.isin(reasons, _SERVED)
    _check(path, numbers, ("arrival_s", "input_tokens", "output_tokens"), np.ones(len(served), bool), every)
    _check(path, numbers, ("ttft_s", "e2el_s"), served, every)
    gaps = served & (numbers["output_tokens"] > 1)
    _check(path, numbers, ("tpot_s",), gaps, every)
    for name in ("ttft_s", "e2el_s", "tpot_s"):
        numbers[name] = np.where(served, numbers[name], np.inf)
    numbers["tpot_s"] = np.where(served & ~gaps, np.nan, numbers["tpot_s"])
    return Requests(**numbers, every=every)


def read_steps(path: Path) -> Steps | None:
    """A `steps` table, conventions of `steps.parquet`; None for more than MAX_STEPS. ReportError as for requests."""
    numbers, _, every = _read(path, _STEP_NUMBERS, None, MAX_STEPS)
    if every > 1:
        return None
    _check(path, numbers, _STEP_NUMBERS, np.ones(len(numbers["start_s"]), bool))
    return Steps(**numbers)


def _check(path: Path, numbers: Mapping[str, np.ndarray], names: tuple[str, ...], rows: np.ndarray, every: int = 1) -> None:
    """Finite and not negative in the rows that count."""
    mistakes = []
    for name in names:
        bad = rows & ~(np.isfinite(numbers[name]) & (numbers[name] >= 0.0))
        if bad.any():
            row = int(np.argmax(bad))
            mistakes.append(f"{path.name}: {name}: row {row * every + 1} holds {numbers[name][row]}, expected a number >= 0")
    if mistakes:
        raise ReportError("\n".join(mistakes))


def _read(path: Path, numbers: tuple[str, ...], words: str | None, most: int) -> tuple[dict[str, np.ndarray], np.ndarray, int]:
    """Columns of numbers as f8, one column of words, and of how many rows one was taken so that there are at most `most`."""
    wanted = [*numbers, *([words] if words else [])]
    try:
        with closing(_pieces(path, wanted)) as pieces:
            frame, every = _thinned(path, pieces, most)
        values = {name: frame[name].to_numpy(dtype="f8", na_value=np.nan) for name in numbers}
    except ReportError:
        raise
    except ImportError:
        raise ReportError(f"{path.name}: reading Parquet needs pyarrow: pip install 'servecast[parquet]'") from None
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise ReportError(
            f"{path.name}: not a table of numbers: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from None
    return values, frame[words].astype(str).to_numpy(dtype=str) if words else np.empty(0, str), every


def _thinned(path: Path, pieces: Iterable[Any], most: int) -> tuple[Any, int]:
    """The rows of all pieces as one frame, or every second, fourth, ... of them, so that at most `most` are ever held."""
    import pandas as pd

    every, seen, held, kept = 1, 0, 0, []
    for piece in pieces:
        taken = piece.iloc[-seen % every :: every]
        kept.append(taken)
        seen, held = seen + len(piece), held + len(taken)
        if seen > MAX_ROWS:
            raise ReportError(f"{path.name}: more than {MAX_ROWS:,} rows")
        while held > most:
            kept = [pd.concat(kept).iloc[::2]]
            every, held = 2 * every, len(kept[0])
    return pd.concat(kept), every


def _pieces(path: Path, wanted: list[str]) -> Generator[Any]:
    """The table as frames of some thousand rows, of which there is at least one."""
    return _parquet_pieces(path, wanted) if path.name.endswith(".parquet") else _csv_pieces(path, wanted)


def _parquet_pieces(path: Path, wanted: list[str]) -> Generator[Any]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        _check_columns(path, wanted, file.schema_arrow.names)
        if not file.metadata.num_rows:
            yield file.schema_arrow.empty_table().select(wanted).to_pandas()
        for batch in file.iter_batches(_PIECE_ROWS, columns=wanted):
            yield batch.to_pandas()


def _csv_pieces(path: Path, wanted: list[str]) -> Generator[Any]:
    import pandas as pd

    with io.BufferedReader(_Bounded(path)) as file:
        header = pd.read_csv(file, nrows=0)
    _check_columns(path, wanted, list(header.columns))
    with io.BufferedReader(_Bounded(path)) as file:
        yield from pd.read_csv(file, usecols=wanted, chunksize=_PIECE_ROWS)


class _Bounded(io.RawIOBase):
    """An unpacked gzip file that refuses to grow without end."""

    def __init__(self, path: Path):
        self._path = path
        self._file = gzip.open(path)  # noqa: SIM115 (closed by close)
        self._left = MAX_CSV_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise ReportError(f"{self._path.name}: larger than {MAX_CSV_BYTES >> 30} GiB unpacked")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _check_columns(path: Path, wanted: list[str], present: list[str]) -> None:
    missing = [name for name in wanted if name not in present]
    if not missing:
        return
    hints = [f"{name}{_hint(name, [p for p in present if p not in wanted])}" for name in missing]
    raise ReportError(f"{path.name}: columns missing: {', '.join(hints)}")


def _hint(name: str, present: list[str]) -> str:
    close = get_close_matches(name, present, 1, 0.7)
    return f" (there is '{close[0]}')" if close else ""
