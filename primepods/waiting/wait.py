"""Waiting for pods."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable

from .._http.request import PODS
from .._http.response import missing_row
from ..models import PodChange, PodState, PodStatus
from ..results import PodStatuses
from ._changes import ChangeTracker
from ._subscription import HubConnection, Subscription
from ._wait_errors import as_statuses, pod_failed, timed_out
from .conditions import Until, check_until, failed, gone, holds, is_over, settled

OnChange = Callable[[PodChange], Awaitable[object] | object]


class Wait:
    """One call of ``pods.wait``.

    Args:
        connection: The client's connection to the shared poller.
        pod_ids: Checked ids.
        until: What is waited for.
        timeout: Seconds.
        interval: Seconds between two looks.
        on_change: Told of each change.
        appear_grace: Seconds for a pod never seen to appear.
        install_grace: Seconds for a failed installation to recover.
    """

    def __init__(  # noqa: PLR0913 - the parameters of `pods.wait`
        self,
        connection: HubConnection,
        pod_ids: list[str],
        *,
        until: Until,
        timeout: float,
        interval: float,
        on_change: OnChange | None,
        appear_grace: float,
        install_grace: float,
    ) -> None:
        check_until(until)
        self._clock = connection.clock
        self._ids = pod_ids
        self._until = until
        self._timeout = timeout
        self._on_change = on_change
        self._appear_grace = 0.0 if until is gone else appear_grace
        self._install_grace = install_grace
        self._subscription = Subscription(connection, pod_ids, interval)
        self._pending = dict.fromkeys(pod_ids)
        self._grace_ends: dict[str, float] = {}
        self._graces_checked_at = -math.inf

    async def run(self) -> PodStatuses:
        """Wait until every pod has been where it was wanted."""
        if not self._ids:
            return PodStatuses({})
        limit = self._clock.timeout_at(self._clock.time() + self._timeout)
        async with self._subscription:
            tracker = ChangeTracker(self._subscription, self._appear_grace)
            try:
                async with limit:
                    await self._until_done(tracker)
                    return as_statuses(self._ids, tracker.reported)
            except TimeoutError:
                if not limit.expired():
                    raise
            raise timed_out(self._pending, self._timeout, tracker, self._subscription)

    async def _until_done(self, tracker: ChangeTracker) -> None:
        while self._pending:
            for change in await tracker.changes(self._next_grace_end()):
                if self._on_change is not None:
                    outcome = self._on_change(change)
                    if inspect.isawaitable(outcome):
                        await outcome
                self._judge(change.pod_id, tracker)
            now = self._clock.time()
            if now >= self._next_grace_end():
                self._graces_checked_at = now
                for pod_id in [pod_id for pod_id, time in self._grace_ends.items() if time <= now]:
                    self._judge(pod_id, tracker)

    def _judge(self, pod_id: str, tracker: ChangeTracker) -> None:
        """Decide whether a pod is where it was wanted, has failed, or is still on its way."""
        status = tracker.reported[pod_id]
        in_grace = self._in_install_grace(pod_id, status)
        ours = self._until is settled or self._until is failed
        if not (in_grace and ours) and holds(self._until, status):
            self._grace_ends.pop(pod_id, None)
            self._pending.pop(pod_id, None)
            self._subscription.drop(pod_id)
        elif self._until is gone or in_grace:
            return
        elif pod_id in tracker.never_appeared:
            raise missing_row("GET", f"{PODS}/status", pod_id)
        elif is_over(status):
            raise pod_failed(pod_id, self._pending, tracker, self._subscription)

    def _in_install_grace(self, pod_id: str, status: PodStatus | None) -> bool:
        """Tell whether a failed installation may still recover: until an answer from after the grace."""
        if status is None or not status.has_failed or status.status == PodState.ERROR:
            self._grace_ends.pop(pod_id, None)
            return False
        seen_at = self._subscription.pods[pod_id].seen_at
        return seen_at < self._grace_ends.setdefault(pod_id, seen_at + self._install_grace)

    def _next_grace_end(self) -> float:
        """Return when to look again at pods in their grace: at the end of one, then once an interval."""
        next_look = self._graces_checked_at + self._subscription.interval
        return max(min(self._grace_ends.values(), default=math.inf), next_look)
