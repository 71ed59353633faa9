"""Time, as the rest of the package sees it: one object that tests can replace."""

from __future__ import annotations

import asyncio
import math
import random
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
# Goes on while the machine sleeps; on macOS CLOCK_MONOTONIC does so, too, other than time.monotonic().
_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


class Timeout(AbstractAsyncContextManager[Any], Protocol):
    """What :meth:`Clock.timeout_at` gives: says afterwards whether it was the one that fired."""

    def reschedule(self, when: float, /) -> None:
        """Fire at another time."""
        ...

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

    def boottime(self) -> float:
        """Return monotonic seconds that go on while the machine sleeps, where the system has such a clock."""
        return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)

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


_EARLIEST: Final = 1_735_689_600
_LATEST: Final = 3_723_321_600
"""2025-01-01 and 2087-12-27: a server that says another time has not set its clock yet."""


class ServerClock:
    """The server's time, by the latest ``Date`` header: the only clock that two machines share.

    Args:
        clock: Tells how long ago that was.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._date = ""
        self._seen_at = 0.0

    def note(self, date: str | None) -> None:
        """Remember the ``Date`` header of a response that has just come."""
        if date:
            self._date, self._seen_at = date, self._clock.boottime()

    def now(self) -> float | None:
        """Return seconds since the epoch, to the second; ``None`` if the latest had none that can be true."""
        date = parse_http_date(self._date)
        if date is None or not _EARLIEST <= date < _LATEST:
            return None
        return date + self._clock.boottime() - self._seen_at


def parse_http_date(text: str) -> float | None:
    """Return an HTTP date in seconds since the epoch; ``None`` if it is none."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


SYSTEM_CLOCK = Clock()
