"""Time, as the rest of the package sees it: one object that tests can replace."""

from __future__ import annotations

import asyncio
import math
import random
import time
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Protocol

_RANDOM = random.SystemRandom()
_NO_LOOP = (
    "primepods.AsyncClient needs a running asyncio loop. Elsewhere use primepods.Client, whose calls block; "
    "under trio: await trio.to_thread.run_sync(client.pods.get, pod_id)."
)


class Timeout(AbstractAsyncContextManager[Any], Protocol):
    """What :meth:`Clock.timeout_at` gives: says afterwards whether it was the one that fired."""

    def expired(self) -> bool:
        """Tell whether the time ran out."""
        ...


class Clock:
    """Monotonic seconds of the running event loop, waiting, timeouts, wall-clock time and chance."""

    def time(self) -> float:
        """Return monotonic seconds.

        Raises:
            RuntimeError: asyncio is not running: the first thing that every call of the client notices.
        """
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            raise RuntimeError(_NO_LOOP) from None

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Return as soon as ``event`` is set, or after ``seconds``, if finite; tells whether it is set."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds if seconds < math.inf else None):
                await event.wait()
        return event.is_set()

    def timeout_at(self, when: float) -> Timeout:
        """Raise ``TimeoutError`` in the block when :meth:`time` reaches ``when``."""
        return asyncio.timeout_at(when)

    def random(self) -> float:
        """Return a number from 0 (inclusive) to 1 (exclusive).

        It is the operating system's: programs seed the shared generator, and must not agree.
        """
        return _RANDOM.random()


SYSTEM_CLOCK = Clock()
