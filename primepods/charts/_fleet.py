"""Chart of pods by condition over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from ..fleet import Condition, Fleet, FleetSample
from ._svg import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, Chart, across, draw, escape, nothing, scale, text

_LEGEND: Final = 130
_RIGHT: Final = WIDTH - _LEGEND
_MIN_STEP_PIXELS: Final = 4.0
"""Minimum pixels between two steps, so that a chart of a long time stays small."""
_LABELS: Final = 6
_MIN_SPAN: Final = timedelta(seconds=1)
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_MINUTE: Final = 60
_DAY: Final = 86_400
# From the bottom up: stable pods below, those that need attention on top.
_STACK: Final = (
    Condition.READY,
    Condition.STOPPED,
    Condition.DELETING,
    Condition.UNKNOWN,
    Condition.INSTALLING,
    Condition.PENDING,
    Condition.FAILED,
)


def fleet_chart(fleet: Fleet, *, title: str = "Pods by condition (UTC)") -> Chart:
    """Return a chart of the pods by condition over time.

    Args:
        fleet: The fleet; gone pods are not drawn, only counted in the legend.
        title: The chart's heading.
    """
    samples = fleet.samples
    if not samples:
        return draw(title, "No pod was seen.", [nothing("No pod was seen.")])
    counts = samples[-1].counts
    shown = ", ".join(f"{count:,} {condition}" for condition, count in counts.items())
    first, last = samples[0].time, samples[-1].time
    description = f"From {_moment(first)} to {_moment(last)} UTC; at the end {shown}."
    parts = [*_plot(samples), *_legend(samples)]
    return draw(
        title, description, parts, note=f"{fleet.cost_per_hr:,.2f} an hour, {fleet.spent:,.2f} so far"
    )


def _plot(samples: Sequence[FleetSample]) -> list[str]:
    begin, span = samples[0].time, max(_MIN_SPAN, samples[-1].time - samples[0].time)
    room = _RIGHT - LEFT
    columns = list(_thin([(LEFT + room * ((sample.time - begin) / span), sample) for sample in samples]))
    top, marks = scale(max(1, *(_height(sample, _STACK) for _, sample in columns)))
    bottom = HEIGHT - BOTTOM
    pixels = (bottom - TOP) / top
    marks = [mark for mark in marks if mark == int(mark)]
    parts = across([(bottom - mark * pixels, f"{mark:,.0f}") for mark in marks], _RIGHT)

    def top_line(conditions: Sequence[Condition]) -> list[tuple[float, float]]:
        """Return the line above some conditions, stacked."""
        return [(x, bottom - _height(sample, conditions) * pixels) for x, sample in columns]

    for number, condition in enumerate(_STACK):
        if any(sample.counts.get(condition) for _, sample in columns):
            parts.append(_area(condition, top_line(_STACK[:number]), top_line(_STACK[: number + 1])))
    return parts + list(_times(begin, span))


def _thin(columns: list[tuple[float, FleetSample]]) -> Iterator[tuple[float, FleetSample]]:
    """Drop samples that are too close together; keep the last of each group."""
    for number, (x, sample) in enumerate(columns):
        if number + 1 == len(columns) or columns[number + 1][0] // _MIN_STEP_PIXELS != x // _MIN_STEP_PIXELS:
            yield x, sample


def _height(sample: FleetSample, conditions: Sequence[Condition]) -> int:
    return sum(sample.counts.get(condition, 0) for condition in conditions)


def _area(condition: Condition, under: list[tuple[float, float]], over: list[tuple[float, float]]) -> str:
    """Return the area between two lines."""
    outline = [*_step_path(over), *reversed(list(_step_path(under)))]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in outline)
    return f'<path fill="var(--{condition})" d="M{path}Z"><title>{escape(condition)}</title></path>'


def _step_path(points: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Return the corners of a step line."""
    yield points[0]
    for (_, level), (x, y) in pairwise(points):
        if y != level:
            yield from ((x, level), (x, y))
    yield points[-1]


def _times(begin: datetime, span: timedelta) -> Iterator[str]:
    """Return labels at round times."""
    seconds = span.total_seconds()
    days = max(1, math.ceil(seconds / _DAY / _LABELS))
    step = next((step for step in _STEPS if seconds / step <= _LABELS), days * _DAY)
    zero = begin.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    number = math.ceil((begin - zero).total_seconds() / step)
    while (time := zero + timedelta(seconds=number * step)) <= begin + span:
        at_midnight = (time - zero).total_seconds() % _DAY == 0
        label = f"{time:%m-%d}" if at_midnight else f"{time:%H:%M:%S}" if step < _MINUTE else f"{time:%H:%M}"
        x = LEFT + (_RIGHT - LEFT) * ((time - begin) / span)
        yield text(x, HEIGHT - BOTTOM + 20, label, kind="soft", anchor="middle")
        number += 1


def _legend(samples: Sequence[FleetSample]) -> Iterator[str]:
    """Return the legend in the order of the chart, with the last counts."""
    counts = samples[-1].counts
    seen = {condition for sample in samples for condition in sample.counts}
    y = TOP + 4.0
    for condition in reversed((Condition.GONE, *_STACK)):
        if condition in seen:
            if condition is not Condition.GONE:
                square = f'x="{_RIGHT + 16}" y="{y}" width="12" height="12" rx="2"'
                yield f'<rect fill="var(--{condition})" {square}/>'
            yield text(_RIGHT + 34, y + 10, f"{counts.get(condition, 0):,} {condition}")
            y += 22


def _moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
