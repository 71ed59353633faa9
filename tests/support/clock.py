"""A clock that moves when it is told to, or when everything else stands still."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Callable, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from random import Random
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from weakref import WeakKeyDictionary

from primepods._utils.clock import Clock

_T = TypeVar("_T")

_QUIET_TURNS: Final = 10
_QUIET_SECONDS: Final = 0.001
"""Real seconds without anything to do before an automatic clock jumps: room for the kernel to deliver."""
_THREAD_SECONDS: Final = 0.0005
"""Real seconds between two looks at a loop whose threads are at work: each turn would slow them down."""
_MAX_BUSY_SECONDS: Final = 60.0
"""Real seconds after which a loop that never comes to rest fails its test."""


class CountingExecutor(ThreadPoolExecutor):
    """The threads of a loop, whose clock must know when they are at work.

    CPython 3.13's own count of idle threads goes wrong for good where a thread takes the next job before
    `submit` has looked for an idle one.
    """

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Start a job for the running loop."""
        loop = asyncio.get_running_loop()
        job = super().submit(fn, *args, **kwargs)
        jobs = _Activity.of(loop).jobs
        jobs.add(job)
        # In the next turn, after asyncio's own callback: a job ends once the loop has its result.
        loop.call_soon(job.add_done_callback, jobs.discard)
        return job


class _Activity:
    """What a loop has to do, without the turns that only watch it: they must not take each other for work."""

    _of: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Activity]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self.jobs: set[Future[Any]] = set()
        """What the loop's threads have not done yet."""
        self._waiting = 0
        self._turns = 0

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> _Activity:
        """Return the activity of a loop."""
        return cls._of.setdefault(loop, cls())

    def before_turn(self) -> None:
        """Count a turn that is being scheduled."""
        self._waiting += 1
        self._turns += 1

    def after_turn(self) -> None:
        """Count a turn that has come, or was cancelled."""
        self._waiting -= 1

    def work(self, loop: asyncio.AbstractEventLoop) -> int:
        """Return how many callbacks a loop has been given so far, if it counts them, as `uv_loop` does."""
        return getattr(loop, "scheduled", self._turns) - self._turns

    def check_progress(self, loop: asyncio.AbstractEventLoop, since: float) -> None:
        """Fail the test whose loop has not come to rest for too long.

        Raises:
            SystemExit: The one error that gets out of a loop, and fails one test only.
        """
        if time.monotonic() - since > _MAX_BUSY_SECONDS:
            jobs, ready = len(self.jobs), getattr(loop, "_ready", "unknown")
            raise SystemExit(
                f"no rest for {_MAX_BUSY_SECONDS:g} s: {jobs} jobs in threads, callbacks {ready}"
            )

    def is_idle(self, loop: asyncio.AbstractEventLoop, work: int) -> bool:
        """Tell whether nothing waits to be run, where ``work`` was the count when this turn was scheduled."""
        ready: Sized = () if hasattr(loop, "scheduled") else loop._ready  # type: ignore[attr-defined]  # asyncio's own
        if len(ready) > self._waiting or self.work(loop) > work:
            return False
        return not self.has_busy_threads(loop)

    def has_busy_threads(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether threads, as those of `asyncio.to_thread`, will have something for the loop to do."""
        executor = getattr(loop, "_default_executor", None)
        assert executor is None or isinstance(executor, CountingExecutor), (
            "a clock for a loop of tests.support.loops"
        )
        return bool(self.jobs) or getattr(loop, "resolving", 0) > 0


async def settle(turns: int = _QUIET_TURNS) -> None:
    """Return when the loop has had nothing else to do for some turns and a millisecond: all sockets rest."""
    loop = asyncio.get_running_loop()
    activity = _Activity.of(loop)
    begun = time.monotonic()
    for _ in range(2):
        quiet = 0
        while quiet < turns:
            activity.check_progress(loop, begun)
            if activity.has_busy_threads(loop):
                await asyncio.sleep(_THREAD_SECONDS)
            work = activity.work(loop)
            activity.before_turn()
            try:
                await asyncio.sleep(0)
            finally:
                activity.after_turn()
            quiet = quiet + 1 if activity.is_idle(loop, work) else 0
        await asyncio.sleep(_QUIET_SECONDS)


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
        self._moved_at = 0.0

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
        """Watch the running loop, by callbacks and not by a task, so that no test counts it as a leak."""
        loop = asyncio.get_running_loop()
        if self._driver is not loop:
            self._driver = loop
            self._moved_at = time.monotonic()
            self._soon(loop, 0, rested=False)

    def _soon(self, loop: asyncio.AbstractEventLoop, quiet: int, *, rested: bool) -> None:
        activity = _Activity.of(loop)
        work = activity.work(loop)

        def turn() -> None:
            activity.after_turn()
            self._watch(loop, quiet, work, rested=rested)

        activity.before_turn()
        loop.call_soon(turn)

    def _watch(self, loop: asyncio.AbstractEventLoop, quiet: int, work: int, *, rested: bool) -> None:
        due = self.next_due()
        if due is None or self._driver is not loop:
            if self._driver is loop:
                self._driver = None
            return
        activity = _Activity.of(loop)
        activity.check_progress(loop, self._moved_at)
        if activity.has_busy_threads(loop):
            look = partial(self._watch, loop, 0, activity.work(loop), rested=False)
            loop.call_later(_THREAD_SECONDS, look)
            return
        if not activity.is_idle(loop, work):
            quiet, rested = 0, False
        if quiet < _QUIET_TURNS:
            self._soon(loop, quiet + 1, rested=rested)
        elif not rested:
            rest = partial(self._watch, loop, 0, activity.work(loop), rested=True)
            loop.call_later(_QUIET_SECONDS, rest)
        else:
            self.jump(due)
            self._moved_at = time.monotonic()
            self._soon(loop, 0, rested=False)


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
