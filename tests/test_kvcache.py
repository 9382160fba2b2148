"""KV blocks: every one is free or held, exactly once."""

from hypothesis import given
from hypothesis import strategies as st

from sim.kvcache import KVCache
from sim.request import Request
from tests.cases import rows


def new_request():
    return Request(tuple(rows([(0, 10, 5, 5)])[0].tolist()), 1000)


@given(
    st.integers(2, 40), st.sampled_from([1, 2, 4, 16]), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=60)
)
def test_blocks_are_conserved_under_random_growth_and_release(num_blocks, block_size, operations):
    kv = KVCache(num_blocks, block_size)
    requests = [new_request() for _ in range(5)]
    for which, tokens in operations:
        request = requests[which]
        if tokens == 0:
            kv.release(request)
            request.computed = 0
        else:
            free, held = kv.free_blocks, request.kv_slots
            if kv.grow(request, request.computed + tokens):
                request.computed += tokens
            else:
                assert (kv.free_blocks, request.kv_slots) == (free, held)
        kv.check(requests)


def test_one_block_is_never_given_out():
    assert KVCache(num_blocks=10, block_size=16).free_blocks == 9
