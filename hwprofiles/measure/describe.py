"""A draft of a GPU's data sheet, `gpus/NAME.toml`: what its driver says, and gaps for what only the data sheet knows."""

import json

from hwprofiles.measure.bench import Device

GIB = 1 << 30


def draft(name: str, device: Device) -> str:
    """The text of a `gpus/<name>.toml`. Gaps hold 0.0, which a profile may not have, and say FILL IN."""
    reported_gib = device.memory_bytes / GIB
    tokens, requests = _engine_defaults(reported_gib, device.name)
    fp8 = "fp8 = 0.0                         # FILL IN\n" if device.capability >= (8, 9) else ""
    return f"""\
# FILL IN every 0.0 below from the data sheet, dense rates without sparsity; 0.0 is refused.
name = {json.dumps(device.name)}
source = "FILL IN: which data sheet; memory reported by CUDA {device.cuda}"
calibration = {json.dumps(name)}  # folder of this GPU's kernel tables

memory_gib = 0.0                  # FILL IN: memory of the data sheet, at least the next number
reported_memory_gib = {reported_gib:.2f}       # what CUDA reports
bandwidth_gb_per_s = 0.0          # FILL IN: memory bandwidth, 10^9 bytes/s
link_gb_per_s = 0.0               # FILL IN: GPU-to-GPU link in a node, per GPU and direction, 10^9 bytes/s
gpus_per_node = {device.gpus}                 # GPUs of the machine this ran on
tdp_w = 0.0                       # FILL IN

max_num_batched_tokens = {tokens}     # vLLM 0.33, API server, by memory size: check yours
max_num_seqs = {requests}               # the same

[peak_tflops]                     # 10^12 FLOP/s
bf16 = 0.0                        # FILL IN
{fp8}"""


def _engine_defaults(memory_gib: float, name: str) -> tuple[int, int]:
    """vLLM 0.33's (max_num_batched_tokens, max_num_seqs) of an API server, by memory; an A100 counts as small."""
    if memory_gib < 70 or "a100" in name.lower():
        return 2048, 256
    return (16_384 if memory_gib >= 160 else 8192), 1024
