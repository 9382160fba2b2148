"""What hardware and models can do: data sheets, KV memory, and the time of one step.

Reading order: `datasheet` (Gpu, Model), `software` (host time by era), `memory` (how many KV blocks fit), `costmodel`
(what a step costs), `steptable` (the same as a table to look up), `roofline` (where there is no table) and `profiles` (which
of them answers); then, for making them, `fitting` (kernel measurements to tables and rooflines) and `measure` (the
measurements). `records` reads all profile files. Importing this package loads no numerical library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwprofiles.costmodel import StepCost
    from hwprofiles.datasheet import Gpu, Model, ProfileError, known_gpus, known_models, load_gpu, load_model
    from hwprofiles.memory import MemoryBudget, kv_blocks, memory_budget
    from hwprofiles.profiles import list_profiles, load_step_cost
    from hwprofiles.software import Software, known_software, load_software
    from hwprofiles.steptable import StepTable

__dist__ = "servecast"

_HOME = {
    "Gpu": "datasheet",
    "Model": "datasheet",
    "ProfileError": "datasheet",
    "known_gpus": "datasheet",
    "known_models": "datasheet",
    "load_gpu": "datasheet",
    "load_model": "datasheet",
    "MemoryBudget": "memory",
    "kv_blocks": "memory",
    "memory_budget": "memory",
    "Software": "software",
    "known_software": "software",
    "load_software": "software",
    "StepCost": "costmodel",
    "list_profiles": "profiles",
    "load_step_cost": "profiles",
    "StepTable": "steptable",
}

__all__ = [
    "Gpu",
    "MemoryBudget",
    "Model",
    "ProfileError",
    "Software",
    "StepCost",
    "StepTable",
    "known_gpus",
    "known_models",
    "known_software",
    "kv_blocks",
    "list_profiles",
    "load_gpu",
    "load_model",
    "load_software",
    "load_step_cost",
    "memory_budget",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"hwprofiles.{_HOME[name]}"), name)
    raise AttributeError(f"module 'hwprofiles' has no attribute {name!r}")
