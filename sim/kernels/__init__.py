"""The compiled engine: kernels that play all instances of a pool from one control time to the next.

Reading order: `layout` (the tables in which everything stands), `steps` (what an iteration costs and leaves behind), `clock`
(when an instance plans and when its batches end), `aggregate` (batches formed in constant time), `general` (batches formed
request by request), `pool` (constant time with a real block pool), `play` (arrivals and routers).

The modules import each other relatively, so that `workloads.jit.plain` can load them once more as plain Python.
"""

__dist__ = "servecast"
