"""Updates of a fleet from given pods or from an account."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from .._utils.arguments import check_ids, check_interval
from .._utils.text import one_line
from ..client import AsyncClient
from ..errors import APIError, ProtocolError, TransportError
from ..models import Pod, PodChange, PodRef
from ._fleet import Fleet

_INTERVALS_PER_LIST: Final = 3
_PAGE_SIZE: Final = 1_000
_log: Final = logging.getLogger("primepods")


async def follow(
    client: AsyncClient,
    fleet: Fleet,
    pod_ids: Iterable[PodRef] | None = None,
    *,
    wanted: Callable[[Pod], bool] | None = None,
    interval: float = 5.0,
    on_change: Callable[[PodChange], object] | None = None,
) -> None:
    """Update ``fleet`` from the given pods until all are gone, or from all pods until cancelled.

    Without ``pod_ids``, the list is read again about every three intervals, so that new pods are included.
    After the list has been read at least in part, a transient error or a ``ProtocolError`` while reading it
    does not end the call: it is stored in ``fleet.trouble``, and the first of consecutive errors is logged.

    Args:
        client: An open client.
        fleet: The fleet to update. Without ``pod_ids``, pods that it already has are watched if they are
            listed: the others may belong to another account.
        pod_ids: Ids, or pods; ``None`` for the whole account.
        wanted: Predicate that selects pods of the whole account; a pod that matched once stays. It is not
            used with ``pod_ids``.
        interval: Seconds between two polls of a pod, at least 0.05.
        on_change: Callback for each change, after the fleet's update; its exceptions end the call.

    Raises:
        PrimePodsError: An error of ``pods.watch``, or any other error of ``pods.list``.
    """
    check_interval(interval)
    if pod_ids is not None:
        ids = check_ids(pod_ids)
        fleet.expect(ids)
        # A watch does not yield names and GPUs, so read the list once.
        await _read_list(client, fleet, lambda pod: pod.id in fleet)
        await _watch(client, fleet, ids, interval, on_change)
        return
    watched: set[str] = set()
    try:
        async with asyncio.TaskGroup() as watches:
            while True:
                listed = await _read_list(client, fleet, wanted)
                # Gone pods that the fleet has forgotten are forgotten here, too.
                watched = {pod_id for pod_id in watched if pod_id in fleet}
                if new_ids := [pod_id for pod_id in listed if pod_id not in watched]:
                    watched.update(new_ids)
                    watches.create_task(_watch(client, fleet, new_ids, interval, on_change))
                await asyncio.sleep(_INTERVALS_PER_LIST * interval)
    except BaseExceptionGroup as errors:
        # The first error has ended the list and all watches.
        raise errors.exceptions[0] from None


async def _watch(
    client: AsyncClient,
    fleet: Fleet,
    pod_ids: list[str],
    interval: float,
    on_change: Callable[[PodChange], object] | None,
) -> None:
    async with client.pods.watch(pod_ids, interval=interval) as changes:
        async for change in changes:
            fleet.add(change)
            if on_change is not None:
                on_change(change)


async def _read_list(client: AsyncClient, fleet: Fleet, wanted: Callable[[Pod], bool] | None) -> list[str]:
    """Read the list, or a part of it; add the wanted pods, and return the ids of the fleet's listed pods."""
    found, trouble = await client.pods.list(page_size=_PAGE_SIZE).collect()
    if trouble is not None:
        is_transient = isinstance(trouble, ProtocolError) or (
            isinstance(trouble, APIError | TransportError) and trouble.transient
        )
        if not (is_transient and (found or fleet.listed)):
            raise trouble
        if fleet.trouble is None:
            _log.warning("Still watching, but the list cannot be read in full: %s", one_line(str(trouble)))
    fleet.trouble = trouble
    if not fleet.listed:
        fleet.listed = True
        fleet.version += 1
    fleet.expect(pod for pod in found if wanted is None or wanted(pod))
    return [pod.id for pod in found if pod.id in fleet]
