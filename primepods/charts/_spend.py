"""Chart of the amounts billed per day."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from .._utils.money import money
from .._utils.summaries import escape_html
from ..models import HistoryRecord
from ._svg import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Chart,
    draw,
    empty_chart_text,
    grid_lines,
    scale,
    text,
)

_DAY: Final = timedelta(days=1)
_MAX_DAYS: Final = 366
_MAX_LABELS: Final = 8
_MAX_BAR_WIDTH: Final = 48.0
_MAX_LABEL_MIDDLE: Final = RIGHT - 36
"""Max x of a centred label, so that its right half fits."""
_MAX_LIFETIME: Final = timedelta(days=3_660)
"""The end of a longer record counts as invalid (imagined: from year 1 to 9999)."""


def spend_per_day(records: Iterable[HistoryRecord]) -> dict[date, float]:
    """Return the amount billed on each day (UTC), from the first billed day to the last.

    The amount of a record is spread evenly over its time: if a pod ran from 18:00 to 06:00, half of its cost
    counts on the second day. A record without a valid end counts on the day of its creation.

    Args:
        records: Records of ``client.pods.history()``, in any order and of any ``type``.

    Returns:
        The amounts by day, in the API's currency; the days are in order and without gaps.
    """
    spent: defaultdict[date, float] = defaultdict(float)
    for record in records:
        if math.isfinite(record.total_billed_price) and record.total_billed_price:
            _spread(record, spent)
    if not spent:
        return {}
    first, last = min(spent), max(spent)
    days = [first + _DAY * number for number in range((last - first).days + 1)]
    return {day: spent.get(day, 0.0) for day in days}


def spend_chart(records: Iterable[HistoryRecord], *, title: str = "Billed per day (UTC)") -> Chart:
    """Return a chart of the amounts of :func:`spend_per_day`, for at most 366 days up to the last billed one.

    Args:
        records: Records of ``client.pods.history()``, in any order and of any ``type``.
        title: The chart's heading.
    """
    all_days = spend_per_day(records)
    days = dict(list(all_days.items())[-_MAX_DAYS:])
    if not days:
        return draw(title, "Nothing was billed.", [empty_chart_text("Nothing was billed.")])
    total = math.fsum(days.values())
    top_day = max(days, key=days.__getitem__)
    description = (
        f"{money(total)} from {min(days)} to {max(days)}. The highest amount on one day was "
        f"{money(days[top_day])}, on {top_day}."
    )
    note = f"total {money(total)}"
    if len(all_days) > len(days):
        before = math.fsum(all_days.values()) - total
        note = f"last {len(days)} days {money(total)}, before {money(before)}"
    return draw(title, description, _plot(days), note=note)


def _spread(record: HistoryRecord, spent: defaultdict[date, float]) -> None:
    start = record.created_at.astimezone(UTC)
    end = start if record.terminated_at is None else record.terminated_at.astimezone(UTC)
    if not timedelta() < end - start < _MAX_LIFETIME or end.date() == date.max:
        spent[start.date()] += record.total_billed_price
        return
    day = start.date()
    while day <= end.date():
        midnight = datetime.combine(day, time(), UTC)
        share = (min(end, midnight + _DAY) - max(start, midnight)) / (end - start)
        if share:
            spent[day] += record.total_billed_price * share
        day += _DAY


def _plot(days: Mapping[date, float]) -> list[str]:
    axis_end, marks = scale(max(0.0, *days.values()))
    pixels_per_unit = (BOTTOM - TOP) / axis_end
    # As many decimals as the smallest nonzero mark needs.
    decimals = max(0, -math.floor(math.log10(marks[1])))
    parts = grid_lines((BOTTOM - mark * pixels_per_unit, f"{mark:,.{decimals}f}") for mark in marks)
    slot_width = (RIGHT - LEFT) / len(days)
    bar_width = min(_MAX_BAR_WIDTH, slot_width * 0.8)
    days_per_label = math.ceil(len(days) / _MAX_LABELS)
    for number, (day, amount) in enumerate(days.items()):
        middle = LEFT + slot_width * (number + 0.5)
        tooltip = escape_html(f"{day}: {money(amount)}")
        height = max(0.0, amount * pixels_per_unit)
        parts.append(
            f'<rect class="bar" x="{middle - bar_width / 2:.2f}" y="{BOTTOM - height:.2f}" '
            f'width="{bar_width:.2f}" height="{height:.2f}"><title>{tooltip}</title></rect>'
        )
        if number % days_per_label == 0:
            # Centred if it fits, else aligned with the plot's right edge.
            x, anchor = (middle, "middle") if middle <= _MAX_LABEL_MIDDLE else (RIGHT, "end")
            parts.append(text(x, BOTTOM + 20, str(day), kind="soft", anchor=anchor))
    return parts
