"""A client pool in one line: the few numbers by which pools are told apart. `describe` has the rest, and takes longer."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from workloads.arrivals import WINDOW_S
from workloads.fields import TEXT, count_of, meant, modalities
from workloads.pool_data import PoolData

GRADES: Final = ("fitted", "published", "assumed")


class Summary(NamedTuple):
    """Lengths are means over all requests: of a multimodal pool, `input_tokens` is the text, `items` each modality's number.

    kind: `fitted` to clients' data, or `assumed`, a recipe; grades: how many kinds of parameters are of each. The mean rate
    counts gaps in the data as time without requests, as `describe` does.
    """

    name: str
    kind: str
    clients: int
    duration_s: float
    rate_mean_rps: float
    rate_peak_rps: float
    input_tokens: float
    output_tokens: float
    items: dict[str, float]
    imputed_share_frac: float
    grades: dict[str, int]


def summary(pool: PoolData) -> Summary:
    """The line of a pool."""
    total = pool.count.sum(axis=0)[~pool.gap]
    requests = pool.count.sum(axis=1)
    weight = pool.row_requests()
    means = {name: float(meant(name, (table.mean * weight).sum() / weight.sum())) for name, table in pool.lengths.items()}
    return Summary(
        name=pool.name,
        kind="assumed" if "recipe" in pool.provenance else "fitted",
        clients=len(pool.client_ids),
        duration_s=pool.duration_s,
        rate_mean_rps=float(requests.sum()) / pool.duration_s,
        rate_peak_rps=float(total.max()) / WINDOW_S,
        input_tokens=means[TEXT if TEXT in means else "input_tokens"],
        output_tokens=means["output_tokens"],
        items={kind: means[count_of(kind)] for kind in modalities(means)},
        imputed_share_frac=float(requests[np.isin(pool.client_ids, pool.imputed_ids)].sum() / requests.sum()),
        grades=_grades(pool),
    )


def _grades(pool: PoolData) -> dict[str, int]:
    """Parameters of each grade; what is said of one begins with it."""
    said = [str(text).split(":")[0] for text in pool.provenance.get("grades", {}).values()]
    return {grade: said.count(grade) for grade in GRADES if grade in said}
