"""`primepods watch`: live table of pods, or a line for each change."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import Annotated

from .._shared.command import Api, api_command
from .._shared.durations import Interval
from .._shared.errors import CommandError, ExitCode
from .._shared.handles import OptionalPodHandles, read_handles, resolve_handles
from .._shared.options import option
from ._filters import PodFilter


class WatchOutput(StrEnum):
    """Values of ``--output`` of ``watch``."""

    TABLE = "table"
    JSONL = "jsonl"


@api_command
def command(
    api: Api,
    pods: OptionalPodHandles = None,
    *,
    output: Annotated[
        WatchOutput,
        option("A live table, or a line for each change.", None, "--output", "-o", case_sensitive=False),
    ] = WatchOutput.TABLE,
    interval: Interval = 5.0,
    filters: PodFilter,
) -> None:
    """Show pods and their changes live.

    Without ids, shows all pods that match the filters, including new pods, until Ctrl-C. With ids, ends at
    Ctrl-C, or when all these pods are gone or have not appeared for a minute.

    Pods that need attention come first. If stdout is not a terminal, prints a line for each change of a pod's
    state.
    """
    handles = read_handles(pods) if pods else None
    if handles is not None and not filters.is_empty:
        raise CommandError("give ids or filters, not both", ExitCode.USAGE)
    if handles == []:  # from an empty stdin, with `-`
        raise CommandError("stdin has no ids, so there is nothing to watch", ExitCode.USAGE)
    ids = None
    if handles is not None:
        with api.client() as client:
            ids = resolve_handles(client, handles, team=api.team, reports_unlisted=True)
    from ._watching import watch

    wanted = partial(filters.matches, team=api.team)
    watch(api, ids, wanted, interval=interval, as_json=output is WatchOutput.JSONL)
