"""Release of a leased pod: delete it, confirm that it is gone, or say why that was given up.

It is given up after ``release_timeout`` seconds, or when it was interrupted twice.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Final

from .._utils.clock import Clock
from ..errors import NotFoundError, PrimePodsError, WaitTimeoutError
from ..models import PodState
from ._steps import INTERRUPTS, SAME_INTERRUPTION, GivenUpError, Steps, TooLateError
from .options import LeaseOptions
from .pods_api import PodsAPI, ended_pods, has_ended, is_named

log = logging.getLogger("primepods")

_HURRY: Final = 10.0
"""Seconds to confirm that a pod is gone after its deletion was accepted, once the release was interrupted."""
_RESEND_AFTER: Final = 60.0
"""Seconds after which an accepted deletion is sent again, if the pod is not on its way out."""
_MAX_PAUSE: Final = 10.0
_REMIND_AFTER: Final = 60.0
"""Seconds between two lines of the log about a release that fails."""
_ON_ITS_WAY_OUT: Final = frozenset({PodState.DELETING, PodState.TERMINATED})


class _NeverShownError(Exception):
    """No response has ever shown the pod, so a 404 does not prove that it is gone."""


class AnotherPodError(Exception):
    """The API shows the pod with another name: it is somebody else's."""


class Release:
    """The release of one pod.

    Args:
        pods: What shows it.
        deleting: What deletes it.
        pod_id: The pod.
        name: Its unique name.
        what: The pod, for messages.
        options: How long to try.
        clock: Tells the time.
        steps: What interrupts it.
        doubt_until: Until when the pod may still appear, by the clock, if nothing has ever shown it: a 404
            proves nothing then, and at that time the release is given up. ``None`` if it was seen.
        is_proved: Whether the API has shown the pod with its name.
    """

    def __init__(  # noqa: PLR0913 - what a release is made of
        self,
        pods: PodsAPI,
        deleting: PodsAPI,
        pod_id: str,
        name: str,
        what: str,
        *,
        options: LeaseOptions,
        clock: Clock,
        steps: Steps,
        doubt_until: float | None,
        is_proved: bool,
    ) -> None:
        self._pods = pods
        self._deleting = deleting
        self._pod_id = pod_id
        self._name = name
        self._what = what
        self._options = options
        self._clock = clock
        self._steps = steps
        self._doubt_until = doubt_until
        self._is_proved = is_proved
        self._must_delete = True
        self._accepted_at = math.inf
        self._logged_at = -math.inf

    async def run(self) -> str | None:
        """Delete the pod and confirm that it is gone; return why it may be running, if it may.

        Raises:
            AnotherPodError: It has another name, and is not deleted.
        """
        self._ends_at = self._clock.time() + self._options.release_timeout
        failures, last = 0, ""
        while True:
            try:
                if failures:
                    pause = self._clock.wait(asyncio.Event(), min(_MAX_PAUSE, 0.25 * 2.0**failures))
                    await self._steps.run(pause, self._interrupt, until=self._confirm_until)
                await self._delete_and_confirm()
            except GivenUpError:
                return f"its release was interrupted{last}"
            except (TooLateError, WaitTimeoutError):
                accepted = "was accepted, but it is not gone" if self._is_accepted else "is not accepted"
                return f"its deletion {accepted} in time{last}"
            except _NeverShownError:
                return "no response has shown it since its order, nor that it has ended"
            except INTERRUPTS:
                self._interrupt()
            except PrimePodsError as exc:
                self._log_failure(exc)
                failures, last = failures + 1, f"; the last failure: {str(exc).rstrip('.')}"
            else:
                return None

    async def _delete_and_confirm(self) -> None:
        while True:
            if self._must_delete:
                if await self._steps.run(self._delete(), self._interrupt, until=lambda: self._ends_at):
                    return
                self._must_delete = False
                self._accepted_at = min(self._accepted_at, self._clock.time())
            left = max(SAME_INTERRUPTION, self._confirm_until() - self._clock.time())
            gone = self._pods.wait_gone(
                self._pod_id, timeout=min(left, _RESEND_AFTER), interval=self._options.interval
            )
            try:
                await self._steps.run(gone, self._interrupt, until=self._confirm_until)
            except WaitTimeoutError as exc:
                if self._clock.time() >= self._confirm_until():
                    raise
                status = exc.statuses.get(self._pod_id)
                # Accepted, and then lost: the pod runs on.
                self._must_delete = status is not None and status.status not in _ON_ITS_WAY_OUT
            else:
                return

    async def _delete(self) -> bool:
        """Send the deletion until it is accepted; return whether the history shows that the pod has ended."""
        if not self._is_proved and await is_named(self._deleting, self._pod_id, self._name) is False:
            raise AnotherPodError
        try:
            state = await self._deleting.delete(self._pod_id, missing_ok=self._doubt_until is None)
        except NotFoundError:
            if await self._has_ended():
                return True
            raise
        if self._doubt_until is None or state != PodState.TERMINATED:
            return False
        # It may be a 404 to a deletion that was sent again, of a pod that has not appeared yet.
        if await self._has_ended():
            return True
        msg = f"Pod {self._pod_id} has not appeared in the API since its order."
        raise PrimePodsError(msg)

    async def _has_ended(self) -> bool:
        """Tell whether the history shows that the pod has ended.

        Raises:
            _NeverShownError: It does not, and it is too late for the pod to appear.
        """
        if has_ended(self._name, self._pod_id, await ended_pods(self._pods)):
            return True
        if self._doubt_until is not None and self._clock.time() >= self._doubt_until:
            raise _NeverShownError
        return False

    @property
    def _is_accepted(self) -> bool:
        """Whether the API has accepted the deletion."""
        return self._accepted_at < math.inf

    def _confirm_until(self) -> float:
        hurry_until = max(self._accepted_at, self._steps.interrupted_at) + _HURRY
        return min(self._ends_at, hurry_until) if self._steps.interruptions else self._ends_at

    def _interrupt(self) -> None:
        self._steps.interrupt(self._what)

    def _log_failure(self, error: PrimePodsError) -> None:
        """Log that a release takes longer: the first time, then once a minute."""
        if self._clock.time() >= self._logged_at + _REMIND_AFTER:
            self._logged_at = self._clock.time()
            log.warning("%s is not released yet: %s", self._what, error)
