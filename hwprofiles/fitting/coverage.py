"""What the kernel tables of a GPU cover: models, precisions and degrees whose steps can be composed (development time only)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from hwprofiles.datasheet import Gpu, Model, ProfileError
from hwprofiles.fitting.composition import Composition
from hwprofiles.fitting.kernel_tables import KernelTables
from hwprofiles.memory import kv_blocks

DEGREES = (1, 2, 4, 8)
"""Tensor parallelism of what is made where nobody says otherwise."""


def tables_of(folder: Path, gpu: Gpu) -> dict[str, KernelTables]:
    """Kernel tables by precision of the matrices, of those the GPU computes in and that were measured.

    ProfileError where there are none of 16 bits: the output head has them whatever the precision.
    """
    place = folder / gpu.calibration
    found = {"bf16": KernelTables.read(place, "bf16")}
    for precision in gpu.peak_tflops:
        try:
            found.setdefault(precision, KernelTables.read(place, precision))
        except ProfileError:  # the files are sound, as they were just read: this precision was not measured
            continue
    if (prompts := set(found["bf16"].prompts)) != (decodes := set(found["bf16"].decodes)):
        raise ProfileError(
            f"{place}: attention of prompts has a KV cache in {_list(prompts)}, that of decodes in {_list(decodes)}"
        )
    return {precision: found[precision] for precision in gpu.peak_tflops if precision in found}


def covered(
    tables: Mapping[str, KernelTables], gpu: Gpu, models: Sequence[Model], tps: Sequence[int] = DEGREES
) -> Iterator[Composition]:
    """Every combination that has room on the GPU and whose kernels were measured, by precision, model and degree."""
    for its in tables.values():
        for model in models:
            for tp in tps:
                if why_not(its, gpu, model, tp) is None:
                    yield Composition(its, gpu, model, tp)


def why_not(tables: KernelTables, gpu: Gpu, model: Model, tp: int) -> str | None:
    """Why no step of a model can be composed: a split or a size that cannot be, or kernels that were not measured."""
    try:
        kv_blocks(gpu, model, tables.precision, tp)
        composition = Composition(tables, gpu, model, tp)
        for kv in tables.decodes:
            composition.is_decode_measured(1, 1, kv)
            composition.is_prompt_measured(1, 1, kv)
    except ProfileError as error:
        return str(error)
    return _unmeasured_product(tables, composition)


def _unmeasured_product(tables: KernelTables, composition: Composition) -> str | None:
    """A matrix product narrower or wider than any that was measured; the output head alone may be wider."""
    ns, ks = ({shape[side] for shape in tables.gemm} for side in (0, 1))
    for n, k in composition.matrices:
        if not (min(ns) <= n <= max(ns) and min(ks) <= k <= max(ks)):
            return (
                f"a matrix product of {composition.model.id} has n {n} and k {k}; "
                f"measured are n from {min(ns)} to {max(ns)} and k from {min(ks)} to {max(ks)}"
            )
    if not min(k for _, k in tables.wide_gemm) <= composition.model.hidden <= max(k for _, k in tables.wide_gemm):
        return f"no matrix product of 16 bits was measured with k {composition.model.hidden}, that of the output head"
    return None


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
