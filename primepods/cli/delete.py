"""`primepods delete`: the pods that are named, or that the filters leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import attrs
import typer

import primepods

from ._asking import YesOption, confirm
from ._command import Api, api_command
from ._durations import parse_duration
from ._errors import CommandError, ExitCode, complain, complain_of, end_for
from ._filters import Gpu, Name, OlderThan, OptionalPodIds, PodFilter, Ready, Status, read_ids
from ._pod_table import print_pods
from ._reading import read_all
from ._table import tell, write
from ._text import count

_INTERVAL = 2.0
"""Seconds between two looks at pods that are on their way out."""


@api_command
def command(  # noqa: PLR0913 - one parameter an option
    api: Api,
    pod_ids: OptionalPodIds = None,
    *,
    yes: YesOption = False,
    everything: Annotated[bool, typer.Option("--all", metavar="", help="All pods.")] = False,
    missing_ok: Annotated[
        bool, typer.Option("--missing-ok", metavar="", help="A pod that is not there is no failure.")
    ] = False,
    wait: Annotated[
        float | None,
        typer.Option(
            help="Wait so long until they are seen gone, such as 10m.", metavar="TIME", parser=parse_duration
        ),
    ] = None,
    status: Status = None,
    gpu: Gpu = None,
    name: Name = None,
    ready: Ready = None,
    older_than: OlderThan = None,
) -> None:
    """Delete pods, by their ids or by filters. What is on them is lost.

    Shows which pods will go and what they cost an hour, and asks. Prints the ids of those that are deleted;
    a failure stops no other.

    Examples:
      primepods delete ID ID
      primepods delete --name 'train-*' --older-than 12h
      primepods list --ids --gpu H100 | primepods delete --yes -
    """
    wanted = PodFilter(status=status, gpu=gpu, name=name, ready=ready, older_than=older_than)
    if [bool(pod_ids), not wanted.is_empty, everything].count(True) != 1:
        raise CommandError("say which pods, in one way: ids, filters, or --all", ExitCode.USAGE)
    ids = read_ids(pod_ids or [])
    with api.client() as client:
        if pod_ids and yes:
            errors = _delete(api.command, client, ids, missing_ok=missing_ok, wait=wait)
        else:
            with read_all(client.pods.list()) as found:
                if not pod_ids:
                    chosen = attrs.evolve(wanted, team=api.team)
                    ids = [pod.id for pod in found if chosen.matches(pod)]
                    if not ids:
                        tell(chosen.none_found)
                        return
                _show(found, ids)
                confirm(f"Delete {count(ids, 'pod')}?", yes=yes)
                errors = _delete(api.command, client, ids, missing_ok=missing_ok, wait=wait)
    end_for(errors)


def _show(found: Sequence[primepods.Pod], ids: Sequence[str]) -> None:
    """Say on stderr which pods will go, and what they cost."""
    asked = set(ids)
    pods = {pod.id: pod for pod in found if pod.id in asked}
    if pods:
        print_pods(list(pods.values()), err=True)
    for pod_id in [pod_id for pod_id in ids if pod_id not in pods]:
        tell(f"{pod_id} is not in the list of your pods; its deletion is tried all the same.")


def _delete(
    command: str, client: primepods.Client, ids: Sequence[str], *, missing_ok: bool, wait: float | None
) -> Mapping[str, primepods.PrimePodsError]:
    """Delete pods, and print those whose deletion was accepted; return the errors of the others."""
    try:
        deletions = client.pods.delete_many(ids, missing_ok=missing_ok)
    except KeyboardInterrupt:
        complain(command, "pods may be deleted, or go on and be billed: see primepods list")
        raise
    going = sum(state != primepods.PodState.TERMINATED for state in deletions.values())
    more = f" ({going:,} not gone yet)" if going else ""
    left = f", {len(deletions.errors)} failed and may still be billed" if deletions.errors else ""
    tell(f"{count(deletions, 'pod')} deleted{more}{left}.")
    complain_of(command, deletions.errors)
    write("".join(f"{pod_id}\n" for pod_id in deletions))
    if wait is not None and deletions:
        client.pods.wait(deletions, until=primepods.gone, timeout=wait, interval=_INTERVAL)
        tell(f"{count(deletions, 'pod')} seen gone.")
    return deletions.errors
