"""Subscriptions to the changes of pods, and a client's connection to the shared poller."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from .._http.transport import Transport
from .._utils.clock import Clock
from .._utils.exceptions import copy_exception
from ..config import Settings
from ..errors import ClientClosedError
from ..models import PodChange, PodStatus
from ..results import PodStatuses
from ._poller import Poller, join
from ._watched_pod import Subscriber, WatchedPod

if TYPE_CHECKING:
    from .._operations.hook import Hook

APPEAR_GRACE: Final = 60.0
"""Seconds for a pod that the API does not know yet to appear. Chosen; other clouds were seen to need some."""


class Subscription(Subscriber):
    """A subscription to the changes of pods; in its ``async with`` block, await :meth:`changed`.

    Args:
        connection: The client's connection to the poller.
        pod_ids: The pods, at least one.
        interval: Seconds between two polls of a pod.
        appear_grace: Seconds before a pod that never appeared is reported as gone.

    Attributes:
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
        super().__init__(pod_ids, interval)
        self.reported: dict[str, PodStatus | None] = {}
        self._connection = connection
        self._appear_by = connection.clock.time() + appear_grace

    def start(self) -> None:
        """Start polling for this subscription.

        Raises:
            ClientClosedError: The client is closed.
        """
        self.poller = self._connection.join_poller()
        self._connection.root.subscriptions[self] = None
        self.poller.add(self)

    def close(self) -> None:
        """Stop polling for this subscription. Does nothing if it is already closed."""
        root = self._connection.root
        root.subscriptions.pop(self, None)
        self.poller.remove(self, transport_keeper=root)

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
        # Only a response after the grace period counts: until then there may have been an outage.
        if pod.never_found and pod.confirmed_at < self._appear_by:
            pod.notify_on_next_response(self)
            return None
        self.reported[pod_id] = pod.status
        return PodChange(pod_id=pod_id, before=before, after=pod.status)

    def statuses(self) -> PodStatuses:
        """Return the last reported states in the requested order; gone or never seen pods are ``missing``."""
        rows = {pod_id: row for pod_id in self.pod_ids if (row := self.reported.get(pod_id)) is not None}
        return PodStatuses(rows, missing=tuple(pod_id for pod_id in self.pod_ids if pod_id not in rows))


class PollerConnection:
    """A client's connection to the shared poller.

    A view, made by ``with_options``, is a client with other settings. It closes with the client.

    Args:
        settings: The settings of the client or the view.
        session: The caller's aiohttp session, a function that makes one, or ``None``.
        parent: The connection of the client or view that this view was made from; ``None`` for a client.

    Attributes:
        clock: The client's clock.
        on_event: The client's hook.
        root: The connection of the client from which the views were made; for a client, this object.
        subscriptions: Open subscriptions of the client and its views.
        closed: Whether the client is closed.
    """

    def __init__(self, settings: Settings, session: Any, parent: PollerConnection | None = None) -> None:
        self.clock: Clock = settings.clock
        self.on_event: Hook | None = settings.on_event
        self._settings = settings
        self._session = session
        self.root: PollerConnection = self if parent is None else parent.root
        self.closed: bool = False
        self.subscriptions: dict[Subscription, None] = {}
        self._spare_transport: Transport | None = None
        self._spare_loop: asyncio.AbstractEventLoop | None = None

    def join_poller(self) -> Poller:
        """Return the running loop's poller; add a subscription to it before the next ``await``.

        Raises:
            ClientClosedError: The client is closed.
        """
        if self.root.closed:
            raise _closed_error()
        return join(self._settings, self._session, self.root.take_transport)

    def take_transport(self) -> Transport:
        """Return connections for a poller in the running loop: those of the last poller, or new ones."""
        spare, loop = self._spare_transport, self._spare_loop
        if spare is None or loop is None:
            return Transport(self._settings, self._session)
        # A transport can move to another loop only if its loop is closed.
        is_usable_here = loop is asyncio.get_running_loop() or loop.is_closed()
        if not is_usable_here:
            return Transport(self._settings, self._session)
        self._spare_transport = None
        self._spare_loop = None
        return spare

    def keep_transport(self, transport: Transport) -> bool:
        """Keep the connections of an ending poller for the next one, unless there are some already.

        Returns:
            Whether they are kept.
        """
        if self.closed or self._spare_transport is not None:
            return False
        self._spare_transport = transport
        self._spare_loop = asyncio.get_running_loop()
        return True

    async def aclose(self) -> None:
        """End all subscriptions, including those of abandoned iterators."""
        self.closed = True
        for subscription in list(self.subscriptions):
            # A forked child has copies of the parent's subscriptions, whose loop does not run here.
            if subscription.poller.loop is asyncio.get_running_loop():
                subscription.end(_closed_error())
                subscription.close()
        spare, self._spare_transport = self._spare_transport, None
        if spare is not None:
            await spare.aclose()


def _closed_error() -> ClientClosedError:
    return ClientClosedError(
        "The client was closed while it waited. The pods keep running; wait again with a new client."
    )
