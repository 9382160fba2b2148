"""The report of a run: one HTML file that opens anywhere, made from the files in the run's folder.

Reading order: schema and tables (what the files hold), load (folder -> one frozen value), windows (many rows -> few
points), axes, figures, timeline and svg (points -> pictures), the sections (answer with comparison and cards, instances,
latency, over_time, trust), page (all of it together); markup and words serve them all.

Importing this loads no numpy and no matplotlib; write_report does.
"""

from pathlib import Path

__all__ = ["ReportError", "write_report"]


class ReportError(ValueError):
    """A folder that no report can be made of; the message names everything that is missing or wrong."""


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder from the files that are there, and return its path.

    The same files give the same bytes. ReportError names everything that is missing or wrong in the folder; nothing is
    written then. A `report.html` that somebody else made is left alone, and said so.
    """
    from experiments.report.load import load_run
    from experiments.report.page import save_page

    return save_page(load_run(Path(folder)))
