"""Times as people type and read them: ``90s``, ``2h``."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import typer

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration(text: str) -> float:
    """Read seconds, such as ``90``, ``90s``, ``30m``, ``2h`` or ``1d``; the ``parser`` of an option."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration: write it like 90s, 30m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2] or "s"]


def short_duration(seconds: float) -> str:
    """Return a time as a table shows it: ``45s``, ``12m``, ``3h 5m``, ``2d 7h``."""
    whole = max(0, int(seconds))
    if whole < _UNITS["m"]:
        return f"{whole}s"
    if whole < _UNITS["h"]:
        return f"{whole // 60}m"
    if whole < _UNITS["d"]:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600}h"


def age(moment: datetime | None) -> float | None:
    """Return the seconds since a moment; ``None`` if it is not known."""
    return None if moment is None else (datetime.now(UTC) - moment).total_seconds()
