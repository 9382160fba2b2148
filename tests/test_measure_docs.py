"""docs/measure.md says what measuring does: flags, defaults, commands, sizes and files are compared with the program."""

import re
import shlex
from pathlib import Path

import pytest

from hwprofiles.datasheet import load_model
from hwprofiles.measure import __main__ as command
from hwprofiles.measure import plan, sanity, torch_bench
from hwprofiles.measure.folder import META, OPERATIONS
from hwprofiles.measure.tables import BACKEND, measure_tables
from tests.test_measure import GIB, Formulas

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "measure.md").read_text(encoding="utf-8")
FLAGS = {flag: action for action in command._parser()._actions for flag in action.option_strings if flag.startswith("--")}


def rows(title):
    """The cells of the first table of a section, without its head."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_every_flag_is_documented_with_its_default_and_every_documented_flag_exists():
    documented = {re.match(r"`(--\w+)", row[0])[1]: row for row in rows("Flags")}
    assert set(documented) == set(FLAGS) - {"--help"}
    for flag, (shown, default, _) in documented.items():
        action = FLAGS[flag]
        assert shown == f"`{' '.join(filter(None, (flag, action.metavar)))}`"
        expected = "required" if action.required else "off" if action.default is False else f"`{action.default}`"
        assert default == ("required to measure" if flag == "--out" else expected)


def test_the_commands_as_printed_are_taken():
    lines = re.search(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1].splitlines()
    words = [shlex.split(line.split(">")[0]) for line in lines if "hwprofiles.measure" in line]
    assert len(words) == 2
    for one in words:
        assert one[:3] == ["python", "-m", "hwprofiles.measure"]
        command._wanted(command._parser().parse_args(one[3:]))


def test_the_tables_and_their_sizes_are_those_of_the_plan():
    tables = {row[0].strip("`"): row[2] for row in rows("What is timed")}
    made = plan.plan_of([load_model("llama-3.1-8b")], [1, 2], ["bf16"], 1000 * GIB)
    assert set(tables) == {table.name for table in measure_tables(Formulas(), made, None, lambda _: None)}
    said = {name: [int(number) for number in re.findall(r"\d+", text)] for name, text in tables.items()}
    grid = plan.FULL
    assert said == {
        "gemm": [grid.rows[0], grid.rows[-1]],
        "context_attention": [*ends(grid.prompt_batches), *ends(grid.prompt_lengths), plan.MAX_PROMPT_TOKENS],
        "context_attention_past": ends(grid.pasts),
        "generation_attention": [*ends(grid.decode_batches), *ends(grid.contexts), plan.MAX_DECODE_TOKENS],
        "custom_allreduce": [made.allreduces[2][0], grid.rows[-1]],
    }


def ends(sizes):
    return [sizes[0], sizes[-1]]


@pytest.mark.parametrize(
    "sentence",
    [
        f"{len(plan.WIDTHS)} widths from {plan.WIDTHS[0]} to {plan.WIDTHS[-1]}",
        f"{torch_bench.CALLS} calls of a kernel",
        f"median of {command.REPEATS} replays (`--quick`: {command.QUICK_REPEATS})",
        f"{round(100 * (sanity.TOLERANCE - 1))} % allowed",
        f"listed, up to {sanity.SHOWN}",
        f"PyTorch {'.'.join(map(str, torch_bench.OLDEST))} or newer",
        f"`<gpu>/<operation>/{BACKEND}/<version>/<table>_perf.parquet`",
        f"`{META}`",
        *(f"`{operation}`" for operation in sorted(OPERATIONS)),
    ],
)
def test_the_numbers_and_names_of_the_page_are_those_of_the_program(sentence):
    assert sentence in PAGE


def test_shares_and_counts_in_words_are_those_of_the_program():
    assert (plan.HELD_SHARE, torch_bench.CALLS_SHARE, torch_bench.WARM_UPS) == (0.5, 0.25, 3)  # half, a quarter, three
