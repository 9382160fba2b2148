"""Compiled code is kept under a name that says all it depends on, wherever the sources lie and whoever runs first."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim.choice import KERNELS
from workloads import jit

needs_numba = pytest.mark.skipif(not jit.can_compile(), reason="numba is switched off")
INNER = """
from workloads.jit import compiler

entry, kernel, routine = compiler(__name__)

@kernel
def twice(table, index):
    return table[index] * {factor}
"""
OUTER = """
from .inner import entry, twice

@entry
def total(table):
    found = 0
    for index in range(min(len(table), 9)):
        found += twice(table, index)
    return found
"""
PROGRAM = """
import numpy as np
from small.kernels.outer import total
from workloads import jit
print(total(np.arange(4)), jit.is_warm("small.kernels", "total"), sum(total.stats.cache_hits.values()))
"""

OTHER_NUMBA = """
from workloads import jit
jit.PIECES_FOR = "another version"
"""
OTHER_CODE = """
import numba

def smallest(n):
    room = np.arange(n)
    return min(len(room), 2) + room.sum()

before = numba.njit(smallest)(4), total(np.arange(4)), numba.njit(smallest)(4)
print(*before, numba.core.types.Function.get_call_type is numba.core.types.Function.__mro__[1].get_call_type)
"""


@pytest.fixture
def place(tmp_path):
    """A package of two kernel modules, one of which calls the other."""

    def write(folder, factor=2):
        package = tmp_path / folder / "small" / "kernels"
        package.mkdir(parents=True, exist_ok=True)
        (package.parent / "__init__.py").write_text("")
        (package / "__init__.py").write_text("")
        (package / "inner.py").write_text(INNER.format(factor=factor))
        (package / "outer.py").write_text(OUTER)
        return tmp_path / folder

    return write


def start(folder, cache, program=PROGRAM):
    root = Path(jit.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{root}", jit.CACHE_VARIABLE: str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def said(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.split()


@needs_numba
def test_an_edit_in_another_file_is_never_answered_from_the_cache(place, tmp_path):
    assert said(start(place("one"), tmp_path / "cache")) == ["12", "True", "0"]
    assert said(start(place("one"), tmp_path / "cache")) == ["12", "True", "1"]
    assert said(start(place("one", factor=3), tmp_path / "cache")) == ["18", "True", "0"]
    assert said(start(place("one"), tmp_path / "cache")) == ["12", "True", "1"]


@needs_numba
def test_another_clone_of_the_same_sources_need_not_compile(place, tmp_path):
    said(start(place("one"), tmp_path / "cache"))
    assert said(start(place("two"), tmp_path / "cache")) == ["12", "True", "1"]


@needs_numba
def test_two_processes_that_compile_at_once_do_no_harm(place, tmp_path):
    both = [start(place("one"), tmp_path / "cache") for _ in range(2)]
    assert [said(process)[0] for process in both] == ["12", "12"]
    assert said(start(place("one"), tmp_path / "cache")) == ["12", "True", "1"]


@needs_numba
def test_where_nothing_can_be_written_it_compiles_and_keeps_nothing(place, tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert said(start(place("one"), tmp_path / "file")) == ["12", "False", "0"]


@needs_numba
def test_what_is_known_of_numbas_inside_changes_no_result(place, tmp_path):
    """For versions that `workloads.pieces` does not know numba's own compiler takes over."""
    assert said(start(place("one"), tmp_path / "cache", OTHER_NUMBA + PROGRAM)) == ["12", "True", "0"]


@needs_numba
def test_other_code_compiles_as_ever_before_and_after_a_kernel(place, tmp_path):
    """It may make arrays and count references to them, which kernels do not."""
    assert said(start(place("one"), tmp_path / "cache", PROGRAM + OTHER_CODE))[3:] == ["8", "12", "8", "True"]


def test_a_folder_that_others_may_write_is_not_used(monkeypatch, tmp_path):
    jit.cache_folder.cache_clear()
    monkeypatch.setenv(jit.CACHE_VARIABLE, str(tmp_path))
    folder = jit.cache_folder(KERNELS)
    assert folder is not None and folder.parent == tmp_path
    folder.chmod(0o777)
    jit.cache_folder.cache_clear()
    assert jit.cache_folder(KERNELS) is None
    jit.cache_folder.cache_clear()


def test_the_plain_copy_of_a_package_is_python_all_through():
    package = jit.plain(KERNELS)
    module = __import__(f"{package.__name__}.aggregate", fromlist=["play_aggregate"])
    assert type(module.play_aggregate) is type(lambda: None) and type(module.advance) is type(lambda: None)
    assert jit.plain(KERNELS) is package
    assert not hasattr(module, "numba")


@needs_numba
def test_every_type_that_a_run_gives_to_a_kernel_is_the_one_that_was_warmed():
    """A second signature would be compiled in the middle of a run."""
    from importlib import import_module

    from sim.choice import FAMILIES
    from sim.warm import warm
    from tests.engines import kernels_for, play, tiny_case

    for family in FAMILIES:
        warm(family)
    for seed in range(12):
        stream, cluster = tiny_case(seed, shares=seed % 3 == 0, shows=seed % 3 == 1)
        table = stream if isinstance(stream, np.ndarray) else stream.collect()
        table.flags.writeable = False
        for kernels in kernels_for(cluster, stream, True):
            play(stream, cluster, kernels)
    for family in FAMILIES:
        assert len(getattr(import_module(f"{KERNELS}.{family}"), f"play_{family}").signatures) == 1
