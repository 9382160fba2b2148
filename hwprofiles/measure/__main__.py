"""The command line: `python -m hwprofiles.measure --out DIR --gpu NAME`; 0 when done, 2 for a user's mistake."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hwprofiles.datasheet import Gpu, Model, ProfileError, known_gpus, load_gpu, load_model
from hwprofiles.measure.bench import Bench
from hwprofiles.measure.describe import draft
from hwprofiles.measure.folder import check_target, write_folder
from hwprofiles.measure.kernels import ELEMENT_BYTES
from hwprofiles.measure.plan import FULL, QUICK, plan_of
from hwprofiles.measure.tables import SOURCE, measure_tables
from hwprofiles.measure.torch_bench import CALLS, TorchBench
from hwprofiles.records import did_you_mean

REPEATS = 30
QUICK_REPEATS = 7
MOST_WORDS = 16
MOST_GPUS = 64
"""GPUs of one node: more than any has."""

T = TypeVar("T")

OpenBench = Callable[[int, int], Bench]
"""(repeats, GPUs wanted) -> a bench"""


def main(arguments: Sequence[str] | None = None, open_bench: OpenBench = TorchBench) -> int:
    """Measure, or describe; what comes next is said on stderr, the draft of a data sheet on stdout."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.describe:
            print(draft(_name(options.gpu), open_bench(1, 1).device), end="")
        elif options.out is None:
            raise ProfileError("--out is missing; expected the folder that gets one folder of tables per GPU")
        else:
            _measure(options, open_bench)
    except (ProfileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _measure(options: argparse.Namespace, open_bench: OpenBench) -> None:
    models, degrees, precisions, name = _wanted(options)
    gpu = load_gpu(name) if name in known_gpus() else None
    folder = options.out / (gpu.calibration if gpu else name)
    check_target(folder, options.force)
    bench = open_bench(QUICK_REPEATS if options.quick else REPEATS, max(degrees))
    grid = QUICK if options.quick else FULL
    plan = plan_of(models, degrees, precisions, bench.device.free_bytes, grid, options.grid)
    _say(f"{bench.device.name}, PyTorch {bench.device.version}: {_checked_against(gpu, name)}")
    tables = measure_tables(bench, plan, gpu, _say)
    about = {
        "schema_version": 1,
        "framework": SOURCE,
        "version": bench.device.version,
        "cuda": bench.device.cuda,
        "device": bench.device.name,
        "models": [model.id for model in models],
        "tp": degrees,
        "precisions": precisions,
        "repeats": bench.repeats,
        "calls_per_graph": CALLS,
    }
    write_folder(folder, tables, bench.device.version, about)
    _say(f"{sum(len(table.rows) for table in tables)} kernels in {folder}")


def _wanted(options: argparse.Namespace) -> tuple[list[Model], list[int], list[str], str]:
    """Models, tensor-parallel degrees, precisions and the GPU's name; ProfileError with every mistake of them."""
    wrong: list[str] = []

    def tried(make: Callable[[str], T], words: list[str]) -> list[T]:
        made = {}
        for word in words[:MOST_WORDS]:
            try:
                made[word] = make(word)
            except ProfileError as error:
                wrong.append(str(error))
        if len(words) > MOST_WORDS:
            wrong.append(f"{words[0]:.40}, ...: {len(words)} at once; expected at most {MOST_WORDS}")
        return list(made.values())

    models = tried(load_model, _words(options.models))
    degrees = sorted(tried(_degree, _words(options.tp)))
    precisions = tried(_precision, _words(options.precision))
    names = tried(_name, [options.gpu])
    if wrong:
        raise ProfileError("\n".join(wrong))
    return models, degrees, precisions, names[0]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _degree(word: str) -> int:
    if not re.fullmatch(r"[1-9]\d?", word) or int(word) > MOST_GPUS:
        raise ProfileError(f"--tp {word!r:.40}: expected GPUs of one node, from 1 to {MOST_GPUS}")
    return int(word)


def _precision(word: str) -> str:
    if word not in ELEMENT_BYTES:
        hint = did_you_mean(word, ELEMENT_BYTES) or ";"
        raise ProfileError(f"--precision {word!r:.40}{hint} known: {', '.join(ELEMENT_BYTES)}")
    return word


def _name(word: str) -> str:
    """A name that is safe as that of a folder and of a profile."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", word):
        raise ProfileError(f"--gpu {word!r:.80}: expected a name of letters, digits, - and _, such as h100 or l40s")
    return word


def _checked_against(gpu: Gpu | None, name: str) -> str:
    if gpu is None:
        hint = did_you_mean(name, known_gpus())
        return f"no data sheet {name}{hint}, so times are not held against its peaks; --describe drafts one"
    return f"times are held against the data sheet {gpu.id}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hwprofiles.measure", description="Time the kernels of the GPU at hand, for the fit of step costs."
    )
    add = parser.add_argument
    add("--gpu", required=True, metavar="NAME", help="its profile's name, known or to be")
    add("--out", type=Path, metavar="DIR", help="folder that gets one folder of kernel tables per GPU")
    add("--models", default="llama-3.1-8b", metavar="A,B", help="models whose kernels to time (default: llama-3.1-8b)")
    add("--tp", default="1", metavar="1,2", help="tensor-parallel degrees, each within the GPUs there are (default: 1)")
    add("--precision", default="bf16", metavar="bf16,fp8", help="precisions of the matrices (default: bf16)")
    add("--quick", action="store_true", help="fewer sizes and repeats: minutes, and coarser tables")
    add("--grid", action="store_true", help="also every matrix of the common widths, for models to come")
    add("--force", action="store_true", help="replace measured tables of this GPU")
    add("--describe", action="store_true", help="print a draft of gpus/NAME.toml instead of measuring")
    return parser


if __name__ == "__main__":
    sys.exit(main())
