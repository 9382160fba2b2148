"""The oracle's command line: `python -m tests.oracle PATH… [--engine reference] [--table]`.

Replays recorded cases, files or folders of them, and prints a line `case steps mismatches` for each; the first mismatch
of a case follows on standard error. Exit code 0: none; 1: there are mismatches; 2: a path that holds no case.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.oracle.case import Case, CaseError, case_files, read_case
from tests.oracle.compare import compare, told
from tests.oracle.replay import ENGINES, replay


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        files = case_files(options.paths)
        found = _replay_all(files, options.engine, options.table)
    except CaseError as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if found else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description="Replay recorded scheduler cases and compare.")
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="a case (.json, .json.gz) or a folder of cases")
    parser.add_argument("--engine", choices=list(ENGINES), default="reference", help="which engine of sim plays them")
    parser.add_argument("--table", action="store_true", help="print the rows of a Markdown table, as docs/scheduler.md has it")
    return parser


def _replay_all(files: Sequence[Path], engine: str, as_table: bool) -> int:
    """Replay file after file, holding one case at a time; returns the number of mismatches."""
    steps = mismatches = 0
    if as_table:
        print("| case | requests | steps | preemptions | encoded | mismatches |\n|---|--:|--:|--:|--:|--:|")
    for path in files:
        case = read_case(path)
        found = compare(case, replay(case, ENGINES[engine]))
        print(_table_row(case, len(found)) if as_table else f"{case.case} {len(case.steps)} {len(found)}", flush=True)
        if found:
            print(told(case, found), file=sys.stderr, flush=True)
        steps += len(case.steps)
        mismatches += len(found)
    print(f"{len(files)} cases, {steps:,} steps, {mismatches:,} mismatches", file=sys.stderr)
    return mismatches


def _table_row(case: Case, mismatches: int) -> str:
    encoded = sum(len(step.encoded) for step in case.steps)
    cells = (len(case.requests), len(case.steps), case.preemptions, encoded, mismatches)
    return f"| {case.case} | {' | '.join(f'{cell:,}' for cell in cells)} |"


if __name__ == "__main__":
    raise SystemExit(main())
