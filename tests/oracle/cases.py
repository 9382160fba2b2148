"""Small cases computed by hand from the rules, in the format of the recorded ones.

A step of n tokens over all requests takes 1000 + 10 n + k + 100 e ns, where k sums the computed tokens of its requests
after it and e the lengths of the images encoded in it. Blocks have 4 tokens, and there are plenty unless a case says
how few. Each step has its arithmetic beside it.
"""

import json
from typing import Any

from tests.oracle.case import Case, parse_case

_ENGINE: dict[str, Any] = {
    "block_size": 4,
    "num_blocks": 100,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 16,
    "max_model_len": 100,
    "long_prefill_token_threshold": 0,
    "policy": "fcfs",
    "prefix_caching": False,
    "async_scheduling": False,
    "watermark": 0.0,
    "reserve_full_isl": True,
    "chunked_prefill": True,
    "encoder_budget": 0,
    "encoder_cache": 0,
}
_COST = {"base_ns": 1000, "per_token_ns": 10, "per_kv_token_ns": 1, "per_encoder_token_ns": 100}


def asks(arrival_ns: int, prompt: int | list[tuple[str, int]], output_tokens: int, **more: int) -> dict[str, Any]:
    """A request; a prompt given by its length is text of its own. `more`: max_tokens, priority."""
    return {"arrival_ns": arrival_ns, "prompt": prompt, "output_tokens": output_tokens, "priority": 0, **more}


def step(end_ns: int, *batch: tuple[int, int], preempted: tuple[int, ...] = (), encoded: tuple = ()) -> tuple:
    """A step: its end, (request, tokens) in order, ids preempted, (request, item) encoded."""
    return (end_ns, batch, preempted, encoded)


def by_hand(
    case: str, requests: list[dict], steps: list[tuple], first_token_ns: list[int], finish_ns: list[int], **engine: Any
) -> Case:
    """A case whose times are listed by request; `engine` holds what differs from the settings above."""
    for request_id, request in enumerate(requests):
        request["id"] = request_id
        if isinstance(request["prompt"], int):
            request["prompt"] = [(f"p{request_id}", request["prompt"])]
    text = json.dumps(
        {
            "case": case,
            "source": "the rules, by hand",
            "engine": _ENGINE | engine,
            "cost": _COST,
            "requests": requests,
            "steps": steps,
            "first_token_ns": dict(enumerate(first_token_ns)),
            "finish_ns": dict(enumerate(finish_ns)),
        }
    )
    return parse_case(text.encode(), case)


BY_HAND = [
    by_hand(
        "a_long_prompt_is_computed_in_chunks",
        [asks(0, 19, 3)],
        [
            step(1088, (0, 8)),  # 0 + 1000 + 80 + 8: the budget
            step(2184, (0, 8)),  # 1088 + 1000 + 80 + 16
            step(3233, (0, 3)),  # 2184 + 1000 + 30 + 19: what is left of 19, and the first token
            step(4263, (0, 1)),  # 3233 + 1000 + 10 + 20
            step(5294, (0, 1)),  # 4263 + 1000 + 10 + 21: the third
        ],
        first_token_ns=[3233],
        finish_ns=[5294],
        max_num_batched_tokens=8,
    ),
    by_hand(
        "who_runs_goes_before_who_waits",
        [asks(0, 2, 4), asks(0, 12, 2), asks(1088, 1, 2)],
        [
            step(1088, (0, 2), (1, 6)),  # 1000 + 80 + (2 + 6): request 1 gets the rest of the budget
            # Request 2 arrives at the very end of this step and is seen; the budget leaves it one token.
            step(2184, (0, 1), (1, 6), (2, 1)),  # 1088 + 1000 + 80 + (3 + 12 + 1)
            step(3233, (0, 1), (1, 1), (2, 1)),  # 2184 + 1000 + 30 + (4 + 13 + 2): 1 and 2 have their second
            step(4248, (0, 1)),  # 3233 + 1000 + 10 + 5
        ],
        first_token_ns=[1088, 2184, 2184],
        finish_ns=[4248, 3233, 3233],
        max_num_batched_tokens=8,
    ),
    by_hand(
        "seats_are_kept",
        [asks(0, 3, 2), asks(0, 3, 1), asks(0, 3, 1)],
        [
            step(1066, (0, 3), (1, 3)),  # 1000 + 60 + (3 + 3): two seats; request 1 ends
            step(2113, (0, 1), (2, 3)),  # 1066 + 1000 + 40 + (4 + 3)
        ],
        first_token_ns=[1066, 1066, 2113],
        finish_ns=[2113, 1066, 2113],
        max_num_seqs=2,
    ),
    by_hand(
        "a_preempted_request_goes_to_the_front_and_starts_over",
        # 4 usable blocks: request 0 holds 2 for 8 tokens, request 1 holds 2 for 5.
        [asks(0, 8, 3), asks(0, 5, 3), asks(100, 4, 1)],
        [
            step(1143, (0, 8), (1, 5)),  # 1000 + 130 + (8 + 5)
            # Token 9 of request 0 needs a block: request 1, the last, gives its 2. Request 2 would fit the one that is
            # left over, but request 1 stands before it.
            step(2162, (0, 1), preempted=(1,)),  # 1143 + 1000 + 10 + 9
            # Request 1 needs 2 blocks for its 5 + 1 tokens: both wait.
            step(3182, (0, 1)),  # 2162 + 1000 + 10 + 10: the third token of request 0
            step(4292, (1, 6), (2, 4)),  # 3182 + 1000 + 100 + (6 + 4): prompt and first token again, the second comes
            step(5309, (1, 1)),  # 4292 + 1000 + 10 + 7
        ],
        first_token_ns=[1143, 1143, 4292],
        finish_ns=[3182, 5309, 4292],
        num_blocks=5,
    ),
    by_hand(
        "a_full_block_is_enough_until_the_next_token",
        # 4 usable blocks, 2 for each.
        [asks(0, 6, 4), asks(0, 7, 4)],
        [
            step(1143, (0, 6), (1, 7)),  # 1000 + 130 + (6 + 7)
            step(2178, (0, 1), (1, 1)),  # 1143 + 1000 + 20 + (7 + 8): 8 tokens fill the 2 blocks of request 1
            # Token 8 of request 0 fits; token 9 of request 1 does not, and it is itself the last.
            step(3196, (0, 1), preempted=(1,)),  # 2178 + 1000 + 10 + 8
            # Token 9 of request 0 takes a third block; 1 is free, and request 1 needs 3 for 7 + 2 tokens.
            step(4215, (0, 1)),  # 3196 + 1000 + 10 + 9: the fourth token of request 0
            step(5314, (1, 9)),  # 4215 + 1000 + 90 + 9: the third token of request 1
            step(6334, (1, 1)),  # 5314 + 1000 + 10 + 10
        ],
        first_token_ns=[1143, 1143],
        finish_ns=[4215, 6334],
        num_blocks=5,
    ),
    by_hand(
        "a_prompt_is_admitted_where_all_of_it_has_room",
        # 5 usable blocks. Request 0 needs 3 from its 9th token on, request 1 needs 3 for its prompt, 2 for its first chunk.
        [asks(0, 8, 4), asks(0, 12, 1)],
        [
            step(1088, (0, 8)),  # 1000 + 80 + 8: the budget
            step(2107, (0, 1)),  # 1088 + 1000 + 10 + 9: 2 blocks are free
            step(3127, (0, 1)),  # 2107 + 1000 + 10 + 10
            step(4148, (0, 1)),  # 3127 + 1000 + 10 + 11: the fourth token of request 0
            step(5236, (1, 8)),  # 4148 + 1000 + 80 + 8
            step(6288, (1, 4)),  # 5236 + 1000 + 40 + 12
        ],
        first_token_ns=[1088, 6288],
        finish_ns=[4148, 6288],
        num_blocks=6,
        max_num_batched_tokens=8,
    ),
    by_hand(
        "without_the_gate_a_prompt_is_admitted_by_chunk_and_not_in_a_step_that_preempted",
        # As before, but the 2 blocks that are free let the first chunk of request 1 in.
        [asks(0, 8, 4), asks(0, 12, 1)],
        [
            step(1088, (0, 8)),  # 1000 + 80 + 8
            step(2184, (0, 1), (1, 7)),  # 1088 + 1000 + 80 + (9 + 7): 3 + 2 blocks
            # Token 12 of request 1 finds no block, and it is the last: it gives its 2 back. They would hold its first
            # chunk again, but who preempts admits nobody.
            step(3204, (0, 1), preempted=(1,)),  # 2184 + 1000 + 10 + 10
            step(4302, (0, 1), (1, 7)),  # 3204 + 1000 + 80 + (11 + 7): the fourth token of request 0
            step(5364, (1, 5)),  # 4302 + 1000 + 50 + 12
        ],
        first_token_ns=[1088, 5364],
        finish_ns=[4302, 5364],
        num_blocks=6,
        max_num_batched_tokens=8,
        reserve_full_isl=False,
    ),
    by_hand(
        "a_shared_system_prompt_is_found_but_for_the_last_token",
        [asks(0, [("sys", 8), ("u0", 2)], 1), asks(500, [("sys", 8)], 1), asks(600, [("sys", 8), ("u2", 3)], 2)],
        [
            step(1110, (0, 10)),  # 1000 + 100 + 10: leaves 10 // 4 = 2 blocks
            # Request 1 is those 2 blocks and no more, and hits (8 - 1) // 4 = 1. Request 2 hits (11 - 1) // 4 = 2.
            step(2199, (1, 4), (2, 3)),  # 1110 + 1000 + 70 + (8 + 11)
            step(3221, (2, 1)),  # 2199 + 1000 + 10 + 12
        ],
        first_token_ns=[1110, 2199, 2199],
        finish_ns=[1110, 2199, 3221],
        prefix_caching=True,
    ),
    by_hand(
        "equal_prompts_of_one_step_share_blocks_at_once",
        [asks(0, [("sys", 8)], 1), asks(0, [("sys", 8)], 1), asks(0, [("sys", 8), ("u2", 1)], 2)],
        [
            # Blocks are known as soon as they are planned: request 1 hits (8 - 1) // 4 = 1, request 2 (9 - 1) // 4 = 2.
            step(1155, (0, 8), (1, 4), (2, 1)),  # 1000 + 130 + (8 + 8 + 9)
            step(2175, (2, 1)),  # 1155 + 1000 + 10 + 10
        ],
        first_token_ns=[1155, 1155, 1155],
        finish_ns=[1155, 1155, 2175],
        prefix_caching=True,
    ),
    *(
        by_hand(
            f"the_next_turn_finds_prompt_and_answer{'_async' if is_async else ''}",
            [asks(0, 6, 3), asks(4000, [("p0", 6), ("out:0", 3), ("u1", 3)], 1)],
            [
                step(1066, (0, 6)),  # 1000 + 60 + 6
                step(2083, (0, 1)),  # 1066 + 1000 + 10 + 7
                # The third token has no KV yet: (6 + 3 - 1) // 4 = 2 blocks stay. Asynchronously the second of them is
                # known only when this step returns, and it is although the request ends with it.
                step(3101, (0, 1)),  # 2083 + 1000 + 10 + 8
                step(5052, (1, 4)),  # 4000 + 1000 + 40 + 12: 8 of 12 tokens are found
            ],
            first_token_ns=[1066, 5052],
            finish_ns=[3101, 5052],
            prefix_caching=True,
            async_scheduling=is_async,
        )
        for is_async in (False, True)
    ),
    by_hand(
        "a_foreseen_end_keeps_its_seat_until_it_is_seen_async",
        [asks(0, 3, 2), asks(0, 3, 4), asks(0, 3, 1)],
        [
            step(1066, (0, 3), (1, 3)),  # formed at 0: 1000 + 60 + (3 + 3)
            step(2094, (0, 1), (1, 1)),  # formed at 0 as well: 1066 + 1000 + 20 + (4 + 4)
            # Formed at 1066: the second and last token of request 0 is on its way, so it is left out. Its seat is taken
            # until 2094, so request 2 waits.
            step(3109, (1, 1)),  # 2094 + 1000 + 10 + 5
            step(4158, (1, 1), (2, 3)),  # formed at 2094: 3109 + 1000 + 40 + (6 + 3)
        ],
        first_token_ns=[1066, 1066, 4158],
        finish_ns=[2094, 4158, 4158],
        max_num_seqs=2,
        async_scheduling=True,
    ),
    by_hand(
        "an_unforeseen_end_costs_one_more_batch_async",
        [asks(0, 3, 2, max_tokens=5), asks(2050, 4, 1), asks(2500, 4, 1)],
        [
            step(1033, (0, 3)),  # formed at 0: 1000 + 30 + 3
            step(2047, (0, 1)),  # formed at 0: 1033 + 1000 + 10 + 4: its sample is the stop token
            step(3062, (0, 1)),  # formed at 1033, before that was known: 2047 + 1000 + 10 + 5: its sample is dropped
            # At 2047 nobody is there to form a batch with. The next call is when the one in flight returns, at 3062, so
            # both newcomers are in its batch.
            step(4150, (1, 4), (2, 4)),  # 3062 + 1000 + 80 + (4 + 4)
        ],
        first_token_ns=[1033, 4150, 4150],
        finish_ns=[2047, 4150, 4150],
        async_scheduling=True,
    ),
    by_hand(
        "a_victim_by_priority_returns_its_tokens_to_the_budget",
        # 7 usable blocks; no gate on the whole prompt, so that request 2 runs with its first chunk.
        [asks(0, 7, 5, priority=1), asks(100, 3, 4), asks(200, 20, 2)],
        [
            step(1077, (0, 7)),  # 1000 + 70 + 7
            step(2172, (0, 1), (1, 3), (2, 4)),  # 1077 + 1000 + 80 + (8 + 3 + 4): 2 + 1 + 1 blocks
            step(3275, (0, 1), (1, 1), (2, 6)),  # 2172 + 1000 + 80 + (9 + 4 + 10): 3 + 1 + 3 blocks, none is free
            # Request 0 is planned with a token when token 5 of request 1 needs a block. Request 0 has the worst priority
            # and gives its 3 blocks and its token: 8 - 1 = 7 are left for request 2, whose 17 tokens need 5 blocks.
            step(4377, (1, 1), (2, 7), preempted=(0,)),  # 3275 + 1000 + 80 + (5 + 17): 2 + 5 blocks
            step(5443, (1, 1), (2, 3)),  # 4377 + 1000 + 40 + (6 + 20): request 0 finds no block; request 1 ends
            # 2 blocks are free: one for token 21, and request 0 would need 2 for the 7 tokens that the budget leaves it.
            step(6474, (2, 1)),  # 5443 + 1000 + 10 + 21
            step(7562, (0, 8)),  # 6474 + 1000 + 80 + 8: again, with its 3 tokens of answer
            step(8592, (0, 2)),  # 7562 + 1000 + 20 + 10
            step(9613, (0, 1)),  # 8592 + 1000 + 10 + 11
        ],
        first_token_ns=[1077, 2172, 5443],
        finish_ns=[9613, 5443, 6474],
        num_blocks=8,
        max_num_seqs=3,
        max_num_batched_tokens=8,
        policy="priority",
        reserve_full_isl=False,
    ),
    by_hand(
        "the_watermark_holds_nobody_back_where_nobody_runs",
        # 4 usable blocks, and int(0.4 x 5) = 2 to be kept free.
        [asks(0, 12, 1), asks(0, 4, 1), asks(0, 4, 1), asks(0, 4, 1)],
        [
            # 3 blocks of 4, though 3 + 2 > 4: nobody runs. Request 1 then finds 1 + 2 > 1.
            step(1132, (0, 12)),  # 1000 + 120 + 12
            # Nobody runs, so 1 block; then 1 + 2 <= 3; then 1 + 2 > 2.
            step(2220, (1, 4), (2, 4)),  # 1132 + 1000 + 80 + (4 + 4)
            step(3264, (3, 4)),  # 2220 + 1000 + 40 + 4
        ],
        first_token_ns=[1132, 2220, 2220, 3264],
        finish_ns=[1132, 2220, 2220, 3264],
        num_blocks=5,
        watermark=0.4,
    ),
    by_hand(
        "the_long_prefill_threshold_spares_a_lone_request",
        [asks(0, 10, 3), asks(50, 16, 1), asks(50, 2, 2)],
        [
            step(1110, (0, 10)),  # 1000 + 100 + 10: alone, so all 10 at once
            step(2197, (0, 1), (1, 4), (2, 2)),  # 1110 + 1000 + 70 + (11 + 4 + 2)
            # In order of admission: the chunk of request 1 stands before the decode of request 2.
            step(3280, (0, 1), (1, 4), (2, 1)),  # 2197 + 1000 + 60 + (12 + 8 + 3): 0 and 2 end
            step(4376, (1, 8)),  # 3280 + 1000 + 80 + 16: alone again
        ],
        first_token_ns=[1110, 4376, 2197],
        finish_ns=[3280, 4376, 3280],
        long_prefill_token_threshold=4,
    ),
    by_hand(
        "without_chunking_a_prompt_waits_for_a_budget_that_holds_it",
        [asks(0, 10, 2), asks(0, 8, 1), asks(0, 2, 1)],
        [
            step(1110, (0, 10)),  # 1000 + 100 + 10: 6 are left, too few for 8; request 2 stays behind request 1
            step(2241, (0, 1), (1, 8), (2, 2)),  # 1110 + 1000 + 110 + (11 + 8 + 2)
        ],
        first_token_ns=[1110, 2241, 2241],
        finish_ns=[2241, 2241, 2241],
        max_model_len=16,
        chunked_prefill=False,
    ),
    by_hand(
        "a_chunk_stops_before_an_image_without_room",
        [
            asks(0, [("a0", 3), ("imgA", 6), ("b0", 2)], 1),
            asks(0, [("a1", 2), ("imgB", 5), ("b1", 1)], 1),
            asks(1800, [("imgA", 6), ("b2", 1)], 1),
        ],
        [
            # The first image takes the whole budget of the encoder, so request 1 stops before its own, after 2 tokens.
            step(1743, (0, 11), (1, 2), encoded=((0, 0),)),  # 1000 + 130 + (11 + 2) + 600
            step(3311, (1, 6), encoded=((1, 0),)),  # 1743 + 1000 + 60 + 8 + 500
            step(4388, (2, 7)),  # 3311 + 1000 + 70 + 7: image A is still in the encoder cache
        ],
        first_token_ns=[1743, 3311, 4388],
        finish_ns=[1743, 3311, 4388],
        encoder_budget=6,
        encoder_cache=12,
    ),
    by_hand(
        "a_request_whose_image_has_no_room_lets_others_pass",
        [asks(0, [("imgA", 6), ("b0", 2)], 1), asks(0, [("imgB", 5), ("b1", 1)], 1), asks(0, 3, 2)],
        [
            step(1721, (0, 8), (2, 3), encoded=((0, 0),)),  # 1000 + 110 + (8 + 3) + 600: request 1 is set aside
            step(3301, (2, 1), (1, 6), encoded=((1, 0),)),  # 1721 + 1000 + 70 + (4 + 6) + 500
        ],
        first_token_ns=[1721, 3301, 1721],
        finish_ns=[1721, 3301, 3301],
        encoder_budget=6,
        encoder_cache=12,
    ),
    by_hand(
        "an_image_is_let_go_after_each_of_its_occurrences",
        # Budget and cache of the encoder hold one image. Were A kept until its second occurrence, nothing could go on.
        [asks(0, [("imgA", 6), ("imgB", 6), ("imgA", 6)], 1)],
        [
            step(1666, (0, 6), encoded=((0, 0),)),  # 1000 + 60 + 6 + 600
            step(3338, (0, 6), encoded=((0, 1),)),  # 1666 + 1000 + 60 + 12 + 600: B takes the place of A
            step(5016, (0, 6), encoded=((0, 2),)),  # 3338 + 1000 + 60 + 18 + 600: A is encoded again
        ],
        first_token_ns=[5016],
        finish_ns=[5016],
        encoder_budget=6,
        encoder_cache=6,
    ),
]
