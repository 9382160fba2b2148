"""Plain twins of what the engine does fast or event by event, written from the definitions."""

from collections import deque


def one_instance(requests, engine, cost):
    """Play STREAM rows on one instance of vLLM's rules, in a plain loop over time without events or shortcuts.

    Returns {request_id: (scheduled_ns, first_token_ns, finish_ns, preemptions, worst gap)}; rejected requests are absent.
    """
    usable = engine.num_gpu_blocks_override - 1

    def blocks(tokens):
        return -(-tokens // engine.block_size)

    arrivals, waiting, running, out, now = deque(), deque(), [], {}, 0
    for row in requests:
        longest = min(int(row["max_tokens"]), engine.max_model_len - int(row["input_tokens"]))
        if longest >= 1 and blocks(int(row["input_tokens"]) + longest) <= usable:
            prompt = int(row["input_tokens"])
            end = prompt + min(int(row["output_tokens"]), longest)
            request = {"id": int(row["request_id"]), "at": int(row["arrival_ns"]), "known": prompt, "end": end}
            request |= {"computed": 0, "held": 0}
            arrivals.append(request | {"scheduled": None, "first": None, "last": None, "gap": -1, "preempted": 0})
    while arrivals or waiting or running:
        if not waiting and not running:
            now = max(now, arrivals[0]["at"])
        while arrivals and arrivals[0]["at"] <= now:
            waiting.append(arrivals.popleft())
        plan, budget, preempted, index = [], engine.max_num_batched_tokens, False, 0
        free = usable - sum(r["held"] for r in running)
        while index < len(running) and budget:
            r = running[index]
            n = min(r["known"] - r["computed"], budget)
            while blocks(r["computed"] + n) - r["held"] > free:
                victim = running.pop()
                free += victim["held"]
                victim.update(held=0, computed=0, preempted=victim["preempted"] + 1)
                waiting.appendleft(victim)
                preempted = True
                if victim is r:
                    break
            if index >= len(running):
                break
            free -= blocks(r["computed"] + n) - r["held"]
            r["held"] = blocks(r["computed"] + n)
            plan.append((r, n))
            budget -= n
            index += 1
        while (
            not preempted and waiting and budget and len(running) < engine.max_num_seqs and blocks(waiting[0]["known"]) <= free
        ):
            r = waiting.popleft()
            n = min(r["known"], budget)
            r["held"] = blocks(n)
            free -= r["held"]
            running.append(r)
            plan.append((r, n))
            budget -= n
        now = _compute(plan, now, cost)
        for r, _ in plan:
            if r["known"] == r["end"]:
                running.remove(r)
                out[r["id"]] = (r["scheduled"], r["first"], r["last"], r["preempted"], r["gap"])
    return out


def _compute(plan, start, cost):
    """Price a step, move its requests on, and return its end."""
    decodes = [r for r, n in plan if n == 1 and r["computed"]]
    chunks = [(r["computed"], n) for r, n in plan if not (n == 1 and r["computed"])]
    samples = sum(r["computed"] + n == r["known"] for r, n in plan)
    work = sum(n * (n + 2 * past) for past, n in chunks)
    context = sum(r["computed"] + 1 for r in decodes)
    end = start + cost.step_ns(sum(n for _, n in chunks), work, len(decodes), context, samples)
    for r, n in plan:
        r["computed"] += n
        if r["scheduled"] is None:
            r["scheduled"] = start
        if r["computed"] == r["known"]:
            if r["first"] is None:
                r["first"] = end
            else:
                r["gap"] = max(r["gap"], end - r["last"])
            r["last"] = end
            r["known"] += 1
    return end
