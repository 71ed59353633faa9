"""What the parts of a hub share, and what they make of errors."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final

from .._utils.clock import Clock
from ..errors import ClientClosedError, ProtocolError, RateLimitError
from ._pause import PollPause
from ._schedule import PollSchedule
from ._trouble_log import TroubleLog
from ._watched_pod import WatchedPod

CONFIRM_AFTER: Final = 2.0
"""Seconds after a refusal until the same is asked again: said once, it can be a stray answer."""
_TOLERANCE: Final = 0.01


class HubState:
    """What the parts of a hub share.

    Args:
        clock: The clients' clock.

    Attributes:
        clock: The same.
        schedule: When each pod is asked for.
        pause: While it lasts, nothing is asked.
        troubles: What the log says.
        pods: All pods that somebody waits for.
        numbers: Numbers requests and subscriptions: an answer counts for those who came before its request.
        jobs: The tasks that are under way.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.schedule = PollSchedule(clock)
        self.pause = PollPause(clock)
        self.troubles = TroubleLog(clock, self.pause)
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
            self.troubles.paused(is_new=False)
        else:
            self.troubles.failed(error, pods, len(self.pods))

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
