"""Keeping up with the pods of an account."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from .._utils.arguments import check_ids
from .._utils.text import one_line
from ..client import AsyncClient
from ..errors import APIError, PrimePodsError, ProtocolError, TransportError
from ..models import Pod, PodChange, PodRef
from ._fleet import Fleet

_INTERVALS_PER_LIST: Final = 3
_PAGE_SIZE: Final = 1_000
_log: Final = logging.getLogger("primepods")


async def follow(  # noqa: PLR0913 - all but the first two have defaults
    client: AsyncClient,
    fleet: Fleet,
    pod_ids: Iterable[PodRef] | None = None,
    *,
    wanted: Callable[[Pod], bool] | None = None,
    interval: float = 5.0,
    on_change: Callable[[PodChange], object] | None = None,
) -> None:
    """Keep ``fleet`` up to date: of the pods named until all are gone, else of all until cancelled.

    All means also those that are created meanwhile: the list is read again every third interval. What passes
    is waited out, as in ``pods.watch``; while the list cannot be read, ``fleet.trouble``
    says why, and the log (WARNING) has said it once.

    Args:
        client: An open client.
        fleet: What to keep up to date.
        pod_ids: Ids, or pods; ``None`` for the whole account.
        wanted: Which pods of the account to follow; one that was wanted once stays, whatever becomes of it.
        interval: Seconds between two looks at a pod, from 0.05.
        on_change: Called with each change, when the fleet knows of it; what it raises ends this.

    Raises:
        PrimePodsError: What ``pods.list`` raises before it has yielded anything, what it raises later and
            will not pass, and what ``pods.watch`` raises.
    """
    if pod_ids is not None:
        ids = check_ids(pod_ids)
        fleet.expect(ids)
        await _read_list(client, fleet, lambda pod: pod.id in fleet)
        await _watch(client, fleet, ids, interval, on_change)
        return
    watches: set[asyncio.Task[None]] = set()
    try:
        new = await _read_list(client, fleet, wanted)
        while True:
            if new:
                watches.add(asyncio.create_task(_watch(client, fleet, new, interval, on_change)))
            await _sleep(_INTERVALS_PER_LIST * interval, watches)
            new = await _read_list(client, fleet, wanted)
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


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
    """Learn of the account's pods; returns the ids of those that are new.

    What was read before an error counts; a row that cannot be read hides no other.
    """
    found, trouble = await client.pods.list(page_size=_PAGE_SIZE).collect()
    if trouble is not None:
        if not _may_pass(trouble) or not (found or fleet.listed):
            raise trouble
        if fleet.trouble is None:
            _log.warning("Watching goes on, but the list cannot be read in full: %s", one_line(str(trouble)))
    fleet.trouble = trouble
    if not fleet.listed:
        fleet.listed = True
        fleet.version += 1
    return fleet.expect(pod for pod in found if wanted is None or wanted(pod))


def _may_pass(error: PrimePodsError) -> bool:
    return isinstance(error, ProtocolError) or (
        isinstance(error, APIError | TransportError) and error.transient
    )


async def _sleep(seconds: float, watches: set[asyncio.Task[None]]) -> None:
    """Sleep, unless a watch fails; forget those that have ended."""
    pause = asyncio.create_task(asyncio.sleep(seconds))
    try:
        while not pause.done():
            await asyncio.wait({pause, *watches}, return_when=asyncio.FIRST_COMPLETED)
            for watch in [watch for watch in watches if watch.done()]:
                watches.discard(watch)
                watch.result()
    finally:
        pause.cancel()
