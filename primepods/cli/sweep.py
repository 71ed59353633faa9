"""`primepods sweep`: delete what processes have left that were killed while they leased pods."""

from __future__ import annotations

from typing import Annotated

import typer

import primepods

from ._asking import YesOption, confirm
from ._command import Api, api_command
from ._durations import age, parse_duration, short_duration
from ._errors import CommandError, fail_for
from ._pod_table import price
from ._table import Column, print_table, tell
from ._text import count

_COLUMNS = (Column("NAME", least=12), Column("ID"), Column("PRICE/H", right=True), Column("AGE", right=True))


@api_command
def command(
    api: Api,
    *,
    prefix: Annotated[
        str | None,
        typer.Option(
            help="Only pods whose names begin so; also those that no file on this machine names.",
            metavar="TEXT",
        ),
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(parser=parse_duration, metavar="TIME", help="Only pods ordered so long ago, as 2h."),
    ] = None,
    expired: Annotated[
        bool,
        typer.Option(
            "--expired",
            help="Only pods, of any machine, whose names say that their max_hours are over.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted.")] = False,
    yes: YesOption = False,
) -> None:
    """Delete leased pods whose processes are dead.

    No other command deletes these. Never a pod whose process lives on this machine, nor one of another API or
    key. What processes of other machines with the same home have left is taken only with --older-than, and
    what no file names only with --prefix and --older-than, or with --expired.
    """
    with api.client() as client:
        found = client.pods.sweep(prefix=prefix, older_than=older_than, expired=expired, dry_run=True)
        for lease in found.skipped:
            tell(f"Left alone: {lease.name}, {lease.reason}")
        if not found.found:
            fail_for(api.command, found.errors)
            tell("Nothing was left behind.")
            return
        print_table(_COLUMNS, map(_cells, found.found), total=["all", "", price(found.price_hr), ""])
        if dry_run:
            return
        confirm(f"Delete {count(found.found, 'pod')}?", yes=yes)
        swept = client.pods.sweep(prefix=prefix, older_than=older_than, expired=expired, only=found)
    tell(f"{len(swept.deleted)} deleted, {len(swept.errors)} failed")
    fail_for(api.command, swept.errors)
    if len(swept.found) < len(found.found):
        raise CommandError("not all of them were found again, and those were left alone: look again")


def _cells(pod: primepods.OrphanedPod) -> list[str]:
    seconds = age(pod.created_at)
    shown = "" if seconds is None else short_duration(seconds)
    return [pod.name or "", pod.pod_id or "not seen yet", price(pod.price_hr), shown]
