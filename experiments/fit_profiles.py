"""`servecast profiles fit`: kernel tables made into step tables and rooflines, in a folder that scenarios can name."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.console import Console
from experiments.errors import UserError, nearest
from experiments.words import count
from hwprofiles.costmodel import StepCost
from hwprofiles.datasheet import PRECISIONS, Gpu, Model, ProfileError, known_gpus, known_models, load_gpu, load_model
from hwprofiles.fitting.composed_steps import gpu_steps
from hwprofiles.fitting.composition import Composition
from hwprofiles.fitting.coverage import DEGREES, tables_of, why_not
from hwprofiles.fitting.fit import fit_step_cost, source_of
from hwprofiles.fitting.fit_roofline import fit_roofline
from hwprofiles.fitting.kernel_tables import KernelTables
from hwprofiles.fitting.tables_out import check_free, cost_file, roofline_file, write_profiles
from hwprofiles.roofline import Roofline

MOST_DEGREE = 64


@dataclass(frozen=True)
class Asked:
    """What was named on the command line; an empty list stands for all that the kernel tables cover."""

    models: list[Model] = field(default_factory=list)
    precisions: list[str] = field(default_factory=list)
    tps: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class GpuPlan:
    """What is made of the kernel tables of one GPU."""

    gpu: Gpu
    compositions: list[Composition]
    has_roofline: bool
    """A roofline needs steps of models of two widths or heads, as its error is that of models left out of the fit."""

    @property
    def files(self) -> Iterator[str]:
        """Names of what is written."""
        for one in self.compositions:
            yield cost_file(self.gpu.id, one.model.id, one.tables.precision, one.tp)
        if self.has_roofline:
            yield roofline_file(self.gpu.id)


def fit_profiles(
    folder: Path,
    gpus: Sequence[str] = (),
    models: Sequence[str] = (),
    precisions: Sequence[str] = (),
    tps: Sequence[str] = (),
    out: Path = Path("profiles"),
    force: bool = False,
    quiet: bool = False,
) -> list[Path]:
    """Fit every combination that was asked for and write all files, or none; returns them.

    A name that leads to nothing is a mistake: ProfileError or UserError, before anything is fitted where it can be known.
    """
    console = Console(quiet)
    named, asked = _read_flags(folder, gpus, models, precisions, tps)
    plans = [_plan(folder, gpu, asked) for gpu in named]
    _refuse_unused(plans, asked)
    check_free(out, [name for plan in plans for name in plan.files], force)
    costs = [cost for plan in plans for cost in _fit_tables(folder, plan, console)]
    rooflines = [_fit_roofline(folder, plan, asked, console) for plan in plans if plan.has_roofline]
    written = write_profiles(out, costs, rooflines, force)
    _tell(console, costs, rooflines)
    for plan in plans:
        if not plan.has_roofline:
            console.note(f"no roofline of {plan.gpu.id}: its kernel tables cover models of one width and heads alone")
        elif not any(one.tables.allreduce for one in plan.compositions):
            console.note(f"roofline of {plan.gpu.id}: no all-reduce was measured, so what it says of tp above 1 is a guess")
    console.say(f"\n{count(len(costs), 'step table')} and {count(len(rooflines), 'roofline')}: {out}")
    return written


def _read_flags(
    folder: Path, gpus: Iterable[str], models: Iterable[str], precisions: Iterable[str], tps: Iterable[str]
) -> tuple[list[Gpu], Asked]:
    """The flags as values, every mistake at once."""
    mistakes: list[str] = []

    def read(words: Iterable[str], value: Callable[[str], Any]) -> list[Any]:
        found = []
        for word in dict.fromkeys(part.strip() for text in words for part in text.split(",")):
            try:
                found.append(value(word))
            except ValueError as error:
                mistakes.extend(str(error).splitlines())
        return list({getattr(one, "id", one): one for one in found}.values())

    asked = Asked(read(models, load_model), read(precisions, _precision), read(tps, _degree))
    named = read(gpus, load_gpu)
    if not folder.is_dir():
        mistakes.append(f"{folder}: no such folder; expected one that holds a folder of kernel tables per GPU")
    elif not mistakes:
        named = named or [gpu for gpu in map(load_gpu, known_gpus()) if (folder / gpu.calibration).is_dir()]
        mistakes += _without_tables(folder, named)
    if mistakes:
        raise UserError(mistakes)
    return named, asked


def _without_tables(folder: Path, named: Sequence[Gpu]) -> Iterator[str]:
    there = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if not named:
        wanted = ", ".join(load_gpu(name).calibration for name in known_gpus())
        yield f"{folder}: no folder of kernel tables; expected one or more of {wanted}, or --gpu FILE.toml of your own"
    for gpu in named:
        if not (folder / gpu.calibration).is_dir():
            yield (
                f"{folder / gpu.calibration}: no such folder; expected the kernel tables of {gpu.id}, as its calibration "
                f"says{nearest(gpu.calibration, there)} (there: {', '.join(there[:20]) or 'nothing'})"
            )


def _precision(word: str) -> str:
    if word not in PRECISIONS:
        raise UserError(f"--precision {word}: expected {' or '.join(PRECISIONS)}{nearest(word, PRECISIONS)}")
    return word


def _degree(word: str) -> int:
    if not (word.isascii() and word.isdigit() and 1 <= len(word) <= 3 and 1 <= int(word) <= MOST_DEGREE):
        raise UserError(f"--tp {word[:20]!r}: expected a whole number from 1 to {MOST_DEGREE}, or several parted by commas")
    return int(word)


def _plan(folder: Path, gpu: Gpu, asked: Asked) -> GpuPlan:
    """All that the kernel tables of a GPU cover of what was asked; ProfileError with the reasons where that is nothing."""
    tables = tables_of(folder, gpu)
    models = asked.models or [load_model(name) for name in known_models()]
    found, reasons = [], []
    for precision in asked.precisions or tables:
        if precision not in tables:
            reasons.append(f"no matrix product in {precision} was measured, or the data sheet has no peak for it")
            continue
        for model in models:
            for tp in asked.tps or DEGREES:
                why = why_not(tables[precision], gpu, model, tp)
                if why is None:
                    found.append(Composition(tables[precision], gpu, model, tp))
                else:
                    reasons.append(f"{model.id} {precision} tp {tp}: {why}")
    if not found:
        told = "".join(f"\n  {reason}" for reason in dict.fromkeys(reasons[:8]))
        raise ProfileError(f"{folder / gpu.calibration}: the kernel tables of {gpu.id} cover nothing of what was asked{told}")
    return GpuPlan(gpu, found, _is_varied(tables, gpu, [*map(load_model, known_models()), *asked.models]))


def _is_varied(tables: dict[str, KernelTables], gpu: Gpu, models: Sequence[Model]) -> bool:
    """Whether models of two families are covered at every precision; families as in `composed_steps.Steps.family`."""
    families = [
        {(of.hidden, of.heads, of.kv_heads, of.head_size) for of in models if _is_covered(its, gpu, of)}
        for its in tables.values()
    ]
    return min(map(len, families)) > 1


def _is_covered(tables: KernelTables, gpu: Gpu, model: Model) -> bool:
    return any(why_not(tables, gpu, model, tp) is None for tp in DEGREES)


def _refuse_unused(plans: Sequence[GpuPlan], asked: Asked) -> None:
    """UserError for a name that no table comes of: it would do nothing."""
    made = [one for plan in plans for one in plan.compositions]
    used: tuple[tuple[str, list[Any], set[Any]], ...] = (
        ("--model", [model.id for model in asked.models], {one.model.id for one in made}),
        ("--precision", asked.precisions, {one.tables.precision for one in made}),
        ("--tp", asked.tps, {one.tp for one in made}),
    )
    idle = [(flag, value) for flag, values, its in used for value in values if value not in its]
    if idle:
        raise UserError(
            f"{flag} {value}: would do nothing; no combination with it fits the GPUs and is covered by their kernel tables"
            for flag, value in idle
        )


def _fit_tables(folder: Path, plan: GpuPlan, console: Console) -> Iterator[StepCost]:
    for done, one in enumerate(plan.compositions):
        console.progress(f"{plan.gpu.id} {one.model.id} {one.tables.precision} tp {one.tp}: {done} of {len(plan.compositions)}")
        yield fit_step_cost(one, source_of(folder, plan.gpu, one.tables))


def _fit_roofline(folder: Path, plan: GpuPlan, asked: Asked, console: Console) -> Roofline:
    console.progress(f"roofline of {plan.gpu.id}")
    return fit_roofline(plan.gpu, *gpu_steps(folder, plan.gpu, asked.models))


def _tell(console: Console, costs: Sequence[StepCost], rooflines: Sequence[Roofline]) -> None:
    """A line a table, then a line for each kind of error of a roofline."""
    head = ["gpu", "model", "precision", "tp", "grade", "steps", "error", "worst 5 %", "with half of the knots"]
    rows = []
    for of in costs:
        errors = (of.error.mape_frac, of.error.worst_5pct_frac, of.error.held_out_mape_frac)
        rows.append([of.gpu, of.model, of.precision, of.tp, of.grade, of.error.steps, *(f"{error:.2%}" for error in errors)])
    console.table(head, rows)
    if rooflines:
        console.say()
    head = ["roofline", "precision", "KV cache", "steps", "error", "left out", "worst 5 % left out"]
    rows = [
        [
            of.gpu,
            e.precision,
            e.kv,
            e.steps,
            f"{e.mape_frac:.2%}",
            f"{e.left_out_mape_frac:.2%}",
            f"{e.left_out_worst_5pct_frac:.2%}",
        ]
        for of in rooflines
        for e in of.errors
    ]
    if rows:
        console.table(head, rows)
