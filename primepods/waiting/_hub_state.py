"""State shared by the parts of the hub: request pace, warnings, refusals, running tasks."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final

from .._operations import LISTENERS, listen_for_all
from .._utils.clock import Clock
from .._utils.text import one_line
from ..errors import ClientClosedError, ProtocolError, RateLimitError
from ._schedule import PollSchedule
from ._watched_pod import WatchedPod

_FIRST_PAUSE: Final = 1.0
_MAX_PAUSE: Final = 60.0
"""Seconds; for a 429 without ``Retry-After``."""
_PACE_WINDOW: Final = 5.0
"""Seconds over which requests are counted, to measure the rate that led to the first 429."""
_FIRST_DECREASE: Final = 0.5
_DECREASE: Final = 0.8
"""Factors applied to the rate when it is first limited, and at each later 429."""
_MEMORY: Final = 60.0
"""Seconds after a pause within which another 429 means that the rate is too high."""
_INCREASE: Final = 0.5
"""Requests per window by which the rate grows each window, if all succeed."""
_RELATIVE_INCREASE: Final = 0.2
"""Fraction by which a rate below one request per window grows with each response."""
_MIN_RATE: Final = 1 / 60
_MAX_RATE: Final = 100.0
"""Requests per second; above it the limit is lifted."""
MAX_RETRY_AFTER: Final = 300.0
"""Upper bound in seconds: some servers send the time of day, or an hour for a burst."""
CONFIRM_AFTER: Final = 2.0
"""Seconds between a refusal and the request that confirms it: a single one can be a stray response."""
_TOLERANCE: Final = 0.01
_REFUSAL_LIFETIME: Final = 3
"""Intervals after which a refusal is forgotten if only failures have followed."""
_MIN_REFUSAL_INTERVAL: Final = 5.0
"""Shorter intervals count as this many seconds in a refusal's lifetime."""
_WARNING_INTERVAL: Final = 60.0
"""Minimum seconds between two warnings."""

log = logging.getLogger("primepods")


class PollPace:
    """Rate limiter of the requests: no limit until the first 429.

    Then requests pause for as long as ``Retry-After`` says, at most five minutes, plus a random extra of up
    to half of that. After another 429, a rate limits the requests. It grows with each response and falls with
    each 429, so that independent processes converge on a share of what the API allows. The time between two
    requests is random, from half to one and a half of the mean, so that the processes do not stay in step.

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
        """The time at which the next request may be sent."""
        return max(self.paused_until, self._free_at)

    async def wait_for_turn(self) -> None:
        """Wait until a request may be sent. A pause may have begun meanwhile."""
        now = self._clock.time()
        if self._rate < math.inf:
            turn_at = max(now, self._free_at)
            self._free_at = turn_at + (0.5 + self._clock.random()) / self._rate
            if turn_at > now:
                await self._clock.sleep(turn_at - now)
        self._note_sent()

    def note_response(self) -> None:
        """Raise the rate and reset the length of pauses after a response."""
        self._next_pause = _FIRST_PAUSE
        if self._rate < math.inf:
            requests_per_window = max(self._rate * _PACE_WINDOW, 1.0)
            # `_INCREASE` per window, spread over the window's responses.
            increase = _INCREASE / _PACE_WINDOW / requests_per_window
            self._rate += min(increase, _RELATIVE_INCREASE * self._rate)
            if self._rate > _MAX_RATE:
                self._rate = math.inf

    def apply_rate_limit(self, limit: RateLimitError) -> bool:
        """Pause, and lower the rate; return whether this began a pause, or made one longer.

        Of several 429s for the same pause, the first counts: if the longest random pause counted, it would be
        nearly the same in every process, and all would resume together.
        """
        now = self._clock.time()
        if limit.retry_after is None and now < self.paused_until:
            return False
        seconds = self._next_pause if limit.retry_after is None else min(limit.retry_after, MAX_RETRY_AFTER)
        if now + seconds <= self.paused_until:
            return False
        if limit.retry_after is None:
            self._next_pause = min(2 * self._next_pause, _MAX_PAUSE)
        self._slow_down(now + seconds)
        # At the exact time, many processes would resume together.
        self.paused_until = now + seconds + max(1.0, 0.5 * seconds) * self._clock.random()
        self._limit = limit
        return True

    def _slow_down(self, until: float) -> None:
        """Lower the rate after a 429 that asks to wait ``until``; a single 429 sets no limit."""
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
    """Throttled log warnings: the first at once, then one a minute for all subscribers together.

    Args:
        clock: The clients' clock.
        pace: The poller's pace.

    Attributes:
        next_at: Earliest time of the next warning.
    """

    def __init__(self, clock: Clock, pace: PollPace) -> None:
        self.next_at = -math.inf
        self._clock = clock
        self._pace = pace
        self._said: RateLimitError | None = None

    def failed(self, error: Exception, pods: int, total: int) -> None:
        """Warn that a request for ``pods`` of ``total`` pods failed."""
        self._warn(
            "Still waiting, but a request for %d of %d pods failed: %s Logged at most once a minute.",
            pods,
            total,
            one_line(str(error)),
            fields={"pods": pods},
        )

    def paused(self, *, is_new: bool) -> None:
        """Warn that polling is paused, if it is.

        Args:
            is_new: Whether a wait has just begun: then warn once per pause, regardless of the throttle.
        """
        cause = self._pace.cause
        if cause is None:
            return
        if is_new and cause is not self._said:
            self._said, self.next_at = cause, -math.inf
        seconds = self._pace.paused_until - self._clock.time()
        self._warn(
            "Still waiting, but the API asked for a pause, and no request is sent for another %.0f s: %s",
            seconds,
            one_line(str(cause)),
            fields={"seconds": seconds},
        )

    def _warn(self, text: str, *args: object, fields: dict[str, float]) -> None:
        now = self._clock.time()
        if now >= self.next_at:
            self.next_at = now + _WARNING_INTERVAL
            log.warning(text, *args, extra=fields)


class HubState:
    """State shared by the parts of a hub.

    Args:
        clock: The clients' clock.

    Attributes:
        clock: The clients' clock.
        schedule: The times at which pods are polled.
        pace: The rate limiter of the requests.
        warnings: The log warnings.
        pods: All pods with a subscription.
        numbers: Counter of requests and subscriptions: a response counts only for subscriptions with a lower
            number than its request.
        jobs: The running tasks.
        listening: Number of subscriptions with listeners.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.schedule = PollSchedule(clock)
        self.pace = PollPace(clock)
        self.warnings = ThrottledWarnings(clock, self.pace)
        self.pods: dict[str, WatchedPod] = {}
        self.numbers: Iterator[int] = itertools.count()
        self.jobs: set[asyncio.Task[None]] = set()
        self.listening: int = 0

    def start(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        pods: list[WatchedPod],
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """Start a task on behalf of ``pods``. An unexpected error ends their waits.

        Args:
            work: The coroutine that the task runs.
            pods: The pods whose waits an unexpected error ends.
            on_end: Called when the task has ended, also if it was cancelled before its first step.
        """
        # An empty context: otherwise its log lines would carry the context of the first task.
        context = contextvars.Context()
        context.run(self.listen, pods)
        job = asyncio.get_running_loop().create_task(_guard(work, pods), context=context)
        self.jobs.add(job)
        job.add_done_callback(self.jobs.discard)
        if on_end is not None:
            job.add_done_callback(lambda _: on_end())

    def listen(self, pods: Iterable[WatchedPod]) -> None:
        """Send events of the current task to the listeners of all subscriptions to ``pods``."""
        if self.listening:
            subscriptions = {each for pod in pods for each in pod.subscriptions}
            listen_for_all([each.listeners for each in subscriptions])

    def note_failure(self, error: Exception, pods: int) -> None:
        """Log that a request for ``pods`` pods failed; pause if it was rate limited."""
        if isinstance(error, RateLimitError):
            if self.pace.apply_rate_limit(error) and self.listening:
                self._tell_pause()
            self.warnings.paused(is_new=False)
        else:
            self.warnings.failed(error, pods, len(self.pods))

    def _tell_pause(self) -> None:
        """Tell a pause to all listeners: it is for the whole poller."""
        from ..events import PollingPaused

        context = contextvars.Context()
        context.run(self.listen, self.pods.values())
        if (listeners := context.get(LISTENERS)) is not None:
            listeners.notify(PollingPaused(seconds=self.pace.paused_until - self.clock.time()))

    def refuse(self, pods: Iterable[WatchedPod], error: Exception) -> None:
        """End the waits for pods whose refusal is now confirmed; poll the others again to confirm it."""
        for pod in pods:
            interval = max(pod.interval, _MIN_REFUSAL_INTERVAL)
            pod.refused_at = self.first_refusal(pod.refused_at, sent_at=pod.asked_at, interval=interval)
            if self.is_confirmed(error, pod.refused_at):
                pod.end(error)
            else:
                self.schedule.ask_at(pod, pod.refused_at + CONFIRM_AFTER)

    def first_refusal(self, refused_at: float | None, *, sent_at: float, interval: float) -> float:
        """Return the time of the first refusal, after a request that was refused.

        An earlier refusal followed only by failures counts if it is at most a few intervals old.

        Args:
            refused_at: Time of the earlier refusal with no other response since, or ``None``.
            sent_at: Time at which the refused request was sent.
            interval: Seconds between two requests.
        """
        if refused_at is None or sent_at - refused_at > _REFUSAL_LIFETIME * interval:
            return self.clock.time()
        return refused_at

    def is_confirmed(self, error: Exception, refused_at: float) -> bool:
        """Tell whether a refusal confirms a first one at ``refused_at``."""
        confirm_at = refused_at + CONFIRM_AFTER - _TOLERANCE
        return isinstance(error, ClientClosedError) or self.clock.time() >= confirm_at


async def _guard(work: Callable[[], Coroutine[Any, Any, None]], pods: list[WatchedPod]) -> None:
    try:
        await work()
    except Exception as exc:  # noqa: BLE001 - see `start`
        for pod in pods:
            pod.end(exc)


def is_refusal(error: Exception) -> bool:
    """Tell whether a retry is pointless, unless the response is a stray one.

    A response that cannot be parsed (a login page, another JSON shape) is not a refusal.
    """
    return not isinstance(error, ProtocolError) and not getattr(error, "transient", False)
