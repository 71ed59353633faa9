"""`primepods get`, `status` and `wait`: show named pods or their status, or wait for a state."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

import primepods
from primepods._utils.money import money

from .._shared.command import Api, api_command
from .._shared.durations import Interval, duration_option
from .._shared.errors import CommandError, ExitCode, print_error, print_errors_and_exit_if_any
from .._shared.handles import PodHandles, is_single, read_handles, resolve_handles
from .._shared.options import option
from .._shared.output import M, ModelTable, PrintOptions, print_model
from .._shared.pod_table import PODS, readiness, status_cell
from .._shared.table import Cell, Column

if TYPE_CHECKING:
    from primepods.fleet import Fleet

STATUSES: Final = ModelTable(
    empty_model=lambda: primepods.PodStatus(pod_id=""),
    id_of=lambda row: row.pod_id,
    cells={
        Column("ID"): lambda row: row.pod_id,
        Column("STATUS", min_width=8): lambda row: status_cell(row.status),
        Column("READY"): readiness,
        Column("PRICE/H", right=True, rank=2): lambda row: money(row.cost_per_hr),
        Column("SSH", rank=1): lambda row: "" if row.ssh is None else str(row.ssh),
        Column("FAILURE", min_width=12, rank=1): lambda row: Cell(row.failure or "", "red"),
    },
)


@api_command
def get(api: Api, pods: PodHandles, *, print_options: PrintOptions) -> None:
    """Show all fields of one pod, or a table of several.

    As JSON, one named pod without --columns is an object; otherwise, the output is an array.
    """
    import asyncio

    PODS.check(print_options)
    with api.client() as client:
        ids = resolve_handles(client, read_handles(pods), team=api.team)
    rows = api.run(lambda client: asyncio.gather(*map(client.pods.get, ids), return_exceptions=True))
    results = dict(zip(ids, rows, strict=True))
    found = [result for result in results.values() if isinstance(result, primepods.Pod)]
    _print(PODS, found, pods, print_options)
    errors = {pod_id: result for pod_id, result in results.items() if isinstance(result, Exception)}
    print_errors_and_exit_if_any(api.command, errors)


@api_command
def status(api: Api, pods: PodHandles, *, print_options: PrintOptions) -> None:
    """Show the status of pods: state, installation, failure, and how to log in.

    Reads up to a hundred pods per request. As JSON, one named pod without --columns is an object; otherwise,
    the output is an array.
    """
    STATUSES.check(print_options)
    with api.client() as client:
        statuses = client.pods.statuses(resolve_handles(client, read_handles(pods), team=api.team))
    rows = list(statuses.values())
    _print(STATUSES, rows, pods, print_options)
    missing = CommandError("the API does not show this pod; it may be terminated, or not visible yet")
    errors = dict.fromkeys(statuses.missing, missing) | dict(statuses.errors)
    print_errors_and_exit_if_any(api.command, errors)


def _print(
    table: ModelTable[M], found: Sequence[M], handles: Sequence[str], print_options: PrintOptions
) -> None:
    """Print a single model if one handle was typed and no fields were selected, or else rows."""
    selects_fields = print_options.columns is not None or print_options.ids_only
    if is_single(handles) and found and not selects_fields:
        print_model(found[0], print_options.output)
    else:
        table.print(found, print_options)


class Goal(StrEnum):
    """Values of ``--until``, which are conditions of the package."""

    READY = "ready"
    SETTLED = "settled"
    FAILED = "failed"
    GONE = "gone"


@api_command
def wait(
    api: Api,
    pods: PodHandles,
    *,
    until: Annotated[
        Goal,
        option(
            "State to wait for; settled means ready, failed, stopped, being deleted or gone.",
            case_sensitive=False,
        ),
    ] = Goal.READY,
    timeout: Annotated[float, duration_option("Maximum time to wait.", show_default="30m")] = 1800.0,
    interval: Interval = 5.0,
    print_options: PrintOptions,
) -> None:
    """Wait until pods are ready, and print their addresses.

    Progress goes to stderr. Deletes nothing: the pods keep running and are billed.

    The exit code is 3 after the timeout, and 4 if a pod can no longer reach the state (it has failed, or was
    stopped or deleted), which ends the wait. In both cases, prints the pods that have reached the state.

    With --until settled, a failed pod does not end the wait; the exit code is 4 if a pod has failed.
    """
    from primepods.remote import note_hosts

    from .._shared.screen import Screen

    STATUSES.check(print_options)
    handles = read_handles(pods)
    if not handles:
        raise CommandError("stdin has no ids, so there is nothing to wait for", ExitCode.USAGE)
    condition: primepods.Until = getattr(primepods, until)
    try:
        with api.client() as client:
            ids = resolve_handles(
                client, handles, team=api.team, reports_unlisted=True, is_strict=until is not Goal.GONE
            )
            screen = Screen(err=True)
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
    return ", ".join([*words, f"{money(fleet.cost_per_hr)} an hour"])
