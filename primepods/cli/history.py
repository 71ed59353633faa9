"""`primepods history`: what was rented, what was billed for it, and how much a day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

import primepods

from ._command import Api, api_command
from ._durations import parse_day, short_duration
from ._errors import CommandError
from ._filters import Name
from ._output import Output, OutputOption, print_models
from ._pod_table import price
from ._reading import read_all
from ._table import Cell, Column, has_colour, has_unicode, print_table, tell, terminal_width, write

_PANEL = "Filters"
_MOST_BARS = 31
_COLUMNS = (
    Column("ID", rank=4),
    Column("NAME", least=12),
    Column("KIND", rank=2),
    Column("GPU", rank=1),
    Column("ENDED"),
    Column("RAN", right=True, rank=3),
    Column("PRICE/H", right=True, rank=2),
    Column("BILLED", right=True),
    Column("PROVIDER", rank=5),
    Column("TEAM", rank=6),
)

Limit = Annotated[
    int | None, typer.Option(min=1, help="The newest only.", metavar="NUMBER", rich_help_panel=_PANEL)
]
Kind = Annotated[
    list[str] | None,
    typer.Option(
        help="Of this kind: instance, cluster, disk, sandbox; may be repeated.",
        metavar="KIND",
        rich_help_panel=_PANEL,
    ),
]
Since = Annotated[
    datetime | None,
    typer.Option(
        help="Ended on this day (UTC) or later: 2026-11-01, or 7d for a week ago.",
        metavar="DAY",
        parser=parse_day,
        rich_help_panel=_PANEL,
    ),
]
Until = Annotated[
    datetime | None,
    typer.Option(
        help="Ended before this day (UTC).", metavar="DAY", parser=parse_day, rich_help_panel=_PANEL
    ),
]
Chart = Annotated[
    Path | None, typer.Option(help="Draw the spend per day into this SVG file.", metavar="FILE")
]


@api_command
def command(  # noqa: PLR0913 - one parameter an option
    api: Api,
    *,
    output: OutputOption = Output.TABLE,
    limit: Limit = None,
    kind: Kind = None,
    name: Name = None,
    since: Since = None,
    until: Until = None,
    chart: Chart = None,
) -> None:
    """Show what was rented before, what was billed for it, and the spend per day.

    Newest first. A pod moves here when it is terminated; its bill settles some time later. With --team, only
    what that team had is shown.

    Examples:
      primepods history --since 30d --chart spend.svg
      primepods history --kind instance --name 'train-*' -o csv
    """

    def wanted(record: primepods.HistoryRecord) -> bool:
        ended = record.terminated_at or record.created_at
        return (
            (not kind or record.type.lower() in {word.lower() for word in kind})
            and (not name or any(fnmatchcase(record.name or "", pattern) for pattern in name))
            and (since is None or ended >= since)
            and (until is None or ended < until)
            and (api.team is None or record.team_id == api.team)
        )

    with api.client() as client, read_all(islice(filter(wanted, client.pods.history()), limit)) as records:
        print_models(records, output, _print_table)
        if chart is not None:
            _draw(chart, records)
            tell(f"The spend per day is drawn in {chart}.")
        if not records:
            tell("Nothing was rented, or nothing like that.")


def _draw(file: Path, records: Sequence[primepods.HistoryRecord]) -> None:
    from primepods.charts import spend_chart  # noqa: PLC0415 - `--help` has no use for it

    try:
        file.write_text(str(spend_chart(records)), encoding="utf-8")
    except OSError as error:
        # By itself it does not always name the file.
        raise CommandError(f"--chart {file}: {error.strerror}") from None


def _print_table(records: Sequence[primepods.HistoryRecord]) -> None:
    billed = math.fsum(record.total_billed_price for record in records)
    total = ["", f"{len(records):,} in all", "", "", "", "", "", price(billed), "", ""]
    print_table(_COLUMNS, [_cells(record) for record in records], total=total)
    _print_bars(records)


def _cells(record: primepods.HistoryRecord) -> list[str | Cell]:
    ended = record.terminated_at
    return [
        record.id,
        record.name or "",
        record.type,
        f"{record.gpu_count} x {record.gpu_name}" if record.gpu_count else "",
        "" if ended is None else f"{ended.astimezone(UTC):%Y-%m-%d %H:%M}",
        "" if ended is None else short_duration((ended - record.created_at).total_seconds()),
        price(record.price_hr),
        price(record.total_billed_price),
        record.provider_type,
        record.team_id or "",
    ]


def _print_bars(records: Sequence[primepods.HistoryRecord]) -> None:
    from primepods.charts import spend_per_day  # noqa: PLC0415 - `--help` has no use for it

    days = spend_per_day(records)
    if not days:
        return
    shown = dict(list(days.items())[-_MOST_BARS:])
    highest, labels = max(shown.values()), {day: price(amount) for day, amount in shown.items()}
    longest, block = max(map(len, labels.values())), "█" if has_unicode() else "#"
    room = max(10, min(terminal_width() or 80, 100) - longest - 14)
    write(f"\nBilled per day (UTC){f', the last {len(shown)} days' if len(shown) < len(days) else ''}\n")
    for day, amount in shown.items():
        bar = block * max(round(amount / highest * room), 1 if amount > 0 else 0) if highest > 0 else ""
        shade = typer.style(bar, fg="cyan") if has_colour() else bar
        write(f"{day:%Y-%m-%d}  {labels[day]:>{longest}}  {shade}".rstrip() + "\n")
