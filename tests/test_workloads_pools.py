"""Shipped pools: they load, say where they are from, and tell what their source says."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared_data import SHARED, needs_shared
from tests.test_workloads_servegen import folder_of
from workloads import ClientPool, WorkloadError
from workloads.clients import POOLS
from workloads.fit_pool import fit, main
from workloads.pool_check import composed_errors, sketch_errors
from workloads.pool_file import _fine_rows, read_pool, write_pool
from workloads.servegen import read_servegen

ALL_POOLS_BYTES = 1_500_000


FITTED = sorted(path.stem for path in POOLS.glob("*.npz"))


@pytest.mark.parametrize("name", FITTED)
def test_a_fitted_pool_loads_and_names_source_commit_and_licence(name: str) -> None:
    known = ClientPool.load(name).describe()
    assert known["source"] == "alibaba/ServeGen" and len(known["commit"]) == 40 and known["licence"] == "Apache-2.0"
    assert known["clients"] > 30 and all(errors["block_ks_max"] < 0.02 for errors in known["sketch_errors"].values())
    assert known["grades"]
    json.dumps(known)


def test_all_pools_together_are_small() -> None:
    assert sum(path.stat().st_size for path in POOLS.iterdir()) < ALL_POOLS_BYTES


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("m-large", [914, 155]),
        ("m-mid", [307, 51]),
        ("m-small", [120, 15]),
        ("deepseek-r1", [1268, 1527, 0.702]),
        ("mm-image", [130, 572, 1.586, 650]),
    ],
)
def test_the_means_of_the_shipped_pools_are_those_of_the_data(name: str, means: list[float]) -> None:
    """Of clients that have data, weighted by requests: input, output; share that thinks; answer, text, images, their tokens."""
    known = ClientPool.load(name).published().describe()["lengths"]
    assert [field["mean"] for field in known.values()] == pytest.approx(means, rel=0.02)


def test_m_mid_says_what_is_missing() -> None:
    whole = ClientPool.load("m-mid")
    assert len(whole.imputed_ids) == 35 and whole.describe()["imputed_share_frac"] == pytest.approx(0.292, abs=0.001)
    pool = whole.published()
    assert len(pool.absent_ids) == 35 and pool.describe()["missing_share_frac"] == pytest.approx(0.292, abs=0.001)
    assert pool.gaps_s()[0] == (313_200.0, 313_200.0 + 11 * 600) and len(pool.gaps_s()) == 8


def test_an_unknown_pool_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(WorkloadError, match="nearest: deepseek-r1"):
        ClientPool.load("deepseek_r1")


def test_a_fitted_pool_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    source = folder_of(tmp_path)
    sizes = [fit(str(source), "tiny", tmp_path)["bytes"]]
    first = (tmp_path / "tiny.npz").read_bytes()
    sizes.append(fit(str(source), "tiny", tmp_path)["bytes"])
    assert (tmp_path / "tiny.npz").read_bytes() == first and sizes[0] == sizes[1]


def test_a_fitted_pool_reads_back(tmp_path: Path) -> None:
    pool = ClientPool.from_servegen(folder_of(tmp_path))
    write_pool(pool, tmp_path / "tiny.npz", {"source": "a test"})
    back = read_pool(tmp_path / "tiny.npz")
    assert np.array_equal(back.count, pool.count) and back.provenance["source"] == "a test"
    assert back.cv == pytest.approx(pool.cv, rel=0.006) and back.shape == pytest.approx(pool.shape, rel=0.011)
    for name, table in pool.lengths.items():
        assert np.array_equal(back.lengths[name].knots, table.knots)


def test_clients_of_few_requests_are_kept_by_every_third_knot(tmp_path: Path) -> None:
    pool = ClientPool.load("deepseek-r1")
    assert 0.1 < _fine_rows(pool).mean() < 0.9
    write_pool(pool, tmp_path / "again.npz", {})
    back = read_pool(tmp_path / "again.npz")
    for name, table in pool.lengths.items():
        assert back.lengths[name].knots == pytest.approx(table.knots, rel=1e-12)


def test_a_file_that_is_no_pool_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "x.npz"
    broken.write_bytes((POOLS / "deepseek-r1.npz").read_bytes()[:9000])
    with pytest.raises(WorkloadError, match="not a client pool"):
        read_pool(broken)
    np.savez(broken, a=np.arange(3))
    with pytest.raises(WorkloadError, match="not a client pool"):
        read_pool(broken)


@pytest.mark.parametrize(
    ("name", "spoil", "told"),
    [
        ("client_ids", lambda a: a[::-1], "ascending numbers"),
        ("length_row", lambda a: a + 10_000, "rows of the tables"),
        ("length_row", lambda a: a[:, :1], "a row for each client and block"),
        ("length_row", lambda a: np.full_like(a, -1), "wherever requests are"),
        ("requests", lambda a: a[:, :-5], "not a client pool"),
        ("input_tokens_mean", lambda a: a[:, :-1], "not a client pool"),
        ("about", lambda a: a[:-3], "not a client pool"),
        ("windows", lambda a: a - a, "not a client pool"),
    ],
)
def test_arrays_that_make_no_pool_together_are_refused(tmp_path: Path, name: str, spoil, told: str) -> None:
    with np.load(POOLS / "deepseek-r1.npz") as content:
        arrays = {key: content[key] for key in content.files}
    arrays[name] = spoil(arrays[name])
    np.savez(tmp_path / "spoilt.npz", **arrays)
    with pytest.raises(WorkloadError, match=told):
        read_pool(tmp_path / "spoilt.npz")


@given(st.integers(0, 57_000), st.binary(min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_spoilt_bytes_are_refused_or_do_not_matter(tmp_path_factory, at: int, noise: bytes) -> None:
    content = (POOLS / "deepseek-r1.npz").read_bytes()
    broken = tmp_path_factory.mktemp("spoilt") / "x.npz"
    broken.write_bytes(content[:at] + noise + content[at + len(noise) :])
    with contextlib.suppress(WorkloadError):
        read_pool(broken)


def test_the_fit_command_ends_with_2_for_a_wrong_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none"), "--name", "x", "--out", str(tmp_path)]) == 2
    assert "no such folder" in capsys.readouterr().err and not list(tmp_path.glob("*.npz"))


@needs_shared
@pytest.mark.parametrize("name", ["deepseek-r1", "mm-image"])
def test_a_shipped_pool_is_to_the_byte_what_its_command_makes(tmp_path: Path, name: str) -> None:
    (tmp_path / "pools").mkdir()
    fit(str(SHARED / "servegen" / f"{name}.tar.gz"), name, tmp_path / "pools")
    assert (tmp_path / "pools" / f"{name}.npz").read_bytes() == (POOLS / f"{name}.npz").read_bytes()


@needs_shared
def test_the_reasoning_pool_is_close_to_its_source() -> None:
    """Every field and block KS ≤ .02, mean within 2 % and p99 within 5 %; CV within 10 % for 95 % of requests."""
    data, pool = read_servegen(SHARED / "servegen" / "deepseek-r1.tar.gz"), ClientPool.load("deepseek-r1")
    for field in sketch_errors(pool, data).values():
        assert field["block_ks_max"] <= 0.02 and field["block_mean_error_frac_max"] <= 0.02
        assert field["client_block_ks_p90"] <= 0.07 and field["block_p99_error_frac_max"] <= 0.05
    composed = composed_errors(pool, data)
    assert composed["cv_within_10pct_frac"] >= 0.95 and composed["cv_below_half_frac"] <= 0.01
    assert composed["requests_composed_over_published"] == pytest.approx(1.0, abs=0.01)
    assert composed["input_tokens_block_mean_error_frac_max"] <= 0.02


@pytest.mark.parametrize("first", ["import workloads.compose, workloads.naive", "pass"])
def test_the_package_gives_functions_whatever_was_imported_first(first: str) -> None:
    code = f"{first}\nfrom workloads import compose, naive\nassert callable(compose) and callable(naive)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, workloads; sys.exit(any(m in sys.modules for m in ('numpy', 'pandas', 'scipy', 'numba')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_using_a_pool_loads_no_pandas_scipy_or_numba() -> None:
    code = (
        "import sys, workloads as w\n"
        "w.compose(w.ClientPool.load('deepseek-r1'), duration='10min', scale=1.0).collect()\n"
        "sys.exit(any(m in sys.modules for m in ('pandas', 'scipy', 'numba', 'pyarrow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
