"""Release of a leased pod: delete it, confirm that it is gone, or say why that was given up.

It is given up after ``release_timeout`` seconds, or when it was interrupted twice.
"""

from __future__ import annotations

import logging
import math
from typing import Final

import attrs

from .._utils.clock import Clock
from ..errors import NotFoundError, PrimePodsError, WaitTimeoutError
from ..models import PodState
from ._steps import HURRY, INTERRUPTS, SAME_INTERRUPTION, GivenUpError, Steps, TooLateError
from .account import Account
from .options import LeaseOptions
from .pods_api import PodsAPI, ended_pods, has_ended, is_named

log = logging.getLogger("primepods")

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


@attrs.define(kw_only=True, eq=False)
class Release:
    """The release of one pod.

    Attributes:
        account: The account that rented it.
        steps: The steps of its lease, and their interruptions.
        options: Timeouts and intervals.
        pod_id: The pod.
        name: Its unique name.
        what: The pod, for messages.
        doubt_until: Time until which the pod may still appear, if no response has shown it: a 404 proves
            nothing then, and at that time the release is given up. ``None`` if it was shown.
        is_proved: Whether the API has shown the pod with its name.
    """

    account: Account
    steps: Steps
    options: LeaseOptions
    pod_id: str
    name: str
    what: str
    doubt_until: float | None
    is_proved: bool
    _must_delete: bool = attrs.field(default=True, init=False)
    _accepted_at: float = attrs.field(default=math.inf, init=False)
    _logged_at: float = attrs.field(default=-math.inf, init=False)
    _last_failure: str = attrs.field(default="", init=False)
    _ends_at: float = attrs.field(default=math.inf, init=False)

    @property
    def _clock(self) -> Clock:
        return self.account.settings.clock

    @property
    def _deleting(self) -> PodsAPI:
        """Without retries for a pod that was never shown: a 404 must not be that of a repeated deletion."""
        return self.account.pods if self.doubt_until is None else self.account.pods_once

    async def run(self) -> str | None:
        """Delete the pod and confirm that it is gone; return why it may be running, if it may.

        Raises:
            AnotherPodError: It has another name, and is not deleted.
        """
        self._ends_at = self._clock.time() + self.options.release_timeout
        try:
            await self._until_gone()
        except GivenUpError:
            return f"its release was interrupted{self._last_failure}"
        except (TooLateError, WaitTimeoutError):
            accepted = "was accepted, but it is not gone" if self._is_accepted else "is not accepted"
            return f"its deletion {accepted} in time{self._last_failure}"
        except _NeverShownError:
            return "no response has shown it since its order, nor that it has ended"
        return None

    async def _until_gone(self) -> None:
        """Delete the pod and confirm that it is gone; try again after a failure or an interruption."""
        failures = 0
        while True:
            try:
                if failures:
                    pause = self._clock.sleep(min(_MAX_PAUSE, 0.25 * 2.0**failures))
                    await self.steps.run(pause, self._interrupt, until=self._confirm_until)
                await self._delete_and_confirm()
            except WaitTimeoutError:
                raise
            except INTERRUPTS:
                self._interrupt()
            except PrimePodsError as exc:
                self._log_failure(exc)
                self._last_failure = f"; the last failure: {str(exc).rstrip('.')}"
                failures += 1
            else:
                return

    async def _delete_and_confirm(self) -> None:
        is_gone = False
        while not is_gone:
            if self._must_delete:
                if await self.steps.run(self._delete(), self._interrupt, until=lambda: self._ends_at):
                    return
                self._must_delete = False
                self._accepted_at = self._clock.time()
            is_gone = await self._is_confirmed_gone()

    async def _is_confirmed_gone(self) -> bool:
        """Wait until the pod is gone; if it is not, note whether its deletion must be sent again.

        Raises:
            WaitTimeoutError: It is not, and the time is over.
        """
        left = max(SAME_INTERRUPTION, self._confirm_until() - self._clock.time())
        gone = self.account.pods.wait_gone(
            self.pod_id, timeout=min(left, _RESEND_AFTER), interval=self.options.interval
        )
        try:
            await self.steps.run(gone, self._interrupt, until=self._confirm_until)
        except WaitTimeoutError as exc:
            if self._clock.time() >= self._confirm_until():
                raise
            status = exc.statuses.get(self.pod_id)
            # Accepted, and then lost: the pod runs on.
            self._must_delete = status is not None and status.status not in _ON_ITS_WAY_OUT
            return False
        return True

    async def _delete(self) -> bool:
        """Send the deletion until it is accepted; return whether the history shows that the pod has ended."""
        if not self.is_proved and await is_named(self._deleting, self.pod_id, self.name) is False:
            raise AnotherPodError
        try:
            state = await self._deleting.delete(self.pod_id, missing_ok=self.doubt_until is None)
        except NotFoundError:
            if await self._has_ended():
                return True
            raise
        if self.doubt_until is None or state != PodState.TERMINATED:
            return False
        # It may be a 404 to a deletion that was sent again, of a pod that has not appeared yet.
        if await self._has_ended():
            return True
        msg = f"Pod {self.pod_id} has not appeared in the API since its order."
        raise PrimePodsError(msg)

    async def _has_ended(self) -> bool:
        """Tell whether the history shows that the pod has ended.

        Raises:
            _NeverShownError: It does not, and it is too late for the pod to appear.
        """
        if has_ended(self.name, self.pod_id, await ended_pods(self.account.pods)):
            return True
        if self.doubt_until is not None and self._clock.time() >= self.doubt_until:
            raise _NeverShownError
        return False

    @property
    def _is_accepted(self) -> bool:
        """Whether the API has accepted the deletion."""
        return self._accepted_at < math.inf

    def _confirm_until(self) -> float:
        hurry_until = max(self._accepted_at, self.steps.interrupted_at) + HURRY
        return min(self._ends_at, hurry_until) if self.steps.interruptions else self._ends_at

    def _interrupt(self) -> None:
        self.steps.interrupt(self.what)

    def _log_failure(self, error: PrimePodsError) -> None:
        """Log that a release takes longer: the first time, then once a minute."""
        if self._clock.time() >= self._logged_at + _REMIND_AFTER:
            self._logged_at = self._clock.time()
            log.warning("%s is not released yet: %s", self.what, error)
