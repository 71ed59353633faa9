"""`primepods sweep`: delete leased pods of dead processes, and expired pods."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Any

import typer

import primepods
from primepods._utils.money import money

from .._shared.command import Api, YesOption, api_command, confirm
from .._shared.durations import duration_option, short_age
from .._shared.errors import CommandError, print_error, print_errors_and_exit_if_any, reword_for_shell
from .._shared.options import flag, option
from .._shared.table import Column, print_info, print_table
from .._shared.text import count

_COLUMNS = (
    Column("NAME", min_width=12),
    Column("ID"),
    Column("PRICE/H", right=True),
    Column("AGE", right=True),
)


@api_command
def command(
    api: Api,
    *,
    prefix: Annotated[
        str | None,
        option(
            "Only pods whose names begin with this, with or without a lease file. Make sure that none "
            "is in use.",
            "TEXT",
        ),
    ] = None,
    older_than: Annotated[
        float | None, duration_option("Only pods of at least this age, such as 2h.")
    ] = None,
    expired: Annotated[
        bool,
        flag(
            "Only pods, from any machine, whose names say that their --max-hours ended at least 15 "
            "minutes ago.",
            "--expired",
        ),
    ] = False,
    dry_run: Annotated[bool, flag("Only show the pods to delete.", "--dry-run")] = False,
    every: Annotated[
        float | None,
        duration_option(
            "Run as a service: sweep at this interval, such as 5m, without confirmation, until a signal."
        ),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Delete leased pods whose processes are dead.

    These pods are billed until they are deleted. Leaves a pod alone if a running process of this machine
    still leases it, or if its lease file belongs to another API or key. Pods leased on another machine that
    shares this home folder are deleted only with --older-than or --expired. Pods without a lease file need
    --prefix and --older-than, or --expired; one whose name has a later expiry is left alone, and named.
    """
    selection = {"prefix": prefix, "older_than": older_than, "expired": expired}
    sweep = partial(_sweep, api, selection, dry_run=dry_run)
    if every is None:
        sweep(yes=yes)
        return
    api.client().close()  # raises if a setting is unusable
    with primepods.exit_on_sigterm():
        while True:
            try:
                sweep(yes=True)
            except (CommandError, primepods.PrimePodsError, OSError) as error:
                print_error(api.command, error)
            except typer.Exit:
                # The errors of single pods have been printed.
                pass
            time.sleep(every)


def _sweep(api: Api, selection: dict[str, Any], *, dry_run: bool, yes: bool) -> None:
    from primepods.remote import note_hosts
    from primepods.runs import list_runs, note_sweeps

    with api.client() as client:
        found = client.pods.sweep(**selection, dry_run=True)
        for lease in found.skipped:
            print_info(f"Left alone: {lease.name}, {reword_for_shell(lease.reason)}")
        if not found.found:
            print_errors_and_exit_if_any(api.command, found.errors)
            print_info("Nothing to delete.")
            return
        unshown: OSError | None = None
        try:
            print_table(_COLUMNS, map(_cells, found.found), total=["all", "", money(found.price_hr), ""])
        except OSError as error:
            if dry_run or not yes:
                raise
            # Go on: the pods are billed, and with --yes nobody has to read the table.
            unshown = error
        if dry_run:
            print_errors_and_exit_if_any(api.command, found.errors)
            return
        confirm(f"Delete {count(found.found, 'pod')}?", yes=yes)
        swept = client.pods.sweep(**selection, only=found)
    note_hosts(removed=swept.deleted)
    note_sweeps(list_runs()[0])
    print_info(f"{len(swept.deleted)} deleted, {len(swept.errors)} failed")
    print_errors_and_exit_if_any(api.command, swept.errors)
    if unshown is not None:
        raise unshown
    if len(swept.found) < len(found.found):
        raise CommandError("some pods were not found again, and were left alone: run the same command again")


def _cells(pod: primepods.OrphanedPod) -> list[str]:
    return [pod.name or "", pod.pod_id or "not seen yet", money(pod.price_hr), short_age(pod.created_at)]
