"""The page on pools: its table, its keys and its example are those of the program, and the list of pools tells them apart."""

import re
from pathlib import Path

import pytest

from experiments.catalogue import describe_pool, list_pools
from tests.recipe_cases import small
from workloads import ClientPool, compose, known_pools
from workloads.recipe.keys import TABLES
from workloads.recipe.laws import KEYS
from workloads.summary import summary

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "pools.md").read_text(encoding="utf-8")


def rows_of(page: str, head: str) -> list[list[str]]:
    """Cells of the table whose first line begins with this."""
    lines = page[page.index(f"\n{head}") + 1 :].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_example_of_the_page_is_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "support.toml"
    path.write_text(PAGE.split("```toml recipe\n")[1].split("```")[0])
    pool = ClientPool.load(path)
    assert pool.count.sum(axis=1)[:2] / pool.count.sum() == pytest.approx([0.3, 0.15], abs=1e-4)
    assert len(compose(pool, "9h", "10min", seed=1).collect()) > 3000


def test_the_page_has_every_key_and_every_law() -> None:
    known = {(name, key) for name, parts in TABLES.items() for part in parts for key in part} | {("", "max_output_tokens")}
    table, said = "", set()
    for row in rows_of(PAGE, "| table | key"):
        table = row[0].strip("`") or table
        said |= {(table, key) for key in re.findall(r"`(\w+)`", row[1])}
    assert said == known
    laws = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows_of(PAGE, "| `law` | keys")}
    assert laws == {name: set(keys) for name, keys in KEYS.items()}


def test_the_page_has_the_numbers_of_every_pool() -> None:
    rows = {row[0]: row for row in rows_of(PAGE, "| pool | what")}
    assert set(rows) == set(known_pools())
    for name, row in rows.items():
        known = summary(ClientPool.load(name))
        shown_rates = [float(rate.replace(",", "")) for rate in row[3].split(" / ")]
        numbers = [float(row[2]), *shown_rates, *(float(row[place].replace(",", "")) for place in (4, 6))]
        wanted = [known.clients, known.rate_mean_rps, known.rate_peak_rps, known.input_tokens, known.output_tokens]
        assert numbers == pytest.approx(wanted, rel=0.09), name
        assert ("assumed" in row[7]) == (known.kind == "assumed")


def test_the_list_of_pools_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    list_pools()
    lines = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:5] == ["pool", "clients", "data", "mean req/s", "peak req/s"]
    assert lines[0][5:] == ["input", "items", "output", "imputed", "parameters"]
    shown = {line[0]: line for line in lines[2:]}
    assert set(shown) == set(known_pools())
    assert shown["m-small"][8:] == ["57%", "3 fitted, 3 assumed"] and shown["deepseek-r1"][8:] == ["-", "3 fitted, 2 assumed"]
    assert shown["mm-omni"][8] == "-" and "3 published" in shown["mm-omni"][9] and "assumed" in shown["mm-omni"][9]
    assert "video" in shown["mm-omni"][6] and shown["m-long"][5] == "12,035"


def test_a_recipe_of_ones_own_is_described_with_its_grades(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    describe_pool(str(small(tmp_path)))
    assert "gaps.cv: assumed: 1.5; a test" in capsys.readouterr().out
