"""`primepods sweep`: delete what processes have left that were killed while they leased pods."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

import primepods

from ._durations import parse_duration
from .render import Cell, Screen, safe

_USAGE_ERROR = 2


def command(
    *,
    prefix: Annotated[
        str | None,
        typer.Option(help="Only pods whose names begin so; also those that no file on this machine names."),
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(parser=parse_duration, metavar="DURATION", help="Only pods ordered so long ago, as 2h."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
) -> None:
    """Delete leased pods whose processes are dead, and so nobody else deletes.

    Never a pod whose process lives on this machine, nor one of another API or key. What processes of other
    machines with the same home have left is taken only with --older-than.
    """
    screen = Screen()
    try:
        with primepods.Client() as client:
            _sweep(client, screen, prefix=prefix, older_than=older_than, dry_run=dry_run, yes=yes)
    except primepods.ConfigError as error:
        typer.echo(f"primepods sweep: {error}", err=True)
        raise typer.Exit(_USAGE_ERROR) from None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    except primepods.PrimePodsError as error:
        typer.echo(f"primepods sweep: {error}", err=True)
        raise typer.Exit(1) from None


def _sweep(  # noqa: PLR0913 - one parameter an option
    client: primepods.Client,
    screen: Screen,
    *,
    prefix: str | None,
    older_than: float | None,
    dry_run: bool,
    yes: bool,
) -> None:
    found = client.pods.sweep(prefix=prefix, older_than=older_than, dry_run=True)
    if not found.found:
        screen.say("Nothing was left behind.")
        return
    screen.table(
        {"name": "left", "id": "left", "price/h": "right", "age": "right"},
        [_row(pod) for pod in found.found],
        total=["all", "", f"{found.price_hr:.2f}", ""],
    )
    if dry_run:
        return
    if not yes:
        if not sys.stdin.isatty():
            typer.echo("primepods sweep: nobody can be asked here; use --yes to delete these pods.", err=True)
            raise typer.Exit(_USAGE_ERROR)
        typer.confirm(f"Delete {len(found.found)} pods?", abort=True)
        again = client.pods.sweep(prefix=prefix, older_than=older_than, dry_run=True)
        if {pod.pod_id for pod in again.found} != {pod.pod_id for pod in found.found}:
            typer.echo("primepods sweep: what is left has changed meanwhile; look again.", err=True)
            raise typer.Exit(1)
    swept = client.pods.sweep(prefix=prefix, older_than=older_than)
    screen.say(f"{len(swept.deleted)} deleted, {len(swept.errors)} failed")
    for pod, error in swept.errors.items():
        typer.echo(f"{safe(pod)}: {error}", err=True)
    if swept.errors:
        raise typer.Exit(1)


def _row(pod: primepods.OrphanedPod) -> list[Cell]:
    price = "" if pod.price_hr is None else f"{pod.price_hr:.2f}"
    hours = (
        ""
        if pod.created_at is None
        else f"{(datetime.now(UTC) - pod.created_at).total_seconds() / 3600:.1f} h"
    )
    return [safe(pod.name or ""), safe(pod.pod_id or "not seen yet"), price, hours]
