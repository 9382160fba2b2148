"""Workloads: who asks for what, and when. A leaf: knows nothing of hardware or of the simulator.

Reading order: stream.py (the tables in which the parts meet), numerics.py (numbers that are the same on every
machine), arrivals.py, arrival_models.py and renewal.py (when), fields.py and lengths.py (what, and how long), pool_data.py
(who), traffic_model.py (what a pool's data leave open), compose.py (all clients, superposed; players.py says where they stand,
walk.py plays them with numpy, compiled.py with the kernels of kernels/, details.py adds items, thinking and limits).
Then what is made of it: naive/ (one aggregate source, the thing to compare with), sessions/ (requests as turns of
conversations, whose prompts share what segments.py checks), upsample.py, selection.py (some of a pool's clients, or more),
closed.py (N requests always in flight) and conversations.py (a small source for tests). What is learned: fit.py (a pool of any
stream) and characterize/ (what a stream is like). At the edges: pool_file.py and stream_file.py are the files we write,
traces/ reads and writes those of others, servegen.py reads the published client data, recipe.py makes a pool of published
numbers, clients.py gives pools by name or path, fit_pool.py makes a shipped pool and pool_check.py measures it.

The names below load their file when first used: importing the package alone loads no numpy.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workloads.characterize import characterize
    from workloads.clients import Client, ClientPool, known_pools
    from workloads.closed import concurrency
    from workloads.compiled import kernels_warm, warm_kernels
    from workloads.compose import compose
    from workloads.conversations import conversations
    from workloads.fit import fit
    from workloads.naive import naive
    from workloads.segments import check_segments
    from workloads.sessions import ConversationModel, sessions
    from workloads.stream import ITEMS, SEGMENTS, STREAM, Stream, WorkloadError, check_stream, out_request, out_segment
    from workloads.traces import read_trace
    from workloads.traffic_model import TrafficModel
    from workloads.units import parse_duration_s
    from workloads.upsample import upsample

__dist__ = "servecast"
__all__ = [
    "characterize",
    "fit",
    "ConversationModel",
    "sessions",
    "TrafficModel",
    "upsample",
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
    "characterize": "characterize",
    "fit": "fit",
    "ConversationModel": "sessions",
    "sessions": "sessions",
    "TrafficModel": "traffic_model",
    "upsample": "upsample",
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
