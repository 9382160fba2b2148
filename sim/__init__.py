"""sim plays a stream of requests on a cluster of LLM serving instances, in simulated time.

Reading order: request (the tables and the life of a request), scheduler and kvcache (one iteration of an instance), instance
(iterations in time), router (who gets a request), reference (all of it together); then kernels and fast, which play the same
compiled; choice and cluster (which engine plays a run); tally, metrics and slo (what came out).
"""

from importlib import import_module
from typing import Any

__dist__ = "servecast"

_HOME = {
    "AffineCost": "affine",
    "RECORD": "request",
    "STEP": "request",
    "Request": "request",
    "RequestHead": "request",
    "Cluster": "cluster",
    "simulate": "cluster",
    "ClusterError": "engine",
    "Engine": "engine",
    "Result": "metrics",
    "Slo": "slo",
    "SloError": "slo",
    "ROUTERS": "router",
    "ByClient": "groups",
    "ByWindow": "groups",
    "MetricsError": "tally",
    "Tally": "tally",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Load a public name from its file when it is first asked for, so that `import sim` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    return getattr(import_module(f"sim.{_HOME[name]}"), name)
