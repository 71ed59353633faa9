"""The shared poller, which polls the pods of all waits.

Clients in one event loop share a :class:`Poller` if their settings and sessions allow it (see :func:`join`).
It ends with its last subscription. A wait or a watch adds a subscription, which has pods and an interval.
When one of the pods has changed, the poller notifies the subscription, and the wait reads the state from the
:class:`WatchedPod`. A failed request is not retried, since its pods are polled again anyway.

At run time, a module of this package imports only modules that follow it in this list: ``watch``, ``wait``,
``subscription``, ``connection``, ``_poller``, ``_tick``, ``_lookups``, ``_poller_state``, ``_schedule``,
``_watched_pod``, ``conditions``.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from .._http.executor import RequestExecutor
from .._http.transport import Transport
from .._status_reader import StatusReader
from ..config import Settings
from ..errors import PrimePodsError, RateLimitError
from ..retry import RetryPolicy
from ._lookups import PodLookups
from ._poller_state import PollerState
from ._tick import Tick
from ._watched_pod import WatchedPod

if TYPE_CHECKING:
    from .subscription import Subscription

_NO_RETRIES: Final = RetryPolicy(attempts=1)
_DEADLINE: Final = 3600.0
"""Max seconds for one request, including the wait for a free slot (chosen)."""
_CACHE_BYTES: Final = 32 * 1024 * 1024
"""Max bytes of the response cache (chosen), four times the default of :class:`StatusReader`."""


class Poller:
    """The poller; get it with :func:`join`.

    Attributes:
        loop: The event loop in which it was created.
    """

    def __init__(self, settings: Settings, transport: Transport) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._transport = transport
        executor = RequestExecutor(settings, self._transport, is_paced=False)
        self._state = PollerState(settings.clock, transport.pace)
        self._reader = StatusReader(executor, cache_bytes=_CACHE_BYTES)
        self._lookups = PodLookups(self._state, executor)
        self._subscriptions: dict[Subscription, float] = {}
        """The subscriptions, and when each was added."""
        self._task: asyncio.Task[None] | None = None

    def add(self, subscription: Subscription) -> None:
        """Start polling for ``subscription``: once promptly, then at the ticks of its interval."""
        state = self._state
        # Responses to earlier requests, which have lower numbers, do not count for the subscription.
        subscription.sequence = next(state.sequence_numbers)
        self._subscriptions[subscription] = state.clock.time()
        if subscription.listeners is not None:
            state.listener_count += 1
            subscription.listeners.report("WaitStarted", pods=len(subscription.pod_ids))
        for pod_id in subscription.pod_ids:
            pod = state.pods.setdefault(pod_id, WatchedPod(pod_id))
            subscription.pods[pod_id] = pod
            pod.add(subscription)
        state.schedule.add(subscription)
        state.warnings.warn_if_paused(is_new_wait=True)
        if self._task is None:
            # Start the task last, since an eager task starts at once.
            self._start(self._run())

    def remove_pod(self, subscription: Subscription, pod: WatchedPod) -> None:
        """Remove one of the subscription's pods; stop polling the pod if it has no other subscription."""
        is_subscribed = pod.subscriptions.pop(subscription, None) is not None
        if is_subscribed and not pod.subscriptions:
            del self._state.pods[pod.pod_id]
            self._state.schedule.remove_from_queue(pod)

    def remove(self, subscription: Subscription) -> None:
        """Stop polling for ``subscription``; if it is the last one, shut the poller down.

        Args:
            subscription: The subscription; if it was already removed, nothing happens.
        """
        began_at = self._subscriptions.pop(subscription, None)
        if began_at is None:
            return
        state = self._state
        if subscription.listeners is not None:
            state.listener_count -= 1
            seconds = state.clock.time() - began_at
            total, pending = len(subscription.pod_ids), len(subscription.pods)
            subscription.listeners.report("WaitEnded", pods=total, pending=pending, seconds=seconds)
        state.schedule.remove(subscription)
        for pod in subscription.pods.values():
            self.remove_pod(subscription, pod)
        if not self._subscriptions:
            self._unregister()
            with suppress(RuntimeError):  # The loop is already closed.
                state.schedule.changed.set()

    @property
    def pause_cause(self) -> RateLimitError | None:
        """The 429 that caused the current pause; ``None`` if polling is not paused."""
        return self._state.pace.pause_cause

    async def wait_closed(self) -> None:
        """If the poller has no subscriptions left, wait until it has shut down."""
        is_ending = not self._subscriptions
        if is_ending and self._task is not None:
            # Don't await the task: a cancellation of this caller would cancel it.
            await asyncio.wait([self._task])

    def _unregister(self) -> None:
        for key in [key for key, poller in list(_pollers.items()) if poller is self]:
            _pollers.pop(key, None)

    async def _run(self) -> None:
        state, schedule = self._state, self._state.schedule
        error: Exception | None = None
        try:
            while self._subscriptions:
                if state.pace.pause_cause is not None:
                    state.warnings.warn_if_paused(is_new_wait=False)
                elif pods := schedule.take_due():
                    tick = Tick(state, self._reader, pods, look_up=self._lookups.start_if_due)
                    state.start(tick.run, pods=pods, on_end=tick.release)
                schedule.changed.clear()
                next_at = max(schedule.next_at(), state.pace.paused_until)
                if state.pace.pause_cause is not None:
                    next_at = min(next_at, state.warnings.next_at)
                await state.clock.wait(schedule.changed, next_at - state.clock.time())
        except asyncio.CancelledError:
            error = _poller_cancelled_error()
        except Exception as exc:  # noqa: BLE001 - a defect must not leave subscribers hanging
            error = exc
        await self._shut_down(error)

    async def _shut_down(self, error: Exception | None) -> None:
        """End the subscriptions with ``error``, if any; cancel the tasks; keep or close the connections."""
        self._unregister()
        if error is not None:
            for subscription in self._subscriptions:
                subscription.end(error)
        for job in self._state.jobs:
            job.cancel()
        # Free the memory now: a cancelled tick keeps the reader alive until the next garbage collection.
        self._reader.clear_cache()
        try:
            if self._state.jobs:
                await asyncio.wait(self._state.jobs)
        finally:
            await self._transport.aclose()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        # An empty context, so that log lines do not carry the context variables of the first subscriber.
        self._task = self.loop.create_task(work, context=contextvars.Context())
        self._task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        # A task that was cancelled before its first step has not shut down.
        if task.cancelled() and not self._transport.closed:
            self._start(self._shut_down(_poller_cancelled_error()))


def _poller_cancelled_error() -> PrimePodsError:
    return PrimePodsError("The polling was cancelled from outside. Wait again.")


_pollers: dict[tuple[asyncio.AbstractEventLoop, Settings, int], Poller] = {}


def join(settings: Settings, session: Any) -> Poller:
    """Return the running loop's poller for ``settings``; create it if there is none.

    Add a subscription before the next ``await``, since a poller without subscriptions may end.

    Args:
        settings: Clients with equal settings share a poller. ``deadline``, ``retry`` and ``on_event`` may
            differ: the poller does not use them.
        session: The caller's aiohttp session, or ``None``. Clients share a poller only if this is the same
            object.
    """
    loop = asyncio.get_running_loop()
    for key in [key for key in list(_pollers) if key[0].is_closed()]:
        # The loop was closed with waits in it: its poller will never run again.
        _pollers.pop(key, None)
    poller_settings = attrs.evolve(settings, deadline=_DEADLINE, retry=_NO_RETRIES, on_event=None)
    # The poller keeps the session alive, so the id stays unique.
    key = (loop, poller_settings, id(session))
    poller = _pollers.get(key)
    if poller is None:
        poller = _pollers[key] = Poller(poller_settings, Transport(settings, session))
    return poller
