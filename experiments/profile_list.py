"""`servecast profiles list`: GPUs, eras of software, and how good the step costs of every combination are."""

from collections.abc import Iterator, Mapping

from experiments.console import Console
from hwprofiles import (
    ProfileError,
    known_gpus,
    known_models,
    known_software,
    kv_blocks,
    list_profiles,
    load_gpu,
    load_model,
    load_software,
)
from hwprofiles.datasheet import Gpu, Model
from hwprofiles.profiles import ProfileRow
from hwprofiles.roofline import Roofline, known_rooflines, load_roofline

DEGREES = (1, 2, 4, 8)

NOTHING = "–"


def list_all() -> None:
    """Three tables: GPUs, eras, and a row for each GPU, model and precision that has any step cost."""
    console = Console()
    gpus = [load_gpu(name) for name in known_gpus()]
    head = ["gpu", "memory", "bandwidth", "peak bf16", "peak fp8", "link", "GPUs in a node"]
    console.table(head, [_gpu_row(gpu) for gpu in gpus])
    console.say()
    eras = [load_software(name) for name in known_software()]
    told = [
        [era.id, f"{era.host_ms(0, 1):g} ms", f"{era.layer_ms:g} ms", f"{era.sample_ms:g} ms", f"{era.api_ms:g} ms"]
        for era in eras
    ]
    console.table(["software", "host of a step", "of a layer", "of a sample", "API of a request"], told)
    console.say()
    tables = {(row.gpu, row.model, row.precision, row.tp): row for row in list_profiles()}
    rows = [row for gpu in gpus for row in _grade_rows(gpu, tables)]
    console.table(["gpu", "model", "precision", *(f"tp {tp}" for tp in DEGREES)], rows)
    console.say(
        "measured, transferred: mean error of a table over steps composed of its kernels; roofline: the same over models\n"
        f"left out of its fit; {NOTHING}: does not fit or cannot be split so"
    )


def _gpu_row(gpu: Gpu) -> list[str]:
    peaks = [f"{gpu.peak_tflops[name]:,g} TFLOP/s" if name in gpu.peak_tflops else NOTHING for name in ("bf16", "fp8")]
    link = f"{gpu.link_gb_per_s:,g} GB/s"
    return [gpu.id, f"{gpu.memory_gib:g} GiB", f"{gpu.bandwidth_gb_per_s:,g} GB/s", *peaks, link, f"{gpu.gpus_per_node}"]


def _grade_rows(gpu: Gpu, tables: Mapping[tuple[str, str, str, int], ProfileRow]) -> Iterator[list[str]]:
    """One row for each model and precision: what prices it at each degree."""
    roofline = load_roofline(gpu) if gpu.id in known_rooflines() else None
    for name in known_models():
        model = load_model(name)
        for precision in gpu.peak_tflops:
            grades = [_grade(tables.get((gpu.id, name, precision, tp)), roofline, gpu, model, precision, tp) for tp in DEGREES]
            if set(grades) != {NOTHING}:
                yield [gpu.id, name, precision, *grades]


def _grade(table: ProfileRow | None, roofline: Roofline | None, gpu: Gpu, model: Model, precision: str, tp: int) -> str:
    """What `load_step_cost` would take, and its error; nothing where the model has no room."""
    if table is not None:
        return f"{table.grade} {table.error_mape_frac:.1%}"
    if roofline is None or precision not in {gemm.precision for gemm in roofline.gemms} or not _fits(gpu, model, precision, tp):
        return NOTHING
    return f"roofline {roofline.error(precision, 'bf16').left_out_mape_frac:.1%}"


def _fits(gpu: Gpu, model: Model, precision: str, tp: int) -> bool:
    try:
        return kv_blocks(gpu, model, precision, tp) > 0
    except ProfileError:
        return False
