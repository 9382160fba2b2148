"""The groups and knees of a validation as tables of Markdown: `python -m experiments.validate.table OUT.json`.

OUT.json is what `servecast profiles validate POINTS.csv --json OUT.json` wrote.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.validate.judgement import metric_of, percent

GROUPS = ("gpu", "model", "precision", "tp", "software", "load_kind", "metric", "n", "MAPE", "bias", "capped", "spread")
KNEES = ("gpu", "model", "precision", "tp", "software", "knees", "beyond", "MAPE", "bias")


def group_table(groups: Sequence[dict[str, Any]]) -> str:
    """A row a group. capped: points that queue, and their MAPE; spread: of repeats, and how many figures have any."""
    rows = [
        [
            *(group[name] for name in GROUPS[:6]),
            metric_of(group),
            group["n"],
            percent(group["mape_frac"], ""),
            percent(group["bias_frac"]),
            _with(group["capped_n"], group["capped_mape_frac"]),
            _with(group["repeated_n"], group["spread_frac"]),
        ]
        for group in groups
    ]
    return _markdown(GROUPS, rows)


def knee_table(groups: Sequence[dict[str, Any]]) -> str:
    """A row a group of knees."""
    rows = [
        [*(g[name] for name in KNEES[:5]), g["n"], g["beyond_n"], percent(g["mape_frac"], ""), percent(g["bias_frac"])]
        for g in groups
    ]
    return _markdown(KNEES, rows)


def _with(n: int, frac: float | None) -> str:
    return f"{n}: {percent(frac, '')}" if n else ""


def _markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows of cells; signs that would end a cell are escaped."""
    lines = [head, ["---"] * len(head), *(["–" if cell is None else cell for cell in row] for row in rows)]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    told = json.loads(Path(sys.argv[1]).read_text())
    print(group_table(told["groups"]))
    print(knee_table(told["knee_groups"]), end="")
