"""From what the shared poller knows of pods to the changes that one who waits is told of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from ..models import PodChange, PodStatus
from ._subscription import Subscription
from ._watched_pod import WatchedPod

APPEAR_GRACE: Final = 60.0
"""Seconds for a pod that the API does not know (yet) to appear."""


class ChangeTracker:
    """Makes a :class:`PodChange` of each difference to what was last reported.

    Args:
        subscription: Whose pods.
        appear_grace: Seconds for a pod never seen to appear, before it is reported as gone.

    Attributes:
        reported: What was last reported of each pod.
        never_appeared: Pods that did not appear.
    """

    def __init__(self, subscription: Subscription, appear_grace: float) -> None:
        self.reported: dict[str, PodStatus | None] = {}
        self.never_appeared: set[str] = set()
        self._subscription = subscription
        self._appear_by = self._check_at = subscription.clock.time() + appear_grace
        self._absent: dict[str, None] = {}

    async def changes(self, until: float = math.inf) -> Iterator[PodChange]:
        """Wait until something has changed, or the clock says ``until``.

        Returns:
            What has changed, each pod's state as it is when it is taken from the iterator.
        """
        if self._absent:
            until = min(until, self._check_at)
        return self._take(await self._subscription.changed(until))

    def _take(self, pods: list[WatchedPod]) -> Iterator[PodChange]:
        for pod in pods:
            change = self._change(pod)
            if change is not None:
                yield change
        now = self._subscription.clock.time()
        if self._absent and now >= self._check_at:
            self._check_at = now + self._subscription.interval
            for pod_id in list(self._absent):
                # An outage is no proof: only an answer from after the grace is.
                if self._subscription.pods[pod_id].seen_at >= self._appear_by:
                    del self._absent[pod_id]
                    self.never_appeared.add(pod_id)
                    self.reported[pod_id] = None
                    yield PodChange(pod_id=pod_id, before=None, after=None)

    def _change(self, pod: WatchedPod) -> PodChange | None:
        if pod.absent:
            if pod.pod_id not in self.reported:
                self._absent[pod.pod_id] = None
            return None
        self._absent.pop(pod.pod_id, None)
        before, after = self.reported.get(pod.pod_id), pod.status
        if pod.pod_id in self.reported and before == after:
            return None
        self.reported[pod.pod_id] = after
        return PodChange(pod_id=pod.pod_id, before=before, after=after)
