"""State that the parts of the hub share: the pause for a rate limit, warnings, refusals, running tasks."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import math
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final

from .._utils.clock import Clock
from .._utils.text import one_line
from ..errors import ClientClosedError, ProtocolError, RateLimitError
from ._schedule import PollSchedule
from ._watched_pod import WatchedPod

_FIRST_PAUSE: Final = 1.0
_MAX_PAUSE: Final = 60.0
"""Seconds, where the answer does not say how long."""
MAX_RETRY_AFTER: Final = 300.0
"""Seconds that are obeyed at most: some servers send the time of day, or an hour for a burst."""
CONFIRM_AFTER: Final = 2.0
"""Seconds after a refusal until the same is asked again: said once, it can be a stray answer."""
_TOLERANCE: Final = 0.01
_WARNING_INTERVAL: Final = 60.0
"""Seconds between two warnings."""

log = logging.getLogger("primepods")


class PollPause:
    """While it lasts, nothing is asked: the whole hub pauses when one of its requests is answered with 429.

    It lasts as long as ``Retry-After`` says, but at most five minutes, and up to half of that longer, at
    random.

    Args:
        clock: The clients' clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limit: RateLimitError | None = None
        self._next = _FIRST_PAUSE
        self.until = -math.inf

    @property
    def cause(self) -> RateLimitError | None:
        """The answer that asked for the pause; ``None`` when it is over."""
        return self._limit if self._clock.time() < self.until else None

    def reset(self) -> None:
        """Begin with short pauses again: a request was answered."""
        self._next = _FIRST_PAUSE

    def apply_rate_limit(self, limit: RateLimitError) -> None:
        """Pause. Of several answers that ask for the same, the first counts.

        The longest of many random pauses would be about as long in every process, and all come back together.
        """
        now = self._clock.time()
        if limit.retry_after is None and now < self.until:
            return
        seconds = self._next if limit.retry_after is None else min(limit.retry_after, MAX_RETRY_AFTER)
        if now + seconds <= self.until:
            return
        if limit.retry_after is None:
            self._next = min(2 * self._next, _MAX_PAUSE)
        # With the exact time many processes would come back in step.
        self.until = now + seconds + max(1.0, 0.5 * seconds) * self._clock.random()
        self._limit = limit


class ThrottledWarnings:
    """Warns of the first trouble at once, then once a minute, however many wait.

    Args:
        clock: The clients' clock.
        pause: The poller's pause.

    Attributes:
        next_at: When the next line may come.
    """

    def __init__(self, clock: Clock, pause: PollPause) -> None:
        self.next_at = -math.inf
        self._clock = clock
        self._pause = pause
        self._said: RateLimitError | None = None

    def failed(self, error: Exception, pods: int, of: int) -> None:
        """Say that a request for ``pods`` of ``of`` pods failed."""
        self._warn(
            "Waiting goes on, but a request for %d of %d pods failed: %s This is said at most once a minute.",
            *(pods, of, one_line(str(error))),
        )

    def paused(self, *, is_new: bool) -> None:
        """Say that nothing is asked for some time, if there is a pause.

        Args:
            is_new: Whether somebody has just begun to wait: then once a pause, whenever the last line was.
        """
        cause = self._pause.cause
        if cause is None:
            return
        if is_new and cause is not self._said:
            self._said, self.next_at = cause, -math.inf
        self._warn(
            "Waiting goes on, but the API asked for a pause, and nothing is asked for another %.0f s: %s",
            *(self._pause.until - self._clock.time(), one_line(str(cause))),
        )

    def _warn(self, text: str, *args: object) -> None:
        now = self._clock.time()
        if now >= self.next_at:
            self.next_at = now + _WARNING_INTERVAL
            log.warning(text, *args)


class HubState:
    """What the parts of a hub share.

    Args:
        clock: The clients' clock.

    Attributes:
        clock: The same.
        schedule: When each pod is asked for.
        pause: While it lasts, nothing is asked.
        warnings: What the log says.
        pods: All pods that somebody waits for.
        numbers: Numbers requests and subscriptions: an answer counts for those who came before its request.
        jobs: The tasks that are under way.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.schedule = PollSchedule(clock)
        self.pause = PollPause(clock)
        self.warnings = ThrottledWarnings(clock, self.pause)
        self.pods: dict[str, WatchedPod] = {}
        self.numbers: Iterator[int] = itertools.count()
        self.jobs: set[asyncio.Task[None]] = set()

    def start(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        pods: list[WatchedPod],
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """Start a task on behalf of ``pods``. A defect ends their waits; it must not leave them hanging.

        Args:
            work: What the task does.
            pods: For whom.
            on_end: Called when the task has ended, also where it was cancelled before its first step.
        """
        # An empty context: otherwise its log lines would carry the context of whichever task came first.
        job = asyncio.get_running_loop().create_task(_guard(work, pods), context=contextvars.Context())
        self.jobs.add(job)
        job.add_done_callback(self.jobs.discard)
        if on_end is not None:
            job.add_done_callback(lambda _: on_end())

    def note_failure(self, error: Exception, pods: int) -> None:
        """Say in the log that a request for ``pods`` pods failed; pause if that is what it asks for."""
        if isinstance(error, RateLimitError):
            self.pause.apply_rate_limit(error)
            self.warnings.paused(is_new=False)
        else:
            self.warnings.failed(error, pods, len(self.pods))

    def refuse(self, pods: Iterable[WatchedPod], error: Exception) -> None:
        """End the waits for pods that were refused before, and nothing else since; ask for others again."""
        for pod in pods:
            if pod.refused_at is None:
                pod.refused_at = self.clock.time()
            if self.is_confirmed(error, pod.refused_at):
                pod.end(error)
            else:
                self.schedule.ask_at(pod, pod.refused_at + CONFIRM_AFTER)

    def is_confirmed(self, error: Exception, refused_at: float) -> bool:
        """Tell whether a refusal is to be believed, after a first one at ``refused_at``."""
        confirm_at = refused_at + CONFIRM_AFTER - _TOLERANCE
        return isinstance(error, ClientClosedError) or self.clock.time() >= confirm_at


async def _guard(work: Callable[[], Coroutine[Any, Any, None]], pods: list[WatchedPod]) -> None:
    try:
        await work()
    except Exception as exc:  # noqa: BLE001 - as said of `start`
        for pod in pods:
            pod.end(exc)


def is_refusal(error: Exception) -> bool:
    """Tell whether asking again is of no use, if it is no stray answer.

    What is not understood is no refusal, but nothing at all: a login page, an answer of another shape.
    """
    return not isinstance(error, ProtocolError) and not getattr(error, "transient", False)
