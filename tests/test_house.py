"""The house itself: what ships, what opens a file, how long a file may be."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sim", "workloads", "hwprofiles", "experiments", "benchmarks")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_what_it_is_and_stays_readable_in_one_sitting(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no first line saying what this file is"
    assert text.count("\n") <= 400, "more than one noun?"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_fit_on_a_screen(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 70, f"{node.name} does not fit on a screen"


@pytest.mark.parametrize("package", ["sim", "workloads", "hwprofiles", "experiments", "experiments.cli"])
def test_importing_a_package_loads_nothing_heavy(package):
    heavy = "{'numpy', 'numba', 'pandas', 'scipy', 'matplotlib', 'simpy'} & set(sys.modules)"
    code = f"import sys, {package}; print(sorted({heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["sim", "workloads", "hwprofiles"])
def test_every_public_name_can_be_loaded(package):
    module = importlib.import_module(package)
    assert module.__all__ and all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError):
        _ = module.no_such_name


def test_the_wheel_carries_the_data_and_no_tests(tmp_path):
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    import zipfile

    wheel = next(builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    names = set(zipfile.ZipFile(wheel).namelist())
    data = ["gpus/*.toml", "models/*.toml", "measured/*.json"]
    expected = {str(p.relative_to(ROOT)) for pattern in data for p in (ROOT / "hwprofiles").glob(pattern)}
    expected |= {str(p.relative_to(ROOT)) for p in (ROOT / "workloads/pools").iterdir()}
    expected |= {str(p.relative_to(ROOT)) for p in SOURCES if p.relative_to(ROOT).parts[0] != "benchmarks"}
    expected |= {"experiments/demo.toml", "experiments/report/page.css", "experiments/report/style.mplstyle", "sim/py.typed"}
    assert len(expected) > 80 and expected <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs"))]
