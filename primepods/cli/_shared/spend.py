"""Spend by GPU, kind, provider, team or time, and bars of the spend per day."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

import attrs
import typer

import primepods
from primepods._utils.money import money

from .output import ModelTable
from .table import Column, has_colour, paint, terminal_width, write

_MAX_BARS = 31
"""Max number of days that have a bar."""


class By(StrEnum):
    """Values of ``--by``."""

    GPU = "gpu"
    KIND = "kind"
    PROVIDER = "provider"
    TEAM = "team"
    DAY = "day"
    WEEK = "week"


ByOption = Annotated[
    By | None,
    typer.Option(
        help="Sum up by gpu, kind, provider, team, day or week (UTC).", metavar="WORD", case_sensitive=False
    ),
]


@attrs.frozen(kw_only=True)
class SpendGroup:
    """Spend of a day or week, or of the records with the same value of a field.

    A day or week has only its part of bills and GPU hours, which are spread over the records' times.

    Attributes:
        by: The field, or day or week.
        value: Its value, such as ``H100_80GB``; for a week, the date of its Monday.
        records: Number of records; for a day or week, of those that have a part in it.
        gpu_hours: Sum of the GPU hours; a record without an end counts as 0.
        billed: Sum of the bills.
    """

    by: By
    value: str | None
    records: int
    gpu_hours: float
    billed: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; ``value`` gets the name of its field, such as ``gpu``."""
        fields = attrs.asdict(self, filter=lambda field, _: field.name != "by")
        return {self.by.value: fields.pop("value"), **fields}


def group_records(records: Sequence[primepods.HistoryRecord], by: By) -> list[SpendGroup]:
    """Group records by a field, the most expensive group first; or by day or week, the earliest first."""
    counts: Counter[str | None] = Counter()
    hours: defaultdict[str | None, list[float]] = defaultdict(list)
    billed: defaultdict[str | None, list[float]] = defaultdict(list)
    for record in records:
        time = max((record.terminated_at or record.created_at) - record.created_at, timedelta())
        for value, share in _shares(record, by).items():
            counts[value] += 1
            hours[value].append(share * record.gpu_count * (time / timedelta(hours=1)))
            billed[value].append(share * record.total_billed_price)
    groups = [
        SpendGroup(
            by=by,
            value=value,
            records=number,
            gpu_hours=round(math.fsum(hours[value]), 2),
            billed=round(math.fsum(billed[value]), 6),
        )
        for value, number in counts.items()
    ]
    if by in {By.DAY, By.WEEK}:
        return sorted(groups, key=lambda group: group.value or "")
    return sorted(groups, key=lambda group: group.billed, reverse=True)


def _shares(record: primepods.HistoryRecord, by: By) -> dict[str | None, float]:
    """Return a record's share of each group: 1, or for days and weeks the part of its time."""
    from primepods.charts import spend_per_day

    if by in {By.DAY, By.WEEK}:
        parts: defaultdict[str | None, float] = defaultdict(float)
        for day, share in spend_per_day([attrs.evolve(record, total_billed_price=1.0)]).items():
            parts[str(day - timedelta(days=day.weekday()) if by is By.WEEK else day)] += share
        return parts
    values = {
        By.GPU: record.gpu_name if record.gpu_count else None,
        By.KIND: record.type,
        By.PROVIDER: record.provider_type,
        By.TEAM: record.team_id,
    }
    return {values[by] or None: 1.0}


def group_table(by: By) -> ModelTable[SpendGroup]:
    return ModelTable(
        empty_model=lambda: SpendGroup(by=by, value=None, records=0, gpu_hours=0, billed=0),
        id_of=lambda row: row.value or "-",
        cells={
            Column(by.upper(), min_width=8): lambda row: row.value or "-",
            Column("RECORDS", right=True): lambda row: f"{row.records:,}",
            Column("GPU HOURS", right=True, rank=1): lambda row: f"{row.gpu_hours:,.1f}",
            Column("BILLED", right=True): lambda row: money(row.billed),
        },
        totals=lambda rows: {
            by.value: "all",
            # A record can count in several rows.
            "records": "" if by in {By.DAY, By.WEEK} else f"{sum(row.records for row in rows):,}",
            "gpu-hours": f"{math.fsum(row.gpu_hours for row in rows):,.1f}",
            "billed": money(math.fsum(row.billed for row in rows)),
        },
    )


def print_daily_bars(records: Sequence[primepods.HistoryRecord]) -> None:
    """Print a bar for the spend of each day, for the last ``_MAX_BARS`` days at most."""
    from primepods.charts import spend_per_day

    days = spend_per_day(records)
    if not days:
        return
    last_days = dict(list(days.items())[-_MAX_BARS:])
    prices = {day: money(amount) for day, amount in last_days.items()}
    price_width = max(map(len, prices.values()))
    # Each line also has a date and two gaps.
    max_bar = max(10, min(terminal_width() or 80, 100) - price_width - 14)
    highest = max(last_days.values())
    heading_end = f", the last {len(last_days)} days" if len(last_days) < len(days) else ""
    write(f"\nBilled per day (UTC){heading_end}\n")
    for day, amount in last_days.items():
        length = max(1, round(amount / highest * max_bar)) if amount > 0 else 0
        bar = paint("█" * length, "cyan" if has_colour() else None)
        write(f"{day:%Y-%m-%d}  {prices[day]:>{price_width}}  {bar}".rstrip() + "\n")
