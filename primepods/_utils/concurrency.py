"""Many calls at once, within a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def map_bounded(function: Callable[[T], Awaitable[R]], items: Sequence[T], limit: int) -> list[R]:
    """Return ``[await function(item) for item in items]``, with at most ``limit`` of them under way.

    The first exception cancels the rest and is raised as it is.
    """
    results: dict[int, R] = {}
    queue = iter(enumerate(items))

    async def work() -> None:
        for index, item in queue:
            results[index] = await function(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(limit, len(items))):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    else:
        return [results[index] for index in range(len(items))]
    # Outside the `except`: the group would only repeat what the first error says.
    raise first
