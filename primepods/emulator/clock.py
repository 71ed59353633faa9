"""Clocks for the emulator: real, faster than real, and moved by hand.

All times inside the emulator are seconds since the clock's epoch; only the wire shapes turn them into dates.
Nothing in the emulator asks the operating system for the time except ``SystemClock``, so that a test with a
``ManualClock`` never waits.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

MANUAL_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """The clock that an emulator uses."""

    @property
    def epoch(self) -> datetime:
        """Return the moment that ``now() == 0.0`` stands for, timezone-aware."""
        ...

    def now(self) -> float:
        """Return seconds since ``epoch``; never less than before."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return when ``now()`` has grown by ``seconds``."""
        ...


class SystemClock:
    """The machine's clock, started when it is made.

    Args:
        speed: How many emulated seconds pass in a real one: with 60.0 a boot of five minutes takes five.

    Raises:
        ValueError: The speed is not a positive finite number.
    """

    def __init__(self, *, speed: float = 1.0) -> None:
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(f"speed must be a positive number of emulated seconds a real one, not {speed!r}")
        self.speed: float = speed
        self.epoch: datetime = datetime.now(UTC)
        self._started = time.monotonic()

    def now(self) -> float:
        """Return emulated seconds since this clock was made."""
        return (time.monotonic() - self._started) * self.speed

    async def sleep(self, seconds: float) -> None:
        """Sleep ``seconds`` emulated seconds, which are ``seconds / speed`` real ones."""
        await asyncio.sleep(max(0.0, seconds) / self.speed)


class ManualClock:
    """A clock that stands still until ``advance`` is called; safe to move from any thread.

    Args:
        epoch: The date that its second 0 stands for; 2026-01-01 UTC, so that answers are reproducible.

    Raises:
        ValueError: The date has no time zone.
    """

    def __init__(self, *, epoch: datetime = MANUAL_EPOCH) -> None:
        if epoch.tzinfo is None:
            raise ValueError(
                "epoch must be a timezone-aware datetime, such as datetime(2026, 1, 1, tzinfo=UTC)"
            )
        self.epoch: datetime = epoch
        self._now = 0.0
        self._lock = threading.Lock()
        self._sleepers: list[tuple[float, asyncio.AbstractEventLoop, asyncio.Event]] = []

    def now(self) -> float:
        """Return the seconds by which this clock has been advanced."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move time forward by ``seconds``.

        Raises:
            ValueError: They are negative or not finite.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"a clock moves forward by a finite number of seconds, not by {seconds!r}")
        with self._lock:
            self._now += seconds
            due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self._now]
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._now]
        for _, loop, event in due:
            # The loop may have been closed since; whoever slept on it is gone, then.
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    async def sleep(self, seconds: float) -> None:
        """Return once ``advance`` has moved the clock by ``seconds``."""
        event = asyncio.Event()
        with self._lock:
            deadline = self._now + seconds
            if deadline <= self._now:
                return
            sleeper = (deadline, asyncio.get_running_loop(), event)
            self._sleepers.append(sleeper)
        try:
            await event.wait()
        finally:
            with self._lock:
                self._sleepers = [other for other in self._sleepers if other is not sleeper]


def timestamp(epoch: datetime, seconds: float) -> str:
    """Return an RFC 3339 time in UTC, with a fraction only where there is one."""
    return (epoch + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
