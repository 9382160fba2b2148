"""A router in ten lines: the instance with most free KV blocks, compared with power_of_two on the same requests.

A policy is passed, not registered. It sees counters of the instances and the head of the request, never the length of
the answer. Both runs share their arrivals, so the difference is the routers' own.
"""

from collections.abc import Sequence

from sim import Cluster, RequestHead, simulate
from sim.router import InstanceView
from workloads import ClientPool, compose


class MostFreeBlocks:
    """The instance with most free KV blocks; of several the one with fewest waiting, then the lowest id."""

    def choose(self, head: RequestHead, views: Sequence[InstanceView]) -> int:
        """Index of the instance that gets the request."""
        return max(range(len(views)), key=lambda i: (views[i].free_blocks, -views[i].waiting, -i))


stream = compose(ClientPool.load("deepseek-r1"), start="20h", duration="2min", rate=10, seed=1)

for router in ("power_of_two", MostFreeBlocks()):
    result = simulate(stream, Cluster(gpu="h100", model="llama-3.1-8b", instances=3, router=router))
    numbers = result.summary()
    name = router if isinstance(router, str) else type(router).__name__
    print(f"{name:15} TTFT p99 {numbers['ttft_p99_s']:.4f} s, TPOT p99 {numbers['tpot_p99_s'] * 1e3:.3f} ms")
