"""Waiting for pods."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

import attrs

from .._http.request import PODS
from .._http.response import missing_row
from ..models import PodChange, PodState, PodStatus
from ..results import PodStatuses
from ._subscription import HubConnection, Subscription
from ._wait_errors import pod_failed, timed_out
from ._watched_pod import WatchedPod
from .conditions import Until, check_until, failed, gone, holds, is_over, settled

OnChange = Callable[[PodChange], Awaitable[object] | object]
"""Called with each :class:`~primepods.PodChange` of a wait; what it raises ends the wait.

The asynchronous client awaits what it returns, if need be; the blocking one calls it in the caller's thread.
"""


@attrs.define(kw_only=True, eq=False)
class Wait:
    """One call of ``pods.wait``.

    Attributes:
        connection: The client's connection to the shared poller.
        pod_ids: Checked ids.
        until: What is waited for.
        timeout: Seconds.
        interval: Seconds between two looks.
        on_change: Told of each change.
        appear_grace: Seconds for a pod never seen to appear.
        install_grace: Seconds for a failed installation to recover.
    """

    connection: HubConnection
    pod_ids: list[str]
    until: Until
    timeout: float
    interval: float
    on_change: OnChange | None
    appear_grace: float
    install_grace: float
    _grace_ends: dict[str, float] = attrs.field(factory=dict[str, float], init=False)

    async def run(self) -> PodStatuses:
        """Wait until every pod has been where it was wanted."""
        check_until(self.until)
        if not self.pod_ids:
            return PodStatuses({})
        clock = self.connection.clock
        limit = clock.timeout_at(clock.time() + self.timeout)
        appear_grace = 0.0 if self.until is gone else self.appear_grace
        async with Subscription(self.connection, self.pod_ids, self.interval, appear_grace) as subscription:
            try:
                async with limit:
                    await self._until_done(subscription)
                    return subscription.statuses()
            except TimeoutError:
                if not limit.expired():
                    raise
            raise timed_out(subscription, self.timeout)

    async def _until_done(self, subscription: Subscription) -> None:
        while subscription.pods:
            for pod in await subscription.changed():
                change = subscription.report(pod)
                if change is not None and self.on_change is not None:
                    outcome = self.on_change(change)
                    if inspect.isawaitable(outcome):
                        await outcome
                if change is not None or pod.pod_id in self._grace_ends:
                    self._judge(pod, subscription)

    def _judge(self, pod: WatchedPod, subscription: Subscription) -> None:
        """Decide whether a pod is where it was wanted, has failed, or is still on its way."""
        pod_id, status = pod.pod_id, subscription.reported[pod.pod_id]
        in_grace = self._in_install_grace(pod, status)
        ours = self.until is settled or self.until is failed
        if not (in_grace and ours) and holds(self.until, status):
            subscription.drop(pod_id)
        elif self.until is gone:
            return
        elif in_grace:
            # The grace ends with the first answer after it.
            pod.to_tell.add(subscription)
        elif pod_id in subscription.never_appeared:
            raise missing_row("GET", f"{PODS}/status", pod_id)
        elif is_over(status):
            raise pod_failed(subscription, pod_id)

    def _in_install_grace(self, pod: WatchedPod, status: PodStatus | None) -> bool:
        """Tell whether a failed installation may still recover: until an answer from after the grace."""
        if status is None or not status.has_failed or status.status == PodState.ERROR:
            self._grace_ends.pop(pod.pod_id, None)
            return False
        return pod.seen_at < self._grace_ends.setdefault(pod.pod_id, pod.seen_at + self.install_grace)
