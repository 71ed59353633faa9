"""Who waits: told which of its pods have changed, until it closes or its client does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._utils.clock import Clock
from .._utils.exceptions import copy_exception
from ..config import Settings
from ..errors import ClientClosedError, RateLimitError
from ._hub import Hub, join

if TYPE_CHECKING:
    from ._watched_pod import WatchedPod


class Subscription:
    """Some pods that the shared poller asks for: ``async with`` it, and await :meth:`changed`.

    Args:
        connection: The client's connection to the poller.
        pod_ids: The pods.
        interval: Seconds between two looks at each.

    Attributes:
        clock: The client's clock.
        since: Number of the last request before it began: only what later ones bring counts for it.
        pods: What is known of those of its pods that are still wanted.
    """

    def __init__(self, connection: HubConnection, pod_ids: Iterable[str], interval: float) -> None:
        self.pod_ids: dict[str, None] = dict.fromkeys(pod_ids)
        self.interval = interval
        self.clock: Clock = connection.clock
        self.since = 0
        self.pods: dict[str, WatchedPod] = {}
        self._connection = connection
        self._hub: Hub | None = None
        self._changed: dict[str, None] = {}
        self._error: Exception | None = None
        self._news = asyncio.Event()

    @property
    def pause(self) -> RateLimitError | None:
        """The answer because of which nothing is asked at present, if there is one."""
        return None if self._hub is None else self._hub.pause

    def begin(self) -> None:
        """Begin to poll.

        Raises:
            ClientClosedError: The client is closed.
        """
        self._hub = self._connection.connect(self)

    def close(self) -> None:
        """Poll for it no longer. Does nothing when it is closed."""
        self._connection.disconnect(self)
        if self._hub is not None:
            self._hub.remove(self)

    async def aclose(self) -> None:
        """Close it and return when nothing is left of the poller, if this was its last subscription."""
        self.close()
        if self._hub is not None:
            await self._hub.ended()

    async def __aenter__(self) -> Self:
        self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        # A coroutine that is being closed must not await: the collector does that, in whatever loop.
        if kind is not GeneratorExit:
            await self.aclose()

    def drop(self, pod_id: str) -> None:
        """Poll no longer for one of the pods."""
        if self._hub is not None:
            self._hub.remove_pod(self, pod_id)

    async def changed(self, until: float) -> list[WatchedPod]:
        """Wait until something has changed, or until ``until``; return the pods that have, each once.

        Nothing is lost when this is cancelled.

        Raises:
            PrimePodsError: Polling cannot go on: closed, not authenticated, refused.
        """
        await self.clock.wait(self._news, until - self.clock.time())
        if self._error is not None:
            raise self._error
        self._news.clear()
        changed, self._changed = self._changed, {}
        return [self.pods[pod_id] for pod_id in changed if pod_id in self.pods]

    def notify(self, pod_id: str) -> None:
        """Note that a pod has changed."""
        self._changed[pod_id] = None
        self._news.set()

    def end(self, error: Exception) -> None:
        """End it with an exception of its own: tracebacks and notes of one must not show up at another's."""
        if self._error is None:
            self._error = copy_exception(error)
            self._news.set()


class HubConnection:
    """A client's way to the shared poller; the client's views have one each, which ends with the client's.

    Args:
        settings: The settings of the client, or of a view on it.
        session: The caller's own aiohttp session, or ``None``.
        client: The connection of the client, for a view on it.

    Attributes:
        subscriptions: What is open, with its hub and loop.
        closed: Whether the client is closed.
    """

    def __init__(self, settings: Settings, session: Any, client: HubConnection | None = None) -> None:
        self.clock: Clock = settings.clock
        self._settings = settings
        self._session = session
        self._client = client or self
        self.closed: bool = False
        self.subscriptions: dict[Subscription, tuple[Hub, asyncio.AbstractEventLoop]] = {}

    def connect(self, subscription: Subscription) -> Hub:
        """Begin to poll for ``subscription``.

        Raises:
            ClientClosedError: The client is closed.
        """
        if self._client.closed:
            raise _closed_error()
        hub = join(self._settings, self._session)
        hub.add(subscription)
        self._client.subscriptions[subscription] = hub, asyncio.get_running_loop()
        return hub

    def disconnect(self, subscription: Subscription) -> None:
        """Note that ``subscription`` is closed."""
        self._client.subscriptions.pop(subscription, None)

    def close(self) -> None:
        """End all subscriptions, also those of iterators that nobody looks at any more."""
        self.closed = True
        for subscription, (hub, loop) in list(self.subscriptions.items()):
            # In the child of a fork there are the parent's, too, in a loop that nothing runs here.
            if loop is asyncio.get_running_loop():
                subscription.end(_closed_error())
                hub.remove(subscription)


def _closed_error() -> ClientClosedError:
    return ClientClosedError(
        "The client was closed while it waited. The pods go on; wait again with another."
    )
