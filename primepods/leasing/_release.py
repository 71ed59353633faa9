"""Gives a leased pod back: deletes it and sees it gone, and says when that is given up.

It is given up after ``release_timeout`` seconds, or when it was interrupted as often as ``_steps`` lets it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Final

from .._utils.clock import Clock
from ..errors import PrimePodsError, WaitTimeoutError
from ..models import Pod, PodState
from ._steps import INTERRUPTS, SAME_INTERRUPTION, GivenUpError, Steps, TooLateError
from .operations import PodOperations
from .options import LeaseOptions

log = logging.getLogger("primepods")

_HURRY: Final = 10.0
"""Seconds to see a pod gone after its deletion was accepted, once the release was interrupted."""
_LONGEST_PAUSE: Final = 10.0
_REMIND_AFTER: Final = 60.0
"""Seconds between two lines of the log about a release that fails."""


class Release:
    """The release of one pod.

    Args:
        pod: The pod.
        what: The pod, for messages.
        operations: What it is done with.
        options: How long to try.
        clock: Tells the time.
        steps: What interrupts it.
        unseen_until: Until when the pod may still appear, by the clock, if it was never seen: before that, a
            404 says nothing.
    """

    def __init__(  # noqa: PLR0913 - what a release is made of
        self,
        pod: Pod,
        what: str,
        *,
        operations: PodOperations,
        options: LeaseOptions,
        clock: Clock,
        steps: Steps,
        unseen_until: float,
    ) -> None:
        self._pod = pod
        self._what = what
        self._operations = operations
        self._options = options
        self._clock = clock
        self._steps = steps
        self._unseen_until = unseen_until
        self._deleted_at = math.inf
        self._logged_at = -math.inf

    async def run(self) -> str | None:
        """Delete the pod and see it gone, however often that fails; returns why it may go on, if it may."""
        self._ends_at = self._clock.time() + self._options.release_timeout
        failures, last = 0, ""
        while True:
            try:
                if failures:
                    pause = self._clock.wait(asyncio.Event(), min(_LONGEST_PAUSE, 0.25 * 2.0**failures))
                    await self._steps.run(pause, self._interrupt, until=self._see_until)
                await self._delete_and_see_gone()
            except GivenUpError:
                return f"its release was interrupted{last}"
            except (TooLateError, WaitTimeoutError):
                accepted = "was accepted, but it is not gone" if self._is_deleted else "is not accepted"
                return f"its deletion {accepted} in time{last}"
            except INTERRUPTS:
                self._interrupt()
            except PrimePodsError as exc:
                self._log_failure(exc)
                failures, last = failures + 1, f"; the last failure: {str(exc).rstrip('.')}"
            else:
                return None

    async def _delete_and_see_gone(self) -> None:
        if not self._is_deleted:
            await self._steps.run(self._delete(), self._interrupt, until=lambda: self._ends_at)
            self._deleted_at = self._clock.time()
        left = max(SAME_INTERRUPTION, self._see_until() - self._clock.time())
        gone = self._operations.wait_gone(self._pod.id, timeout=left, interval=self._options.interval)
        await self._steps.run(gone, self._interrupt, until=self._see_until)

    async def _delete(self) -> None:
        may_appear = self._clock.time() < self._unseen_until
        state = await self._operations.delete(self._pod.id, missing_ok=not may_appear)
        if may_appear and state == PodState.TERMINATED:
            # A 404 after an attempt whose answer was lost is no success of it while nothing is to be seen.
            msg = f"Pod {self._pod.id} has not appeared in the API since it was created."
            raise PrimePodsError(msg)

    @property
    def _is_deleted(self) -> bool:
        """Whether the API has accepted the deletion."""
        return self._deleted_at < math.inf

    def _see_until(self) -> float:
        in_a_hurry = max(self._deleted_at, self._steps.interrupted_at) + _HURRY
        return min(self._ends_at, in_a_hurry) if self._steps.interruptions else self._ends_at

    def _interrupt(self) -> None:
        self._steps.interrupt(self._what)

    def _log_failure(self, error: PrimePodsError) -> None:
        """Say that a release takes longer: at first, and then once a minute."""
        if self._clock.time() >= self._logged_at + _REMIND_AFTER:
            self._logged_at = self._clock.time()
            log.warning("%s is not released yet: %s", self._what, error)
