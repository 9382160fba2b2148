"""Azure's LLM inference traces: CSV with `TIMESTAMP,ContextTokens,GeneratedTokens`, one line a request.

Times have seven decimals and, of 2024, may end in +00:00; lines end in CRLF. The multimodal trace of 2025 has `NumImages`
as well: how many tokens of a prompt are its images it does not say, so they are no ITEMS, and a note tells how many there
are. Sources: Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md, …2024.md and AzureLMMInferenceDataset2025.md (the
last two written from their documentation, no data at hand).

>>> import tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "azure.csv"
>>> _ = path.write_text('''TIMESTAMP,ContextTokens,GeneratedTokens
... 2023-11-16 18:15:46.6805900,374,44
... 2023-11-16 18:15:50.9951690,396,109''')
>>> read(path).collect()[["arrival_ns", "input_tokens", "output_tokens"]].tolist()
[(0, 374, 44), (4314579000, 396, 109)]
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from workloads.files.csv_cells import INSTANT, WHOLE
from workloads.files.rows_in_chunks import MAX_ROWS
from workloads.stream import Stream
from workloads.traces.csv_log import Columns, Extra, Log, read_log
from workloads.traces.format import Format, Head

_LOG = Log("azure", "TIMESTAMP", INSTANT, "ContextTokens", "GeneratedTokens")
_IMAGES = "NumImages"


def read(path: str | os.PathLike[str], max_rows: int = MAX_ROWS) -> Stream:
    """The stream of an Azure trace, time from its first line. Raises WorkloadError with file and line."""
    return read_log(Path(path), _LOG, _Images().extra, _text_of, max_rows)


class _Images:
    """Counts the images of a multimodal trace."""

    def extra(self) -> Extra:
        self._images = self._requests = 0
        return Extra({_IMAGES: WHOLE}, self._fill, self._about)

    def _fill(self, rows: np.ndarray, columns: Columns) -> None:
        if _IMAGES in columns:
            self._images += int(columns[_IMAGES].sum())
            self._requests += int(np.count_nonzero(columns[_IMAGES]))

    def _about(self) -> dict[str, Any]:
        if not self._requests:
            return {}
        told = f"{self._requests} requests have {self._images} images, whose tokens the trace does not tell: no encoder runs"
        return {"images": self._images, "notes": [told]}


def _text_of(start_ns: int) -> str:
    return str(np.datetime64(start_ns, "ns"))


def _looks_like(head: Head) -> bool:
    return bool({_LOG.time, _LOG.input, _LOG.output} & set(head.header))


FORMATS = (Format("azure", f"columns {_LOG.time}, {_LOG.input}, {_LOG.output}", _looks_like, read),)
