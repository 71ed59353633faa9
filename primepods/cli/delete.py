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
from ._filters import Gpu, Name, OlderThan, PodFilter, Ready, Status
from ._handles import OptionalPodHandles, PodIndex, are_whole_ids, read_handles
from ._output import Form
from ._pod_table import PODS
from ._reading import read_all
from ._table import tell, write_ids
from ._text import count

_INTERVAL = 2.0
"""Seconds between two looks at pods that are on their way out."""


@api_command
def command(
    api: Api,
    pods: OptionalPodHandles = None,
    *,
    yes: YesOption = False,
    everything: Annotated[bool, typer.Option("--all", help="All pods.")] = False,
    missing_ok: Annotated[
        bool, typer.Option("--missing-ok", help="A pod that is not there is no failure.")
    ] = False,
    wait: Annotated[
        float | None,
        typer.Option(
            help="Wait so long until they are confirmed gone, such as 10m.",
            metavar="TIME",
            parser=parse_duration,
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
    if [bool(pods), not wanted.is_empty, everything].count(True) != 1:
        raise CommandError("say which pods, in one way: ids, filters, or --all", ExitCode.USAGE)
    handles = read_handles(pods or [])
    with api.client() as client:
        deletion = _Deletion(command=api.command, client=client, missing_ok=missing_ok, wait=wait)
        if pods and yes and are_whole_ids(handles):
            errors = deletion.run(handles)
        elif pods:
            index = PodIndex.read(client, team=api.team)
            ids = index.resolve(handles)
            _show([index[pod_id] for pod_id in ids if pod_id in index])
            for pod_id in (pod_id for pod_id in ids if pod_id not in index):
                tell(f"{pod_id} is not in the list of your pods; its deletion is tried all the same.")
            confirm(f"Delete {count(ids, 'pod')}?", yes=yes)
            errors = deletion.run(ids)
        else:
            with read_all(client.pods.list()) as found:
                wanted = attrs.evolve(wanted, team=api.team)
                chosen = wanted.choose(found)
                if not chosen:
                    tell(wanted.none_found(found))
                    return
                _show(chosen)
                confirm(f"Delete {count(chosen, 'pod')}?", yes=yes)
                errors = deletion.run([pod.id for pod in chosen])
    end_for(errors)


def _show(pods: Sequence[primepods.Pod]) -> None:
    """Show on stderr which pods will go, and what they cost."""
    PODS.print(pods, Form(), err=True)


@attrs.frozen(kw_only=True)
class _Deletion:
    """A deletion of pods, and what is told of it."""

    command: str
    client: primepods.Client
    missing_ok: bool
    wait: float | None

    def run(self, ids: Sequence[str]) -> Mapping[str, primepods.PrimePodsError]:
        """Delete pods, and print those whose deletion was accepted; return the errors of the others."""
        try:
            deletions = self.client.pods.delete_many(ids, missing_ok=self.missing_ok)
        except KeyboardInterrupt:
            complain(self.command, "pods may be deleted, or go on and be billed: see primepods list")
            raise
        going = sum(state != primepods.PodState.TERMINATED for state in deletions.values())
        more = f" ({going:,} not gone yet)" if going else ""
        missing = [e for e in deletions.errors.values() if isinstance(e, primepods.NotFoundError)]
        left = len(deletions.errors) - len(missing)
        failed = f", {left:,} failed and may still be billed" if left else ""
        tell(f"{count(deletions, 'pod')} deleted{more}{failed}.")
        complain_of(self.command, deletions.errors)
        write_ids(deletions)
        if self.wait is not None and deletions:
            self.client.pods.wait(deletions, until=primepods.gone, timeout=self.wait, interval=_INTERVAL)
            tell(f"{count(deletions, 'pod')} confirmed gone.")
        return deletions.errors
