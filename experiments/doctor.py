"""doctor: what is installed, what is cached, and how fast it is here."""

import platform
import sys
import time

from experiments.console import Console
from experiments.folder import PACKAGES, version_of
from experiments.workers import default_workers
from sim.choice import FAMILIES, KERNELS
from workloads import kernels_warm
from workloads.jit import CACHE_VARIABLE, cache_folder, can_compile

OPTIONAL = ("pyarrow",)
WORKLOAD_KERNELS = "workloads.kernels"


def examine(is_to_warm: bool) -> None:
    """Print the findings; compile what is not compiled where asked."""
    from sim.warm import is_ready

    console = Console()
    console.say(f"python {sys.version.split()[0]} on {platform.platform()}, {default_workers()} cores for this process")
    for name in (*PACKAGES, *OPTIONAL):
        told = version_of(name)
        console.say(f"{name} {told}" + (" (Parquet files; without it tables are .csv.gz)" if name in OPTIONAL else ""))
    console.say(_switch())
    console.say(f"kernel cache: {_folder(KERNELS)}")
    console.say(f"              {_folder(WORKLOAD_KERNELS)}")
    if is_to_warm:
        _warm(console)
    for family in FAMILIES:
        console.say(f"simulation kernels, {family}: {_state(is_ready(family))}")
    console.say(f"workload kernels: {_state(kernels_warm())}")
    if can_compile() and is_ready("aggregate"):
        console.say(f"speed here: {_speed_rps():,.0f} requests per CPU second on one instance")


def _warm(console: Console) -> None:
    """Everything into the cache, one family after the other."""
    from sim.warm import warm
    from workloads import warm_kernels

    for family in FAMILIES:
        console.note(f"compiling the {family} kernels ...")
        console.say(f"compiled or loaded: {family} kernels, {warm(family):.1f} CPU s")
    start = time.process_time()
    warm_kernels()
    console.say(f"compiled or loaded: workload kernels, {time.process_time() - start:.1f} CPU s")


def _speed_rps() -> float:
    """Requests per CPU second of a short run: five answers of 200 tokens a second, with no measured table needed."""
    import numpy as np

    from sim import AffineCost, Cluster, Engine, simulate
    from workloads.stream import NS_PER_S, new_rows

    rows = new_rows(50_000)
    rows["arrival_ns"] = np.arange(len(rows)) * (NS_PER_S // 5)
    rows["request_id"] = np.arange(len(rows))
    rows["input_tokens"], rows["output_tokens"], rows["max_tokens"] = 500, 200, 300
    limits = {"max_num_seqs": 256, "max_num_batched_tokens": 8192, "max_model_len": 8192}
    engine = Engine(**limits, num_gpu_blocks_override=20_000)
    cluster = Cluster(step_cost=AffineCost(10_000_000, 30_000), engine=engine)
    simulate(rows[:1], cluster, keep_steps=False, keep_records=False, engine="fast")
    start = time.process_time()
    simulate(rows, cluster, keep_steps=False, keep_records=False, engine="fast")
    return len(rows) / (time.process_time() - start)


def _switch() -> str:
    return "numba compiles" if can_compile() else "numba is switched off (NUMBA_DISABLE_JIT): kernels run as plain Python"


def _folder(name: str) -> str:
    folder = cache_folder(name)
    return str(folder) if folder else f"none: no folder can be written; {CACHE_VARIABLE} names another"


def _state(is_warm: bool) -> str:
    return "ready" if is_warm else "to be compiled when first needed, or now with servecast doctor --warm"
