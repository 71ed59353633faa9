"""What the parts of a hub share, and what they make of errors."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from .._utils.clock import Clock
from ..errors import ClientClosedError, ProtocolError, RateLimitError
from ._pause import PollPause
from ._schedule import PollSchedule
from ._trouble_log import TroubleLog
from ._watched_pod import WatchedPod

CONFIRM_AFTER: Final = 2.0
"""Seconds after a refusal until the same is asked again: said once, it can be a stray answer."""
_TOLERANCE: Final = 0.01


@attrs.define(kw_only=True, eq=False)
class HubState:
    """What the parts of a hub share.

    Attributes:
        clock: The clients' clock.
        schedule: When each pod is asked for.
        pause: While it lasts, nothing is asked.
        troubles: What the log says.
        pods: All pods that somebody waits for.
        numbers: Numbers requests and subscriptions: an answer counts for those who came before its request.
        wake: Set when something may be due earlier than it was.
    """

    clock: Clock
    schedule: PollSchedule
    pause: PollPause
    troubles: TroubleLog
    pods: dict[str, WatchedPod] = attrs.field(factory=dict[str, WatchedPod])
    numbers: Iterator[int] = attrs.field(factory=itertools.count)
    wake: asyncio.Event = attrs.field(factory=asyncio.Event)

    def note_failure(self, error: Exception, pods: int) -> None:
        """Say in the log that a request for ``pods`` pods failed; pause if that is what it asks for."""
        if isinstance(error, RateLimitError):
            self.pause.apply_rate_limit(error)
            self.log_pause(is_new=False)
        else:
            self.troubles.failed(error, pods, len(self.pods))

    def log_pause(self, *, is_new: bool) -> None:
        """Say in the log that there is a pause, if there is one."""
        cause = self.pause.cause
        if cause is not None:
            self.troubles.paused(cause, self.pause.until - self.clock.time(), is_new=is_new)

    def refuse(self, pods: Iterable[WatchedPod], error: Exception) -> None:
        """End the waits for pods that were refused before, and nothing else since; ask for others again."""
        for pod in pods:
            if pod.refused_at is None:
                pod.refused_at = self.clock.time()
            if self.is_confirmed(error, pod.refused_at):
                pod.end(error)
            elif pod.subscriptions:
                # Else who waited for it has left meanwhile, and it is not among `pods` any more.
                self.schedule.ask_at(pod.pod_id, pod.refused_at + CONFIRM_AFTER)
                self.wake.set()

    def is_confirmed(self, error: Exception, refused_at: float) -> bool:
        """Tell whether a refusal is to be believed, after a first one at ``refused_at``."""
        confirm_at = refused_at + CONFIRM_AFTER - _TOLERANCE
        return isinstance(error, ClientClosedError) or self.clock.time() >= confirm_at


def is_refusal(error: Exception) -> bool:
    """Tell whether asking again is of no use, if it is no stray answer.

    What is not understood is no refusal, but nothing at all: a login page, an answer of another shape.
    """
    return not isinstance(error, ProtocolError) and not getattr(error, "transient", False)
