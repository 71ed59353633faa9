"""`primepods history`: past pods, their bills, and the spend per day."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import attrs

import primepods
from primepods._utils.money import money
from primepods._utils.text import short_duration

from .._shared.command import Api, api_command
from .._shared.durations import parse_day
from .._shared.errors import CommandError
from .._shared.options import filter_option, option
from .._shared.output import LimitOption, ModelTable, PrintOptions, readable_rows
from .._shared.table import Column, has_colour, paint, print_info, terminal_width, write
from ._filters import Name, name_matches

_MAX_BARS: Final = 31
"""Max number of days that have a bar."""


@attrs.frozen(kw_only=True)
class RecordFilter:
    """Filter options for records; a record must match all options that were given."""

    kind: Annotated[
        list[str] | None,
        filter_option("Only this kind (instance, cluster, disk or sandbox); may be repeated.", "KIND"),
    ] = None
    name: Name = None
    since: Annotated[
        datetime | None,
        filter_option(
            "Only records that ended (or, without a known end, began) on or after this day (UTC): "
            "2026-11-01, or 7d for a week ago.",
            "DAY",
            parser=parse_day,
        ),
    ] = None
    until: Annotated[
        datetime | None,
        filter_option("Only records before this day (UTC).", "DAY", parser=parse_day),
    ] = None

    def select(self, client: primepods.Client, team: str | None) -> Iterator[primepods.HistoryRecord]:
        """Yield the records that match, of one team or (``None``) of all."""
        for record in client.pods.history(since=self.since, until=self.until, kind=self.kind or None):
            has_name = not self.name or any(name_matches(pattern, record.name) for pattern in self.name)
            if has_name and team in {None, record.team_id}:
                yield record


@api_command
def command(
    api: Api,
    *,
    print_options: PrintOptions,
    limit: LimitOption = None,
    chart: Annotated[
        Path | None,
        option("Draw the spend per day into this SVG file; --limit does not apply.", "FILE"),
    ] = None,
    filters: RecordFilter,
) -> None:
    """Show past pods, clusters, disks and sandboxes, their bills, and the spend per day.

    The record that ended last comes first. A pod's bill is final some time after its end. With --team, shows
    only that team's records.

    Examples:
      primepods history --since 30d --chart spend.svg
      primepods history --kind instance --name 'train-*' -o csv
    """
    from primepods.charts import spend_chart
    from primepods.remote import note_hosts

    _RECORDS.check(print_options)
    # One more than is shown tells whether there are more.
    last = None if limit is None or chart is not None else limit + 1
    with (
        api.client() as client,
        readable_rows(islice(filters.select(client, api.team), last)) as found,
    ):
        records = found[:limit]
        note_hosts(removed=[record.id for record in records if record.terminated_at is not None])
        _RECORDS.print(records, print_options)
        if print_options.is_table:
            _print_daily_bars(records)
        if chart is not None:
            try:
                chart.write_text(str(spend_chart(found)), encoding="utf-8")
            except OSError as error:
                raise CommandError(f"--chart {chart}: {error.strerror}") from None
            print_info(f"The chart of the spend per day is in {chart}.")
        if len(found) > len(records) and print_options.is_table:
            print_info("Older records are not shown, because of --limit; the sums are without them.")
        if not records and not print_options.ids_only:
            print_info("No records match.")


def _print_daily_bars(records: Sequence[primepods.HistoryRecord]) -> None:
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


def _duration_cell(record: primepods.HistoryRecord) -> str:
    ended = record.terminated_at
    return "" if ended is None else short_duration((ended - record.created_at).total_seconds())


def _totals(records: Sequence[primepods.HistoryRecord]) -> dict[str, str]:
    return {
        "name": f"{len(records):,} total",
        "billed": money(math.fsum(record.total_billed_price for record in records)),
    }


_RECORDS: Final = ModelTable(
    empty_model=lambda: primepods.HistoryRecord(
        id="",
        type="",
        gpu_name="",
        gpu_count=0,
        price_hr=0.0,
        total_billed_price=0.0,
        provider_type="",
        created_at=datetime.now(UTC),
    ),
    id_of=lambda record: record.id,
    cells={
        Column("ID", rank=4): lambda record: record.id,
        Column("NAME", min_width=12): lambda record: record.name or "",
        Column("KIND", rank=3): lambda record: record.type,
        Column("GPU", rank=2): lambda record: (
            f"{record.gpu_count} x {record.gpu_name}" if record.gpu_count else ""
        ),
        Column("ENDED", min_width=10): lambda record: (
            f"{record.terminated_at.astimezone(UTC):%Y-%m-%d %H:%M}" if record.terminated_at else ""
        ),
        Column("RAN", right=True, rank=3): _duration_cell,
        Column("PRICE/H", right=True, rank=2): lambda record: money(record.price_hr),
        Column("BILLED", right=True): lambda record: money(record.total_billed_price),
        Column("PROVIDER", rank=5): lambda record: record.provider_type,
        Column("TEAM", min_width=8, rank=6): lambda record: record.team_id or "",
    },
    totals=_totals,
)
