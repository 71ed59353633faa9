"""Release of a leased pod: delete it and confirm that it is gone, or return why this was given up.

A release is given up after ``release_timeout`` seconds, or when it was interrupted twice.
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
"""Seconds after which an accepted deletion is sent again, if the pod is neither deleting nor terminated."""
_MAX_PAUSE: Final = 10.0
_REMIND_AFTER: Final = 60.0
"""Seconds between two lines of the log about a release that fails."""
_ENDING: Final = frozenset({PodState.DELETING, PodState.TERMINATED})


class _NeverShownError(Exception):
    """No response has ever shown the pod, so a 404 does not prove that it is gone."""


class AnotherPodError(Exception):
    """The API shows the pod with another name: it belongs to another order."""


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
        doubt_until: If no response has shown the pod: the time until which it may still appear. Before that,
            a 404 proves nothing; after that, the release is given up. ``None`` if the pod was shown.
        is_proved: Whether the API has shown this id together with our name; the id alone may be of another
            order's pod.
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
    def _pods_to_delete(self) -> PodsAPI:
        """The API for deletions; without retries if no response has shown the pod.

        With retries, a 404 after a lost response would count as success, though the pod may still appear.
        """
        return self.account.pods if self.doubt_until is None else self.account.pods_once

    async def run(self) -> str | None:
        """Delete the pod and confirm that it is gone; return the reason if it may still be running.

        Raises:
            AnotherPodError: The pod has another name, and is not deleted.
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
            return "no response has shown it since its order, and the history does not show that it has ended"
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
                has_ended = await self.steps.run(self._delete(), self._interrupt, until=lambda: self._ends_at)
                if has_ended:
                    return
                self._must_delete = False
                self._accepted_at = self._clock.time()
            is_gone = await self._is_confirmed_gone()

    async def _is_confirmed_gone(self) -> bool:
        """Wait until the pod is gone; if it is not, note whether its deletion must be sent again.

        Raises:
            WaitTimeoutError: It is not, and the time is over.
        """
        # Positive even at the end of the time, for one last look.
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
            # The API accepted the deletion and then forgot it: send it again.
            self._must_delete = status is not None and status.status not in _ENDING
            return False
        return True

    async def _delete(self) -> bool:
        """Send the deletion until it is accepted; return whether the history shows that the pod has ended."""
        if not self.is_proved and await is_named(self._pods_to_delete, self.pod_id, self.name) is False:
            raise AnotherPodError
        try:
            state = await self._pods_to_delete.delete(self.pod_id, missing_ok=self.doubt_until is None)
        except NotFoundError:
            if await self._has_ended():
                return True
            raise
        if self.doubt_until is None or state != PodState.TERMINATED:
            return False
        # `delete` also returns TERMINATED for a 404 after a lost response, which proves nothing yet.
        if await self._has_ended():
            return True
        msg = f"Pod {self.pod_id} has not appeared in the API since its order."
        raise PrimePodsError(msg)

    async def _has_ended(self) -> bool:
        """Return whether the history shows that the pod has ended.

        Raises:
            _NeverShownError: The history does not show it, and it is too late for the pod to appear.
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
        """Return the time at which the release must end; earlier after an interruption."""
        if not self.steps.interruptions:
            return self._ends_at
        # Infinite before the acceptance, so that the full time applies.
        hurried = max(self._accepted_at, self.steps.interrupted_at) + HURRY
        return min(self._ends_at, hurried)

    def _interrupt(self) -> None:
        self.steps.interrupt(self.what)

    def _log_failure(self, error: PrimePodsError) -> None:
        """Log a failure of the release: the first one, then at most one a minute."""
        if self._clock.time() >= self._logged_at + _REMIND_AFTER:
            self._logged_at = self._clock.time()
            log.warning("%s is not released yet: %s", self.what, error)
