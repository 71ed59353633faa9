"""Release of a leased pod: delete it and confirm that it is gone, or return why this was given up.

A release is given up after ``release_timeout`` seconds, or when it was interrupted twice.
"""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from typing import Final

import attrs

from .._utils.clock import Clock
from ..errors import NotFoundError, PrimePodsError, WaitTimeoutError
from ..models import PodState
from ._steps import HURRIED_TIMEOUT, INTERRUPTS, GivenUpError, Steps, TooLateError
from .account import Account
from .options import LeaseOptions
from .pods_api import PodsAPI, has_ended, is_named, read_ended_pods

log = logging.getLogger("primepods")

_RESEND_AFTER: Final = 60.0
"""Seconds after which an accepted deletion is sent again, if the pod is neither deleting nor terminated."""
_MIN_CONFIRM_TIMEOUT: Final = 0.05
"""Seconds for one last poll of the pod at the deadline."""
_MAX_BACKOFF: Final = 10.0
_LOG_INTERVAL: Final = 60.0
"""Min seconds between two log messages about a release that fails."""
_ENDING: Final = frozenset({PodState.DELETING, PodState.TERMINATED})


class _NeverShownError(Exception):
    """No response has ever shown the pod, so a 404 does not prove that it is gone."""


class AnotherPodError(Exception):
    """The API shows the pod with another name, so it belongs to another order."""


@attrs.define(kw_only=True, eq=False)
class Release:
    """The release of one pod.

    Attributes:
        account: The account that rented the pod.
        steps: The steps of the pod's lease, and their interruptions.
        options: Timeouts and intervals.
        pod_id: The pod.
        name: The pod's unique name.
        label: The pod, for messages.
        may_appear_until: ``None`` if a response has shown the pod. Else the time until which the pod may
            still appear: before it, a 404 proves nothing; after it, a 404 ends the release as failed.
        is_name_confirmed: Whether the API has shown this id with this name. If not, the id may be that of
            another order's pod.
    """

    account: Account
    steps: Steps
    options: LeaseOptions
    pod_id: str
    name: str
    label: str
    may_appear_until: float | None
    is_name_confirmed: bool
    _must_send_deletion: bool = attrs.field(default=True, init=False)
    _accepted_at: float = attrs.field(default=math.inf, init=False)
    _logged_at: float = attrs.field(default=-math.inf, init=False)
    _last_failure: str = attrs.field(default="", init=False)
    _ends_at: float = attrs.field(default=math.inf, init=False)

    @property
    def _clock(self) -> Clock:
        return self.account.settings.clock

    async def run(self) -> str | None:
        """Delete the pod and confirm that it is gone; return the reason if it may still be running.

        Raises:
            AnotherPodError: The pod has another name, and is not deleted.
        """
        self._ends_at = self._clock.time() + self.options.release_timeout
        try:
            await self._delete_with_retries()
        except GivenUpError:
            return f"its release was interrupted{self._last_failure}"
        except (TooLateError, WaitTimeoutError):
            accepted = "was accepted, but it is not gone" if self._is_accepted else "is not accepted"
            return f"its deletion {accepted} in time{self._last_failure}"
        except _NeverShownError:
            return "no response has shown it since its order, and the history does not show that it has ended"
        return None

    async def _delete_with_retries(self) -> None:
        """Delete the pod and confirm that it is gone; retry after a failure or an interruption."""
        failures = 0
        while True:
            try:
                if failures:
                    backoff = self._clock.sleep(min(_MAX_BACKOFF, 0.25 * 2.0**failures))
                    await self.steps.run(backoff, deadline=self._deadline)
                await self._delete_and_confirm()
            except WaitTimeoutError:
                raise
            except INTERRUPTS:
                self.steps.on_interrupt()
            except PrimePodsError as exc:
                self._log_failure(exc)
                self._last_failure = f"; the last failure: {str(exc).rstrip('.')}"
                failures += 1
            else:
                return

    async def _delete_and_confirm(self) -> None:
        is_gone = False
        while not is_gone:
            if self._must_send_deletion:
                # Not `_deadline`: an interruption shortens only the confirmation, not a repeated deletion.
                already_ended = await self.steps.run(self._send_deletion(), deadline=lambda: self._ends_at)
                if already_ended:
                    return
                self._must_send_deletion = False
                self._accepted_at = self._clock.time()
            is_gone = await self._wait_until_gone()

    async def _wait_until_gone(self) -> bool:
        """Wait up to a minute until the pod is gone; return whether it is.

        If not, decide whether to send the deletion again.

        Raises:
            WaitTimeoutError: The pod is not gone at the deadline.
        """
        seconds_left = max(_MIN_CONFIRM_TIMEOUT, self._deadline() - self._clock.time())
        wait = self.account.pods.wait_gone(
            self.pod_id, timeout=min(seconds_left, _RESEND_AFTER), interval=self.options.interval
        )
        try:
            await self.steps.run(wait, deadline=self._deadline)
        except WaitTimeoutError as exc:
            if self._clock.time() >= self._deadline():
                raise
            status = exc.statuses.get(self.pod_id)
            # If the API still shows the pod as running, it has lost the deletion that it accepted.
            self._must_send_deletion = status is not None and status.status not in _ENDING
            return False
        return True

    async def _send_deletion(self) -> bool:
        """Send the deletion; return whether the history already shows that the pod has ended.

        Raises:
            AnotherPodError: The pod has another name, and is not deleted.
            PrimePodsError: The deletion is not accepted.
            _NeverShownError: See :meth:`_delete_unshown`.
        """
        account = self.account
        # No retries for a pod never shown: they take a 404 as the success of an earlier attempt.
        pods = account.pods if self.may_appear_until is None else account.pods_once
        if not self.is_name_confirmed:
            has_our_name = await is_named(pods, self.pod_id, self.name)
            # `None` if the name cannot be read: the pod is then deleted.
            if has_our_name is False:
                raise AnotherPodError
        if self.may_appear_until is not None:
            return await self._delete_unshown(pods, self.may_appear_until)
        await pods.delete(self.pod_id, missing_ok=True)
        return False

    async def _delete_unshown(self, pods: PodsAPI, may_appear_until: float) -> bool:
        """Delete a pod that no response has shown; return whether the history shows that it has ended.

        Raises:
            _NeverShownError: The pod does not exist, and cannot appear any more.
            PrimePodsError: The deletion is not accepted, or the pod may still appear.
        """
        with suppress(NotFoundError):
            state = await pods.delete(self.pod_id, missing_ok=False)
            # TERMINATED can mean that the response was unclear, and that neither `get` nor the list shows the
            # pod. It may still appear.
            if state != PodState.TERMINATED:
                return False
        if has_ended(self.name, self.pod_id, await read_ended_pods(self.account.pods)):
            return True
        if self._clock.time() >= may_appear_until:
            raise _NeverShownError
        msg = f"Pod {self.pod_id} has not appeared in the API since its order."
        raise PrimePodsError(msg)

    @property
    def _is_accepted(self) -> bool:
        """Whether the API has accepted the deletion."""
        return self._accepted_at < math.inf

    def _deadline(self) -> float:
        """Return when the release must end: earlier if it was interrupted and the deletion is accepted."""
        if not self.steps.interruptions or not self._is_accepted:
            return self._ends_at
        hurried = max(self._accepted_at, self.steps.interrupted_at) + HURRIED_TIMEOUT
        return min(self._ends_at, hurried)

    def _log_failure(self, error: PrimePodsError) -> None:
        """Log a failure of the release: the first, then at most one a minute."""
        if self._clock.time() >= self._logged_at + _LOG_INTERVAL:
            self._logged_at = self._clock.time()
            log.warning("%s is not released yet: %s", self.label, error)
