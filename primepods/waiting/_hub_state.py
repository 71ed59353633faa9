"""State that the parts of the hub share: the pace of requests, warnings, refusals, running tasks."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import math
from collections import deque
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
_PACE_WINDOW: Final = 5.0
"""Seconds over which requests are counted, to know the rate at which a first 429 came."""
_FIRST_DECREASE: Final = 0.5
_DECREASE: Final = 0.8
"""Factors of the rate when it is first limited, and at each 429 after that."""
_MEMORY: Final = 60.0
"""Seconds after a pause in which another 429 means that the rate is too high."""
_INCREASE: Final = 0.5
"""Requests a window by which the rate grows in a window, if all are answered."""
_RELATIVE_INCREASE: Final = 0.2
"""Part of itself by which a rate below one request a window grows with a response."""
_MIN_RATE: Final = 1 / 60
_MAX_RATE: Final = 100.0
"""Requests a second; above it nothing is limited any more."""
MAX_RETRY_AFTER: Final = 300.0
"""Seconds that are obeyed at most: some servers send the time of day, or an hour for a burst."""
CONFIRM_AFTER: Final = 2.0
"""Seconds after a refusal until the same is asked again: said once, it can be a stray answer."""
_TOLERANCE: Final = 0.01
_NEIGHBOURS: Final = 3
"""Intervals after which a refusal is forgotten, if nothing but failures has followed."""
_MIN_INTERVAL: Final = 5.0
"""Seconds that count as an interval at least."""
_WARNING_INTERVAL: Final = 60.0
"""Seconds between two warnings."""

log = logging.getLogger("primepods")


class PollPace:
    """How fast requests are sent: as fast as polls are due, until a response says 429.

    Then nothing is sent for as long as ``Retry-After`` says, at most five minutes, and up to half of that
    longer, at random. When another 429 follows, a rate limits the requests. It grows with each response and
    falls with each 429, so that processes that know nothing of each other come to share what the API allows.
    The time between two requests is random, from half to one and a half of the mean, so that they do not stay
    in step.

    Args:
        clock: The clients' clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limit: RateLimitError | None = None
        self._next_pause = _FIRST_PAUSE
        self._rate = math.inf
        self._sent: deque[float] = deque()
        self._free_at = -math.inf
        self.paused_until: float = -math.inf

    @property
    def cause(self) -> RateLimitError | None:
        """The 429 that asked for the pause; ``None`` when it is over."""
        return self._limit if self._clock.time() < self.paused_until else None

    @property
    def next_at(self) -> float:
        """When the next request may be sent."""
        return max(self.paused_until, self._free_at)

    async def wait_for_turn(self) -> None:
        """Return when a request may be sent; a pause may have begun meanwhile."""
        now = self._clock.time()
        if self._rate < math.inf:
            turn_at = max(now, self._free_at)
            self._free_at = turn_at + (0.5 + self._clock.random()) / self._rate
            if turn_at > now:
                await self._clock.wait(asyncio.Event(), turn_at - now)
        self._note_sent()

    def note_response(self) -> None:
        """Speed up, and begin with short pauses again: a request was answered."""
        self._next_pause = _FIRST_PAUSE
        if self._rate < math.inf:
            requests = self._rate * _PACE_WINDOW
            self._rate += min(_RELATIVE_INCREASE * self._rate, _INCREASE / _PACE_WINDOW / max(requests, 1.0))
            if self._rate > _MAX_RATE:
                self._rate = math.inf

    def apply_rate_limit(self, limit: RateLimitError) -> None:
        """Pause, and slow down. Of several 429s that ask for the same, the first counts.

        The longest of many random pauses would be about as long in every process, and all come back together.
        """
        now = self._clock.time()
        if limit.retry_after is None and now < self.paused_until:
            return
        seconds = self._next_pause if limit.retry_after is None else min(limit.retry_after, MAX_RETRY_AFTER)
        if now + seconds <= self.paused_until:
            return
        if limit.retry_after is None:
            self._next_pause = min(2 * self._next_pause, _MAX_PAUSE)
        self._slow_down(now + seconds)
        # With the exact time many processes would come back in step.
        self.paused_until = now + seconds + max(1.0, 0.5 * seconds) * self._clock.random()
        self._limit = limit

    def _slow_down(self, until: float) -> None:
        """Lower the rate after a 429 that asks to wait ``until``; a single one sets none."""
        if self._rate < math.inf:
            self._rate = max(_MIN_RATE, _DECREASE * self._rate)
        elif self._clock.time() < self.paused_until + _MEMORY:
            self._rate = _FIRST_DECREASE * max(1, len(self._sent)) / _PACE_WINDOW
        else:
            return
        self._free_at = max(self._free_at, until + self._clock.random() / self._rate)

    def _note_sent(self) -> None:
        now = self._clock.time()
        self._sent.append(now)
        while self._sent[0] <= now - _PACE_WINDOW:
            self._sent.popleft()


class ThrottledWarnings:
    """Warns of the first trouble at once, then once a minute, however many wait.

    Args:
        clock: The clients' clock.
        pace: The poller's pace.

    Attributes:
        next_at: When the next line may come.
    """

    def __init__(self, clock: Clock, pace: PollPace) -> None:
        self.next_at = -math.inf
        self._clock = clock
        self._pace = pace
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
        cause = self._pace.cause
        if cause is None:
            return
        if is_new and cause is not self._said:
            self._said, self.next_at = cause, -math.inf
        self._warn(
            "Waiting goes on, but the API asked for a pause, and nothing is asked for another %.0f s: %s",
            *(self._pace.paused_until - self._clock.time(), one_line(str(cause))),
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
        pace: How fast requests are sent; in a pause, none is.
        warnings: What the log says.
        pods: All pods that somebody waits for.
        numbers: Numbers requests and subscriptions: an answer counts for those who came before its request.
        jobs: The tasks that are under way.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.schedule = PollSchedule(clock)
        self.pace = PollPace(clock)
        self.warnings = ThrottledWarnings(clock, self.pace)
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
            self.pace.apply_rate_limit(error)
            self.warnings.paused(is_new=False)
        else:
            self.warnings.failed(error, pods, len(self.pods))

    def refuse(self, pods: Iterable[WatchedPod], error: Exception) -> None:
        """End the waits for pods that were refused before, and nothing else since; ask for others again."""
        for pod in pods:
            interval = max(pod.interval, _MIN_INTERVAL)
            pod.refused_at = self.first_refusal(pod.refused_at, sent_at=pod.asked_at, interval=interval)
            if self.is_confirmed(error, pod.refused_at):
                pod.end(error)
            else:
                self.schedule.ask_at(pod, pod.refused_at + CONFIRM_AFTER)

    def first_refusal(self, refused_at: float | None, *, sent_at: float, interval: float) -> float:
        """Return since when something is refused, now that it is.

        An earlier refusal with nothing but failures since counts only if it was a few intervals ago at most.

        Args:
            refused_at: When it was refused before, with no response since; ``None`` if it was not.
            sent_at: When the request was sent that is refused now.
            interval: Seconds between two requests.
        """
        if refused_at is None or sent_at - refused_at > _NEIGHBOURS * interval:
            return self.clock.time()
        return refused_at

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
