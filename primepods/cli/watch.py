"""`primepods watch`: pods and how they change, on a screen or as lines."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ._command import Api, api_command
from ._durations import parse_duration
from ._errors import CommandError, ExitCode
from ._filters import Gpu, Name, OlderThan, PodFilter, Ready, Status
from ._handles import OptionalPodHandles, read_handles, resolve_handles


class Lines(StrEnum):
    """What ``--output`` of ``watch`` takes."""

    TABLE = "table"
    JSONL = "jsonl"


@api_command
def command(
    api: Api,
    pods: OptionalPodHandles = None,
    *,
    output: Annotated[
        Lines,
        typer.Option("--output", "-o", help="A live table, or a line for each change.", case_sensitive=False),
    ] = Lines.TABLE,
    interval: Annotated[
        float,
        typer.Option(
            parser=parse_duration, metavar="TIME", help="Time between two looks at a pod.", show_default="5s"
        ),
    ] = 5.0,
    status: Status = None,
    gpu: Gpu = None,
    name: Name = None,
    ready: Ready = None,
    older_than: OlderThan = None,
) -> None:
    """Show how pods are and how that changes, until Ctrl-C.

    Without ids: all pods, also those that are created meanwhile.
    With ids: until all of them are gone.

    What needs looking at comes first. Where stdout is no terminal, each
    change of a pod's state is a line.
    """
    handles = read_handles(pods) if pods else None
    wanted = PodFilter(status=status, gpu=gpu, name=name, ready=ready, older_than=older_than, team=api.team)
    if handles is not None and not wanted.is_empty and wanted != PodFilter(team=api.team):
        raise CommandError("ids and filters exclude each other", ExitCode.USAGE)
    if handles == []:
        raise CommandError("no ids: there is nothing to watch", ExitCode.USAGE)
    ids = None
    if handles is not None:
        with api.client() as client:
            ids = resolve_handles(client, handles, team=api.team, unlisted="waiting for it to appear")
    from ._watching import watch

    watch(api, ids, wanted.matches, interval=interval, as_json=output is Lines.JSONL)
