"""KV blocks: every one is free, cached or held, exactly once; and vLLM's order of what is evicted."""

from hypothesis import given
from hypothesis import strategies as st

from sim.kvcache import KVCache, PrefixCache
from sim.prompt import BlockKeys
from sim.request import Request
from tests.cases import rows

BLOCK = 4


def new_request(request_id=0, segments=((0, 10),), block_size=BLOCK):
    row = list(rows([(0, sum(tokens for _, tokens in segments), 50, 50)])[0].tolist())
    row[1] = request_id
    return Request(tuple(row), 1000, BlockKeys(segments, -1 - request_id, block_size))


operations = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["grow", "release"]), st.integers(1, 30)), max_size=60)


@given(st.integers(2, 40), st.sampled_from([1, 2, 4, 16]), operations)
def test_blocks_are_conserved_under_random_growth_and_release(num_blocks, block_size, steps):
    kv = KVCache(num_blocks, block_size)
    requests = [new_request(i, block_size=block_size) for i in range(5)]
    for which, what, tokens in steps:
        request = requests[which]
        if what == "release":
            kv.release(request)
            request.computed = 0
        else:
            before = kv.free_blocks, request.kv_slots
            if kv.grow(request, request.computed + tokens):
                request.computed += tokens
            else:
                assert (kv.free_blocks, request.kv_slots) == before
        kv.check(requests)


@given(st.integers(2, 40), st.sampled_from([1, 2, 4]), st.lists(st.integers(0, 2), min_size=5, max_size=5), operations)
def test_a_prefix_cache_is_sound_under_random_use(num_blocks, block_size, texts, steps):
    kv = PrefixCache(num_blocks, block_size)
    requests = [new_request(i, ((texts[i], 24), (100 + i, 24)), block_size) for i in range(5)]
    for which, what, tokens in steps:
        request = requests[which]
        if what == "release":
            kv.release(request)
            request.computed = 0
        else:
            if not request.blocks:
                hit = kv.find(request)
                assert len(hit) * block_size < request.tokens
                kv.touch(request, hit)
                request.computed = len(hit) * block_size
            tokens = min(tokens, request.tokens - request.computed)
            if kv.grow(request, request.computed + tokens):
                request.computed += tokens
                kv.commit(request, request.computed)
        kv.check(requests)


def test_one_block_is_never_given_out():
    assert KVCache(num_blocks=10, block_size=16).free_blocks == PrefixCache(10, 16).free_blocks == 9


def test_a_prompt_that_begins_alike_finds_the_full_blocks_of_the_other_but_never_its_own_last_token():
    kv = PrefixCache(20, BLOCK)
    first, second = new_request(1, ((7, 8), (1, 3))), new_request(2, ((7, 8),))
    kv.grow(first, 11)
    kv.commit(first, 11)
    assert list(kv.find(second)) == first.blocks[:1]  # eight tokens are two blocks, but one token has to be computed
    longer = new_request(3, ((7, 8), (2, 1)))
    assert list(kv.find(longer)) == first.blocks[:2]


def test_of_equal_blocks_the_one_entered_first_is_found():
    kv = PrefixCache(20, BLOCK)
    first, second, third = (new_request(i, ((7, 9),)) for i in range(3))
    for request in (second, first):
        kv.grow(request, 9)
    for request in (first, second):
        kv.commit(request, 9)
    assert list(kv.find(third)) == first.blocks[:2]


def test_blocks_come_back_keyless_to_the_front_and_keyed_to_the_end_from_the_last_to_the_first():
    kv = PrefixCache(8, BLOCK)
    request = new_request(1, ((7, 14),))
    kv.grow(request, 14)  # blocks 1 to 4
    kv.commit(request, 8)  # 1 and 2 are findable
    kv.release(request)
    assert list(kv._free) == [4, 3, 5, 6, 7, 2, 1]
    other = new_request(2, ((8, 24),))
    kv.grow(other, 24)  # six blocks: 4 3 5 6 7 and then 2, the tail of the cached prefix, is evicted before its head
    assert list(kv.find(new_request(3, ((7, 14),)))) == [1]


def test_the_answer_is_found_by_the_next_turn():
    kv = PrefixCache(20, BLOCK)
    first = new_request(5, ((7, 6),))
    kv.grow(first, 12)
    kv.commit(first, 12)
    turn = new_request(6, ((7, 6), (-1 - 5, 6), (9, 5)))
    assert list(kv.find(turn)) == first.blocks[:3]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=6), st.integers(1, 5))
def test_keys_are_equal_exactly_where_the_tokens_before_are(segments, block_size):
    """A twin that lists every token: a key is a hash of all tokens up to the end of its block."""
    merged = []
    for segment, tokens in segments:
        merged.append((len(merged) * 10 + segment, tokens))
    tokens = [(segment, i) for segment, length in merged for i in range(length)]
    keys = BlockKeys(merged, -1, block_size)
    blocks = len(tokens) // block_size
    seen = {keys.at(i) for i in range(blocks)}
    assert len(seen) == blocks
    same, other = BlockKeys(merged, -2, block_size), BlockKeys([(99, 1), *merged], -1, block_size)
    assert [same.at(i) for i in range(blocks)] == [keys.at(i) for i in range(blocks)]
    assert all(other.at(i) != keys.at(i) for i in range(blocks))
