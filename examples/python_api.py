"""The five lines of Python behind `servecast simulate`: a pool, a stream, a cluster, a run, its numbers."""

from sim import Cluster, simulate
from workloads import ClientPool, compose

stream = compose(ClientPool.load("deepseek-r1"), start="20h", duration="2min", rate=4, seed=1)
cluster = Cluster(gpu="h100", model="llama-3.1-8b", instances=2, router="power_of_two")
result = simulate(stream, cluster)
summary = result.summary(slo="ttft.p99:5s tpot.p99:50ms")

print(f"{summary['requests']} requests, {summary['steps']} steps of {summary['instances']} instances")
for term in summary["slo_terms"]:
    print(f"{term['term']}: {term['value']:.4f} s, {'holds' if term['holds'] else 'missed'}")
