"""One process of an all-reduce, started by torchrun: `... ANSWER REPEATS ELEMENTS...`. The first one writes ANSWER.

Every process times every message in the same order, as an all-reduce waits for all. A latency is that of the slowest.
"""

import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hwprofiles.measure.torch_bench import CALLS, replayed_ms


def main(arguments: Sequence[str]) -> None:
    """Time an all-reduce in place for each number of 16-bit elements and write the list of ms."""
    answer, repeats, *elements = arguments
    torch = importlib.import_module("torch")
    distributed = importlib.import_module("torch.distributed")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl")
    try:
        slowest = []
        for size in map(int, elements):
            message = torch.zeros(size, dtype=torch.bfloat16, device="cuda")
            calls = [lambda message=message: distributed.all_reduce(message)] * CALLS
            # Messages come from the kernel before, so nothing is flushed; the barrier lines the processes up.
            ms = replayed_ms(torch, calls, int(repeats), distributed.barrier)
            worst = torch.tensor([ms], dtype=torch.float64, device="cuda")
            distributed.all_reduce(worst, op=distributed.ReduceOp.MAX)
            slowest.append(worst.item())
        if distributed.get_rank() == 0:
            Path(answer).write_text(json.dumps(slowest))
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1:])
