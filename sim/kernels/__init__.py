"""The compiled engine: kernels that play all instances of a pool from one control time to the next.

Reading order: `layout` (the tables in which everything stands), `steps` (what an iteration costs and leaves behind), `clock`
(when an instance plans and when its batches end), `play` (arrivals and routers); then the families. `aggregate` forms batches
in constant time (`forming`, `stretch`, `leaving`, over `running`, `gaps`, and the `cache` of `freequeue`). `pool` does so
where prompts share text: its cache is `answers`, over the real `blocks` and their `keys`. `general` forms batches request by
request (`round`, over `waiting`, `blocks` and `items`).

The modules import each other relatively, so that `workloads.jit.plain` can load them once more as plain Python.
"""

__dist__ = "servecast"
