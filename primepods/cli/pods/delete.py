"""`primepods delete`: delete named pods, pods that match filters, or all pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

import typer

import primepods

from .._shared.command import Api, YesOption, api_command, confirm
from .._shared.durations import duration_option
from .._shared.errors import CommandError, ExitCode, exit_code, print_error, print_errors
from .._shared.handles import OptionalPodHandles, PodIndex, are_whole_ids, read_handles
from .._shared.options import flag
from .._shared.output import PrintOptions, readable_rows
from .._shared.pod_table import PODS
from .._shared.table import print_info, write_ids
from .._shared.text import count
from ._filters import PodFilter

_INTERVAL = 2.0
"""Seconds between two polls of the deleted pods."""


@api_command
def command(
    api: Api,
    pods: OptionalPodHandles = None,
    *,
    yes: YesOption = False,
    everything: Annotated[bool, flag("All pods.", "--all")] = False,
    missing_ok: Annotated[bool, flag("A pod that does not exist is not a failure.", "--missing-ok")] = False,
    wait: Annotated[
        float | None,
        duration_option("Wait until the pods are confirmed gone, for at most this time, such as 10m."),
    ] = None,
    filters: PodFilter,
) -> None:
    """Delete pods, by their ids or names, or by filters. All data on them is lost.

    Shows the pods and their prices per hour, and asks for confirmation; with --yes and whole ids, deletes at
    once. Prints the id of each pod whose deletion was accepted. A failure does not prevent other
    deletions.

    Examples:
      primepods delete ID ID
      primepods delete --name 'train-*' --older-than 12h
      primepods list --ids --gpu H100 | primepods delete --yes -
    """
    selections = [bool(pods), not filters.is_empty, everything]
    if selections.count(True) != 1:
        raise CommandError("name the pods in one way: ids, filters, or --all", ExitCode.USAGE)
    handles = read_handles(pods or [])
    with api.client() as client:
        delete = partial(_delete, api.command, client, missing_ok=missing_ok, wait=wait)
        if not pods:
            # The error about unreadable rows is raised after the block, so other pods are still deleted.
            with readable_rows(client.pods.list()) as listed:
                # With --all, there is no filter but --team.
                chosen = filters.choose(listed, api.team)
                if not chosen:
                    print_info(filters.no_match_message(client, listed, api.team))
                    return
                ids = [pod.id for pod in chosen]
                _confirm(ids, chosen, ids, yes=yes)
                errors = delete(ids)
        elif yes and are_whole_ids(handles):
            errors = delete(handles)
        else:
            index = PodIndex.read(client, team=api.team)
            ids = index.resolve(handles, is_strict=not missing_ok and len(handles) == 1)
            _confirm(ids, index.readable(ids), [pod_id for pod_id in ids if pod_id in index], yes=yes)
            errors = delete(ids)
    if errors:
        raise typer.Exit(exit_code(next(iter(errors.values()))))


def _confirm(ids: Sequence[str], pods: Sequence[primepods.Pod], listed: Sequence[str], *, yes: bool) -> None:
    """Show the pods and their prices on stderr; ask for confirmation unless ``yes`` is true.

    Args:
        ids: Ids of the pods to delete.
        pods: Those of them that are listed and can be read.
        listed: Ids of those that are listed.
        yes: Whether not to ask.
    """
    PODS.print(pods, PrintOptions(), err=True)
    shown = {pod.id for pod in pods}
    for pod_id in ids:
        if pod_id not in shown:
            problem = "cannot be read in the list" if pod_id in listed else "is not in the list of your pods"
            print_info(f"{pod_id} {problem}; trying to delete it anyway.")
    confirm(f"Delete {count(ids, 'pod')}?", yes=yes)


def _delete(
    command: str, client: primepods.Client, ids: Sequence[str], *, missing_ok: bool, wait: float | None
) -> Mapping[str, primepods.PrimePodsError]:
    """Delete pods, print the id of each pod whose deletion was accepted, and return the errors by id.

    With --wait, also wait until these pods are confirmed gone.
    """
    from primepods.remote import note_hosts

    try:
        deletions = client.pods.delete_many(ids, missing_ok=missing_ok)
    except KeyboardInterrupt:
        print_error(command, "some pods may still be running and billed: see `primepods list`")
        raise
    terminating = [state for state in deletions.values() if state != primepods.PodState.TERMINATED]
    errors = deletions.errors
    missing = [pod_id for pod_id in errors if isinstance(errors[pod_id], primepods.NotFoundError)]
    failed = errors.keys() - missing
    gone = len(deletions) - len(terminating)
    parts = [count(terminating, "deletion") + " accepted"] * bool(terminating)
    parts += [f"{count(range(gone), 'pod')} deleted"] * bool(gone or not terminating)
    parts += [f"{len(failed):,} failed and may still be billed"] * bool(failed)
    print_info(f"{', '.join(parts)}.")
    print_errors(command, errors)
    note_hosts(removed=[*deletions, *missing])
    write_ids(deletions)
    if wait is not None and deletions:
        client.pods.wait(deletions, until=primepods.gone, timeout=wait, interval=_INTERVAL)
        print_info(f"{count(deletions, 'pod')} confirmed gone.")
    return errors
