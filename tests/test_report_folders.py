"""Folders of runs as servecast leaves them, and reports as a browser sees them: material of the tests of the report."""

import gzip
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.report import write_report
from sim.distribution import percentile

SLO = "ttft.p99:5s tpot.p99:50ms"
LIMITS = {"ttft_p99_s": 5.0, "tpot_p99_s": 0.05}


def requests_table(n, seed=0, unserved=0, duration_s=3600.0, load=1.0):
    """A plausible table of requests: a rush in the middle, the last `unserved` rows rejected."""
    rng = np.random.default_rng(seed)
    arrival = np.sort(np.where(rng.random(n) < 0.6, rng.random(n), rng.beta(20, 14, n))) * duration_s
    rush = np.exp(-(((arrival / duration_s - 0.6) / 0.12) ** 2))
    output = 1 + rng.geometric(1 / 300, n)
    ttft = rng.lognormal(-1.4, 0.5, n) * (1 + 6 * load * rush**3)
    tpot = rng.lognormal(-3.85, 0.2, n) * (1 + 0.5 * load * rush)
    served = np.arange(n) < n - unserved
    return pd.DataFrame(
        {
            "request_id": np.arange(n) << 32,
            "client_id": rng.integers(0, 50, n),
            "arrival_s": arrival,
            "input_tokens": rng.integers(10, 4000, n),
            "output_tokens": np.where(served, output, 0),
            "instance_id": np.where(served, rng.integers(0, 8, n), -1),
            "ttft_s": np.where(served, ttft, np.nan),
            "tpot_s": np.where(served & (output > 1), tpot, np.nan),
            "e2el_s": np.where(served, ttft + tpot * output, np.nan),
            "finish_reason": np.where(served, np.where(rng.random(n) < 0.9, "stop", "length"), "rejected"),
        }
    )


def steps_table(n, seed=0, duration_s=3600.0, instances=8):
    """A plausible table of steps, some of them with preemptions."""
    rng = np.random.default_rng(seed)
    rounds = -(-n // instances)
    start = np.repeat(np.arange(rounds) * duration_s / max(rounds, 1), instances)[:n]
    rush = np.exp(-(((start / duration_s - 0.6) / 0.12) ** 2))
    return pd.DataFrame(
        {
            "instance_id": np.arange(n) % instances,
            "start_s": start,
            "dur_s": np.full(n, duration_s / max(rounds, 1)),
            "running": rng.poisson(20 + 60 * rush),
            "waiting": rng.poisson(40 * rush**4),
            "kv_blocks_used": np.minimum(20000, rng.poisson(7000 + 12900 * rush) + 300 * (np.arange(n) % instances)),
            "preempted": (rng.random(n) < 0.02 * rush**4).astype(int),
        }
    )


def summary_of(table, instances=8, slo=SLO, name="chat-on-h100", duration_s=3600.0):
    """summary.json for a table of requests, as sim.metrics writes it: infinite and undefined are null."""
    done = table["finish_reason"].isin(["stop", "length"]).to_numpy()
    out = {
        "schema_version": 1,
        "name": name,
        "seed": 3,
        "simulated": True,
        "requests": len(table),
        "duration_s": duration_s,
    }
    out |= {f"requests_{reason}": int((table["finish_reason"] == reason).sum()) for reason in ("stop", "length", "rejected")}
    out |= {
        "instances": instances,
        "gpus": 4 * instances,
        "gpu_hours": 4.0 * instances,
        "kv_blocks": 20000,
        "preemptions": 12,
    }
    for metric in ("ttft", "tpot", "e2el"):
        values = np.where(done, table[f"{metric}_s"], np.inf)
        values = values[~np.isnan(values)]
        stats = {f"p{q}": percentile(values, float(q)) for q in (50, 90, 95, 99)}
        stats |= {"mean": values.mean() if len(values) else np.nan, "max": values.max(initial=0.0)}
        out |= {f"{metric}_{stat}_s": float(value) if np.isfinite(value) else None for stat, value in stats.items()}
    if slo:
        terms = slo.split()
        rows = [(term, f"{term.split(':')[0].replace('.', '_')}_s") for term in terms]
        out["slo_terms"] = [
            {
                "term": term,
                "key": key,
                "value": out[key],
                "limit": LIMITS[key],
                "holds": (out[key] or np.inf) <= LIMITS[key],
            }
            for term, key in rows
        ]
        out |= {"slo": slo, "slo_holds": all(row["holds"] for row in out["slo_terms"])}
        out |= {
            "slo_attainment_frac": float(done.mean()) if len(done) else None,
            "request_goodput_rps": float(done.sum()) / duration_s,
        }
    out["request_throughput_rps"] = float(done.sum()) / duration_s
    out["profile"] = {
        "grade": "measured",
        "error_mape_frac": 0.061,
        "source": "step times of a public data set, 70B on 4 GPUs",
    }
    out["workload"] = {
        "pool": "deepseek-r1",
        "clients": 412,
        "present_share": 0.87,
        "notes": ["13 % of the pool's clients send nothing in this hour."],
    }
    out["notes"] = ["The first 300 s are part of the numbers: nothing was cut."]
    return out


def environment():
    return {
        "schema_version": 1,
        "command": "servecast plan chat.toml --seed 1",
        "seed": 1,
        "engine": "reference",
        "engine_reason": "asked for",
        "versions": {"servecast": "0.1.0", "numpy": "2.4.6"},
        "wall_s": 21.4,
        "cpu_s": 20.9,
        "platform": "Linux x86_64",
    }


def plan(slo=SLO, counts=(5, 6, 7, 8, 10), answer=8, seeds=(2, 3, 4)):
    """plan.json of a search in which latency falls with instances; five instances lose more than one per cent."""
    runs = []
    for n in counts:
        for seed in seeds:
            slow = (answer / n) ** 5 * (1 + 0.05 * (seed - 3))
            ttft, tpot = 3.1 * slow, 0.041 * slow**0.3
            terms = [
                {"term": "ttft.p99:5s", "key": "ttft_p99_s", "value": ttft, "limit": 5.0, "holds": ttft <= 5.0},
                {"term": "tpot.p99:50ms", "key": "tpot_p99_s", "value": tpot, "limit": 0.05, "holds": tpot <= 0.05},
            ]
            lost = n == 5
            p99 = {"ttft_p99_s": None if lost else ttft, "tpot_p99_s": None if lost else tpot}
            holds = n >= answer
            runs.append(
                {
                    "instances": n,
                    "seed": seed,
                    "holds": holds,
                    "requests": 28800,
                    "terms": terms,
                    **p99,
                    "attainment_frac": min(1.0, n / answer),
                }
            )
    return {
        "schema_version": 1, "question": "How many instances hold the SLO?", "slo": slo, "instances": answer, "lo": 7,
        "hi": 9, "verdict": "HOLDS", "binding_term": "ttft.p99:5s", "gpus": 4 * answer, "gpus_per_instance": 4,
        "seeds": list(seeds), "runs": runs,
    }  # fmt: skip


def compare(hours=1, names=("poisson", "n_hour")):
    """compare.json in which poisson is short of instances, and n_hour is not."""

    def curve(need):
        points = [(n, 4.0 * (need / n) ** 6, 0.045 * (need / n)) for n in range(need - 1, need + 2)]
        return [
            {"instances": n, "ttft_p99_s": t, "tpot_p99_s": o, "attainment_frac": 0.99, "holds": n >= need}
            for n, t, o in points
        ]

    held = {"ttft_p99_s": 4.0, "tpot_p99_s": 0.045, "attainment_frac": 0.995}
    out = []
    for hour in range(hours):
        need = 6 + round(3 * np.sin(hour / 4))
        plans = {name: need - 1 + min(i, 1) for i, name in enumerate(names)}
        judged = {
            name: {
                "instances": n, "lo": n, "hi": n, "ttft_p99_s": 12.3 if n < need else 4.0,
                "tpot_p99_s": 0.06 if n < need else 0.045,
                "attainment_frac": 0.93 if n < need else 0.995, "holds": n >= need, "rate_rps": 12.0, "cv": 1.0,
            }
            for name, n in plans.items()
        }  # fmt: skip
        out.append(
            {
                "start_s": 72000 + 3600 * hour, "duration_s": 3600, "rate_rps": 12.0 + hour,
                "per_client": {"instances": need, "lo": need, "hi": need + 1, **held},
                "naive": judged, "curves": {"per_client": curve(need), **{name: curve(n) for name, n in plans.items()}},
            }
        )  # fmt: skip
    return {"schema_version": 1, "slo": SLO, "gpus_per_instance": 4, "fit_seed": 1, "seeds": [2, 3], "hours": out}


def scenario(name="chat-on-h100", slo=SLO):
    return (
        f'name = {json.dumps(name)}\nseed = 1\nslo = "{slo}"\n'
        '[workload]\npool = "deepseek-r1"\nstart = "20h"\nduration = "1h"\nrate = 8.0\n'
        '[cluster]\ngpu = "h100"\nmodel = "llama-3.1-70b"\ntp = 4\ninstances = 8\nrouter = "power_of_two"\n'
        '[engine]\nscheduler = "vllm"\n'
    )


def make_folder(folder: Path, kind="simulate", n=3000, name="chat-on-h100", **changes) -> Path:
    """A folder as `servecast simulate`, `plan` or `compare` leaves it; `changes` replace whole files, by stem."""
    folder.mkdir(parents=True, exist_ok=True)
    table = changes.get("requests", requests_table(n))
    contents = {"environment": environment(), "summary": changes.get("summary", summary_of(table, name=name))}
    if kind != "simulate":
        contents[kind] = changes.get(kind, plan() if kind == "plan" else compare())
    if kind == "compare":
        del contents["summary"]
        for stem, load in (
            ("requests_per_client", 1.0),
            ("requests_naive_poisson", 3.0),
            ("requests_naive_n_hour", 1.2),
        ):
            requests_table(n, load=load).to_parquet(folder / f"{stem}.parquet")
    else:
        table.to_parquet(folder / "requests.parquet")
        changes.get("steps", steps_table(4 * n)).to_parquet(folder / "steps.parquet")
    for stem, content in contents.items():
        (folder / f"{stem}.json").write_text(json.dumps(content))
    (folder / "scenario.toml").write_text(changes.get("scenario", scenario(name)))
    return folder


def to_csv(folder: Path) -> Path:
    """The same folder as it would be without pyarrow."""
    for path in folder.glob("*.parquet"):
        with gzip.open(path.with_suffix(".csv.gz"), "wt") as file:
            pd.read_parquet(path).to_csv(file, index=False)
        path.unlink()
    return folder


def report(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text outside of styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self._open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self._open[-1:]:
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).replace("\xa0", " ").split())

    def values(self, attribute):
        return [attrs[attribute] for _, attrs in self.tags if attribute in attrs]
