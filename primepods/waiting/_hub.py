"""The shared poller: one stream of requests for all waits on all pods.

A :class:`Hub` is shared by all clients of one event loop that have equal settings. It exists while it
has subscriptions. Each wait has a :class:`Subscription`, which names pods and an interval, is notified when
one of them has changed, and reads the pod's newest state from its :class:`WatchedPod`.
:mod:`primepods.waiting.wait` decides what that state means to a wait.

Imports go one way: ``wait`` and ``watch``, ``_subscription``, ``_hub``, ``_tick`` and ``_lookups``,
``_hub_state``, ``_schedule``, ``_watched_pod``.

There is no retry inside a tick: the next tick is the retry.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

import attrs

from .._http.executor import RequestExecutor
from .._http.transport import Transport
from .._status_reader import StatusReader
from ..config import Settings
from ..errors import PrimePodsError, RateLimitError
from ..retry import RetryPolicy
from ._hub_state import HubState
from ._lookups import PodLookups
from ._tick import Tick
from ._watched_pod import Subscriber, WatchedPod

_ONCE: Final = RetryPolicy(attempts=1)
_DEADLINE: Final = 3600.0
"""Seconds; long, since a batch may queue behind the attempts of earlier batches."""
_CACHE_BYTES: Final = 32 * 1024 * 1024


class TransportKeeper(Protocol):
    """A client, which keeps the connections of a hub that ends, so that the next wait can reuse them."""

    def keep_transport(self, transport: Transport) -> bool:
        """Keep the connections; return whether it does."""
        ...


class Hub:
    """The poller; get it with :func:`join`.

    Args:
        settings: The settings of the clients that share it.
        transport: Its connections.
    """

    def __init__(self, settings: Settings, transport: Transport) -> None:
        self._transport = transport
        self._keeper: TransportKeeper | None = None
        executor = RequestExecutor(settings, self._transport)
        self._state = HubState(settings.clock)
        self._reader = StatusReader(executor, cache_bytes=_CACHE_BYTES)
        self._lookups = PodLookups(self._state, executor)
        self._subscriptions: set[Subscriber] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, subscription: Subscriber) -> None:
        """Start polling for ``subscription``: once promptly, then at the ticks of its interval."""
        subscription.since = next(self._state.numbers)
        self._subscriptions.add(subscription)
        self._state.listening += subscription.listeners is not None
        for pod_id in subscription.pod_ids:
            pod = subscription.pods[pod_id] = self._state.pods.setdefault(pod_id, WatchedPod(pod_id))
            pod.add(subscription)
        self._state.schedule.add(subscription)
        self._state.warnings.paused(is_new=True)
        if self._task is None:
            # Last, since a task may start at once. In an empty context, so that its log lines do not carry
            # that of the first subscriber.
            self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
            self._task.add_done_callback(self._note_end)

    def remove_pod(self, subscription: Subscriber, pod: WatchedPod) -> None:
        """Stop polling for one of the subscription's pods."""
        if subscription in pod.subscriptions:
            pod.remove(subscription)
            if not pod.subscriptions:
                del self._state.pods[pod.pod_id]
                self._state.schedule.forget(pod)

    def remove(self, subscription: Subscriber, keeper: TransportKeeper) -> None:
        """Stop polling for ``subscription``; with the last one, shut the poller down.

        Args:
            subscription: Removed if it is still there.
            keeper: Keeps the connections if it was the last one.
        """
        if subscription not in self._subscriptions:
            return
        self._subscriptions.discard(subscription)
        self._state.listening -= subscription.listeners is not None
        self._state.schedule.remove(subscription)
        for pod in subscription.pods.values():
            self.remove_pod(subscription, pod)
        if not self._subscriptions:
            self._keeper = keeper
            self._retire()
            with suppress(RuntimeError):  # The loop is already closed.
                self._state.schedule.changed.set()

    @property
    def pause(self) -> RateLimitError | None:
        """The rate limit response that caused the current pause, if there is one."""
        return self._state.pace.cause

    async def ended(self) -> None:
        """Wait until the poller has shut down, if it has no subscriptions left."""
        if self._task is not None and not self._subscriptions:
            # Don't await the task itself: cancelling this waiter would cancel it.
            await asyncio.wait([self._task])

    def _retire(self) -> None:
        """Remove the hub from the registry, so that no subscription joins it."""
        for key in [key for key, hub in list(_hubs.items()) if hub is self]:
            _hubs.pop(key, None)

    async def _run(self) -> None:
        clock, schedule = self._state.clock, self._state.schedule
        error: Exception | None = None
        try:
            while self._subscriptions:
                self._tick()
                schedule.changed.clear()
                await clock.wait(schedule.changed, self._next_at() - clock.time())
        except asyncio.CancelledError:
            error = _cancelled_error()
        except Exception as exc:  # noqa: BLE001 - a defect must not leave subscribers hanging
            error = exc
        await self._shut_down(error)

    async def _shut_down(self, error: Exception | None) -> None:
        """Cancel all running tasks; if there is an error, end the remaining subscriptions with it."""
        self._retire()
        if error is not None:
            self._end_subscriptions(error)
        for job in self._state.jobs:
            job.cancel()
        # Only the garbage collector frees a cancelled tick and what it refers to.
        self._reader.forget()
        try:
            if self._state.jobs:
                await asyncio.wait(self._state.jobs)
            if error is None and self._keeper is not None and self._keeper.keep_transport(self._transport):
                return
        except BaseException:
            await self._transport.aclose()
            raise
        await self._transport.aclose()

    def _end_subscriptions(self, error: Exception) -> None:
        for subscription in self._subscriptions:
            subscription.end(error)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """End the subscriptions if the task was cancelled before its first step."""
        if task.cancelled():
            self._retire()
            self._end_subscriptions(_cancelled_error())

    def _next_at(self) -> float:
        """Return the time of the next request or, in a long pause, of the next log line."""
        when = max(self._state.schedule.next_at(), self._state.pace.paused_until)
        return when if self.pause is None else min(when, self._state.warnings.next_at)

    def _tick(self) -> None:
        """Poll all pods that are due, each at most once, in full batches."""
        if self._state.pace.cause is not None:
            self._state.warnings.paused(is_new=False)
            return
        pods = [pod for pod in self._state.schedule.take_due() if not pod.in_flight]
        if pods:
            # Failed pods first, the oldest first: else a rate limit, or the bound on the requests of a tick,
            # would always leave out the same ones.
            pods.sort(key=lambda pod: math.inf if pod.trouble is None else pod.asked)
            tick = Tick(self._state, self._reader, self._lookups.add, pods)
            self._state.start(tick.run, pods, tick.release)


def _cancelled_error() -> PrimePodsError:
    return PrimePodsError("The polling was cancelled from outside. Wait again.")


_hubs: dict[tuple[asyncio.AbstractEventLoop, Settings, int], Hub] = {}


def join(settings: Settings, session: Any, make_transport: Callable[[], Transport]) -> Hub:
    """Return the running loop's hub for ``settings``; create it if there is none.

    Add a subscription before the next ``await``: a hub ends with its last one.

    Args:
        settings: Clients share a hub if these are equal. The retry settings do not count: the next tick is
            the retry. Nor does ``on_event``: each subscription has its listeners.
        session: The caller's own aiohttp session, or ``None``.
        make_transport: Makes the connections of a new hub.
    """
    loop = asyncio.get_running_loop()
    for key in [key for key in list(_hubs) if key[0].is_closed()]:
        # The loop was abandoned with waits in it; its hub will never run again.
        _hubs.pop(key, None)
    # By id: a session factory need not be hashable. The hub keeps it alive, so the id stays unique.
    key = (loop, attrs.evolve(settings, deadline=_DEADLINE, retry=_ONCE, on_event=None), id(session))
    hub = _hubs.get(key)
    if hub is None:
        hub = _hubs[key] = Hub(key[1], make_transport())
    return hub
