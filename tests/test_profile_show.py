"""`servecast profiles list` and `show`: every file and every grade is shown, and curves are what the table answers."""

import re
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.cli import main as servecast
from experiments.errors import UserError
from experiments.picture_file import check_picture
from experiments.profile_curves import CONTEXTS, Curve, Panel, Step, grid
from experiments.profile_drawing import HEIGHT, LEFT, RIGHT, WIDTH, draw
from experiments.profile_show import Shown, accounts_of
from hwprofiles import known_gpus, known_models, known_software, list_profiles, load_gpu, load_step_cost
from hwprofiles.profiles import profile_name
from hwprofiles.roofline import known_rooflines, load_roofline
from tests.own_profiles import own_gpu

ROWS = list_profiles()
OF_EACH_GRADE = {row.grade: row for row in ROWS} | {"roofline": replace(ROWS[-1], model="llama-2-7b", tp=1)}


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run servecast in an empty folder; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def profiles(*words):
        monkeypatch.setattr("sys.argv", ["servecast", "profiles", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            servecast()
        said = capsys.readouterr()
        return stop.value.code or 0, said.out, said.err

    return profiles


def cells(line):
    return [cell.strip() for cell in line.split("|")]


# list


def test_the_list_has_a_cell_for_every_file_with_its_grade_and_error(run):
    code, out, _ = run("list")
    assert code == 0
    rows = {tuple(cells(line)[:3]): cells(line)[3:] for line in out.splitlines() if line.count("|") == 6}
    degrees = [int(word.removeprefix("tp ")) for word in rows["gpu", "model", "precision"]]
    shown = {(*of, tp): cell for of, its in rows.items() for tp, cell in zip(degrees, its) if cell[0].isalpha()}
    names = {path.name.removesuffix(".json") for path in files("hwprofiles").joinpath("measured").iterdir()}
    tables = {profile_name(*of) for of, cell in shown.items() if cell.startswith(("measured", "transferred"))}
    assert tables == names == {profile_name(row.gpu, row.model, row.precision, row.tp) for row in ROWS}
    for row in ROWS:
        assert shown[row.gpu, row.model, row.precision, row.tp] == f"{row.grade} {row.error_mape_frac:.1%}"


def test_a_cell_without_a_table_is_what_the_roofline_says(run):
    _, out, _ = run("list")
    made = [cells(line) for line in out.splitlines() if "roofline " in line and line.count("|") == 6]
    assert made
    for gpu, model, precision, *of in made:
        left_out = load_roofline(gpu).error(precision, "bf16").left_out_mape_frac
        for tp, cell in zip((1, 2, 4, 8), of):
            if cell.startswith("roofline"):
                assert cell == f"roofline {left_out:.1%}"
                assert load_step_cost(gpu, model, precision, tp).grade == "roofline"


def test_gpus_and_eras_are_listed(run):
    _, out, _ = run("list")
    first = {cells(line)[0] for line in out.splitlines()}
    assert {*known_gpus(), *known_software()} <= first
    assert {f"{load_gpu(name).bandwidth_gb_per_s:,g} GB/s" for name in known_gpus()} <= {
        cell for line in out.splitlines() for cell in cells(line)
    }


# show


@pytest.mark.parametrize("grade", OF_EACH_GRADE)
def test_every_grade_is_shown_with_its_error_source_and_curves(run, grade):
    row = OF_EACH_GRADE[grade]
    code, out, said = run("show", row.gpu, row.model, "--precision", row.precision, "--tp", row.tp)
    cost = load_step_cost(row.gpu, row.model, row.precision, row.tp)
    assert (code, said) == (0, "")
    assert f"grade: {grade}, " in out and cost.source in out and f"error: {cost.error.mape_frac:.2%}" in out
    assert f"worst 5 % {cost.error.worst_5pct_frac:.2%}" in out and "KV blocks of 16 tokens" in out
    assert out.count("│") + out.count("┤") == 2 * HEIGHT and any("⠁" <= letter <= "⣿" for letter in out)
    assert max(map(len, out.split("Decode step")[1].splitlines())) <= 100


def test_a_folder_of_ones_own_is_shown_with_the_grade_user(run, tmp_path):
    gpu = own_gpu(tmp_path)
    (tmp_path / "p" / "rooflines").mkdir(parents=True)
    text = files("hwprofiles").joinpath("rooflines", "h100.json").read_text().replace('"gpu": "h100"', '"gpu": "mine"')
    (tmp_path / "p" / "rooflines" / "mine.json").write_text(text)
    code, out, _ = run("show", gpu, "llama-3.1-8b", "--profiles", "p")
    assert code == 0 and "grade: user, " in out and "models left out of the fit" not in out


def test_what_is_shown_is_with_the_era_and_the_kv_cache_asked_for(run):
    plain, fp8 = (run("show", "h100", "llama-3.1-8b", *words)[1] for words in ((), ("--kv-cache-dtype", "fp8")))
    assert "KV cache bf16" in plain and "KV cache fp8" in fp8
    assert int(re.search(r"([\d,]+) KV blocks", fp8)[1].replace(",", "")) > int(
        1.9 * int(re.search(r"([\d,]+) KV blocks", plain)[1].replace(",", ""))
    )
    for era in known_software():
        assert f"times here are those of {era}" in run("show", "h100", "llama-3.1-8b", "--software", era)[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("h10", "llama-3.1-8b"), "did you mean 'h100'?"),
        (("h100", "llama-3.1-8"), "did you mean 'llama-3.1-8b'?"),
        (("h100", "llama-3.1-70b", "--tp", "1"), "the smallest tp that fits is 2"),
        (("h100", "llama-3.1-8b", "--tp", "3"), "tp 3 does not divide"),
        (("h100", "llama-3.1-8b", "--precision", "fp4"), "no precision 'fp4'"),
        (("a100", "llama-3.1-8b", "--kv-cache-dtype", "pf8"), "no kv_cache_dtype 'pf8'; did you mean 'fp8'?"),
        (("a100", "llama-3.1-8b", "--kv-cache-dtype", "fp8"), "there is attention with KV in bf16"),
        (("h100", "llama-3.1-8b", "--software", "vllm-2062"), "did you mean 'vllm-2026'?"),
        (("h100", "llama-3.1-8b", "--profiles", "gone"), "no such folder"),
        (("./gone.toml", "llama-3.1-8b"), "no such file"),
        (("h100", "llama-3.1-8b", "--out", "p.pdf"), "expected a file that ends in .svg or .png"),
        (("h100", "llama-3.1-8b", "--out", "gone/p.png"), "there is no folder gone"),
    ],
)
def test_a_mistake_is_said_before_anything_is_printed(run, words, said):
    code, out, told = run("show", *words)
    assert (code, out) == (2, "") and said in told and "Traceback" not in told


# Curves

ACCOUNTS = accounts_of(Shown("h100", "llama-3.1-8b"))


def test_curves_are_what_the_step_table_answers():
    table = load_step_cost("h100", "llama-3.1-8b").table(16_384, 1024, 131_072, 441_488)
    by_batch, by_tokens = ACCOUNTS.panels()
    for context, curve in zip(CONTEXTS, by_batch.curves):
        assert curve.step_ms == [table.step_ns(0, 0, b, b * context, b) / 1e6 for b in curve.x]
    prefill, decode = by_tokens.curves
    assert prefill.step_ms == [table.step_ns(n, n * n, 0, 0, 1) / 1e6 for n in prefill.x]
    assert decode.step_ms == [table.step_ns(0, 0, 32, 32 * n, 32) / 1e6 for n in decode.x]


@pytest.mark.parametrize("grade", OF_EACH_GRADE)
def test_no_curve_is_below_the_data_sheet_nor_falls(grade):
    row = OF_EACH_GRADE[grade]
    for panel in accounts_of(Shown(row.gpu, row.model, row.precision, row.tp)).panels():
        for curve in panel.curves:
            assert all(bound < ms for bound, ms in zip(curve.bound_ms, curve.step_ms))
            assert all(bound < ms for bound, ms in zip(curve.bound_ms, curve.roofline_ms, strict=True))
            for values in (curve.step_ms, curve.bound_ms, curve.roofline_ms):
                assert all(a <= b for a, b in pairwise(values))


def test_curves_end_where_the_kv_memory_does():
    by_batch, _ = ACCOUNTS.panels()
    for context, curve in zip(CONTEXTS, by_batch.curves):
        after = [b for b in grid(1, 512) if b > curve.x[-1]]
        assert curve.x[-1] * context <= ACCOUNTS.memory.kv_tokens and (
            not after or after[0] * context > ACCOUNTS.memory.kv_tokens
        )


def test_a_step_beyond_what_the_fit_saw_is_called_extrapolated(run):
    assert ACCOUNTS.is_fitted(Step(decodes=1, context=65_536)) and not ACCOUNTS.is_fitted(Step(decodes=1, context=65_537))
    _, out, _ = run("show", "h100", "llama-3.1-8b")
    marked = [line for line in out.splitlines() if line.endswith("| extrapolated")]
    assert len(marked) == 1 and "1 at context 131,072" in marked[0]


def test_the_share_of_the_bound_is_bound_over_kernels():
    step = Step(decodes=1, context=1024)
    weights_gb = 2 * (ACCOUNTS.model.matrix_parameters + ACCOUNTS.model.vocabulary * ACCOUNTS.model.hidden) / 1e9
    kv_gb = 1024 * 2 * 32 * 8 * 128 * 2 / 1e9
    assert ACCOUNTS.bound_ms(step) == pytest.approx((weights_gb + kv_gb) / 3350.0 * 1e3, rel=1e-9)
    assert ACCOUNTS.kernels_ms(step) == pytest.approx(ACCOUNTS.step_ms(step) - 0.4 - 0.01, abs=2e-6)


# The drawing in letters

CURVES = st.lists(
    st.tuples(st.integers(1, 10**6), st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=40), st.text(max_size=40)),
    min_size=1,
    max_size=4,
)


def panel_of(curves):
    made = []
    for first, ys, name in curves:
        x = [first + i * 7 for i in range(len(ys))]
        made.append(Curve("".join(c for c in name if c.isprintable()), x, ys, ys, [y / 2 for y in ys], x[-1]))
    return Panel("Title", "tokens", made)


@given(CURVES)
@settings(max_examples=60, deadline=None)
def test_a_drawing_has_its_height_and_never_more_than_its_width(curves):
    lines = draw(panel_of(curves))
    assert len(lines) == HEIGHT + 4 and all(len(line) <= LEFT + 1 + WIDTH + RIGHT <= 100 for line in lines)
    assert any("⠁" <= letter <= "⣿" for line in lines for letter in line)


def test_a_rising_line_rises_in_the_drawing():
    lines = draw(Panel("Title", "tokens", [Curve("up", [1, 10, 100], [1.0, 10.0, 100.0], [], [0.5, 5.0, 50.0], 100)]))[
        1 : HEIGHT + 1
    ]
    columns = [[c for c in range(LEFT, LEFT + WIDTH) if len(line) > c and "⠁" <= line[c] <= "⣿"] for line in lines]
    seen = [found for found in columns if found]
    assert len(seen) > HEIGHT / 2 and all(max(below) <= min(above) + 1 for above, below in pairwise(seen))
    assert sorted({c for found in seen for c in found}) == list(range(min(seen[-1]), max(seen[0]) + 1))


def test_a_panel_without_curves_says_so():
    assert draw(Panel("Title", "x", [])) == ["Title: nothing to draw, as the KV blocks hold no such step"]


# The picture


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_picture_is_the_same_on_every_run_and_is_not_replaced_unless_asked(run, ending):
    target = Path(f"p.{ending}")
    words = ("show", "h100", "llama-3.1-8b", "--out", target)
    code, out, _ = run(*words)
    assert code == 0 and f"picture: {target}" in out
    first = target.read_bytes()
    assert first.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    code, out, said = run(*words)
    assert (code, out) == (2, "") and "exists already; --force replaces it" in said
    assert run(*words, "--force")[0] == 0
    assert target.read_bytes() == first and [p.name for p in Path().iterdir()] == [target.name]


def test_a_picture_names_its_axes_with_units_and_every_curve(run):
    run("show", "h100", "llama-3.1-8b", "--out", "p.svg")
    text = Path("p.svg").read_text()
    for words in (
        "step time, ms",
        "decodes in the step",
        "context 8,192",
        "bound of the data sheet, no host",
        "fitted roofline",
    ):
        assert words in text


def test_a_folder_is_no_picture(tmp_path):
    (tmp_path / "p.png").mkdir()
    with pytest.raises(UserError, match="a folder; expected a file"):
        check_picture(tmp_path / "p.png", force=True)


@pytest.mark.parametrize("model", known_models())
def test_every_model_can_be_shown_on_every_gpu_with_a_roofline(model):
    for gpu in known_rooflines():
        assert all(panel.curves for panel in accounts_of(Shown(gpu, model)).panels())
