"""How far apart two characters are: two-sample Kolmogorov-Smirnov distances, errors of means and p99s."""

from __future__ import annotations

from typing import Any

import numpy as np


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Of two results of `characterize`: by field `ks`, `mean_error_frac`, `p99_error_frac`, ours against theirs.

    Fields that only one of the two has are left out; `rate_error_frac` is of the mean rate, `gap_ks` of the gaps between
    requests, `cv_ratio` of the CV of gaps in 10 minutes, in the mean.
    """
    lengths = {
        name: {
            "ks": ks_of_two(ours["lengths"][name], theirs["lengths"][name], "value"),
            "mean_error_frac": _error(ours["lengths"][name]["mean"], theirs["lengths"][name]["mean"]),
            "p99_error_frac": _error(ours["lengths"][name]["p99"], theirs["lengths"][name]["p99"]),
        }
        for name in ours["lengths"]
        if name in theirs["lengths"]
    }
    return {
        "rate_error_frac": _error(ours["rate_rps"], theirs["rate_rps"]),
        "gap_ks": ks_of_two(ours["gaps"], theirs["gaps"], "s"),
        "cv_ratio": 1.0 + (_error(_mean_cv(ours), _mean_cv(theirs)) or 0.0),
        "lengths": lengths,
    }


def ks_of_two(ours: dict[str, Any], theirs: dict[str, Any], values: str) -> float:
    """The largest distance of two cumulative distributions, each ascending values and `cumulative_frac`."""
    support = np.union1d(ours[values], theirs[values])
    both = [
        np.concatenate(([0.0], of["cumulative_frac"]))[np.searchsorted(of[values], support, side="right")]
        for of in (ours, theirs)
    ]
    return float(np.abs(both[0] - both[1]).max(initial=0.0))


def _error(ours: float, theirs: float) -> float | None:
    return ours / theirs - 1.0 if theirs else None


def _mean_cv(of: dict[str, Any]) -> float:
    known = [cv for cv in of["over_time"]["cv"] if cv is not None]
    return float(np.mean(known)) if known else 0.0
