"""State shared by the parts of the poller: rate limiter, warnings, running tasks."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import math
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final

from .._http.pace import Pace
from .._operations import LISTENERS, set_listeners
from .._utils.clock import Clock
from .._utils.text import one_line
from ..errors import ProtocolError, RateLimitError
from ._schedule import PollSchedule
from ._watched_pod import WatchedPod

_WARNING_INTERVAL: Final = 60.0
"""Min seconds between two warnings (chosen)."""

log = logging.getLogger("primepods.poller")


class ThrottledWarnings:
    """Logger of at most one warning a minute; the first wait that begins in a pause adds one.

    Attributes:
        next_at: Earliest time of the next warning.
    """

    def __init__(self, clock: Clock, pace: Pace) -> None:
        self.next_at = -math.inf
        self._clock = clock
        self._pace = pace
        self._last_cause: RateLimitError | None = None

    def warn_of_failure(self, error: Exception, *, pod_count: int, total: int) -> None:
        self._warn(
            "Still waiting, but a request for %d of %d pods failed: %s (Logged at most once a minute.)",
            pod_count,
            total,
            one_line(str(error)),
            fields={"pods": pod_count},
        )

    def warn_if_paused(self, *, is_new_wait: bool) -> None:
        """Warn that polling is paused, if it is.

        Args:
            is_new_wait: Whether a wait has just begun.
        """
        cause = self._pace.pause_cause
        if cause is None:
            return
        if is_new_wait and cause is not self._last_cause:
            self._last_cause = cause
            self.next_at = -math.inf
        seconds = self._pace.paused_until - self._clock.time()
        self._warn(
            "Still waiting: the API asked for a pause, and polling continues in %.0f s. %s",
            seconds,
            one_line(str(cause)),
            fields={"seconds": seconds},
        )

    def _warn(self, text: str, *args: object, fields: dict[str, float]) -> None:
        now = self._clock.time()
        if now >= self.next_at:
            self.next_at = now + _WARNING_INTERVAL
            log.warning(text, *args, extra=fields)


class PollerState:
    """State shared by the parts of a poller.

    Attributes:
        clock: The clients' clock.
        schedule: The times at which pods are polled.
        pace: The rate limiter of the requests, shared with the clients' other calls.
        warnings: The log warnings.
        pods: All pods with a subscription.
        sequence_numbers: Counter of requests and subscriptions. A response counts only for subscriptions with
            a lower number than its request.
        jobs: The running tasks.
        listener_count: Number of subscriptions with listeners.
    """

    def __init__(self, clock: Clock, pace: Pace) -> None:
        self.clock = clock
        self.schedule = PollSchedule(clock)
        self.pace = pace
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
        """Start a task on behalf of ``pods``.

        Args:
            work: Coroutine function that the task runs.
            pods: If the task raises an exception, the waits for these pods end with it.
            on_end: Called when the task has ended, even if it was cancelled before its first step.
        """

        def finish(job: asyncio.Task[None]) -> None:
            self.jobs.pop(job, None)
            error = None if job.cancelled() else job.exception()
            if isinstance(error, Exception):
                for pod in pods:
                    pod.end_subscriptions(error)
            if on_end is not None:
                on_end()

        # The task gets a context of its own, since it has its own listeners.
        context = contextvars.Context()
        context.run(self.set_listeners_of, pods)
        job = asyncio.get_running_loop().create_task(work(), context=context)
        self.jobs[job] = None
        job.add_done_callback(finish)

    def set_listeners_of(self, pods: Iterable[WatchedPod]) -> None:
        """Send the events of the current context to the listeners of all subscriptions to ``pods``."""
        if self.listener_count:
            subscriptions = dict.fromkeys(subscription for pod in pods for subscription in pod.subscriptions)
            set_listeners([subscription.listeners for subscription in subscriptions])

    def record_failure(self, error: Exception, *, pod_count: int) -> None:
        """Warn of a failed request for ``pod_count`` pods; after a 429, pause polling."""
        if isinstance(error, RateLimitError):
            if self.pace.apply_rate_limit(error) and self.listener_count:
                # Notify all listeners, since the pause affects the whole poller.
                context = contextvars.Context()
                context.run(self.set_listeners_of, self.pods.values())
                if (listeners := context.get(LISTENERS)) is not None:
                    seconds = self.pace.paused_until - self.clock.time()
                    listeners.report("PollingPaused", seconds=seconds)
            self.warnings.warn_if_paused(is_new_wait=False)
        else:
            self.warnings.warn_of_failure(error, pod_count=pod_count, total=len(self.pods))


def is_refusal(error: Exception) -> bool:
    """Return whether an error is not transient, and so may be a permanent refusal.

    A response that cannot be parsed, such as a gateway's page, is not a refusal.
    """
    if isinstance(error, ProtocolError):
        return False
    return not getattr(error, "transient", False)
