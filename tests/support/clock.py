"""A clock that moves when it is told to, or when everything else stands still."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random
from types import TracebackType
from typing import Any, Final, Self

from primepods._utils.clock import Clock
from tests.support.loops import PlainLoop

_REST: Final = 0.0005
"""Real seconds between two looks at a loop: room for the kernel to deliver."""
_RESTS: Final = 2
"""Looks in a row that must find a loop quiet, before an automatic clock jumps."""
_SETTLED_RESTS: Final = 5
"""The same for :func:`settle`."""
_MAX_BUSY_SECONDS: Final = 100.0
"""Real seconds after which a loop that never comes to rest fails its test."""


class _Rest:
    """Calls ``then`` once a loop of `tests.support.loops` has nothing to do, nor its threads for it.

    By timers alone: no task that a test would count as a leak, no turns that keep the loop busy.
    """

    def __init__(self, loop: Any, then: Callable[[], None], rests: int = _RESTS) -> None:
        if type(loop) is asyncio.SelectorEventLoop:
            loop.__class__ = PlainLoop  # one of `asyncio.run`
        self._loop = loop
        self._then = then
        self._rests = rests
        self._since = time.monotonic()
        self._look(0)

    def _look(self, rests: int) -> None:
        self._loop.call_later(_REST, self._after, rests, self._loop.activity)

    def _after(self, rests: int, activity: int) -> None:
        loop = self._loop
        if time.monotonic() - self._since > _MAX_BUSY_SECONDS:
            # The one error that gets out of a loop, and fails one test only.
            ready = getattr(loop, "_ready", "unknown")
            raise SystemExit(f"no rest for {_MAX_BUSY_SECONDS:g} s: {loop.jobs} jobs in threads, {ready}")
        if loop.jobs or loop.resolving or loop.activity > activity:
            self._look(0)
        elif rests + 1 < self._rests:
            self._look(rests + 1)
        else:
            self._then()


async def settle() -> None:
    """Return when the loop has had nothing else to do for some milliseconds: all sockets rest."""
    loop = asyncio.get_running_loop()
    rested = loop.create_future()
    _Rest(loop, lambda: _wake(rested), _SETTLED_RESTS)
    await rested


def _wake(waker: asyncio.Future[None]) -> None:
    if not waker.done():
        waker.set_result(None)


class ManualClock(Clock):
    """The package's `Clock` without waiting: its time moves by `advance`, or by itself with ``auto``.

    Args:
        auto: jump to the next timer whenever nothing else can proceed, so that retries and timeouts of real
            requests need no hand to drive them. Of no use to a test that itself keeps a server waiting.
        chance: what `random` gives, or a generator to draw from.
        start: monotonic seconds at the beginning.
        wall: seconds since the epoch at the beginning.
    """

    def __init__(
        self,
        *,
        auto: bool = False,
        chance: float | Random = 0.5,
        start: float = 1_000.0,
        wall: float = 1_767_225_600.0,
    ) -> None:
        self.sleeps: list[float] = []
        """Every pause that was asked for, in seconds."""
        self._auto = auto
        self._chance = chance
        self._now = self._start = start
        self._wall = wall
        self._slept = 0.0
        self._timers: list[tuple[float, int]] = []
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()
        self._driver: asyncio.AbstractEventLoop | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the clock was made."""
        return self._now - self._start

    @property
    def timers(self) -> int:
        """How many sleepers and timeouts are waiting."""
        return len(self._callbacks)

    def time(self) -> float:
        """Monotonic seconds."""
        return self._now

    def boottime(self) -> float:
        """Monotonic seconds, those in which the machine slept among them."""
        return self._now + self._slept

    def wall(self) -> float:
        """Seconds since the epoch."""
        return self._wall + self.elapsed + self._slept

    def suspend(self, seconds: float) -> None:
        """Have the machine sleep: timers stand still meanwhile."""
        self._slept += seconds

    def random(self) -> float:
        """The fixed number, or the generator's next."""
        return self._chance.random() if isinstance(self._chance, Random) else self._chance

    async def sleep(self, seconds: float) -> None:
        """Return once the clock has moved on by ``seconds``."""
        self.sleeps.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waker = asyncio.get_running_loop().create_future()
        number = self.call_at(self._now + seconds, lambda: _wake(waker))
        try:
            await waker
        finally:
            self.cancel(number)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Return once ``event`` is set, or the clock has moved on by ``seconds``, if finite."""
        self.sleeps.append(seconds)
        limit = self.timeout_at(self._now + seconds)
        with suppress(TimeoutError):
            async with limit:
                await event.wait()
        return event.is_set()

    def timeout_at(self, when: float) -> ManualTimeout:
        """A timeout that fires when this clock reaches ``when``."""
        return ManualTimeout(self, when)

    async def advance(self, seconds: float) -> None:
        """Move on by ``seconds``, firing what falls due in its order and letting the loop rest in between."""
        until = self._now + seconds
        await settle()
        while (due := self.next_due()) is not None and due <= until:
            self.jump(due)
            await settle()
        self._now = until
        await settle()

    def call_at(self, when: float, callback: Callable[[], None]) -> int:
        """Call ``callback`` when the clock reaches ``when``; returns a number for `cancel`."""
        number = next(self._numbers)
        self._callbacks[number] = callback
        heapq.heappush(self._timers, (when, number))
        if self._auto:
            self._drive()
        return number

    def cancel(self, number: int) -> None:
        """Forget a callback; does nothing for one that was called."""
        self._callbacks.pop(number, None)

    def next_due(self) -> float | None:
        """When the next timer is due."""
        while self._timers and self._timers[0][1] not in self._callbacks:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def jump(self, when: float) -> None:
        """Move to ``when`` at once: what falls due is fired, and the loop has no rest in between."""
        self._now = max(self._now, when)
        while (due := self.next_due()) is not None and due <= self._now:
            self._callbacks.pop(heapq.heappop(self._timers)[1])()

    def _drive(self) -> None:
        loop = asyncio.get_running_loop()
        if self._driver is not loop:
            self._driver = loop
            _Rest(loop, partial(self._jump, loop))

    def _jump(self, loop: asyncio.AbstractEventLoop) -> None:
        due = self.next_due()
        if self._driver is not loop:
            return
        if due is None:
            self._driver = None
            return
        self.jump(due)
        _Rest(loop, partial(self._jump, loop))


class EarlyClock(ManualClock):
    """A clock whose timeouts fire a moment early, as uvloop's do."""

    def timeout_at(self, when: float) -> ManualTimeout:
        """A timeout that fires a millisecond before ``when``."""
        return super().timeout_at(when - 0.001)


class ManualTimeout:
    """`asyncio.timeout` on a manual clock."""

    def __init__(self, clock: ManualClock, when: float) -> None:
        self._clock = clock
        self._when = when
        self._inner = asyncio.timeout(None)
        self._number: int | None = None

    def expired(self) -> bool:
        """Whether it was this timeout that fired."""
        return self._inner.expired()

    def reschedule(self, when: float) -> None:
        """Fire when the clock reaches another time."""
        if self._number is not None:
            self._clock.cancel(self._number)
            self._number = None
        self._when = when
        self._schedule()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        self._schedule()
        return self

    def _schedule(self) -> None:
        if self._when <= self._clock.time():
            self._fire()
        elif self._when < math.inf:
            self._number = self._clock.call_at(self._when, self._fire)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._number is not None:
            self._clock.cancel(self._number)
        await self._inner.__aexit__(kind, exc, trace)

    def _fire(self) -> None:
        self._number = None
        self._inner.reschedule(asyncio.get_running_loop().time())
