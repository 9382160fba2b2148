"""Published client data made into a pool: the arrival model of every window, a sketch of every length table."""

from __future__ import annotations

from typing import Any

import numpy as np

from workloads.arrivals import GAMMA, WEIBULL, held_shape
from workloads.fields import FIELDS, is_shifted
from workloads.lengths import LengthTable, sketch_knots
from workloads.numerics import log
from workloads.pmf import Pmf
from workloads.pool_data import PoolData, block_of
from workloads.servegen import ServegenData

_ONE = Pmf(np.ones(1, np.int64), np.ones(1))
_NONE = Pmf(np.zeros(1, np.int64), np.ones(1))


def pool_of(data: ServegenData, missing: str = "drop") -> PoolData:
    """The pool of the clients that have lengths; with `missing="impute"` the others borrow lengths and are marked."""
    absent = [client for client in data.traces if not data.lengths.get(client)]
    donors = _donors(data, absent) if missing == "impute" else {}
    used = sorted((set(data.traces) - set(absent)) | set(donors))
    left_out = [client for client in data.traces if client not in used]
    trace = np.stack([data.traces[client] for client in used])
    length_row, tables = _lengths(data, used, donors)
    everyone = np.stack([trace["count"] for trace in data.traces.values()])
    return PoolData(
        name=data.name,
        client_ids=np.array(used, np.int32),
        **_arrivals(trace),
        length_row=length_row,
        lengths=tables,
        max_output_tokens=int(np.floor(tables["output_tokens"].knots.max())),
        absent_ids=tuple(left_out),
        absent_count=sum((data.traces[c]["count"] for c in left_out), np.zeros(trace.shape[1])),
        gap=~np.any(everyone > 0, axis=0),
        imputed_ids=tuple(sorted(donors)),
    )


def _arrivals(trace: np.ndarray) -> dict[str, Any]:
    """Requests, CV, and family and shape of the gaps as published, [clients, windows]; idle windows say nothing."""
    active = trace["count"] > 0
    shape = held_shape(np.where(trace["shape"] > 0, trace["shape"], 1.0))
    return {
        "count": np.where(active, trace["count"], 0.0),
        "cv": np.where(active, trace["cv"], 0.0),
        "family": np.where(active & (trace["family"] == WEIBULL), WEIBULL, GAMMA).astype(np.int8),
        "shape": np.where(active, shape, 1.0),
    }


def _lengths(data: ServegenData, used: list[int], donors: dict[int, int]) -> tuple[np.ndarray, dict[str, LengthTable]]:
    """Row of each client and block in the tables, and the tables."""
    blocks = block_of(len(next(iter(data.traces.values()))) - 1) + 1
    length_row = np.full((len(used), blocks), -1, np.int32)
    tables: list[dict[str, Pmf]] = []
    for index, client in enumerate(used):
        if client in donors:
            continue
        for block in sorted(block for block in data.lengths[client] if block < blocks):
            length_row[index, block] = len(tables)
            tables.append(data.lengths[client][block])
    for client, donor in donors.items():
        length_row[used.index(client)] = _filled(length_row[used.index(donor)])
    names = [name for name in FIELDS if any(name in pmfs for pmfs in tables)]
    return length_row, {name: _table([stored_pmf(pmfs, name) for pmfs in tables]) for name in names}


def stored_pmf(pmfs: dict[str, Pmf], name: str) -> Pmf:
    """What the published lengths of a client and block say of a field, as tables keep it; no items where they are silent."""
    pmf = pmfs.get(name, _NONE)
    pmf = pmf.shifted() if is_shifted(name) else pmf
    return _ONE if pmf.is_empty else pmf


def _table(pmfs: list[Pmf]) -> LengthTable:
    return LengthTable.of(np.stack([sketch_knots(*pmf) for pmf in pmfs]), np.array([pmf.mean() for pmf in pmfs]))


def _filled(rows: np.ndarray) -> np.ndarray:
    """Rows in which a block without lengths takes those of the nearest block that has some."""
    present = np.flatnonzero(rows >= 0)
    nearest = np.abs(np.arange(len(rows))[:, None] - present).argmin(axis=1)
    return rows[present[nearest]]


def _donors(data: ServegenData, absent: list[int]) -> dict[int, int]:
    """For each absent client the present one nearest in log mean rate, log CV and active fraction, each over its sd."""
    present = [client for client in data.traces if client not in absent]
    features = {client: _features(trace) for client, trace in data.traces.items() if np.any(trace["count"] > 0)}
    spread = np.std(np.stack(list(features.values())), axis=0) + 1e-9
    known = np.stack([features[client] for client in present if client in features])
    names = [client for client in present if client in features]
    return {
        client: names[int((((known - features[client]) / spread) ** 2).sum(axis=1).argmin())]
        for client in absent
        if client in features
    }


def _features(trace: np.ndarray) -> np.ndarray:
    active = trace["count"] > 0
    requests = trace["count"][active].cumsum()[-1]
    mean_cv = (trace["count"] * trace["cv"])[active].cumsum()[-1] / requests
    return np.array([float(log(requests / len(trace))), float(log(mean_cv)), active.mean()])
