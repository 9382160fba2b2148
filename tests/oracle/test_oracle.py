"""The reference engine decides what vLLM's scheduler decided: every recorded case, and small ones computed by hand.

The recorded cases are reference data beside the checkout; where they are absent the small ones still run.
"""

import pytest

from sim import simulate
from tests.oracle.case import SUFFIXES, read_case
from tests.oracle.cases import BY_HAND
from tests.oracle.compare import compare, told
from tests.oracle.replay import cluster_of, replay, stream_of
from tests.shared_data import SHARED

FOLDER = SHARED / "oracle"
RECORDED = sorted(path for path in FOLDER.rglob("*") if path.name.endswith(SUFFIXES)) if FOLDER.is_dir() else []
ABSENT = pytest.param(None, id="none", marks=pytest.mark.skip(reason=f"no recorded cases in {SHARED.name}/oracle"))


def assert_replays(case):
    mismatches = compare(case, replay(case))
    assert not mismatches, told(case, mismatches)


@pytest.mark.parametrize("case", BY_HAND, ids=lambda case: case.case)
def test_a_case_computed_by_hand_comes_out(case):
    assert_replays(case)


@pytest.mark.parametrize("path", RECORDED or [ABSENT], ids=lambda path: path.name.split(".")[0])
def test_a_recorded_run_of_vllm_comes_out(path):
    assert_replays(read_case(path))


def assert_stretches_change_nothing(case):
    """A replay is watched by a probe and so forms every batch; without one, runs of decodes are played from sums."""
    short, long = (simulate(stream_of(case), cluster_of(case), use_stretches=flag) for flag in (True, False))
    assert short.records.tobytes() == long.records.tobytes()
    assert short.steps.tobytes() == long.steps.tobytes()
    assert short.gaps == long.gaps


@pytest.mark.parametrize("case", BY_HAND, ids=lambda case: case.case)
def test_a_case_computed_by_hand_comes_out_from_stretches_too(case):
    assert_stretches_change_nothing(case)


@pytest.mark.parametrize("path", RECORDED or [ABSENT], ids=lambda path: path.name.split(".")[0])
def test_a_recorded_run_comes_out_from_stretches_too(path):
    assert_stretches_change_nothing(read_case(path))
