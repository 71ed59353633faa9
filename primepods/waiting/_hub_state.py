"""State shared by the parts of the hub: rate limiter, warnings, refusals, running tasks."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final

from .._operations import LISTENERS, set_listeners
from .._utils.clock import Clock
from .._utils.text import one_line
from ..errors import ClientClosedError, ProtocolError, RateLimitError
from ._schedule import PollSchedule
from ._watched_pod import WatchedPod

_FIRST_PAUSE: Final = 1.0
_MAX_PAUSE: Final = 60.0
"""Seconds; for a 429 without ``Retry-After``."""
_PACE_WINDOW: Final = 5.0
"""Seconds over which sent requests are counted, to measure the rate before it is first limited."""
_FIRST_RATE_FACTOR: Final = 0.5
_RATE_FACTOR: Final = 0.8
"""Factors by which the rate falls when it is first limited, and at each later 429."""
_PAUSE_MEMORY: Final = 60.0
"""Seconds after a pause within which another 429 means that the rate is too high."""
_RATE_INCREASE: Final = 0.1
"""Requests per second by which the rate grows in each window, if all requests succeed."""
_MAX_RELATIVE_INCREASE: Final = 0.2
"""Max fraction by which the rate grows with each response: for rates below one request per window."""
_MIN_RATE: Final = 1 / 60
_MAX_RATE: Final = 100.0
"""Requests per second; above it the limit is lifted."""
MAX_RETRY_AFTER: Final = 300.0
"""Seconds; longer pauses are cut: some servers send the time of day, or an hour after a short burst."""
CONFIRM_AFTER: Final = 2.0
"""Seconds between a refusal and the request that confirms it: a single refusal can be a stray response."""
_TIMER_TOLERANCE: Final = 0.01
"""Seconds by which a timer may be early."""
_REFUSAL_LIFETIME: Final = 3
"""Intervals after which the first refusal of a series no longer counts: the next one begins a new series."""
_MIN_REFUSAL_INTERVAL: Final = 5.0
"""Shorter intervals count as this many seconds in a refusal's lifetime."""
_WARNING_INTERVAL: Final = 60.0
"""Min seconds between two warnings."""

log = logging.getLogger("primepods")


class PollPace:
    """Rate limiter of the requests: no limit until the first 429.

    Then requests pause for as long as ``Retry-After`` says, at most five minutes, plus a random extra of up
    to half of that, or up to a second if that is longer. Another 429 less than a minute after the pause
    limits the rate of requests. The rate grows with each response and falls with each 429, so that
    independent processes converge on a share of what the API allows. The time between two requests is random,
    from half to one and a half of the mean, so that the processes do not stay in step.

    Args:
        clock: The clients' clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_rate_limit: RateLimitError | None = None
        self._next_pause = _FIRST_PAUSE
        self._rate = math.inf
        self._sent_times: deque[float] = deque()
        self._next_turn_at = -math.inf
        self.paused_until: float = -math.inf

    @property
    def pause_cause(self) -> RateLimitError | None:
        """The 429 that asked for the pause; ``None`` when it is over."""
        return self._last_rate_limit if self._clock.time() < self.paused_until else None

    @property
    def next_at(self) -> float:
        """The time at which the next request may be sent."""
        return max(self.paused_until, self._next_turn_at)

    async def wait_for_turn(self) -> None:
        """Wait until the rate allows a request; check ``pause_cause`` then, since a pause may have begun."""
        now = self._clock.time()
        if self._rate < math.inf:
            turn_at = max(now, self._next_turn_at)
            self._next_turn_at = turn_at + (0.5 + self._clock.random()) / self._rate
            if turn_at > now:
                await self._clock.sleep(turn_at - now)
        self._note_sent()

    def note_response(self) -> None:
        """Raise the rate and reset the length of pauses after a response."""
        self._next_pause = _FIRST_PAUSE
        if self._rate < math.inf:
            responses_per_window = max(self._rate * _PACE_WINDOW, 1.0)
            increase = _RATE_INCREASE / responses_per_window
            self._rate += min(increase, _MAX_RELATIVE_INCREASE * self._rate)
            if self._rate > _MAX_RATE:
                self._rate = math.inf

    def apply_rate_limit(self, error: RateLimitError) -> bool:
        """Pause, and lower the rate; return whether this began a pause, or made one longer.

        Of several 429s that ask for the same pause, only the first counts. If every 429 drew a random extra
        and the longest counted, all processes would wait for nearly the longest possible time, and resume
        together.
        """
        now = self._clock.time()
        if error.retry_after is not None:
            seconds = min(error.retry_after, MAX_RETRY_AFTER)
            if now + seconds <= self.paused_until:
                return False
        elif now < self.paused_until:
            return False
        else:
            seconds = self._next_pause
            self._next_pause = min(2 * seconds, _MAX_PAUSE)
        self._slow_down(resume_at=now + seconds, last_pause_end=self.paused_until)
        # The random extra keeps processes from resuming together.
        self.paused_until = now + seconds + max(1.0, 0.5 * seconds) * self._clock.random()
        self._last_rate_limit = error
        return True

    def _slow_down(self, *, resume_at: float, last_pause_end: float) -> None:
        """Lower the rate after a 429 that asks to wait until ``resume_at``; a single 429 sets no limit."""
        if self._rate < math.inf:
            self._rate = max(_MIN_RATE, _RATE_FACTOR * self._rate)
        elif self._clock.time() < last_pause_end + _PAUSE_MEMORY:
            self._rate = _FIRST_RATE_FACTOR * max(1, len(self._sent_times)) / _PACE_WINDOW
        else:
            return
        self._next_turn_at = max(self._next_turn_at, resume_at + self._clock.random() / self._rate)

    def _note_sent(self) -> None:
        now = self._clock.time()
        self._sent_times.append(now)
        while self._sent_times[0] <= now - _PACE_WINDOW:
            self._sent_times.popleft()


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
        self._last_cause: RateLimitError | None = None

    def warn_of_failure(self, error: Exception, *, pod_count: int, total: int) -> None:
        """Warn that a request for ``pod_count`` of ``total`` pods failed."""
        self._warn(
            "Still waiting, but a request for %d of %d pods failed: %s Logged at most once a minute.",
            pod_count,
            total,
            one_line(str(error)),
            fields={"pods": pod_count},
        )

    def warn_if_paused(self, *, is_new_wait: bool) -> None:
        """Warn that polling is paused, if it is.

        Args:
            is_new_wait: Whether a wait has just begun: the first wait that begins in a pause logs a warning
                even if the last warning is less than a minute old.
        """
        cause = self._pace.pause_cause
        if cause is None:
            return
        if is_new_wait and cause is not self._last_cause:
            self._last_cause = cause
            self.next_at = -math.inf
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
        sequence_numbers: Counter of requests and subscriptions. A response counts only for subscriptions with
            a lower number than its request.
        jobs: The running tasks.
        listener_count: Number of subscriptions with listeners.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.schedule = PollSchedule(clock)
        self.pace = PollPace(clock)
        self.warnings = ThrottledWarnings(clock, self.pace)
        self.pods: dict[str, WatchedPod] = {}
        self.sequence_numbers: Iterator[int] = itertools.count()
        self.jobs: dict[asyncio.Task[None], None] = {}
        self.listener_count: int = 0

    def start(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        *,
        pods: list[WatchedPod],
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """Start a task on behalf of ``pods``. An unexpected error ends their waits.

        Args:
            work: Coroutine function that the task runs.
            pods: The pods whose waits an unexpected error ends.
            on_end: Called when the task has ended, also if it was cancelled before its first step.
        """
        # An empty context: otherwise its log lines would carry the context variables of the first subscriber.
        context = contextvars.Context()
        context.run(self.set_listeners_of, pods)
        job = asyncio.get_running_loop().create_task(_run_guarded(work, pods), context=context)
        self.jobs[job] = None
        job.add_done_callback(self.jobs.pop)
        if on_end is not None:
            job.add_done_callback(lambda _: on_end())

    def set_listeners_of(self, pods: Iterable[WatchedPod]) -> None:
        """Send events of the current task to the listeners of all subscriptions to ``pods``."""
        if self.listener_count:
            subscriptions = {each for pod in pods for each in pod.subscriptions}
            set_listeners([each.listeners for each in subscriptions])

    def note_failure(self, error: Exception, *, pod_count: int) -> None:
        """Log that a request for ``pod_count`` pods failed; pause if it was rate limited."""
        if isinstance(error, RateLimitError):
            if self.pace.apply_rate_limit(error) and self.listener_count:
                self._emit_pause_event()
            self.warnings.warn_if_paused(is_new_wait=False)
        else:
            self.warnings.warn_of_failure(error, pod_count=pod_count, total=len(self.pods))

    def _emit_pause_event(self) -> None:
        """Emit an event to all listeners, since the pause affects the whole poller."""
        from ..events import PollingPaused

        context = contextvars.Context()
        context.run(self.set_listeners_of, self.pods.values())
        if (listeners := context.get(LISTENERS)) is not None:
            listeners.notify(PollingPaused(seconds=self.pace.paused_until - self.clock.time()))

    def note_refusal(self, pods: Iterable[WatchedPod], error: Exception) -> None:
        """Record a refusal: end the waits for pods if it confirms an earlier one, else poll them again."""
        for pod in pods:
            interval = max(pod.interval, _MIN_REFUSAL_INTERVAL)
            pod.refused_since = self.start_of_refusals(
                earlier=pod.refused_since, sent_at=pod.polled_at, interval=interval
            )
            if self.is_confirmed(error, refused_since=pod.refused_since):
                pod.end(error)
            else:
                self.schedule.poll_at(pod, pod.refused_since + CONFIRM_AFTER)

    def start_of_refusals(self, *, earlier: float | None, sent_at: float, interval: float) -> float:
        """Return the time at which the current series of refusals began, now that a request was refused.

        The first refusal of a series counts for ``_REFUSAL_LIFETIME`` intervals. A refusal after that begins
        a new series.

        Args:
            earlier: Time at which the last series began; ``None`` if there was none, or a success has ended
                it.
            sent_at: Time at which the refused request was sent.
            interval: Seconds between two requests.
        """
        if earlier is None or sent_at - earlier > _REFUSAL_LIFETIME * interval:
            return self.clock.time()
        return earlier

    def is_confirmed(self, error: Exception, *, refused_since: float) -> bool:
        """Return whether a refusal now confirms the first one of its series, at ``refused_since``."""
        confirm_at = refused_since + CONFIRM_AFTER - _TIMER_TOLERANCE
        cannot_recover = isinstance(error, ClientClosedError)
        return cannot_recover or self.clock.time() >= confirm_at


async def _run_guarded(work: Callable[[], Coroutine[Any, Any, None]], pods: list[WatchedPod]) -> None:
    try:
        await work()
    except Exception as exc:  # noqa: BLE001 - see `start`
        for pod in pods:
            pod.end(exc)


def is_refusal(error: Exception) -> bool:
    """Return whether ``error`` is permanent: a retry helps only if the response was a stray one.

    A response that cannot be parsed (a login page, another JSON shape) is not a refusal.
    """
    if isinstance(error, ProtocolError):
        return False
    return not getattr(error, "transient", False)
