"""Steps of a lease, each awaited in its own task, so that interruptions of the lease do not cancel it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from .._utils.clock import Clock

T = TypeVar("T")

log = logging.getLogger("primepods")

INTERRUPTS: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
MIN_INTERRUPTION_INTERVAL: Final = 0.05
"""Seconds; closer interruptions count as one: the end of a loop cancels all tasks of a lease together."""
HURRIED_TIMEOUT: Final = 10.0
"""Seconds to confirm that a pod is gone, after the release was interrupted."""
_MAX_INTERRUPTIONS: Final = 2
"""Number of interruptions at which a release is given up."""


class GivenUpError(Exception):
    """The release was interrupted too often."""


class EndedError(Exception):
    """The lease ends before the current step is done."""


class TooLateError(Exception):
    """The current step was not done in time."""


class Steps:
    """The steps of one lease, and their interruptions.

    Args:
        clock: The client's clock.
        on_interrupt: Called when a step is interrupted.

    Attributes:
        on_interrupt: The callback for interruptions.
        is_ending: Whether the lease is ending.
        interruptions: Number of interruptions of the release.
        interrupted_at: Time of the last interruption.
    """

    def __init__(self, clock: Clock, on_interrupt: Callable[[], None]) -> None:
        self.is_ending: bool = False
        self.interruptions: int = 0
        self.interrupted_at: float = -math.inf
        self.on_interrupt = on_interrupt
        self._clock = clock
        self._pid = 0
        self._signal: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """Start the lease in this process."""
        self._pid = os.getpid()

    @property
    def has_begun_in_this_process(self) -> bool:
        """Whether this process began the lease; a forked child leaves the pod to its parent."""
        return self._pid == os.getpid()

    def end(self) -> None:
        """Start the release, if it has not started."""
        if not self.is_ending:
            # When all tasks are cancelled, the block may end first. The lease's task is interrupted next:
            # that must not count as an interruption of the release.
            self.interrupted_at = self._clock.time()
        self.is_ending = True
        self.wake()

    def interrupt(self, label: str) -> None:
        """Start the release; a second call hurries it, a third gives it up.

        Args:
            label: The pod, for the log.
        """
        now = self._clock.time()
        if self.is_ending and now - self.interrupted_at >= MIN_INTERRUPTION_INTERVAL:
            self.interruptions += 1
            if self.interruptions == 1:
                log.warning("%s is being deleted: if interrupted again, it may be left running", label)
        self.interrupted_at = now
        self.end()

    @property
    def hurried_deadline(self) -> float:
        """Time at which an interrupted release ends; infinite if it was not interrupted."""
        return self.interrupted_at + HURRIED_TIMEOUT if self.interruptions else math.inf

    def wake(self) -> None:
        """Wake the current step, so that it checks its conditions again."""
        if self._signal is not None and not self._signal.done():
            self._signal.set_result(None)

    async def run(
        self,
        work: Coroutine[Any, Any, T],
        *,
        deadline: Callable[[], float] = lambda: math.inf,
        stops_at_end: bool = False,
    ) -> T:
        """Await ``work`` in a task of its own; an interruption of the current task does not end the wait.

        Args:
            work: The coroutine; it is cancelled if the wait ends before it is done.
            deadline: Returns the time at which to give up; called again at each interruption, and when that
                time has come, since it may have changed.
            stops_at_end: Whether the end of the lease ends the wait.

        Raises:
            TooLateError: ``work`` was not done in time.
            EndedError: The lease is ending.
            GivenUpError: The release is given up.
            CancelledError: ``work`` was cancelled, since the event loop ends.
        """
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)
        # Retrieve the exception: asyncio logs one that nobody retrieves.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            while not task.done():
                self._signal = loop.create_future()
                self._check_may_wait(deadline(), stops_at_end=stops_at_end)
                try:
                    await self._wait({task, self._signal}, deadline())
                except INTERRUPTS:
                    self.on_interrupt()
            return task.result()
        finally:
            task.cancel()

    def _check_may_wait(self, deadline: float, *, stops_at_end: bool) -> None:
        """Raise the exception of :meth:`run` that ends the current step early, if there is one."""
        if self.interruptions >= _MAX_INTERRUPTIONS or not self.has_begun_in_this_process:
            raise GivenUpError
        if stops_at_end and self.is_ending:
            raise EndedError
        if self._clock.time() >= deadline:
            raise TooLateError

    async def _wait(self, futures: set[asyncio.Future[Any]], deadline: float) -> None:
        """Return when one of the futures is done, or at the deadline."""
        limit = contextlib.nullcontext() if deadline == math.inf else self._clock.timeout_at(deadline)
        with contextlib.suppress(TimeoutError):
            async with limit:
                await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
