"""docs/fast.md says what the fast engine does: families, reasons, numbers and files are compared with the code."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from sim import AffineCost, Cluster, ClusterError, Engine, simulate
from sim.choice import FAMILIES, FEW_COLD, FEW_WARM, Wanted, choose_engine, family_of
from sim.fast import PIECE_ROWS
from sim.kernels import layout as at
from sim.plan import Plan
from sim.probes import CHUNK_ROWS
from sim.tally import EXACT_ROWS
from tests.test_docs import PAGES, ROOT, first_table, names_in, section, text_of
from workloads.closed import concurrency
from workloads.stream import SEGMENTS, Stream, new_rows

COST = AffineCost(1)
LIMITS = {"max_num_seqs": 4, "max_num_batched_tokens": 64, "max_model_len": 64, "num_gpu_blocks_override": 90}


class PythonCost:
    def step_ns(self, *sums):
        return 1


def cluster(cost=COST, **settings):
    return Cluster(step_cost=cost, engine=Engine(**LIMITS, **settings))


def family(segments=0, **settings):
    """The family that plays these settings, and the reason told."""
    stream = Stream(1.0, lambda: iter([new_rows(0)]), segments=np.zeros(segments, SEGMENTS))
    return family_of(cluster(**settings).plan().engine, stream)


def reference_reason(stream=None, cost=COST, scheduler="vllm", **wanted):
    """Why `auto` takes the reference; None where it does not."""
    plan = cluster(cost).plan()
    plan = Plan(replace(plan.engine, scheduler=scheduler), cost, plan.num_blocks)
    choice, _ = choose_engine(Wanted(**wanted), new_rows(1) if stream is None else stream, "random", plan)
    return choice.reason if choice.engine == "reference" else None


def test_every_family_of_kernels_is_documented_with_the_reason_that_is_told():
    told = dict([family(), family(segments=1), family(policy="priority")])
    assert set(told) == set(FAMILIES)
    told["general"] = told["general"].replace("policy", "…")
    assert {names_in(row[0])[0]: row[3] for row in first_table(section("fast.md", "## Which kernels"))} == told


def test_the_settings_that_need_the_general_kernels_are_those_documented():
    needing = {
        "policy": "priority",
        "enable_chunked_prefill": False,
        "long_prefill_token_threshold": 8,
        "block_size": 12,
        "encoder_cache_size": 8,
    }
    rows = first_table(section("fast.md", "## Which kernels").split("These settings need")[1])
    assert [names_in(row[0])[0] for row in rows] == list(needing)
    for name, value in needing.items():
        encoder = {"max_num_encoder_input_tokens": 8} if name == "encoder_cache_size" else {}
        assert family(**{name: value}, **encoder) == ("general", f"request by request, because of {name}")


def test_all_other_switches_are_played_in_constant_time():
    others = {"async_scheduling": False, "enable_prefix_caching": False, "scheduler_reserve_full_isl": False, "watermark": 0.1}
    for name, value in others.items():
        assert family(**{name: value})[0] == "aggregate"
    assert family(segments=1, enable_prefix_caching=False)[0] == "aggregate"


def test_the_reasons_for_the_reference_are_those_documented():
    told = [
        reference_reason(scheduler="…"),
        reference_reason(cost=PythonCost()),
        reference_reason(concurrency(1, 4, 4, requests=1)),
        reference_reason(use_stretches=False),
        reference_reason(has_probe=True),
    ]
    assert [row[0] for row in first_table(section("fast.md", "## When the reference plays"))] == told
    assert reference_reason() is None


def test_the_fast_engine_refuses_with_the_same_words():
    with pytest.raises(ClusterError, match="every iteration is to be formed by the scheduler; 'auto' takes the reference"):
        simulate(new_rows(1), cluster(), engine="fast", use_stretches=False)


def test_numbers_and_routers_on_the_page_are_the_codes():
    words = " ".join(text_of("fast.md").split())
    for number in (PIECE_ROWS, FEW_WARM, FEW_COLD, at.WHEEL_SIZE, EXACT_ROWS, CHUNK_ROWS):
        assert f" {number:,} " in words
    routers = section("fast.md", "## Routers, watches and probes").split("are played inside the kernels")[0]
    assert names_in(routers) == list(at.ROUTERS)


def test_the_map_of_files_names_every_kernel_module():
    rows = first_table(section("fast.md", "## The files, in reading order"))
    named = [name for row in rows for name in names_in(row[0])]
    assert all((ROOT / name).is_file() for name in named)
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sim" / "kernels").glob("[!_]*.py")}
    assert modules == {name for name in named if name.startswith("sim/kernels/")}


def shown_by(page):
    """Targets of the pictures of a page."""
    return re.findall(r"!\[[^]]+\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))


def test_every_picture_is_shown_by_some_page():
    shown = {target for page in PAGES for target in shown_by(page)}
    for picture in (ROOT / "docs" / "pictures").iterdir():
        assert f"pictures/{picture.name}" in shown, picture.name


@pytest.mark.parametrize("target", dict.fromkeys(shown_by(ROOT / "docs" / "fast.md")))
def test_a_picture_of_the_page_reads_on_a_light_page_and_on_a_dark_one(target):
    """Its text is text, and it stands on a ground of its own."""
    text = (ROOT / "docs" / target).read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).find("{http://www.w3.org/2000/svg}title") is not None
    assert '<rect class="card"' in text and "currentColor" not in text
