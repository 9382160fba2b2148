"""Workloads: who asks for what, and when. A leaf: knows nothing of hardware or of the simulator.

Reading order: stream.py (the tables in which the parts meet), numerics.py (numbers that are the same on every
machine), arrivals.py, renewal.py and lengths.py (when, and how long), pool_data.py (who), compose.py (all clients,
superposed; players.py says where they stand, walk.py plays them with numpy, compiled.py with the kernels of kernels/),
naive.py (one aggregate source, the thing to compare with), closed.py (N requests always in flight), segments.py (what prompts
share) and conversations.py (prompts that grow by their answers). At the edges: stream_file.py and pool_file.py are the
files we write, traces/ reads other people's, servegen.py reads the published client data, clients.py gives pools by name
or path, fit_pool.py makes a shipped pool of the data and pool_check.py measures it.

The names below load their file when first used: importing the package alone loads no numpy.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workloads.clients import Client, ClientPool, known_pools
    from workloads.closed import concurrency
    from workloads.compiled import kernels_warm, warm_kernels
    from workloads.compose import compose
    from workloads.conversations import conversations
    from workloads.naive import naive
    from workloads.segments import check_segments
    from workloads.stream import ITEMS, SEGMENTS, STREAM, Stream, WorkloadError, check_stream, out_request, out_segment
    from workloads.traces import read_trace
    from workloads.units import parse_duration_s

__dist__ = "servecast"
__all__ = [
    "Client",
    "ClientPool",
    "ITEMS",
    "SEGMENTS",
    "STREAM",
    "Stream",
    "WorkloadError",
    "check_segments",
    "check_stream",
    "compose",
    "concurrency",
    "conversations",
    "kernels_warm",
    "known_pools",
    "naive",
    "out_request",
    "out_segment",
    "parse_duration_s",
    "read_trace",
    "warm_kernels",
]

_HOME = {
    "Client": "clients",
    "ClientPool": "clients",
    "known_pools": "clients",
    "concurrency": "closed",
    "kernels_warm": "compiled",
    "warm_kernels": "compiled",
    "compose": "compose",
    "conversations": "conversations",
    "naive": "naive",
    "check_segments": "segments",
    "ITEMS": "stream",
    "SEGMENTS": "stream",
    "STREAM": "stream",
    "Stream": "stream",
    "WorkloadError": "stream",
    "check_stream": "stream",
    "out_request": "stream",
    "out_segment": "stream",
    "read_trace": "traces",
    "parse_duration_s": "units",
}


class _Package(ModuleType):
    """Makes `workloads.compose` the function whichever of the two names is imported first.

    Python binds a submodule to its parent after loading it; some functions, `compose` for one, have their file's name.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOME and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'workloads' has no attribute {name!r}")
    return getattr(import_module(f"workloads.{_HOME[name]}"), name)
