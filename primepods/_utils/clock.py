"""Clocks, random numbers and backoff."""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol

_RANDOM = random.SystemRandom()
_NO_LOOP = (
    "primepods.AsyncClient needs a running asyncio loop. Elsewhere use primepods.Client, whose calls block; "
    "under trio: await trio.to_thread.run_sync(client.pods.get, pod_id)."
)
# CLOCK_BOOTTIME on Linux and CLOCK_MONOTONIC on macOS include the machine's sleep; time.monotonic() does not.
_BOOTTIME: Final[int] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 0))


class Timeout(AbstractAsyncContextManager[Any], Protocol):
    """Context manager of :meth:`Clock.timeout_at`, such as ``asyncio.Timeout``."""

    def reschedule(self, when: float, /) -> None: ...

    def expired(self) -> bool: ...


class Clock:
    """Time, timeouts and random numbers of a client, which tests can replace."""

    def time(self) -> float:
        """Return monotonic seconds.

        Raises:
            RuntimeError: No asyncio loop is running.
        """
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            raise RuntimeError(_NO_LOOP) from None

    def boottime(self) -> float:
        """Return monotonic seconds, which include the machine's sleep on Linux and macOS."""
        if sys.platform == "win32":
            return time.monotonic()
        return time.clock_gettime(_BOOTTIME)

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await self.wait(asyncio.Event(), seconds)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait until ``event`` is set or ``seconds`` (if finite) have passed; return whether it is set."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds if seconds < math.inf else None):
                await event.wait()
        return event.is_set()

    def timeout_at(self, when: float) -> Timeout:
        """Return a context manager that raises ``TimeoutError`` when :meth:`time` reaches ``when``."""
        return asyncio.timeout_at(when)

    def random(self) -> float:
        """Return a number from 0 (inclusive) to 1 (exclusive).

        ``random.random`` is not used, because processes with the same seed would get the same numbers.
        """
        return _RANDOM.random()


def doubled(seconds: float, *, times: int, maximum: float) -> float:
    """Return ``seconds * 2**times``, but at most ``maximum``, for exponential backoff."""
    return min(maximum, seconds * 2.0 ** min(times, 60))  # 2.0 ** 1024 overflows


_MIN_SERVER_TIME: Final = 1_735_689_600
"""2025-01-01."""
_MAX_SERVER_TIME: Final = 3_723_321_600
"""2087-12-27, before the last expiry that a name can hold, in 2088."""


class ServerClock:
    """The server's time, from the latest ``Date`` header, so that different machines can compare times.

    Attributes:
        clock: The client's clock, which measures the time since that header.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock: Clock = clock
        self._date = ""
        self._seen_at = 0.0

    def note(self, date: str | None) -> None:
        """Store the ``Date`` header of a response that was just received."""
        if date:
            self._date, self._seen_at = date, self.clock.boottime()

    def now(self) -> float | None:
        """Return seconds since the epoch; ``None`` without a header, or if the latest is not plausible."""
        date = parse_http_date(self._date)
        if date is None or not _MIN_SERVER_TIME <= date < _MAX_SERVER_TIME:
            return None
        return date + self.clock.boottime() - self._seen_at


def parse_http_date(text: str) -> float | None:
    """Return a date in a header as seconds since the epoch; ``None`` if ``text`` is not a date."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return date.timestamp()


SYSTEM_CLOCK = Clock()
