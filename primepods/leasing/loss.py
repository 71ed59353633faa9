"""Notice that a leased pod is lost while it works: for pools and runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import attrs

from .._utils.clock import SYSTEM_CLOCK, Clock
from ..errors import PrimePodsError
from ..remote import Watchdog
from ..waiting.watch import AsyncWatch

LOSS_CHECK_FACTOR: Final = 6
"""Interval of the checks for a lost pod, as a multiple of the poll interval."""
_PAUSE: Final = 5.0
"""Seconds until the next watch, after one that has ended with an error."""


@attrs.frozen
class Loss:
    """A pod that is lost.

    Attributes:
        reason: Phrase for the reason.
        may_answer: Whether the pod has failed, and may still accept logins.
    """

    reason: str
    may_answer: bool = False


def describe_gone(watchdog: Watchdog | None, state: str = "gone") -> str:
    """Return a phrase for a pod that is gone or going, though its lease has not deleted it."""
    by = "" if watchdog is None else f", deleted by its watchdog ({watchdog.reasons}) or from elsewhere"
    return f"it is {state}{by}"


async def wait_until_lost(
    watch: Callable[[], AsyncWatch], clock: Clock = SYSTEM_CLOCK, watchdog: Watchdog | None = None
) -> Loss:
    """Wait until the API shows that a pod has failed, was stopped or is being deleted, or is gone.

    Args:
        watch: Returns a watch of the pod.
        clock: The client's clock.
        watchdog: The pod's watchdog, which may delete it.
    """
    while True:
        with suppress(PrimePodsError):
            async for change in watch():
                status = change.after
                if status is None:
                    return Loss(describe_gone(watchdog))
                if status.status is not None and status.status.is_ending:
                    return Loss(describe_gone(watchdog, status.status))
                if status.has_failed or status.has_ended:
                    return Loss(status.failure or f"it is {status.status}", may_answer=not status.has_ended)
        await clock.sleep(_PAUSE)
