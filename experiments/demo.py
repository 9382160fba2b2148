"""demo: one real question answered end to end, with the scenario that ships beside this file."""

from importlib.resources import as_file, files
from pathlib import Path

from experiments.answers import answer_compare
from experiments.job import Flags, Job
from experiments.words import clock

SCENARIO = "demo.toml"


def answer_demo(flags: Flags) -> int:
    """Compare naive with per-client sizing for every hour of a day of deepseek-r1 on H100 instances."""
    with as_file(files("experiments") / SCENARIO) as path:
        job = Job("compare", path, flags)
    if flags.result_dir is None:
        job.folder = Path("runs") / "demo"
    workload, cluster = job.scenario.workload, job.scenario.cluster
    hours = job.scenario.compare.hours
    when, naive = clock(workload.start or 0.0), ", ".join(job.scenario.compare.naive)
    job.console.note(
        f"How many instances of {cluster.model_name} on {cluster.tp} x {cluster.gpu_name} does {workload.pool} need in each of "
        f"{hours} hours from {when} on,\nfor {job.scenario.slo}? "
        f"Sized three ways: client by client, and with naive traffic ({naive})."
    )
    return answer_compare(job)
