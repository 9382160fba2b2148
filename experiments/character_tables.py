"""The character of a stream as tables of text, as `workloads.characterize` gives it."""

from __future__ import annotations

from typing import Any

from experiments.console import Console
from experiments.report.words import NOTHING, number

_COLUMNS = ("mean", "p1", "p10", "p50", "p90", "p99", "p999", "max")


def tell(console: Console, name: str, character: dict[str, Any]) -> None:
    """All tables of one stream."""
    console.say(
        f"{name}: {character['requests']:,} requests in {character['duration_s'] / 3600:.4g} h, "
        f"{number(character['rate_rps'])} requests/s"
    )
    for note in character["notes"]:
        console.say(f"note: {note}")
    for part in (_over_time, _gaps, _lengths, _laws, _clients, _correlation, _turns, _reasoning, _items):
        part(console, character)


def tell_differences(console: Console, ours: str, theirs: str, of: dict[str, Any]) -> None:
    """How far one stream is from another."""
    console.say(f"{ours} against {theirs}")
    console.table(
        ["", "KS", "mean", "p99"],
        [
            [name, f"{errors['ks']:.4f}", _per_cent(errors["mean_error_frac"]), _per_cent(errors["p99_error_frac"])]
            for name, errors in of["lengths"].items()
        ]
        + [["gaps", f"{of['gap_ks']:.4f}", "", ""]],
    )
    console.say(f"rate {_per_cent(of['rate_error_frac'])}; CV of gaps in 10 min, in the mean, x {number(of['cv_ratio'])}")
    console.say()


def _over_time(console: Console, character: dict[str, Any]) -> None:
    over = character["over_time"]
    rows = []
    for title, key in (("requests/s", "rate_rps"), ("CV of gaps", "cv"), ("input tokens", "input_tokens_mean")):
        known = sorted(value for value in over[key] if value is not None)
        rows.append([title, *(number(value) for value in _spread(known))])
    known = sorted(value for value in over["output_tokens_mean"] if value is not None)
    rows.append(["output tokens", *(number(value) for value in _spread(known))])
    console.say()
    console.table([f"in windows of {over['window_s'] / 60:g} min", "least", "median", "largest"], rows)
    dispersion = ", ".join(f"{number(value)} per {span}" for span, value in character["dispersion"].items())
    console.say(f"variance over mean of counts (Poisson 1): {dispersion}")


def _spread(known: list[float]) -> list[float | None]:
    return [known[0], known[len(known) // 2], known[-1]] if known else [None] * 3


def _gaps(console: Console, character: dict[str, Any]) -> None:
    of = character["gaps"]["busiest"]
    console.say()
    console.say(
        f"gaps of the busiest {of['span_s'] / 60:.3g} min, from {of['start_s'] / 3600:.4g} h on: {of['count']:,}, "
        f"mean {_ms(of['mean_s'])} ms, CV {number(of['cv'])}"
    )
    rows = [
        [
            law + (" (best)" if law == of["best"] else ""),
            number(told["shape"]),
            _ms(told["scale_s"]),
            f"{told['ks']:.4f}",
        ]
        for law, told in of["laws"].items()
    ]
    if rows:
        console.table(["law", "shape", "scale, ms", "KS"], rows)


def _lengths(console: Console, character: dict[str, Any]) -> None:
    console.say()
    rows = [[name, *(number(told[column]) for column in _COLUMNS)] for name, told in character["lengths"].items()]
    console.table(["", *_COLUMNS], rows)


def _laws(console: Console, character: dict[str, Any]) -> None:
    rows = [
        [name, law.replace("pareto_lognormal", "Pareto + lognormal"), f"{told['ks']:.4f}", _parameters(told)]
        for name, field in character["lengths"].items()
        for law, told in field["laws"].items()
    ]
    console.say()
    console.table(["", "law", "KS", "fitted"], rows)


def _parameters(told: dict[str, float]) -> str:
    return ", ".join(f"{key} {number(value)}" for key, value in told.items() if key != "ks")


def _clients(console: Console, character: dict[str, Any]) -> None:
    of = character["clients"]
    top = ", ".join(f"{share:.1%} of top {n}" for n, share in of["top_share_frac"].items())
    console.say()
    console.say(f"clients: {of['clients']:,}; 90 % of requests from {of['clients_for_90pct']:,}; {top}")
    rows = [
        [
            told["client_id"],
            f"{told['share_frac']:.1%}",
            number(told["cv"]),
            number(told["input_tokens_mean"]),
            number(told["output_tokens_mean"]),
        ]
        for told in of["top"]
    ]
    console.table(["client", "share", "CV", "mean input", "mean output"], rows)


def _correlation(console: Console, character: dict[str, Any]) -> None:
    of = character["correlation"]
    within = of["spearman_within_median"]
    console.say()
    console.say(
        f"rank correlation of input and output: {number(of['spearman'])} over all, "
        f"{number(within)} within a client (median of requests, {of['clients_within']:,} clients)"
    )


def _turns(console: Console, character: dict[str, Any]) -> None:
    of = character["turns"]
    if of is None:
        return
    between = of["between_s"]
    apart = f"; turns {number(between['p50'])} s apart at the median, {number(between['p90'])} s at p90" if between else ""
    console.say(
        f"conversations: {number(of['mean'])} turns in the mean, {number(of['multi_turn_mean'])} where there are several; "
        f"{of['multi_turn_requests_frac']:.1%} of requests are of several turns{apart}"
    )


def _reasoning(console: Console, character: dict[str, Any]) -> None:
    of = character["reasoning"]
    if of is not None:
        console.say(
            f"thinking: {of['reason_share_frac']:.1%} of answer tokens, "
            f"{number(of['reason_per_answer'])} for each token that is said"
        )


def _items(console: Console, character: dict[str, Any]) -> None:
    for modality, of in (character["items"] or {}).items():
        console.say(
            f"{modality}: in {of['requests_frac']:.1%} of requests; {of['input_share_mean_frac']:.1%} of such a prompt in "
            f"the mean, {of['input_tokens_frac']:.1%} of all input tokens"
        )


def _ms(seconds: float | None) -> str:
    return NOTHING if seconds is None else number(1e3 * seconds)


def _per_cent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.2%}"
