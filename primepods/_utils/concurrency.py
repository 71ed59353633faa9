"""Many calls at once, with a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def map_bounded(function: Callable[[T], Awaitable[R]], items: Sequence[T], limit: int) -> list[R]:
    """Return ``[await function(item) for item in items]``, with at most ``limit`` calls in progress.

    The first exception cancels the rest and is raised unchanged.
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
            # An eager task may already have failed here.
            workers.append(group.create_task(work()))
    if errors:
        # Prevent a reference cycle: the exception's traceback references this frame. So this frame drops
        # what leads to the exception: the item of `errors`, and the group, whose task may end with it.
        del group
        raise errors.pop()
    # If other code has cancelled a worker, the worker's item has no result yet.
    return [results[index] if index in results else await function(item) for index, item in enumerate(items)]
