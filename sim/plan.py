"""A cluster looked up: what both engines need to know of it."""

from dataclasses import dataclass
from typing import Any, Protocol

from sim.engine import FullEngine
from sim.probes import Probe


class StepCost(Protocol):
    """How long an iteration takes. One that needs more of a batch than these sums has `batch_ns(batch)` as well.

    The compiled engine plays costs with `arrays(most_tokens)`, as hwprofiles.steptable.StepTable has it.
    """

    def step_ns(self, prefill_tokens: int, prefill_work: int, decodes: int, decode_context_tokens: int, samples: int) -> int:
        """Its duration; `prefill_work` is the sum of n * (n + 2 * past) over the prefill chunks."""
        ...


@dataclass(frozen=True)
class Plan:
    """A cluster looked up: the engine with every default filled in, the price of a step, KV blocks of an instance.

    api_ns: what the API server adds to each request, once: to its first token and to its end.
    """

    engine: FullEngine
    step_cost: StepCost
    num_blocks: int
    api_ns: int = 0


@dataclass(frozen=True)
class Job:
    """What is to be played on it: how many instances, behind which router (a name or an object), with which seed of its
    coins, and who looks at every iteration. `use_stretches` is the reference's: runs of decodes played from sums."""

    instances: int
    router: Any
    seed: int
    probe: Probe | None = None
    use_stretches: bool = True
