"""Calls of ``on_change``."""

from __future__ import annotations

import asyncio
import inspect

from ..models import PodChange
from ..waiting import OnChange


async def call_back(on_change: OnChange, change: PodChange) -> None:
    """Call ``on_change``, sync or async.

    Raises:
        RuntimeError: ``on_change`` raised ``CancelledError`` or ``GeneratorExit``, with which the lease's
            task would end without an error.
    """
    task = asyncio.current_task()
    try:
        result = on_change(change)
        if inspect.isawaitable(result):
            await result
    except (asyncio.CancelledError, GeneratorExit) as exc:
        if not _is_cancelled_or_closed(task):
            raise RuntimeError(f"on_change raised {exc!r}") from exc
        raise


def _is_cancelled_or_closed(task: asyncio.Task[object] | None) -> bool:
    """Return whether other code has cancelled the task, or the coroutine is being closed."""
    try:
        running = asyncio.current_task()
    except RuntimeError:  # no event loop
        running = None
    if running is None or running is not task:
        # Outside its task, a coroutine runs only to be closed, by `close()` or the garbage collector.
        return True
    return running.cancelling() > 0
