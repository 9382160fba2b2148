"""Numbers as people read them."""

import math


def seconds(value: float) -> str:
    """A latency for people: ms below a second."""
    if not math.isfinite(value):
        return "∞"
    return f"{value * 1e3:.3g} ms" if value < 1.0 else f"{value:.3g} s"


def clock(start_s: float) -> str:
    """A time of day, `20:30`; past the first day with the day before it, `day 2 20:30`."""
    days, minutes = divmod(round(start_s / 60.0), 24 * 60)
    text = f"{minutes // 60:02d}:{minutes % 60:02d}"
    return f"day {days + 1} {text}" if days else text


def count(number: int, noun: str) -> str:
    """`1 instance`, `2 instances`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
