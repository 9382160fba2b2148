"""What stands beside a stream's file: SEGMENTS and ITEMS, into which its slices point.

Beside `name.parquet` lie `name.segments.parquet` and `name.items.parquet`; beside `name.csv` and `name.csv.gz`
`name.segments.csv.gz` and `name.items.csv.gz`. Each is there only where the stream has such entries.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from workloads.stream import ITEMS, MODALITIES, SEGMENTS

SIDES = {"segments": SEGMENTS, "items": ITEMS}


def side_path(target: Path, suffix: str, name: str) -> Path:
    """The file of a side table, `segments` or `items`, of a stream's file whose name ends in `suffix`."""
    ending = ".parquet" if suffix == ".parquet" else ".csv.gz"
    return target.with_name(f"{target.name.removesuffix(suffix)}.{name}{ending}")


class Sums(NamedTuple):
    """Sums over the first entries of the side tables, from which those of any slice follow."""

    segment_tokens: np.ndarray
    item_tokens: dict[str, np.ndarray]

    @classmethod
    def over(cls, segments: np.ndarray, items: np.ndarray) -> Sums:
        """Of both tables."""
        of = {f"{name}_tokens": np.where(items["modality"] == k, items["tokens"], 0) for k, name in enumerate(MODALITIES)}
        of["image_count"] = items["modality"] == 0
        return cls(_sums(segments["tokens"]), {name: _sums(values) for name, values in of.items()})

    def of_items(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Of each row's items: image_count and the tokens of each modality."""
        return {name: _between(sums, rows, "items") for name, sums in self.item_tokens.items()}

    def misfits(self, rows: np.ndarray) -> list[tuple[str, np.ndarray, str]]:
        """(column, rows where it is wrong, what is expected): slices outside their table, prompts of another length."""
        found = []
        for name, size in (("segments", len(self.segment_tokens) - 1), ("items", len(self.item_tokens["image_count"]) - 1)):
            start, count = rows[f"{name}_start"], rows[f"{name}_count"].astype(np.int64)
            outside = (count != 0) & ((start < 0) | (count < 0) | (start > size - count))
            found.append((f"{name}_start", outside, f"expected a slice of the {size} {name} beside the file"))
        if not any(wrong.any() for _, wrong, _ in found):
            named = rows["segments_count"] > 0
            other = named & (_between(self.segment_tokens, rows, "segments") != rows["input_tokens"])
            found.append(("input_tokens", other, "its segments have another number of tokens"))
        return found


def _sums(values: np.ndarray) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(values, dtype=np.int64)))


def _between(sums: np.ndarray, rows: np.ndarray, name: str) -> np.ndarray:
    start = np.where(rows[f"{name}_count"] > 0, rows[f"{name}_start"], 0)
    result: np.ndarray = sums[start + rows[f"{name}_count"]] - sums[start]
    return result
