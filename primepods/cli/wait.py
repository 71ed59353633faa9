"""`primepods wait`: wait for pods, with progress on stderr and the pods on stdout."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

import primepods

from ._command import Api, api_command
from ._durations import Interval, duration_option
from ._errors import CommandError, ExitCode, print_error
from ._handles import PodHandles, read_handles, resolve_handles
from ._output import PrintOptions
from ._pod_table import price
from .status import STATUSES

if TYPE_CHECKING:
    from primepods.fleet import Fleet


class Goal(StrEnum):
    """Values of ``--until``."""

    READY = "ready"
    SETTLED = "settled"
    FAILED = "failed"
    GONE = "gone"


@api_command
def command(
    api: Api,
    pods: PodHandles,
    *,
    until: Annotated[
        Goal,
        typer.Option(
            help="State to wait for; settled means ready, failed, stopped, being deleted or gone.",
            case_sensitive=False,
        ),
    ] = Goal.READY,
    timeout: Annotated[float, duration_option("Maximum time to wait.", show_default="30m")] = 1800.0,
    interval: Interval = 5.0,
    print_options: PrintOptions,
) -> None:
    """Wait until pods are ready, and print their addresses.

    Progress goes to stderr. Deletes nothing: the pods keep running and are billed.

    Exit code 3: timeout. Exit code 4: a pod can no longer reach the state (it has failed, or was stopped or
    deleted), which ends the wait. In both cases, prints the pods that have reached the state.

    With --until settled, a failed pod does not end the wait; the exit code is 4 if a pod has failed.
    """
    from primepods.remote import note_hosts

    from ._screen import Screen, stderr_console

    STATUSES.check(print_options)
    handles = read_handles(pods)
    if not handles:
        raise CommandError("stdin has no ids, so there is nothing to wait for", ExitCode.USAGE)
    conditions = {
        Goal.READY: primepods.ready,
        Goal.SETTLED: primepods.settled,
        Goal.FAILED: primepods.failed,
        Goal.GONE: primepods.gone,
    }
    condition = conditions[until]
    try:
        with api.client() as client:
            ids = resolve_handles(
                client, handles, team=api.team, reports_unlisted=True, is_strict=until is not Goal.GONE
            )
            screen = Screen(stderr_console())
            with screen.pod_meter(f"waiting until {until}", ids, condition, _note) as on_change:
                statuses = client.pods.wait(
                    ids, until=condition, timeout=timeout, interval=interval, on_change=on_change
                )
    except primepods.WaitError as error:
        STATUSES.print([row for row in error.statuses.values() if condition(row)], print_options)
        raise
    if until is Goal.GONE:
        note_hosts(removed=ids)
    STATUSES.print(list(statuses.values()), print_options)
    failed = [row for row in statuses.values() if row.has_failed]
    if failed and until is not Goal.FAILED:
        for row in failed:
            print_error(api.command, f"{row.pod_id}: {row.failure}")
        raise typer.Exit(ExitCode.POD_FAILED)


def _note(fleet: Fleet) -> str:
    words = [f"{count:,} {condition}" for condition, count in fleet.counts.items()]
    return ", ".join([*words, f"{price(fleet.cost_per_hr)} an hour"])
