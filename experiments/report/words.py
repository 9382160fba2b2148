"""Numbers and names as people read them: seconds, counts, shares, clock times, the terms of an SLO."""

import math

from sim.slo import Slo, Term

NOTHING = "–"
METRIC_NAMES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "ntpot": "NTPOT", "e2el": "E2E", "queue": "queue time"}


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, whole numbers above a thousand, thousands separated.

    >>> number(1234.5), number(0.04567), number(None)
    ('1,234', '0.0457', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(decimals, 12)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def seconds(value: float | None) -> str:
    r"""Milliseconds below one second, seconds above; no line breaks before the unit.

    >>> seconds(0.048), seconds(0.9999), seconds(12.34)
    ('48\xa0ms', '1\xa0s', '12.3\xa0s')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{number(value * 1e3)}\xa0ms" if abs(value) < 0.9995 else f"{number(value)}\xa0s"


def duration(value_s: float) -> str:
    r"""A width of time in the unit that suits it.

    >>> duration(0.5), duration(15.0), duration(1800.0), duration(7200.0)
    ('500\xa0ms', '15\xa0s', '30\xa0min', '2\xa0h')
    """
    if value_s < 120.0:
        return seconds(value_s)
    return f"{number(value_s / 60.0)}\xa0min" if value_s < 7200.0 else f"{number(value_s / 3600.0)}\xa0h"


def share(value: float | None) -> str:
    """A share as per cent; never "100 %" for anything less than all, nor "0 %" for anything more than none.

    >>> share(0.97), share(0.9987), share(0.999999), share(1.0)
    ('97.0 %', '99.87 %', '> 99.99 %', '100 %')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if value in (0.0, 1.0):
        return f"{value:.0%}".replace("%", " %")
    if value > 0.9999:
        return "> 99.99 %"
    if 0.0 < value < 0.0001:
        return "< 0.01 %"
    return f"{100 * value:.{2 if value > 0.99 or value < 0.01 else 1}f} %"


def count(value: int, noun: str) -> str:
    """
    >>> count(1, "instance"), count(1200, "request")
    ('1 instance', '1,200 requests')
    """
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def interval(lo: int | None, hi: int | None) -> str:
    """
    >>> interval(7, 9), interval(8, 8), interval(7, None)
    ('7–9', '8', '7 or more')
    """
    if lo is None and hi is None:
        return NOTHING
    if lo is None:
        return f"up to {hi:,}"
    if hi is None:
        return f"{lo:,} or more"
    return f"{lo:,}" if lo == hi else f"{lo:,}–{hi:,}"


def clock(start_s: float, duration_s: float) -> str:
    """A stretch of the pool's own clock.

    >>> clock(72000, 3600), clock(86400 + 1800, 1800)
    ('20:00–21:00', 'day 2, 00:30–01:00')
    """
    day = int(start_s // 86400)
    begin, end = (f"{int(t % 86400) // 3600:02d}:{int(t % 3600) // 60:02d}" for t in (start_s, start_s + duration_s))
    return f"day {day + 1}, {begin}–{end}" if day else f"{begin}–{end}"


def infinite(stat: str) -> str:
    """What to print for a statistic that is infinite because requests were not served.

    >>> infinite("p99"), infinite("mean")
    ('∞ (more than 1 % not served)', '∞ (some not served)')
    """
    if stat[:1] == "p":
        return f"∞ (more than {number(100.0 - float(stat[1:]))} % not served)"
    return "∞ (some not served)"


def statistic(term: Term) -> str:
    """
    >>> [statistic(term) for term in Slo.parse("ttft.p99:2s tpot:50ms").terms]
    ['TTFT p99', 'TPOT']
    """
    return f"{METRIC_NAMES[term.metric]} {term.stat}" if term.stat else METRIC_NAMES[term.metric]


def slo_sentence(slo: Slo) -> str:
    r"""
    >>> slo_sentence(Slo.parse("ttft.p99:5s tpot.p99:50ms"))
    'TTFT p99 ≤ 5\xa0s and TPOT p99 ≤ 50\xa0ms'
    >>> slo_sentence(Slo.parse("ttft:500 tpot:50"))
    'TTFT ≤ 500\xa0ms and TPOT ≤ 50\xa0ms for 99 % of requests'
    """
    parts = [_list([f"{statistic(term)} ≤ {seconds(term.limit_s)}" for term in slo.run_terms])]
    if slo.request_terms:
        text = _list([f"{statistic(term)} ≤ {seconds(term.limit_s)}" for term in slo.request_terms])
        parts.append(f"{text} for {number(100 * slo.attainment, 4)} % of requests")
    return _list([part for part in parts if part])


def slo_lines(slo: Slo | None, metric: str, stat: str | None = None) -> list[tuple[str, float]]:
    r"""The limits on a metric, as words and seconds: on one statistic and on each request, or on all but the mean.

    >>> slo_lines(Slo.parse("ttft.p99:2s ttft.p50:300 ttft:5s tpot:50"), "ttft", "p99")
    [('SLO p99 ≤ 2\xa0s', 2.0), ('SLO each ≤ 5\xa0s', 5.0)]
    """
    terms = [term for term in (slo.terms if slo else ()) if term.metric == metric and term.stat != "mean"]
    wanted = [term for term in terms if stat is None or term.stat in (None, stat)]
    return [(f"SLO {term.stat or 'each'} ≤ {seconds(term.limit_s)}", term.limit_s) for term in wanted]


def term_name(key: str) -> str:
    """A summary's key in words.

    >>> term_name("ttft_p99_s"), term_name("slo_attainment_frac"), term_name("foo")
    ('TTFT p99', 'attainment', 'foo')
    """
    if key == "slo_attainment_frac":
        return "attainment"
    metric, _, rest = key.partition("_")
    known = metric in METRIC_NAMES and rest.endswith("_s")
    return f"{METRIC_NAMES[metric]} {rest.removesuffix('_s')}" if known else key


def traffic_name(name: str) -> str:
    """
    >>> traffic_name("per_client"), traffic_name("n_hour")
    ('per-client', 'n_hour')
    """
    return "per-client" if name == "per_client" else name


def _list(words: list[str]) -> str:
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"
