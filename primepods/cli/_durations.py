"""Times as people type and read them: ``90s``, ``2h``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration(text: str | float) -> float:
    """Read seconds, such as ``90``, ``90s``, ``30m``, ``2h`` or ``1d``; the ``parser`` of an option.

    Typer also asks it about the default, which is a number.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(text).strip())
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


def parse_day(text: str) -> datetime:
    """Read the beginning of a day (UTC): ``2026-11-01``, ``today``, or ``7d`` for so long ago."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if text == "today":
        return midnight
    if found := re.fullmatch(r"(\d{1,5})d", text):
        return midnight - timedelta(days=int(found[1]))
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day: write it like 2026-11-01, 7d or today") from None
