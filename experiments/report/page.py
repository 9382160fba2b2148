"""The page: head, sections in order, and the one file that they are saved to."""

import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from experiments.report import ReportError
from experiments.report.answer import answer
from experiments.report.instances import instances
from experiments.report.latency import latency
from experiments.report.load import Run
from experiments.report.markup import Html, join, tag
from experiments.report.over_time import over_time
from experiments.report.svg import style
from experiments.report.trust import trust
from hwprofiles.own_file import is_path

SECTIONS: tuple[tuple[str, str, Callable[[Run], Html | None]], ...] = (
    ("answer", "Answer", answer),
    ("instances", "How many instances", instances),
    ("latency", "Latency", latency),
    ("time", "Over time", over_time),
    ("trust", "Can I trust this?", trust),
)
"""Anchor, title and content of each section, a file each; one whose content is None is left out. New ones go here."""

_GENERATOR = "servecast report"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def save_page(run: Run) -> Path:
    """Write the page as `report.html` of its folder, all or nothing; ReportError where another file has that name."""
    target = run.folder / "report.html"
    if target.exists() and _GENERATOR not in _beginning(target):
        raise ReportError(f"{target}: was not written by servecast; move it away first")
    draft = run.folder / f".report.html.{os.getpid()}"
    data = page(run).encode()
    try:
        with draft.open("xb") as file:
            file.write(data)
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def page(run: Run) -> Html:
    """The whole report as one HTML document that refers to nothing outside itself, but for links to the run's files."""
    with style():
        made = [(anchor, title, content) for anchor, title, make in SECTIONS if (content := make(run)) is not None]
    css = Html((files("experiments.report") / "page.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=_GENERATOR),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{run.name} · servecast"),
        tag("style", css),
    )
    menu = tag("nav", *(tag("a", title, href=f"#{anchor}") for anchor, title, _ in made), aria_label="Sections")
    sections = (tag("section", tag("h2", title), content, id=anchor) for anchor, title, content in made)
    body = tag("body", tag("header", tag("h1", run.name), _subtitle(run), menu), tag("main", *sections))
    return join([Html("<!DOCTYPE html>\n"), tag("html", head, body, lang="en"), Html("\n")])


def _subtitle(run: Run) -> Html:
    cluster = run.scenario.get("cluster")
    known = cluster if isinstance(cluster, dict) else {}
    names = [str(known[key]) for key in ("model", "gpu") if isinstance(known.get(key), str)]
    parts = [Path(name).name if is_path(name) else name for name in names]
    if isinstance(known.get("tp"), int):
        parts.append(f"tensor parallel {known['tp']}")
    return tag("p", tag("span", "simulated", class_="badge"), " ", " · ".join(["servecast report", *parts]), class_="subtitle")


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(2048).decode(errors="replace")
