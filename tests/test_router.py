"""Routers: who gets a request."""

import numpy as np
import pytest

from sim import ROUTERS, Cluster, ClusterError, Engine, simulate
from sim.request import RequestHead, head_of, mix64
from sim.router import InstanceView
from tests.cases import AffineCost, rows


def views(*requests):
    return [InstanceView(i, n, 0, 10, 10) for i, n in enumerate(requests)]


def head(request_id, seed=1):
    return head_of((*tuple(rows([(0, 5, 5, 5)])[0].tolist()[:1]), request_id, 0, -1, 1, 0, 5, 5, 5, 0), seed)


def test_round_robin_takes_each_in_turn():
    router = ROUTERS["round_robin"]()
    assert [router.choose(head(i), views(9, 0, 9)) for i in range(4)] == [0, 1, 2, 0]


def test_shortest_queue_takes_the_least_loaded_and_the_lowest_id_on_a_tie():
    assert ROUTERS["shortest_queue"]().choose(head(0), views(3, 1, 1)) == 1


@pytest.mark.parametrize("name", ["random", "power_of_two"])
def test_a_random_router_uses_every_instance_about_equally(name):
    router = ROUTERS[name]()
    chosen = np.bincount([router.choose(head(i), views(0, 0, 0, 0)) for i in range(4000)], minlength=4)
    if name == "random":
        assert np.all(np.abs(chosen - 1000) < 4 * np.sqrt(750))
    else:  # of two equals the lower id wins: 3, 2, 1 and 0 of the six pairs
        assert np.all(np.abs(chosen - np.array([2000, 4000 / 3, 2000 / 3, 0])) < 130)


def test_power_of_two_never_takes_the_most_loaded():
    router = ROUTERS["power_of_two"]()
    chosen = {router.choose(head(i), views(1, 5, 2)) for i in range(200)}
    assert chosen == {0, 2}


def test_a_coin_depends_on_seed_and_request_alone():
    assert head(7).coin == head(7).coin != head(8).coin
    assert head(7, seed=2).coin != head(7).coin
    assert mix64(0) == 0xE220A8397B1DCDAF  # first output of splitmix64 from state 0, as its authors publish it


def test_a_head_does_not_tell_the_answer_length():
    assert "output_tokens" not in RequestHead._fields


@pytest.mark.parametrize("name", sorted(ROUTERS))
def test_every_router_serves_a_burst_and_repeats(name):
    engine = Engine(max_num_seqs=4, max_num_batched_tokens=16, max_model_len=64, num_gpu_blocks_override=40)
    cluster = Cluster(step_cost=AffineCost(), instances=3, router=name, engine=engine)
    requests = rows([(i * 100_000, 8, 4, 4) for i in range(60)])
    one, two = simulate(requests, cluster), simulate(requests, cluster)
    assert one.records.tobytes() == two.records.tobytes()
    assert set(one.records["instance_id"]) == {0, 1, 2}


def test_a_router_of_ones_own_is_passed_as_an_object_and_starts_afresh_in_every_run():
    class EveryOther:
        def __init__(self):
            self.calls = 0

        def choose(self, head, views):
            self.calls += 1
            return self.calls % len(views)

    engine = Engine(max_num_seqs=4, max_num_batched_tokens=16, max_model_len=64, num_gpu_blocks_override=40)
    router = EveryOther()
    cluster = Cluster(step_cost=AffineCost(), instances=2, router=router, engine=engine)
    requests = rows([(0, 8, 4, 4)] * 3)
    one, two = simulate(requests, cluster), simulate(requests, cluster)
    assert one.records.tobytes() == two.records.tobytes() and router.calls == 0


def test_an_unknown_router_is_named_with_the_nearest_one():
    with pytest.raises(ClusterError, match="did you mean 'round_robin'"):
        simulate(rows([(0, 1, 1, 1)]), Cluster(router="roundrobin"))
