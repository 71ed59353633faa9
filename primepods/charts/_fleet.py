"""Chart of pods by condition over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from .._utils.money import money
from .._utils.summaries import escape_html
from ..fleet import Condition, Fleet, FleetSample
from ._svg import (
    BOTTOM,
    LEFT,
    TOP,
    WIDTH,
    Chart,
    draw,
    empty_chart_text,
    grid_lines,
    scale,
    text,
)

_LEGEND_WIDTH: Final = 130
_RIGHT: Final = WIDTH - _LEGEND_WIDTH
_GROUP_PIXELS: Final = 4.0
"""Width of a group of samples, of which only the last is drawn, so that the SVG stays small."""
_MAX_INTERVALS: Final = 6
"""Max intervals between labels of the time; the number of labels is up to one higher."""
_MIN_SPAN: Final = timedelta(seconds=1)
_MINUTE: Final = 60
_DAY: Final = 86_400
_SPACINGS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Spacings of the labels to choose from, in seconds; longer histories use a multiple of a day."""
_STACK: Final = tuple(condition for condition in reversed(Condition) if condition is not Condition.GONE)
"""Conditions as they are stacked, from the bottom up; FAILED is on top."""


def fleet_chart(fleet: Fleet, *, title: str = "Pods by condition (UTC)") -> Chart:
    """Return a chart of the pods by condition over time.

    Args:
        fleet: The fleet. Gone pods are counted in the legend, but not drawn.
        title: The chart's heading.
    """
    samples = fleet.samples
    if not samples:
        return draw(title, "No pod was seen.", [empty_chart_text("No pod was seen.")])
    first, last = samples[0], samples[-1]
    counts = ", ".join(f"{count:,} {condition}" for condition, count in last.counts.items())
    description = f"From {_utc_text(first.time)} to {_utc_text(last.time)} UTC; at the end {counts}."
    parts = [*_plot(samples), *_legend(samples)]
    note = f"{money(fleet.cost_per_hr)} an hour, {money(fleet.spent)} so far"
    return draw(title, description, parts, note=note)


def _plot(samples: Sequence[FleetSample]) -> list[str]:
    begin = samples[0].time
    span = max(_MIN_SPAN, samples[-1].time - begin)
    width = _RIGHT - LEFT
    columns = list(_thin([(LEFT + width * ((sample.time - begin) / span), sample) for sample in samples]))
    axis_end, marks = scale(max(1, *(_count_pods(sample, _STACK) for _, sample in columns)))
    pixels_per_pod = (BOTTOM - TOP) / axis_end
    whole_marks = [mark for mark in marks if mark == int(mark)]
    parts = grid_lines([(BOTTOM - mark * pixels_per_pod, f"{mark:,.0f}") for mark in whole_marks], _RIGHT)

    def top_line(conditions: Sequence[Condition]) -> list[tuple[float, float]]:
        """Return the upper edge of the stacked conditions."""
        return [(x, BOTTOM - _count_pods(sample, conditions) * pixels_per_pod) for x, sample in columns]

    for number, condition in enumerate(_STACK):
        if any(sample.counts.get(condition) for _, sample in columns):
            parts.append(_area(condition, top_line(_STACK[:number]), top_line(_STACK[: number + 1])))
    return parts + list(_time_labels(begin, span))


def _thin(columns: list[tuple[float, FleetSample]]) -> Iterator[tuple[float, FleetSample]]:
    """Yield the last sample of each group."""
    for (x, sample), (next_x, _) in pairwise(columns):
        if x // _GROUP_PIXELS != next_x // _GROUP_PIXELS:
            yield x, sample
    yield columns[-1]


def _count_pods(sample: FleetSample, conditions: Sequence[Condition]) -> int:
    return sum(sample.counts.get(condition, 0) for condition in conditions)


def _area(condition: Condition, lower: list[tuple[float, float]], upper: list[tuple[float, float]]) -> str:
    outline = [*_step_path(upper), *reversed(list(_step_path(lower)))]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in outline)
    return f'<path fill="var(--{condition})" d="M{path}Z"><title>{escape_html(condition)}</title></path>'


def _step_path(points: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield the corners of a line that stays level between two points, and then jumps."""
    yield points[0]
    for (_, previous_y), (x, y) in pairwise(points):
        if y != previous_y:
            yield x, previous_y
            yield x, y
    yield points[-1]


def _time_labels(begin: datetime, span: timedelta) -> Iterator[str]:
    seconds = span.total_seconds()
    whole_days = _DAY * max(1, math.ceil(seconds / _DAY / _MAX_INTERVALS))
    spacing = next(
        (candidate for candidate in _SPACINGS if seconds / candidate <= _MAX_INTERVALS), whole_days
    )
    clock = "%H:%M:%S" if spacing < _MINUTE else "%H:%M"
    midnight = begin.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    spacings_until_begin = math.ceil((begin - midnight).total_seconds() / spacing)
    time = midnight + timedelta(seconds=spacings_until_begin * spacing)
    while time <= begin + span:
        x = LEFT + (_RIGHT - LEFT) * ((time - begin) / span)
        is_midnight = (time.hour, time.minute, time.second) == (0, 0, 0)
        label = format(time, "%m-%d" if is_midnight else clock)
        yield text(x, BOTTOM + 20, label, kind="soft", anchor="middle")
        time += timedelta(seconds=spacing)


def _legend(samples: Sequence[FleetSample]) -> Iterator[str]:
    """Yield the legend, from the top of the stack down, with the last counts."""
    counts = samples[-1].counts
    seen = {condition for sample in samples for condition in sample.counts}
    y = TOP + 4.0
    for condition in Condition:
        if condition in seen:
            if condition is not Condition.GONE:
                square = f'x="{_RIGHT + 16}" y="{y}" width="12" height="12" rx="2"'
                yield f'<rect fill="var(--{condition})" {square}/>'
            yield text(_RIGHT + 34, y + 10, f"{counts.get(condition, 0):,} {condition}")
            y += 22


def _utc_text(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
