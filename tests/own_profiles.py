"""A GPU of one's own on a disc: its data sheet, and kernel tables of a machine that is formulas."""

from importlib.resources import files

import pytest

from hwprofiles.measure.__main__ import main
from tests.test_measure import Formulas


def own_gpu(folder, name="mine", calibration="mine"):
    """A data sheet with the figures of the H100."""
    text = files("hwprofiles").joinpath("gpus", "h100.toml").read_text()
    path = folder / f"{name}.toml"
    path.write_text(text.replace('"h100_sxm"', f'"{calibration}"'))
    return path


def measured(folder, *words, gpu="mine"):
    """A folder of kernel tables, as `python -m hwprofiles.measure --quick` leaves it."""
    pytest.importorskip("pyarrow", reason="kernel tables are parquet files")
    assert main(["--out", str(folder / "tables"), "--gpu", gpu, "--quick", *words], Formulas) == 0
    return folder / "tables"
