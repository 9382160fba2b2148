"""`servecast profiles show`: what steps of one combination take, on whose word, and how memory is spent."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.console import Console
from experiments.profile_curves import Accounts, Step
from experiments.profile_drawing import LEGEND, draw
from experiments.words import seconds
from hwprofiles import (
    ProfileError,
    Software,
    known_software,
    kv_blocks,
    list_profiles,
    load_gpu,
    load_model,
    load_software,
    load_step_cost,
    memory_budget,
)
from hwprofiles.costmodel import GRADES
from hwprofiles.datasheet import Gpu, Model
from hwprofiles.memory import KV_CACHE_PRECISION
from hwprofiles.profile_folder import own_roofline
from hwprofiles.roofline import ModelRoofline, known_rooflines, load_roofline
from hwprofiles.software import DEFAULT

STEPS = (
    *(Step(prompt=n) for n in (512, 2048, 8192)),
    *(Step(decodes=b, context=1024) for b in (1, 32, 128, 256)),
    Step(decodes=8, context=16_384),
    Step(decodes=1, context=131_072),
)
"""Of the table; those that the KV blocks do not hold are left out."""


@dataclass(frozen=True)
class Shown:
    """What is asked for; GPU and model may be files, `profiles` is a folder that `servecast profiles fit` wrote."""

    gpu: str
    model: str
    precision: str = "bf16"
    tp: int | None = None
    software: str | None = None
    kv_cache_dtype: str = "auto"
    profiles: Path | None = None


def show(asked: Shown, out: Path | None = None, force: bool = False) -> None:
    """Print all that is known of a combination, and draw it into a picture where `out` is given.

    ProfileError for a combination that cannot be, UserError for a picture that cannot be written, before anything is printed.
    """
    if out is not None:
        from experiments.picture_file import check_picture

        check_picture(out, force)
    accounts = accounts_of(asked)
    console = Console()
    _tell_standing(console, accounts)
    console.table(["step", "of", "takes", "kernels", "bound", "share", ""], list(_step_rows(accounts)))
    console.say("takes: with host time; bound: kernels at the data sheet's peaks; share: bound / kernels")
    _tell_memory(console, accounts)
    _tell_software(console, accounts)
    for panel in accounts.panels():
        console.say()
        console.say("\n".join(draw(panel)))
    console.say(LEGEND if accounts.roofline is not None else f"{LEGEND} (no roofline of {accounts.gpu.id})")
    if out is not None:
        from experiments.profile_picture import write_picture

        write_picture(accounts, out)
        console.say(f"\npicture: {out}")


def accounts_of(asked: Shown) -> Accounts:
    """All that says what the steps of a combination take; ProfileError where it cannot be."""
    gpu, model = load_gpu(asked.gpu), load_model(asked.model)
    software = load_software(asked.software or DEFAULT)
    tp = asked.tp if asked.tp is not None else _least_tp(gpu, model, asked)
    kv_blocks(gpu, model, asked.precision, tp, kv_cache_dtype=asked.kv_cache_dtype)  # refuses what has no room
    cost = load_step_cost(gpu, model, asked.precision, tp, asked.profiles)
    cost.attention_of(asked.kv_cache_dtype)
    memory = memory_budget(gpu, model, asked.precision, tp, kv_cache_dtype=asked.kv_cache_dtype)
    return Accounts(cost, gpu, model, software, asked.kv_cache_dtype, memory, _roofline(gpu, model, tp, asked))


def _least_tp(gpu: Gpu, model: Model, asked: Shown) -> int:
    """The smallest degree with a shipped table, else the smallest that has room; 1 where none has."""
    if asked.profiles is None:
        of = (gpu.id, model.id, asked.precision)
        tables = [row.tp for row in list_profiles() if (row.gpu, row.model, row.precision) == of]
        if tables:
            return min(tables)
    limits = {"kv_cache_dtype": asked.kv_cache_dtype}
    for tp in model.valid_tp(gpu.gpus_per_node):
        try:
            kv_blocks(gpu, model, asked.precision, tp, **limits)  # type: ignore[arg-type]
            load_step_cost(gpu, model, asked.precision, tp, asked.profiles)
        except ProfileError:
            continue
        return tp
    return 1


def _roofline(gpu: Gpu, model: Model, tp: int, asked: Shown) -> ModelRoofline | None:
    """The fitted roofline to compare with, from the same folder; None where it says nothing about these precisions."""
    if asked.profiles is not None:
        roofline = own_roofline(asked.profiles, gpu)
    else:
        roofline = load_roofline(gpu) if gpu.id in known_rooflines() else None
    try:
        kv = KV_CACHE_PRECISION[asked.kv_cache_dtype]
        return None if roofline is None else roofline.of(model, tp, asked.precision, kv, gpu)
    except ProfileError:
        return None


def _tell_standing(console: Console, of: Accounts) -> None:
    """Grade, errors, source and range."""
    cost, error, fitted = of.cost, of.cost.error, of.cost.fitted
    console.say(f"{of.model.name} on {cost.tp} x {of.gpu.name}, {cost.precision}, KV cache {of.kv}")
    console.say(f"grade: {cost.grade}, {GRADES[cost.grade]}")
    console.say(f"source: {cost.source}")
    console.say(
        f"error: {error.mape_frac:.2%} of the kernels' time in the mean over {error.steps:,} steps, "
        f"worst 5 % {error.worst_5pct_frac:.2%}, worst {error.max_frac:.2%}"
        + (f", with half of the knots {error.held_out_mape_frac:.2%}" if error.held_out_mape_frac else "")
    )
    console.say(
        f"fitted: steps of up to {fitted.tokens:,} tokens, prompts of {fitted.prompt_tokens:,}, {fitted.decodes:,} decodes, "
        f"contexts of {fitted.context_tokens:,}; beyond, times are extrapolated"
    )
    console.say()


def _step_rows(of: Accounts) -> Iterator[list[str]]:
    for step in STEPS:
        if not of.has_room(step) or step.prompt > of.gpu.max_num_batched_tokens:
            continue
        kind = "prefill" if step.prompt else "decode"
        what = f"one prompt of {step.prompt:,}" if step.prompt else f"{step.decodes} at context {step.context:,}"
        times = [of.step_ms(step), of.kernels_ms(step), of.bound_ms(step)]
        share = f"{times[2] / times[1]:.0%}"
        yield [kind, what, *(seconds(ms / 1e3) for ms in times), share, "" if of.is_fitted(step) else "extrapolated"]


def _tell_memory(console: Console, of: Accounts) -> None:
    memory = of.memory
    console.say()
    console.table(["memory of a GPU", "GiB", "from"], [[what, f"{gib:.1f}", source] for what, gib, source in memory.rows()])
    console.say(
        f"{memory.blocks:,} KV blocks of {memory.block_size} tokens: {memory.kv_tokens:,} tokens of context in an instance"
    )


def _tell_software(console: Console, of: Accounts) -> None:
    """Host time of every era for this model; the one that is added is marked."""
    rows = [software_row(load_software(name), of.model.layers, of.cost.tp) for name in known_software()]
    console.say()
    console.table(["software", "host of a step", "of a sample", "API of a request"], rows)
    console.say(f"times here are those of {of.software.id}")


def software_row(era: Software, layers: int, tp: int) -> list[str]:
    """An era and its times, for a model of so many layers."""
    return [era.id, *(f"{ms:g} ms" for ms in (round(era.host_ms(layers, tp), 4), era.sample_ms, era.api_ms))]
