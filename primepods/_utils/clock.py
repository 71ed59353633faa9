"""Time, as the rest of the package sees it: one object that tests can replace."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

_RANDOM = random.SystemRandom()


class Timeout(AbstractAsyncContextManager[Any], Protocol):
    """What :meth:`Clock.timeout_at` gives: says afterwards whether it was the one that fired."""

    def expired(self) -> bool:
        """Tell whether the time ran out."""
        ...


class Clock(Protocol):
    """Monotonic seconds, sleeping, timeouts, wall-clock time and chance."""

    def time(self) -> float:
        """Return monotonic seconds."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch."""
        ...

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Return after ``seconds``."""
        ...

    def timeout_at(self, when: float) -> Timeout:
        """Raise ``TimeoutError`` in the block when :meth:`time` reaches ``when``."""
        ...

    def random(self) -> float:
        """Return a number from 0 (inclusive) to 1 (exclusive)."""
        ...


class SystemClock:
    """The real clock of the running event loop."""

    def time(self) -> float:
        """Return the running loop's seconds."""
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep for real."""
        await asyncio.sleep(seconds)

    def timeout_at(self, when: float) -> Timeout:
        """Return asyncio's own timeout."""
        return asyncio.timeout_at(when)

    def random(self) -> float:
        """Return the operating system's number: programs seed the shared generator, and must not agree."""
        return _RANDOM.random()


SYSTEM_CLOCK: Clock = SystemClock()
