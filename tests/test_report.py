"""The report of a run: one file that needs nothing else, the same each time, and safe with any name."""

import html
import json
import re
import shutil
import subprocess
import sys
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.report import ReportError, write_report
from experiments.report.markup import clean, tag
from tests.test_report_folders import (
    Page,
    compare,
    environment,
    make_folder,
    plan,
    report,
    requests_table,
    summary_of,
    to_csv,
)

KINDS = ("simulate", "plan", "compare")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report of each kind of folder."""
    base = tmp_path_factory.mktemp("runs")
    return {kind: Page(report(make_folder(base / kind, kind))) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_page_refers_to_nothing_outside_its_folder(pages, kind):
    page = pages[kind]
    assert {tag for tag, _ in page.tags} & {
        "script",
        "iframe",
        "img",
        "object",
        "embed",
        "link",
        "base",
        "form",
    } == set()
    assert page.values("src") == []
    for target in page.values("href"):
        assert target.startswith("#") or (urlsplit(target).scheme == urlsplit(target).netloc == "" and "/" not in target)


@pytest.mark.parametrize("kind", KINDS)
def test_page_says_nothing_of_http_but_to_forbid_it(tmp_path, kind):
    text = report(make_folder(tmp_path, kind, n=50))
    assert "http:" not in text and "https:" not in text and "@import" not in text
    assert "default-src 'none'" in html.unescape(text)


@pytest.mark.parametrize("kind", KINDS)
def test_every_link_leads_to_a_file_or_a_place(tmp_path, kind):
    page = Page(report(make_folder(tmp_path, kind, n=50)))
    for target in page.values("href"):
        assert (target[1:] in page.values("id")) if target.startswith("#") else (tmp_path / unquote(target)).is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_unique_and_every_reference_has_its_id(pages, kind):
    ids = pages[kind].values("id")
    assert len(ids) == len(set(ids))
    references = [
        part
        for attrs in (attrs for _, attrs in pages[kind].tags)
        for value in attrs.values()
        for part in re.findall(r"url\(#(.*?)\)", value)
    ]
    labels = [part for value in pages[kind].values("aria-labelledby") for part in value.split()]
    assert references and labels
    assert set(references + labels) <= set(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_has_a_title_a_caption_and_words_for_screen_readers(pages, kind):
    tags = [tag for tag, _ in pages[kind].tags]
    assert tags.count("figure") == tags.count("figcaption") == tags.count("svg") == tags.count("desc") > 0
    assert all(attrs.get("role") == "img" for tag, attrs in pages[kind].tags if tag == "svg")


@pytest.mark.parametrize("kind", KINDS)
def test_same_folder_gives_the_same_bytes(tmp_path, kind):
    folder = make_folder(tmp_path, kind, n=200)
    assert report(folder) == report(folder)


def test_parquet_and_csv_give_the_same_figures(tmp_path):
    first = Page(report(make_folder(tmp_path / "a", n=300)))
    second = Page(report(to_csv(make_folder(tmp_path / "b", n=300))))
    assert first.text.replace(".parquet", "") == second.text.replace(".csv.gz", "")
    assert first.values("d") == second.values("d")


EVIL = "<script>alert(1)</script>\"'&$\\frac$]]>\u202e\x7f"


def evil(value):
    """The same tree with every text in it spoilt, but for those that have a grammar."""
    if isinstance(value, dict):
        kept = {"slo", "verdict", "grade"}
        return {key: inner if key in kept else evil(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [evil(inner) for inner in value]
    return f"{value}{EVIL}" if isinstance(value, str) else value


@pytest.mark.parametrize("kind", KINDS)
def test_any_text_from_the_files_stays_text(tmp_path, kind):
    spoilt = compare(names=(EVIL, "poisson"))
    environment_file = evil(environment())
    folder = make_folder(tmp_path, kind, n=60, name=EVIL, plan=evil(plan()), compare=spoilt)
    (folder / "environment.json").write_text(json.dumps(environment_file))
    if kind != "compare":
        (folder / "summary.json").write_text(json.dumps(evil(summary_of(requests_table(60)))))
    text = report(folder)
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "alert(1)" in page.text
    assert "\u202e" not in text and "\x7f" not in text


@given(st.text())
def test_escaped_text_parses_back_to_itself(text):
    page = Page(tag("p", text, title=text))
    assert [name for name, _ in page.tags] == ["p"]
    assert "".join(page.words) == page.tags[0][1]["title"] == clean(text)


def test_report_of_a_hundred_thousand_requests_stays_small(tmp_path):
    folder = make_folder(tmp_path, "plan", n=100_000)
    assert len(report(folder)) < 1_000_000


def test_a_report_of_somebody_else_is_left_alone(tmp_path):
    folder = make_folder(tmp_path, n=5)
    (folder / "report.html").write_text("<html>mine</html>")
    with pytest.raises(ReportError, match="not written by servecast"):
        write_report(folder)
    assert (folder / "report.html").read_text() == "<html>mine</html>"


def test_failure_leaves_no_half_written_file(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, n=5)
    before = sorted(folder.iterdir())
    monkeypatch.setattr("experiments.report.page.os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(folder)
    assert sorted(folder.iterdir()) == before


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")
def test_browser_shows_the_page_without_widening_it(tmp_path):
    folder = make_folder(tmp_path / "run", "compare", n=500)
    text = report(folder)
    letters = "document.querySelectorAll('figure svg text').length"
    probe = f"<script>document.title=[document.documentElement.scrollWidth,{letters}]</script>"
    page = tmp_path / "probe.html"
    page.write_text(re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</body>", f"{probe}</body>"), encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --window-size=500,2000 --dump-dom"
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    width, letters = map(int, re.search(r"<title>(\d+),(\d+)</title>", shown).groups())
    assert width <= 500
    assert letters > 50


def test_importing_the_package_loads_nothing_heavy():
    script = "import sys, experiments.report; print({'numpy', 'pandas', 'matplotlib', 'pydantic'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "set()"
