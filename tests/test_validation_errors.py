"""The errors that are published: what the shipped tables reach on the measured points, kept in validation_errors.json.

After a change of tables or of how a point is played, write the file anew, look at what moved, and put the tables of
`python -m experiments.validate.table tests/validation_errors.json` into docs/validation.md:

    python -m tests.test_validation_errors
"""

import json
from pathlib import Path

import pytest

from experiments.validate import validate_points
from experiments.validate.table import group_table, knee_table
from tests.shared_data import SHARED, needs_shared

FILE = Path(__file__).with_name("validation_errors.json")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "validation.md"
POINTS = SHARED / "validation" / "points.csv"
PARTS = {
    "groups": ("gpu", "model", "precision", "tp", "software", "load_kind", "metric", "derived"),
    "knee_groups": ("gpu", "model", "precision", "tp", "software"),
}
"""Lists of the file, and what tells their entries apart."""
COUNTS = ("n", "capped_n", "beyond_n")

ERRORS = {"mape_frac": "mape_frac", "bias_frac": "mape_frac", "capped_mape_frac": "capped_mape_frac"}
"""Errors that are compared, and the one that says how far it may move."""
MOST_FRAC, FLOOR_FRAC = 0.1, 0.002
"""It may move by a tenth of that error, or by 0.2 % where that is less, before the file has to be written anew."""


def published():
    return json.loads(FILE.read_text())


def moved(published, reached):
    """A sentence for each group that is missing, new, or of other errors than was published."""
    told = []
    for part, keys in PARTS.items():
        old, new = ({tuple(entry[key] for key in keys): entry for entry in of[part]} for of in (published, reached))
        told += [f"{part}: {key} is no longer there" for key in old if key not in new]
        told += [f"{part}: {key} is not published" for key in new if key not in old]
        for key in old.keys() & new.keys():
            told += [f"{part}: {key}: {what}" for what in differences(old[key], new[key])]
    return told


def differences(before, after):
    """What moved of one group."""
    told = [f"{name} was {before[name]}, is {after[name]}" for name in COUNTS if before.get(name) != after.get(name)]
    for name, scale in ERRORS.items():
        old, new = before.get(name), after.get(name)
        if (old is None) != (new is None):
            told.append(f"{name} was {old}, is {new}")
        elif old is not None and abs(new - old) > max(MOST_FRAC * before[scale], FLOOR_FRAC):
            told.append(f"{name} {'grew' if abs(new) > abs(old) else 'shrank'} from {old:.4f} to {new:.4f}")
    return told


@needs_shared
def test_the_shipped_tables_reach_the_published_errors():
    if not POINTS.is_file():
        pytest.skip(f"no {POINTS.name} in the reference data")
    told = moved(published(), validate_points(POINTS, quiet=True))
    assert not told, "\n".join([*told, "", "if all this is meant: python -m tests.test_validation_errors"])


def test_the_tables_of_the_page_are_the_published_ones():
    page, told = PAGE.read_text(), published()
    assert group_table(told["groups"]) in page
    assert not told["knee_groups"] or knee_table(told["knee_groups"]) in page


@pytest.mark.parametrize(
    "change, told",
    [
        ({"mape_frac": 0.108}, []),
        ({"mape_frac": 0.112}, ["grew from 0.1000 to 0.1120"]),
        ({"mape_frac": 0.05}, ["shrank"]),
        ({"capped_mape_frac": 0.3}, ["capped_mape_frac was None, is 0.3"]),
        ({"bias_frac": -0.05}, ["bias_frac grew from 0.0100 to -0.0500"]),
        ({"n": 2}, ["n was 3, is 2"]),
        ({"tp": 2}, ["no longer there", "not published"]),
    ],
)
def test_what_moved_is_told(change, told):
    group = dict.fromkeys(PARTS["groups"], "x") | {"n": 3, "mape_frac": 0.1, "bias_frac": 0.01, "capped_mape_frac": None}
    small = dict.fromkeys(PARTS["knee_groups"], "y") | {"mape_frac": 0.001}
    before = {"groups": [group], "knee_groups": [small]}
    after = {"groups": [group | change], "knee_groups": [small | {"mape_frac": 0.0025}]}
    found = moved(before, after)
    assert len(found) == len(told) and all(part in line for part, line in zip(told, found))


def test_a_small_error_may_grow_by_the_floor_and_no_more():
    small = dict.fromkeys(PARTS["knee_groups"], "y")
    before, after = ({"groups": [], "knee_groups": [small | {"mape_frac": value}]} for value in (0.001, 0.0035))
    assert len(moved(before, after)) == 1


def write():
    """The file anew, an entry a line."""
    told = validate_points(POINTS)
    parts = []
    for part in PARTS:
        entries = [{k: round(v, 5) if isinstance(v, float) else v for k, v in entry.items()} for entry in told[part]]
        parts.append(f' "{part}": [' + ",".join(f"\n  {json.dumps(entry)}" for entry in entries) + "\n ]")
    FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    write()
