"""Kernels made ready before they are wanted."""

import time
from importlib import import_module

import numpy as np

from sim.affine import AffineCost
from sim.choice import FAMILIES, KERNELS, Kernels
from sim.engine import FullEngine
from sim.fast import FastRun
from sim.plan import Job, Plan
from sim.probes import Kept, Tables
from sim.prompts import Prompts
from sim.request import RECORD
from workloads.jit import can_compile, is_warm
from workloads.stream import STREAM


def is_ready(family: str) -> bool:
    """Whether a family of kernels needs no compiler: its code is in the cache, or numba is switched off."""
    return not can_compile() or is_warm(KERNELS, f"play_{family}")


def warm(family: str) -> float:
    """Compile a family of kernels into the cache, or load it from there; returns CPU seconds.

    One request on one instance: the types of its arrays are those of every run.
    """
    start = time.process_time()
    engine = FullEngine(max_num_seqs=2, max_num_batched_tokens=8, max_model_len=8)
    plan, tables = Plan(engine, AffineCost(1000), 8), Tables(False, Kept(RECORD))
    kernels = Kernels(family, can_compile())
    run = FastRun(plan, Job(1, "round_robin", 1), Prompts(engine, None, None), tables, kernels)
    row = np.zeros(1, STREAM)
    row["session_id"], row["turn"], row["input_tokens"], row["output_tokens"], row["max_tokens"] = -1, 1, 1, 1, 2
    run.play([row], None)
    module = import_module(f"{KERNELS}.{family}")
    if hasattr(module, "give_up"):
        module.give_up(run.world.instances[0], run.world)
    return time.process_time() - start


def warm_all() -> dict[str, float]:
    """CPU seconds that each family took to compile or load."""
    return {family: warm(family) for family in FAMILIES}
