"""Subscriptions to the changes of pods."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from .._operations import LISTENERS
from .._utils.exceptions import copy_exception
from ..models import PodChange, PodStatus
from ..results import PodStatuses
from ._poller import Poller, join
from ._watched_pod import WatchedPod
from .connection import PollerConnection, closed_error

if TYPE_CHECKING:
    from .._operations.operation import Listeners

APPEAR_GRACE: Final = 60.0
"""Seconds within which a new pod must appear in the API's responses.

Chosen. The APIs of some other clouds were observed to list new machines late; for this API, it is imagined.
"""


class Subscription:
    """A subscription to the changes of pods; in its ``async with`` block, await :meth:`changed`.

    Args:
        connection: The client's connection to the poller.
        pod_ids: Ids of the pods.
        interval: Seconds between two polls of a pod.
        appear_grace: Seconds before a pod that never appeared is reported as gone.

    Attributes:
        pod_ids: Ids of the pods, without duplicates.
        interval: Seconds between two polls of a pod.
        listeners: Listeners of the polls, or ``None``.
        sequence: Sequence number. Only responses to requests with a higher number count for the subscription.
        pods: The pods that were not removed yet.
        poller: The poller, once started.
        reported: The last reported state of each pod.
    """

    poller: Poller

    def __init__(
        self,
        connection: PollerConnection,
        pod_ids: Iterable[str],
        interval: float,
        appear_grace: float = APPEAR_GRACE,
    ) -> None:
        self.pod_ids: dict[str, None] = dict.fromkeys(pod_ids)
        self.interval = interval
        self.listeners: Listeners | None = LISTENERS.get()
        self.sequence: int = 0
        self.pods: dict[str, WatchedPod] = {}
        self._changed: dict[WatchedPod, None] = {}
        self._error: Exception | None = None
        self._has_news = asyncio.Event()
        self.reported: dict[str, PodStatus | None] = {}
        self._connection = connection
        self._appear_by = connection.clock.time() + appear_grace

    def notify(self, pod: WatchedPod) -> None:
        """Record that a pod has changed, and wake the subscriber."""
        self._changed[pod] = None
        self._has_news.set()

    def end(self, error: Exception) -> None:
        """Let :meth:`changed` raise copies of ``error``, unless it raises another already."""
        if self._error is None:
            self._error = error
            self._has_news.set()

    def start(self) -> None:
        """Start polling for this subscription.

        Raises:
            ClientClosedError: The client is closed.
        """
        root = self._connection.root
        if root.closed:
            raise closed_error()
        self.poller = join(self._connection.settings, self._connection.session)
        root.subscriptions[self] = None
        self.poller.add(self)

    def close(self) -> None:
        """Stop polling for this subscription; do nothing if it is already closed."""
        root = self._connection.root
        root.subscriptions.pop(self, None)
        self.poller.remove(self)

    async def aclose(self) -> None:
        """Close the subscription; if it was the poller's last one, wait until the poller has shut down."""
        self.close()
        await self.poller.wait_closed()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        # A coroutine that is being closed must not await.
        if kind is not GeneratorExit:
            await self.poller.wait_closed()

    def remove_pod(self, pod_id: str) -> None:
        """Unsubscribe from one of the pods."""
        self.poller.remove_pod(self, self.pods.pop(pod_id))

    async def changed(self, *, ends_at: float = math.inf) -> list[WatchedPod]:
        """Wait for changes until the clock reaches ``ends_at``; return the pods that may have changed.

        A cancelled call loses no change.

        Raises:
            PrimePodsError: The client is closed, or polling cannot continue.
        """
        clock = self._connection.clock
        await clock.wait(self._has_news, ends_at - clock.time())
        if self._error is not None:
            raise copy_exception(self._error)
        self._has_news.clear()
        changed = self._changed
        self._changed = {}
        return [pod for pod in changed if pod.pod_id in self.pods]

    def report(self, pod: WatchedPod) -> PodChange | None:
        """Return the change of a pod since its last report, if any, and record it as reported."""
        pod_id = pod.pod_id
        before = self.reported.get(pod_id)
        if pod_id in self.reported and pod.status == before:
            return None
        # Report a pod that was never found only after a response that came after the grace period: an outage
        # may have filled the whole period.
        if pod.never_found and pod.confirmed_at < self._appear_by:
            pod.notify_on_next_response(self)
            return None
        self.reported[pod_id] = pod.status
        return PodChange(pod_id=pod_id, before=before, after=pod.status)

    def statuses(self) -> PodStatuses:
        """Return the last reported states in the requested order; gone or never seen pods are ``missing``."""
        rows = {pod_id: row for pod_id in self.pod_ids if (row := self.reported.get(pod_id)) is not None}
        return PodStatuses(rows, missing=tuple(pod_id for pod_id in self.pod_ids if pod_id not in rows))
