"""Calls of ``on_change`` whose exceptions end the lease, but no task."""

from __future__ import annotations

import asyncio
import inspect

from ..models import PodChange
from ..waiting import OnChange


async def call_back(on_change: OnChange, change: PodChange) -> None:
    """Call ``on_change``, sync or async.

    Raises:
        RuntimeError: It raised what ends tasks and coroutines.
    """
    task = asyncio.current_task()
    try:
        result = on_change(change)
        if inspect.isawaitable(result):
            await result
    except (asyncio.CancelledError, GeneratorExit) as exc:
        if _is_running(task):
            raise RuntimeError(f"on_change raised {exc!r}") from exc
        raise


def _is_running(task: asyncio.Task[object] | None) -> bool:
    """Tell whether this is called in ``task``, and nobody has cancelled it."""
    try:
        running = asyncio.current_task()
    except RuntimeError:  # no event loop: a coroutine is thrown away
        return False
    return running is not None and running is task and not running.cancelling()
