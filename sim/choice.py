"""Which engine plays a run, and why: the fast one wherever it applies, the reference for the rest.

Results do not depend on it. What takes longest decides: a compiler is not waited for where the run is over before.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

import workloads
from sim.engine import ClusterError, FullEngine, unknown
from sim.kernels import layout as at
from sim.plan import Plan
from sim.source import Source, Stream
from workloads.jit import can_compile, is_loaded, is_warm

ENGINES = ("auto", "reference", "fast")
KERNELS = "sim.kernels"
FAMILIES = ("aggregate", "pool", "general")
"""Of kernels: the modules of sim.kernels that play runs."""
FEW_WARM, FEW_COLD = 2_000, 20_000
"""Requests that plain Python plays sooner than compiled code is loaded, or made: see docs/speed.md."""


class Kernels(NamedTuple):
    """A family of kernels, and whether it runs compiled or as plain Python."""

    family: str
    is_compiled: bool


class Choice(NamedTuple):
    """The engine of a run, a sentence on why, and the kernels if it is the fast one."""

    engine: str
    reason: str
    kernels: Kernels | None = None


class Wanted(NamedTuple):
    """What was asked of the engine: which, and what only the reference can show."""

    engine: str = "auto"
    has_probe: bool = False
    use_stretches: bool = True


REFERENCE = Choice("reference", "asked for")


def choose_engine(
    wanted: Wanted, stream: Stream | Source | np.ndarray, router: object, plan: Plan
) -> tuple[Choice, Iterable[np.ndarray]]:
    """The choice, and the windows of the stream, of which some may have been looked at to count requests.

    ClusterError for an engine that is not known, or one asked for that does not do what else is asked.
    """
    if wanted.engine not in ENGINES:
        raise unknown("engine", wanted.engine, ENGINES)
    windows = _windows(stream)
    refusal = _refusal(wanted, stream, plan)
    if wanted.engine == "reference" or (refusal and wanted.engine == "auto"):
        return (REFERENCE if wanted.engine == "reference" else Choice("reference", refusal)), windows
    if refusal:
        raise ClusterError(f"engine 'fast': {refusal}; 'auto' takes the reference engine there")
    family, why = family_of(plan.engine, stream)
    if router not in at.ROUTERS:
        why += "; the router's own Python chooses"
    if not can_compile():
        return Choice("fast", f"{why}; plain Python, as numba is switched off", Kernels(family, False)), windows
    if wanted.engine == "auto" and not is_loaded(f"{KERNELS}.{family}", f"play_{family}"):
        few = FEW_WARM if is_warm(KERNELS, f"play_{family}") else FEW_COLD
        count, windows = _count(windows, few)
        if count <= few:
            return Choice("fast", f"{why}; plain Python, as the run is short", Kernels(family, False)), windows
    return Choice("fast", f"{why}; compiled", Kernels(family, True)), windows


def family_of(engine: FullEngine, stream: object) -> tuple[str, str]:
    """The kernels that can play this, the fastest there are, and why these."""
    others = {
        "policy": engine.policy != "fcfs",
        "enable_chunked_prefill": not engine.enable_chunked_prefill,
        "long_prefill_token_threshold": engine.long_prefill_token_threshold > 0,
        "block_size": engine.block_size & (engine.block_size - 1) != 0,
        "encoder_cache_size": engine.encoder_cache_size > 0,
    }
    if found := [name for name, is_set in others.items() if is_set]:
        return "general", f"request by request, because of {', '.join(found)}"
    if engine.enable_prefix_caching and len(getattr(stream, "segments", ())):
        return "pool", "in constant time per iteration, over real blocks, as prompts share text"
    return "aggregate", "in constant time per iteration"


def _refusal(wanted: Wanted, stream: object, plan: Plan) -> str:
    """Why the fast engine cannot play this; empty if it can."""
    if plan.engine.scheduler != "vllm":
        return f"scheduler '{plan.engine.scheduler}' is Python"
    if not _is_tabled(type(plan.step_cost)):
        return "the step cost is Python (it has no arrays() of its own)"
    if isinstance(stream, Source):
        return "the traffic is a closed loop"
    if not wanted.use_stretches:
        return "every iteration is to be formed by the scheduler"
    if wanted.has_probe and wanted.engine == "auto":
        return "a probe looks at the scheduler's own requests"
    return ""


def _is_tabled(cost: type) -> bool:
    """Whether a step cost comes with tables, and no subclass has changed its prices without them."""
    for base in cost.__mro__:
        if "arrays" in vars(base):
            return True
        if not vars(base).keys().isdisjoint(("step_ns", "batch_ns")):
            return False
    return False


def _windows(stream: Stream | Source | np.ndarray) -> Iterable[np.ndarray]:
    """STREAM rows by arrival, as they are made; of a closed loop the first ones."""
    if isinstance(stream, np.ndarray):
        return [stream]
    if isinstance(stream, workloads.Stream):
        return stream.blocks()  # to cut them into windows would only copy them
    return [stream.first()] if isinstance(stream, Source) else stream.windows()


def _count(windows: Iterable[np.ndarray], enough: int) -> tuple[int, Iterator[np.ndarray]]:
    """Requests in the windows, counted until there are more than enough, and the windows as if nobody had looked."""
    rest, seen, count = iter(windows), [], 0
    for window in rest:
        seen.append(window)
        count += len(window)
        if count > enough:
            break
    return count, chain(seen, rest)
