"""Durations as people write them: `90`, "90s", "10min", "1h", "2d" → seconds."""

import math
import re

from workloads.errors import WorkloadError, nearest

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration_s(value: float | str, what: str = "duration") -> float:
    """Seconds of a number (already seconds) or of a text with a unit; `what` names the setting in a WorkloadError."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise WorkloadError(f"{what}: expected seconds or a text such as '90s' or '1h', got {value!r}")
    seconds = _parse_text(value, what) if isinstance(value, str) else float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise WorkloadError(f"{what}: expected a finite time of at least 0 s, got {value!r}")
    return seconds


def _parse_text(text: str, what: str) -> float:
    found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{0,15})?)\s*([A-Za-zµ]{0,20})\s*", text)
    if not found:
        raise WorkloadError(f"{what}: expected a number and a unit ({', '.join(SECONDS)}), got {text[:40]!r}")
    number, unit = found.groups()
    if unit and unit not in SECONDS:
        raise WorkloadError(
            f"{what}: unknown unit {unit!r} in {text[:40]!r}{nearest(unit, SECONDS)}; units: {', '.join(SECONDS)}"
        )
    return float(number) * SECONDS[unit or "s"]
