"""`primepods list`: the account's pods, filtered and sorted, with their prices."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any

import primepods

from .._shared.command import Api, api_command
from .._shared.options import flag, option
from .._shared.output import LimitOption, PrintOptions, readable_rows
from .._shared.pod_table import PODS, team_table
from .._shared.table import print_info
from .._shared.text import count
from ._filters import PodFilter


class SortKey(StrEnum):
    """Values of ``--sort``."""

    CREATED = "created"
    NAME = "name"
    STATUS = "status"
    GPU = "gpu"
    PRICE = "price"


@api_command
def command(
    api: Api,
    *,
    print_options: PrintOptions,
    limit: LimitOption = None,
    sort: Annotated[
        SortKey,
        option("created, name, status, gpu or price.", "ORDER", case_sensitive=False),
    ] = SortKey.CREATED,
    reverse: Annotated[bool, flag("Sort in reverse order.", "--reverse")] = False,
    filters: PodFilter,
) -> None:
    """List your pods, filtered and sorted, with their prices per hour.

    Terminated pods are in the history. With --team, lists only the pods of that team, and their owners.

    Examples:
      primepods list --not-ready
      primepods list --gpu H100 --older-than 1d --sort price --reverse
      primepods list -o json | jq '.[].ssh.command'
    """
    from primepods.remote import HostEntry, note_hosts

    owners: dict[str, str] = {}
    table = PODS if api.team is None else team_table(owners)
    table.check(print_options)
    with api.client() as client, readable_rows(client.pods.list()) as listed:
        pods = sorted(filters.choose(listed, api.team), key=_SORT_KEYS[sort], reverse=reverse)
        shown_pods = pods[:limit]
        hidden_pods = pods[len(shown_pods) :]
        note_hosts(HostEntry.of(pod) for pod in listed if pod.is_ready)
        if api.team is not None and print_options.is_table:
            with suppress(primepods.PrimePodsError):
                owners |= {
                    row.user_id: row.user_name or row.user_id for row in client.account.members(api.team)
                }
        # Shortened ids must also differ from the ids of hidden pods.
        table.print(shown_pods, print_options, other_ids=[pod.id for pod in listed])
        if hidden_pods:
            print_info(f"{count(hidden_pods, 'more pod')} not shown, because of --limit.")
        if not pods:
            message = filters.no_match_message(client, listed, api.team)
            if not print_options.ids_only:
                print_info(message)


_SORT_KEYS: dict[SortKey, Callable[[primepods.Pod], Any]] = {
    SortKey.CREATED: lambda pod: pod.created_at.timestamp() if pod.created_at else 0.0,
    SortKey.NAME: lambda pod: pod.name or "",
    SortKey.STATUS: lambda pod: (pod.status or "", pod.name or ""),
    SortKey.GPU: lambda pod: (pod.gpu_name, pod.gpu_count),
    SortKey.PRICE: lambda pod: pod.price_hr,
}
