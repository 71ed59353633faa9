"""Concurrent calls with a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def map_bounded(function: Callable[[T], Awaitable[R]], items: Sequence[T], limit: int) -> list[R]:
    """Return ``[await function(item) for item in items]``, with up to ``limit`` calls at a time.

    The first exception cancels the other calls and is raised unchanged.
    """
    results: dict[int, R] = {}
    errors: list[Exception] = []
    workers: list[asyncio.Task[None]] = []
    queue = iter(enumerate(items))  # Shared by the workers.

    async def work() -> None:
        try:
            for index, item in queue:
                results[index] = await function(item)
        except Exception as exc:  # noqa: BLE001 - raised below, without a group around it
            if not errors:
                errors.append(exc)
            for worker in workers:
                worker.cancel()

    async with asyncio.TaskGroup() as group:
        while len(workers) < min(limit, len(items)) and not errors:
            # An eager task may fail within `create_task`.
            workers.append(group.create_task(work()))
    if errors:
        # The traceback references this frame, so keep no reference to the exception here.
        del group
        raise errors.pop()
    # An item has no result if other code cancelled its worker.
    return [results[index] if index in results else await function(item) for index, item in enumerate(items)]
