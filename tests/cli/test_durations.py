"""Durations and days as they are typed and shown."""

import pytest
import typer

from primepods._utils.text import exact_duration
from primepods.cli._shared.durations import parse_day, parse_duration


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("90s", 90), ("0.5h", 1800), ("1h30m", 5400), ("3h 5m", 11_100), ("1w", 604_800), (5.0, 5)],
)
def test_durations(typed: str | float, seconds: float) -> None:
    """One unit or several; a default of the command is a number. In messages they lose nothing."""
    assert parse_duration(typed) == seconds == parse_duration(exact_duration(seconds))


@pytest.mark.parametrize("typed", ["", "soon", "5", "1.5", "h", "5y", "-1h", "1e3s", "1h30", "inf", "30m!"])
def test_what_is_no_duration(typed: str) -> None:
    """It is refused, with what to type instead."""
    with pytest.raises(typer.BadParameter, match=r"write (a duration like 90s|\d)"):
        parse_duration(typed)


def test_days() -> None:
    """Weeks are days; what is no day is told, as is a time, whose offset from UTC may make it another day."""
    assert parse_day("1w") == parse_day("7d") < parse_day("today")
    assert parse_day("2026-11-01").isoformat() == "2026-11-01T00:00:00+00:00"
    for wrong in ("yesterday", "7", "99999999w", "2026-11-01T15:30:00+02:00"):
        with pytest.raises(typer.BadParameter, match="not a day"):
            parse_day(wrong)
