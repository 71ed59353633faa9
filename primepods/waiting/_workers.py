"""Work on a queue, a few items at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class WorkerPool(Generic[T]):
    """Runs ``work`` for each item of a queue, at most ``size`` at a time.

    Args:
        size: How many at a time.
        work: What is done with an item; must not raise.
        start: Starts a task.
    """

    def __init__(
        self,
        size: int,
        work: Callable[[T], Awaitable[None]],
        start: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._size = size
        self._work = work
        self._start = start
        self._queue: deque[T] = deque()
        self._busy = 0

    def add(self, item: T) -> None:
        """Queue an item."""
        self._queue.append(item)
        if self._busy < self._size:
            self._busy += 1
            self._start(self._run())

    async def _run(self) -> None:
        try:
            while self._queue:
                await self._work(self._queue.popleft())
        finally:
            self._busy -= 1
