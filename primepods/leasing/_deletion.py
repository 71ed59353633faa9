"""Deletion of one pod: sent until it is accepted, then confirmed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from .._utils.clock import Timeout, doubled
from ..errors import PrimePodsError, WaitTimeoutError
from .pods_api import LeaseOptions, TeamClient

# Seconds to confirm that a pod is gone, after the release was interrupted.
_HURRIED_TIMEOUT: Final = 10.0
_HURRIED_INTERVAL: Final = 1.0
# Seconds after which an accepted deletion is first sent again, if the pod is neither deleting nor terminated.
_RESEND_AFTER: Final = 60.0
_MIN_BACKOFF: Final = 0.25
_MAX_BACKOFF: Final = 10.0


def retry_delay(failures: int) -> float:
    """Return the delay in seconds after a number of failures in a row."""
    return doubled(_MIN_BACKOFF, times=failures, maximum=_MAX_BACKOFF)


class Deletion:
    """Deletes the pods of an order, one at a time.

    Args:
        client: The client of the pods' team.
        options: The parameters of the lease.
        note_failure: Called with each error after which the deletion goes on.
    """

    def __init__(
        self, client: TeamClient, options: LeaseOptions, note_failure: Callable[[Exception], None]
    ) -> None:
        self._pods = client.pods
        self._clock = client.settings.clock
        self._options = options
        self._note_failure = note_failure
        self._ends_at = -math.inf
        self._accepted_at = math.inf
        self._hurried_at = math.inf
        self._wait: Timeout | None = None

    async def run(self, pod_id: str, ends_at: float) -> str | None:
        """Delete a pod and confirm that it is gone; return why it may be running.

        Args:
            pod_id: The pod.
            ends_at: Time to give up.
        """
        self._ends_at, self._accepted_at = ends_at, math.inf
        failures = 0
        resend_after = _RESEND_AFTER
        while self._clock.time() < self._last_moment:
            try:
                if self._accepted_at == math.inf:
                    async with self._clock.timeout_at(ends_at):
                        await self._pods.delete(pod_id, missing_ok=True)
                    self._accepted_at = self._clock.time()
                await self._wait_gone(pod_id, resend_after)
            except WaitTimeoutError as exc:
                # The next wait starts from nothing. Under a rate limit, it may need minutes to see the end.
                resend_after *= 2
                status = exc.statuses.get(pod_id)
                if status is not None and not (status.status and status.status.is_ending):
                    # The API has lost the deletion that it accepted.
                    self._accepted_at = math.inf
            except (PrimePodsError, ValueError) as exc:
                # ValueError: the list shows an id for which no request is possible.
                self._note_failure(exc)
                failures += 1
                seconds_left = max(0.0, self._last_moment - self._clock.time())
                await self._clock.sleep(min(retry_delay(failures), seconds_left))
            except TimeoutError:
                continue  # It was hurried, or the time is over: see the loop's condition.
            else:
                return None
        is_accepted = self._accepted_at < math.inf
        return (
            f"its deletion {'was accepted, but it is not gone' if is_accepted else 'is not accepted'} in time"
        )

    @property
    def _last_moment(self) -> float:
        """Time to give up; earlier if the deletion is accepted and was hurried."""
        return min(self._ends_at, max(self._accepted_at, self._hurried_at) + _HURRIED_TIMEOUT)

    async def _wait_gone(self, pod_id: str, timeout: float) -> None:
        interval = self._options.interval
        if self._hurried_at < math.inf:
            interval = min(interval, _HURRIED_INTERVAL)
        async with self._clock.timeout_at(self._last_moment) as wait:
            self._wait = wait
            try:
                await self._pods.wait_gone(pod_id, timeout=timeout, interval=interval)
            finally:
                self._wait = None

    def hurry(self) -> None:
        """Limit the confirmation of an accepted deletion to 10 seconds from now, and poll every second."""
        self._hurried_at = self._clock.time()
        if self._wait is not None and not self._wait.expired():
            # The next wait ends earlier, and polls more often.
            self._wait.reschedule(self._hurried_at)
