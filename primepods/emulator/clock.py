"""Clocks of the emulator: the system's, at any speed, or one that a test moves.

Times are seconds since the clock's epoch.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

MANUAL_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Interface of an emulator's clock."""

    @property
    def epoch(self) -> datetime:
        """Return the timezone-aware datetime at which ``now()`` is 0.0."""
        ...

    def now(self) -> float:
        """Return the seconds since ``epoch``; they never decrease."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep until ``now()`` has increased by ``seconds``, which may be negative or infinite."""
        ...


class SystemClock:
    """The system's clock; it starts at 0 when created.

    Args:
        speed: Emulated seconds per real second. With 60.0, a boot of five minutes takes five seconds.

    Raises:
        ValueError: The speed is not a positive finite number.
    """

    def __init__(self, *, speed: float = 1.0) -> None:
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(
                f"speed must be a positive, finite number of emulated seconds per real second, not {speed!r}"
            )
        self.speed: float = speed
        self.epoch: datetime = datetime.now(UTC)
        self._started = time.monotonic()

    def now(self) -> float:
        """Return emulated seconds since this clock was created."""
        return (time.monotonic() - self._started) * self.speed

    async def sleep(self, seconds: float) -> None:
        """Sleep for ``seconds`` emulated seconds, which are ``seconds / speed`` real seconds."""
        await asyncio.sleep(max(0.0, seconds) / self.speed)


class _Sleeper(NamedTuple):
    ends_at: float
    loop: asyncio.AbstractEventLoop
    event: asyncio.Event


class ManualClock:
    """A clock that moves only by ``advance``; thread-safe.

    Args:
        epoch: Datetime at which ``now()`` is 0.0. The default, 2026-01-01 UTC, makes responses reproducible.

    Raises:
        ValueError: The datetime has no time zone.
    """

    def __init__(self, *, epoch: datetime = MANUAL_EPOCH) -> None:
        if epoch.tzinfo is None:
            raise ValueError(
                "epoch must be a timezone-aware datetime, such as datetime(2026, 1, 1, tzinfo=UTC)"
            )
        self.epoch: datetime = epoch
        self._now = 0.0
        self._lock = threading.Lock()
        self._sleepers: list[_Sleeper] = []

    def now(self) -> float:
        """Return the seconds by which this clock has been advanced."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move time forward by ``seconds``.

        Raises:
            ValueError: ``seconds`` is negative or not finite.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"seconds must be a finite number of at least 0, got {seconds!r}")
        with self._lock:
            self._now += seconds
            due = [sleeper for sleeper in self._sleepers if sleeper.ends_at <= self._now]
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper.ends_at > self._now]
        for sleeper in due:
            # Another thread may close the loop at any time; then no task waits any more.
            with suppress(RuntimeError):
                sleeper.loop.call_soon_threadsafe(sleeper.event.set)

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock has been advanced by ``seconds``."""
        event = asyncio.Event()
        with self._lock:
            ends_at = self._now + seconds
            if ends_at <= self._now:
                return
            sleeper = _Sleeper(ends_at, asyncio.get_running_loop(), event)
            self._sleepers.append(sleeper)
        try:
            await event.wait()
        finally:
            with self._lock:
                self._sleepers = [other for other in self._sleepers if other is not sleeper]


def timestamp(epoch: datetime, seconds: float) -> str:
    """Return the time ``seconds`` after ``epoch``, in UTC and in RFC 3339 format."""
    return (epoch + timedelta(seconds=seconds)).astimezone(UTC).isoformat().replace("+00:00", "Z")
