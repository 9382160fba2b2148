"""The command line. Nothing heavy is imported before a verb needs it, so that --help answers at once."""

import sys
from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from experiments.job import Flags

app = typer.Typer(
    help="How many GPUs, of which kind, hold this SLO for these clients? A simulator of LLM serving clusters.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
workload_app = typer.Typer(help="Client pools and the traffic they send.", no_args_is_help=True)
profiles_app = typer.Typer(help="GPUs, models, and what a step costs on them.", no_args_is_help=True)
app.add_typer(workload_app, name="workload")
app.add_typer(profiles_app, name="profiles")

Scenario = Annotated[Path, typer.Argument(help="A scenario file (TOML); docs/scenario.md lists every key.")]

_FLAGS: dict[str, Any] = {
    "overrides": Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the scenario, such as cluster.tp=8."),
    ],
    "seed": Annotated[int | None, typer.Option(help="The seed, in place of the scenario's.")],
    "engine": Annotated[str, typer.Option(help="auto, reference or fast; results are the same.")],
    "goodput": Annotated[str | None, typer.Option(metavar="SLO", help='The SLO, such as "ttft.p99:2s tpot.p99:50ms".')],
    "attainment": Annotated[
        float | None, typer.Option(help="Share of requests that must meet the SLO's terms on each request.")
    ],
    "result_dir": Annotated[Path | None, typer.Option(help="Where results go; runs/<name>-<hash> if not said.")],
    "workers": Annotated[int | None, typer.Option(help="Processes that simulate; all cores if not said.")],
    "force": Annotated[bool, typer.Option("--force", help="Replace the results of an earlier run.")],
    "assert_slo": Annotated[bool, typer.Option("--assert-slo", help="Exit with code 3 where the SLO is missed.")],
    "dry_run": Annotated[bool, typer.Option("--dry-run", help="Print the resolved scenario and stop.")],
    "quiet": Annotated[bool, typer.Option("--quiet", help="No progress, no notes.")],
    "by_client": Annotated[bool, typer.Option("--by-client", help="Write a table with a row for each client.")],
    "by_window": Annotated[
        str | None, typer.Option(metavar="TIME", help="Write a table with a row for each window of arrivals, such as 60s.")
    ],
    "no_rows": Annotated[bool, typer.Option("--no-rows", help="Keep no tables of requests and steps: memory stays flat.")],
    "no_report": Annotated[bool, typer.Option("--no-report", help="Write no report.html; servecast report makes one later.")],
}
_DEFAULTS: dict[str, Any] = {
    "overrides": [],
    "engine": "auto",
    "force": False,
    "assert_slo": False,
    "dry_run": False,
    "quiet": False,
    "by_client": False,
    "no_rows": False,
    "no_report": False,
}


_ONLY = {
    **dict.fromkeys(("assert_slo", "by_client", "by_window", "no_rows"), ("simulate",)),
    "workers": ("demo", "plan", "compare"),
}
"""Flags that would do nothing for the other verbs."""


def with_flags(verb: Callable[..., int]) -> Callable[..., None]:
    """Give a verb the common flags: it gets them as one `Flags`, after its own arguments, and returns its exit code."""
    taken = [name for name in _FLAGS if verb.__name__ in _ONLY.get(name, (verb.__name__,))]

    def command(**arguments: Any) -> None:
        from experiments.job import Flags

        flags = Flags(**{name: arguments.pop(name) for name in taken})
        try:
            code = verb(**arguments, flags=flags)
        except KeyboardInterrupt:
            print("\nstopped; nothing was written", file=sys.stderr)
            code = 130
        raise typer.Exit(code)

    own = [p for p in signature(verb).parameters.values() if p.name != "flags"]
    common = [Parameter(n, Parameter.KEYWORD_ONLY, annotation=_FLAGS[n], default=_DEFAULTS.get(n)) for n in taken]
    command.__signature__ = signature(verb).replace(parameters=[*own, *common], return_annotation=None)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*own, *common]}
    command.__doc__, command.__name__ = verb.__doc__, verb.__name__
    return command


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """How many GPUs, of which kind, hold this SLO for these clients? A simulator of LLM serving clusters."""
    if version:
        from importlib.metadata import version as installed

        print(f"servecast {installed('servecast')}")
        raise typer.Exit


@app.command()
@with_flags
def demo(flags: "Flags") -> int:
    """A real question answered end to end in under a minute, with a report."""
    from experiments.demo import answer_demo

    return answer_demo(flags)


@app.command()
@with_flags
def simulate(scenario: Scenario, flags: "Flags") -> int:
    """Play a scenario once."""
    from experiments.answers import answer_simulate
    from experiments.job import Job

    return answer_simulate(Job("simulate", scenario, flags))


@app.command()
@with_flags
def plan(scenario: Scenario, flags: "Flags") -> int:
    """Find the least instances that hold the scenario's SLO."""
    from experiments.answers import answer_plan
    from experiments.job import Job

    return answer_plan(Job("plan", scenario, flags))


@app.command()
@with_flags
def compare(scenario: Scenario, flags: "Flags") -> int:
    """Size with naive and with per-client traffic, hour by hour, and judge both on per-client traffic."""
    from experiments.answers import answer_compare
    from experiments.job import Job

    return answer_compare(Job("compare", scenario, flags))


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A folder that a run left.")]) -> None:
    """Write report.html anew from a run's folder."""
    from experiments.report import write_report

    print(f"report: {write_report(folder)}")


@app.command()
def doctor(
    warm: Annotated[bool, typer.Option("--warm", help="Compile all kernels now, so that no run waits for it.")] = False,
) -> None:
    """What is installed, what is cached, and how fast it is here."""
    from experiments.doctor import examine

    examine(warm)


@workload_app.command("list")
def workload_list() -> None:
    """The shipped client pools."""
    from experiments.catalogue import list_pools

    list_pools()


@workload_app.command("describe")
def workload_describe(pool: Annotated[str, typer.Argument(help="A shipped pool, or a path to ServeGen data.")]) -> None:
    """Clients, rates and lengths of a pool, and where it comes from."""
    from experiments.catalogue import describe_pool

    describe_pool(pool)


@workload_app.command("generate")
def workload_generate(
    pool: Annotated[str, typer.Option(help="A shipped pool, a pool's file, or a path to ServeGen data.")],
    out: Annotated[Path, typer.Option(help="A new file: .csv, .csv.gz, .parquet, or .jsonl of Mooncake's format.")],
    start: Annotated[str | None, typer.Option(help="In the pool's own clock, such as 20h; 0 if not said.")] = None,
    duration: Annotated[str, typer.Option(help="Such as 6h.")] = "1h",
    rate: Annotated[float | None, typer.Option(help="Mean requests/s in all; the pool's own if not said.")] = None,
    scale: Annotated[float | None, typer.Option(help="A factor on every client's rate, in place of --rate.")] = None,
    naive: Annotated[str | None, typer.Option(help="A naive kind, fitted on the same span.")] = None,
    seed: Annotated[int, typer.Option(help="The seed.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A key of [workload], [clients], [conversation]: clients.top=5."),
    ] = None,
    format: Annotated[str | None, typer.Option(help="The file's format, where its name does not tell it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write the stream of a pool to a file."""
    from experiments.generate import generate

    workload = {"start": start, "duration": duration, "rate": rate, "scale": scale, "naive": naive, "seed": seed}
    generate(pool, workload, overrides or [], out, format, force)


@workload_app.command("convert")
def workload_convert(
    source: Annotated[str, typer.Argument(help="A trace in any format that is read; docs/traces.md lists them.")],
    target: Annotated[Path, typer.Argument(help="A new file.")],
    to: Annotated[str | None, typer.Option(help="Its format, where its name does not tell it.")] = None,
    of: Annotated[str | None, typer.Option("--from", help="The source's format, where its content does not tell it.")] = None,
    dejitter: Annotated[bool, typer.Option("--dejitter", help="Spread arrivals over the ticks of a coarse clock.")] = False,
    upsample: Annotated[float | None, typer.Option(help="So many times the rate, such as 2.")] = None,
    method: Annotated[str | None, typer.Option(help="Of --upsample: keep_turns (if not said) or compress.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write a trace in another format, and say what that cannot hold."""
    from experiments.convert import convert

    convert(source, target, to, force, of, dejitter, upsample, method)


@workload_app.command("fit")
def workload_fit(
    trace: Annotated[str, typer.Argument(help="A trace in any format that is read, or a pool, whose own traffic is fitted.")],
    out: Annotated[Path, typer.Option(help="A new .npz, or the folder for NAME.npz.")] = Path("."),
    name: Annotated[str | None, typer.Option(help="Name of the pool; the file's own if not said.")] = None,
    max_clients: Annotated[int, typer.Option(help="Clients told apart; all later ones become one.")] = 10_000,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Learn a client pool from a trace."""
    from experiments.fit import fit_trace

    fit_trace(trace, out, name, max_clients, force)


@workload_app.command("characterize")
def workload_characterize(
    source: Annotated[str, typer.Argument(help="A trace, a shipped pool, a pool's file, or a path to ServeGen data.")],
    against: Annotated[str | None, typer.Option(help="Another source to stand beside it.")] = None,
    out_dir: Annotated[Path | None, typer.Option(help="A new folder for the pictures and characterize.json.")] = None,
    start: Annotated[str | None, typer.Option(help="Of a pool: in its own clock, such as 20h.")] = None,
    duration: Annotated[str | None, typer.Option(help="Of a pool: such as 6h; all of its data if not said.")] = None,
    rate: Annotated[float | None, typer.Option(help="Of a pool: mean requests/s in all.")] = None,
    scale: Annotated[float | None, typer.Option(help="Of a pool: a factor on every client's rate.")] = None,
    seed: Annotated[int, typer.Option(help="Of a pool: the seed.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder.")] = False,
) -> None:
    """Rate, burstiness, lengths, clients, turns and items of a source, in numbers and pictures."""
    from experiments.characterize import characterize_source
    from experiments.sources import Part

    characterize_source(source, against, out_dir, Part(start, duration, rate, scale, seed), force)


@profiles_app.command("list")
def profiles_list() -> None:
    """GPUs, eras of software, and how good step costs are, by GPU, model and precision."""
    from experiments.profile_list import list_all

    list_all()


@profiles_app.command("show")
def profiles_show(
    gpu: Annotated[str, typer.Argument(help="A name, or a data sheet of your own (.toml).")],
    model: Annotated[str, typer.Argument(help="A name, or a file of your own (.toml, config.json).")],
    tp: Annotated[int | None, typer.Option(help="GPUs of an instance; the smallest with a table if not said.")] = None,
    precision: Annotated[str, typer.Option(help="Of the weights, such as bf16 or fp8.")] = "bf16",
    software: Annotated[str | None, typer.Option(help="The era whose host time is added; vllm-2026 if not said.")] = None,
    kv_cache_dtype: Annotated[str, typer.Option(help="auto, bfloat16 or fp8.")] = "auto",
    profiles: Annotated[Path | None, typer.Option(metavar="FOLDER", help="What servecast profiles fit wrote.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="PICTURE", help="Draw step times into this .svg or .png.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the picture.")] = False,
) -> None:
    """Step times, memory, sources and errors of one combination, and curves of its step time."""
    from experiments.profile_show import Shown, show

    show(Shown(gpu, model, precision, tp, software, kv_cache_dtype, profiles), out, force)


@profiles_app.command("fit")
def profiles_fit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that holds a folder of kernel tables per GPU.")],
    gpus: Annotated[
        list[str] | None,
        typer.Option("--gpu", metavar="A,B", help="Names, or data sheets of your own (.toml); all if not said."),
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", metavar="A,B", help="Names, or files of your own; all that ship if not said.")
    ] = None,
    precisions: Annotated[
        list[str] | None, typer.Option("--precision", metavar="A,B", help="Such as bf16,fp8; all if not said.")
    ] = None,
    tps: Annotated[
        list[str] | None, typer.Option("--tp", metavar="1,2", help="GPUs of an instance; 1,2,4,8 if not said.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Gets measured/*.json and rooflines/*.json.")] = Path("profiles"),
    force: Annotated[bool, typer.Option("--force", help="Replace files of the same names.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no notes.")] = False,
) -> None:
    """Make step tables and rooflines of kernel tables."""
    from experiments.fit_profiles import fit_profiles

    fit_profiles(folder, gpus or [], models or [], precisions or [], tps or [], out, force, quiet)


@profiles_app.command("validate")
def profiles_validate(
    path: Annotated[Path, typer.Argument(help="A CSV of measured points, or the folder of a recorded run.")],
    json_out: Annotated[Path | None, typer.Option("--json", help="Write points and groups here.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw predicted over measured into this .svg or .png.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Simulate measured points and tell the error."""
    from experiments.validate import validate

    validate(path, json_out, quiet, picture)


def main() -> None:
    """Entry point: a user's mistake is shown on one screen and exits with 2; --debug anywhere shows its traceback."""
    _check_packages()
    debug = "--debug" in sys.argv
    if debug:
        sys.argv = [sys.argv[0], "--debug", *[word for word in sys.argv[1:] if word != "--debug"]]
    try:
        app()
    except ValueError as error:
        if debug or not isinstance(error, _user_errors()):
            raise
        for line in str(error).splitlines():
            print(f"error: {line}" if not line.startswith(" ") else line, file=sys.stderr)
        sys.exit(2)


def _user_errors() -> tuple[type[ValueError], ...]:
    """The errors that are the user's, one for each package."""
    from experiments.errors import UserError
    from experiments.report import ReportError
    from hwprofiles import ProfileError
    from sim import ClusterError, SloError
    from workloads import WorkloadError

    return UserError, ReportError, ProfileError, ClusterError, SloError, WorkloadError


def _check_packages() -> None:
    """Our packages have common names; another distribution's `sim` in their place must not go unnoticed."""
    import hwprofiles
    import sim
    import workloads

    for package in (sim, workloads, hwprofiles):
        if getattr(package, "__dist__", None) != "servecast":
            print(
                f"error: the package '{package.__name__}' at {package.__file__} is not servecast's; "
                "install servecast in an environment of its own",
                file=sys.stderr,
            )
            sys.exit(2)


if __name__ == "__main__":
    main()
