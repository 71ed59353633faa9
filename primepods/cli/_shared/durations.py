"""Parsers and formatters of durations and days, and the option ``--interval``."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

import typer

from primepods._utils.text import short_duration

from .options import option

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])")
_DURATION = re.compile(rf"(?:{_PART.pattern}\s*)+")


class TypedNumber(float):
    """A parsed number that knows how it was typed, for messages."""

    typed: str

    @classmethod
    def of(cls, value: float, text: str) -> TypedNumber:
        """Return a number with its text."""
        number = cls(value)
        number.typed = text.strip()
        return number


def parse_duration(text: str | float) -> float:
    """Parse a duration such as ``90s``, ``1h30m``, ``2d`` or ``1w``, and return its seconds.

    Reject a number without a unit, since 5 could mean hours.
    """
    if isinstance(text, int | float):
        # Typer passes the option's default through the parser, too.
        return float(text)
    words = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", words):
        raise typer.BadParameter(f"{text!r} has no unit: write {words}s, {words}m, {words}h or {words}d")
    if not _DURATION.fullmatch(words):
        raise typer.BadParameter(f"{text!r} cannot be used: write a duration like 90s, 1h30m, 2d or 1w")
    return TypedNumber.of(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(words)), words)


def duration_option(text: str, **settings: Any) -> Any:
    """Return an option with this help text for a duration, which is parsed into seconds."""
    return option(text, "TIME", parser=parse_duration, **settings)


Interval = Annotated[float, duration_option("Time between two polls of a pod.", show_default="5s")]


def parse_hours(text: str | float) -> float:
    """Parse a duration such as ``90m``, and return its hours.

    Accept a number without a unit, since the names of these options have the unit.
    """
    if isinstance(text, int | float):
        return float(text)
    if re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        return TypedNumber.of(float(text), f"{text.strip()}h")
    return TypedNumber.of(parse_duration(text) / _UNITS["h"], text)


def typed_numbers(options: dict[str, float | None]) -> dict[str, str]:
    """Return how the options were typed, except those that were not."""
    return {name: value.typed for name, value in options.items() if isinstance(value, TypedNumber)}


def age(moment: datetime | None) -> float | None:
    """Return the seconds since a moment; ``None`` if the moment is unknown."""
    return None if moment is None else (datetime.now(UTC) - moment).total_seconds()


def short_age(moment: datetime | None) -> str:
    """Format the time since a moment; return an empty text if the moment is unknown."""
    seconds = age(moment)
    return "" if seconds is None else short_duration(seconds)


def parse_day(text: str) -> datetime:
    """Parse a day such as ``2026-11-01``, ``today`` or ``7d`` (seven days ago), and return its start in UTC.

    An age such as ``36h`` is rounded up to days.
    """
    day = datetime.now(UTC).date()
    try:
        if _PART.match(text):
            day -= timedelta(days=math.ceil(parse_duration(text) / _UNITS["d"]))
        elif text != "today":
            day = date.fromisoformat(text)
        return datetime.combine(day, time(), UTC)
    except (ValueError, OverflowError, typer.BadParameter):
        raise typer.BadParameter(f"{text!r} is not a day: write it like 2026-11-01, 7d or today") from None
