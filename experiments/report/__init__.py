"""The report of a run: one HTML file that opens anywhere, made from the files in the run's folder.

Reading order: schema (what the JSON files hold), load (folder -> one frozen value), windows (many rows -> few points),
figures and svg (points -> pictures), answer and sections (the text around them), page (all of it together).
"""

from pathlib import Path

from experiments.report.load import ReportError, load_run
from experiments.report.page import save_page

__all__ = ["ReportError", "write_report"]


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder from the files that are there, and return its path.

    The same files give the same bytes. ReportError names everything that is missing or wrong in the folder; nothing is
    written then. A `report.html` that somebody else made is left alone, and said so.
    """
    return save_page(load_run(Path(folder)))
