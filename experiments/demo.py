"""demo: one real question answered end to end, with the scenario that ships beside this file."""

from importlib.resources import as_file, files
from pathlib import Path

from experiments.answers import answer_compare
from experiments.job import Flags, Job

SCENARIO = "demo.toml"


def answer_demo(flags: Flags) -> int:
    """Compare naive with per-client sizing for an hour of deepseek-r1 on H100 instances."""
    with as_file(files("experiments") / SCENARIO) as path:
        job = Job("compare", path, flags)
    if flags.result_dir is None:
        job.folder = Path("runs") / "demo"
    workload, cluster = job.scenario.workload, job.scenario.cluster
    job.console.note(
        f"How many instances of {cluster.model} on {cluster.tp} x {cluster.gpu} does an hour of {workload.pool} need, "
        f"for {job.scenario.slo}?\n"
        f"Sized three ways: client by client, and with naive traffic ({', '.join(job.scenario.compare.naive)})."
    )
    return answer_compare(job)
