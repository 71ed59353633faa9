"""The shared poller: thousands wait for thousands of pods, and the API sees one calm client.

A :class:`Hub` is shared by all clients of one event loop that have equal settings. It exists while somebody
waits. Each wait has a :class:`Subscription`, which names pods and an interval, is notified when one of them
has changed, and reads the pod's newest state from its :class:`WatchedPod`. What that state means to a wait is
decided in :mod:`primepods.waiting.wait`.

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
"""A batch may have to wait until the batches before it have had their attempts."""
_CACHE_BYTES: Final = 32 * 1024 * 1024


class Heir(Protocol):
    """Takes over the connections of a hub that ends, so that the next wait need not connect anew."""

    def inherit(self, transport: Transport) -> bool:
        """Take over the connections; returns whether it did."""
        ...


class Hub:
    """The poller. Made and found by :func:`join`.

    Args:
        settings: The settings of the clients that share it.
        transport: Its connections.
    """

    def __init__(self, settings: Settings, transport: Transport) -> None:
        self._transport = transport
        self._heir: Heir | None = None
        executor = RequestExecutor(settings, self._transport)
        self._state = HubState(settings.clock)
        self._reader = StatusReader(executor, cache_bytes=_CACHE_BYTES)
        self._lookups = PodLookups(self._state, executor)
        self._subscriptions: set[Subscriber] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, subscription: Subscriber) -> None:
        """Begin to poll for ``subscription``: once promptly, then at the ticks of its interval."""
        subscription.since = next(self._state.numbers)
        self._subscriptions.add(subscription)
        for pod_id in subscription.pod_ids:
            pod = subscription.pods[pod_id] = self._state.pods.setdefault(pod_id, WatchedPod(pod_id))
            pod.add(subscription)
        self._state.schedule.add(subscription)
        self._state.warnings.paused(is_new=True)
        if self._task is None:
            # Last, since a task may start at once. In an empty context: otherwise its log lines would carry
            # the context of the first subscriber's task.
            self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
            self._task.add_done_callback(self._note_end)

    def remove_pod(self, subscription: Subscriber, pod: WatchedPod) -> None:
        """Poll no longer for one of the subscription's pods."""
        if subscription in pod.subscriptions:
            pod.remove(subscription)
            if not pod.subscriptions:
                del self._state.pods[pod.pod_id]
                self._state.schedule.forget(pod)

    def remove(self, subscription: Subscriber, heir: Heir) -> None:
        """End the polling for ``subscription``, and all polling with the last one.

        Args:
            subscription: Removed if it is still there.
            heir: Takes over the connections if it was the last one.
        """
        if subscription not in self._subscriptions:
            return
        self._subscriptions.discard(subscription)
        self._state.schedule.remove(subscription)
        for pod in subscription.pods.values():
            self.remove_pod(subscription, pod)
        if not self._subscriptions:
            self._heir = heir
            self._retire()
            with suppress(RuntimeError):  # The loop is closed, and this is what is left of it.
                self._state.schedule.changed.set()

    @property
    def pause(self) -> RateLimitError | None:
        """The answer because of which nothing is asked at present, if there is one."""
        return self._state.pace.cause

    async def ended(self) -> None:
        """Return when nothing is left, if nobody waits any more."""
        if self._task is not None and not self._subscriptions:
            # Not the task itself: who is cancelled meanwhile must not cancel it.
            await asyncio.wait([self._task])

    def _retire(self) -> None:
        """See to it that nobody joins any more."""
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
        except Exception as exc:  # noqa: BLE001 - whatever breaks here must not leave anybody hanging
            error = exc
        await self._shut_down(error)

    async def _shut_down(self, error: Exception | None) -> None:
        """End those who still wait, if there is an error for them, and all that is under way."""
        self._retire()
        if error is not None:
            self._end_subscriptions(error)
        for job in self._state.jobs:
            job.cancel()
        # A tick that was cancelled, and what it refers to, is freed by the garbage collector only.
        self._reader.forget()
        try:
            if self._state.jobs:
                await asyncio.wait(self._state.jobs)
            if error is None and self._heir is not None and self._heir.inherit(self._transport):
                return
        except BaseException:
            await self._transport.aclose()
            raise
        await self._transport.aclose()

    def _end_subscriptions(self, error: Exception) -> None:
        for subscription in self._subscriptions:
            subscription.end(error)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """Leave nobody hanging where the task was cancelled before its first step."""
        if task.cancelled():
            self._retire()
            self._end_subscriptions(_cancelled_error())

    def _next_at(self) -> float:
        """Return when there is something to ask, or to say: a long pause is not kept in silence."""
        when = max(self._state.schedule.next_at(), self._state.pace.paused_until)
        return when if self.pause is None else min(when, self._state.warnings.next_at)

    def _tick(self) -> None:
        """Ask for all that is due; each pod at most once, in full batches."""
        if self._state.pace.cause is not None:
            self._state.warnings.paused(is_new=False)
            return
        pods = [pod for pod in self._state.schedule.take_due() if not pod.in_flight]
        if pods:
            # First those whose last request failed, the longest time ago: else a rate limit, or the bound on
            # the requests of a tick, would always leave out the same ones.
            pods.sort(key=lambda pod: math.inf if pod.trouble is None else pod.asked)
            tick = Tick(self._state, self._reader, self._lookups.add, pods)
            self._state.start(tick.run, pods, tick.release)


def _cancelled_error() -> PrimePodsError:
    return PrimePodsError("The polling was cancelled from outside. Wait again.")


_hubs: dict[tuple[asyncio.AbstractEventLoop, Settings, int], Hub] = {}


def join(settings: Settings, session: Any, make_transport: Callable[[], Transport]) -> Hub:
    """Return the running loop's hub for ``settings``, a new one if there is none.

    Add a subscription before the next ``await``: a hub ends with its last one.

    Args:
        settings: Equal for those who share a hub, but for how often and how long a call is retried: the next
            tick is the retry.
        session: The caller's own aiohttp session, or ``None``.
        make_transport: Makes the connections of a new hub.
    """
    loop = asyncio.get_running_loop()
    for key in [key for key in list(_hubs) if key[0].is_closed()]:
        # A loop that was thrown away with waits in it; its hub will never run again.
        _hubs.pop(key, None)
    # Not the session itself: a function need not be hashable. The hub keeps it, and its id, alive.
    key = (loop, attrs.evolve(settings, deadline=_DEADLINE, retry=_ONCE), id(session))
    hub = _hubs.get(key)
    if hub is None:
        hub = _hubs[key] = Hub(key[1], make_transport())
    return hub
