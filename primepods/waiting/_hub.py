"""The shared poller: thousands wait for thousands of pods, and the API sees one calm client.

A :class:`Hub` is shared by all clients of one event loop that have equal settings. It exists while somebody
waits. Those who wait are :class:`Subscription` objects: each names pods and an interval, is told when one of
them has changed, and reads the pod's newest state from its :class:`WatchedPod`. What that state means to a
wait is decided in :mod:`primepods.waiting.wait`.

There is no retry inside a tick: the next tick is the retry.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs

from .._decoding.rows import decode_pod
from .._http.executor import RequestExecutor
from .._http.request import chunk_ids, pod_request
from .._http.transport import Transport
from .._status_reader import StatusReader
from ..config import Settings
from ..errors import (
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    PrimePodsError,
    ProtocolError,
    RateLimitError,
    ServerError,
    TransportError,
)
from ..retry import RetryPolicy
from ._pause import PollPause
from ._schedule import PollSchedule
from ._watched_pod import LOOKUP_INTERVAL, WatchedPod
from ._workers import WorkerPool

if TYPE_CHECKING:
    from ._subscription import Subscription

_ONCE: Final = RetryPolicy(attempts=1)
_DEADLINE: Final = 3600.0
"""A batch may have to wait until the batches before it have had their attempts."""
_CACHE_BYTES: Final = 32 * 1024 * 1024


class Hub:
    """The poller. Made and found by :func:`join`.

    Args:
        settings: The settings of the clients that share it.
        session: Their own aiohttp session, or ``None``.
    """

    def __init__(self, settings: Settings, session: Any) -> None:
        self._clock = settings.clock
        self._prefix = urlsplit(settings.base_url).path
        self._transport = Transport(settings, session)
        self._executor = RequestExecutor(settings, self._transport)
        self._reader = StatusReader(self._executor, cache_bytes=_CACHE_BYTES)
        self._subscriptions: set[Subscription] = set()
        self._pods: dict[str, WatchedPod] = {}
        self._schedule = PollSchedule(settings.clock)
        self.pause = PollPause(settings.clock)
        self._sequence = 0
        concurrency = settings.max_concurrency
        self._polls = WorkerPool(concurrency, self._poll, self._start)
        self._lookups = WorkerPool(max(1, concurrency // 4), self._look_up, self._start)
        self._jobs: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._ending = False
        # An empty context: else its log lines would land in whichever task happened to come first.
        self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())

    def add(self, subscription: Subscription) -> None:
        """Begin to poll for ``subscription``: once promptly, then at the ticks of its interval."""
        subscription.since = self._sequence
        self._subscriptions.add(subscription)
        self._schedule.add(subscription.pod_ids, subscription.interval)
        for pod_id in subscription.pod_ids:
            pod = self._pods.get(pod_id)
            if pod is None:
                pod = self._pods[pod_id] = WatchedPod(pod_id)
            pod.add(subscription)
            subscription.pods[pod_id] = pod
        self._wake.set()

    def remove_pod(self, subscription: Subscription, pod_id: str) -> None:
        """Poll no longer for one of the subscription's pods."""
        pod = subscription.pods.pop(pod_id, None)
        if pod is not None and subscription in self._subscriptions:
            self._unsubscribe(subscription, pod)

    def remove(self, subscription: Subscription) -> None:
        """End the polling for ``subscription``, and all polling with the last one."""
        if subscription not in self._subscriptions:
            return
        self._subscriptions.discard(subscription)
        for pod in subscription.pods.values():
            self._unsubscribe(subscription, pod)
        if not self._subscriptions:
            self._retire()
            if not self._ending:
                self._ending = True
                self._task.cancel()

    async def ended(self) -> None:
        """Return when nothing is left, if nobody waits any more."""
        if not self._subscriptions:
            # Not the task itself: who is cancelled meanwhile must not cancel it.
            await asyncio.wait([self._task])

    def _unsubscribe(self, subscription: Subscription, pod: WatchedPod) -> None:
        pod.remove(subscription)
        self._schedule.remove(pod.pod_id, subscription.interval)
        if not pod.subscriptions:
            del self._pods[pod.pod_id]
            self._schedule.forget(pod.pod_id)

    def _retire(self) -> None:
        """See to it that nobody joins any more."""
        for key in [key for key, hub in list(_hubs.items()) if hub is self]:
            _hubs.pop(key, None)

    async def _run(self) -> None:
        try:
            while True:
                await self._sleep_until(max(self._schedule.next_at(), self.pause.until))
                self._tick()
        except asyncio.CancelledError:
            await self._shut_down(PrimePodsError("The polling was cancelled from outside. Wait again."))
            raise
        except Exception as exc:  # noqa: BLE001 - whatever breaks here must not leave anybody hanging
            await self._shut_down(exc)

    async def _shut_down(self, error: Exception) -> None:
        # Who leaves from now on must not cancel once more: that would interrupt this.
        self._ending = True
        self._retire()
        self._end_all(error)
        for job in self._jobs:
            job.cancel()
        try:
            if self._jobs:
                await asyncio.wait(self._jobs)
        finally:
            await self._transport.aclose()

    async def _sleep_until(self, when: float) -> None:
        """Sleep until ``when``, or until somebody subscribes."""
        self._wake.clear()
        limit = self._clock.timeout_at(when)
        try:
            async with limit:
                await self._wake.wait()
        except TimeoutError:
            if not limit.expired():
                raise

    def _tick(self) -> None:
        """Send for all that is due; each pod at most once, in full batches."""
        if self.pause.cause is not None:
            return
        due = self._schedule.take_due()
        pods = [pod for pod_id in due if not (pod := self._pods[pod_id]).in_flight]
        # First those whose last request failed: else a rate limit would always leave out the same ones.
        pods.sort(key=lambda pod: pod.trouble is None)
        for pod in pods:
            pod.in_flight = True
        for chunk in chunk_ids([pod.pod_id for pod in pods], prefix=self._prefix):
            self._polls.add([self._pods[pod_id] for pod_id in chunk])

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _poll(self, pods: list[WatchedPod]) -> None:
        """Ask for one chunk, unless a pause has begun, and pass on what it brings, be it an error."""
        trouble: PrimePodsError | None = None
        try:
            trouble = self.pause.cause
            if trouble is None:
                await self._ask(pods)
        except PrimePodsError as exc:
            trouble = exc if self._passes(exc, pods) else None
        except Exception as exc:  # noqa: BLE001 - a defect ends the waits; it must not leave them hanging
            self._end(pods, exc)
        finally:
            for pod in pods:
                pod.in_flight = False
                pod.trouble = trouble
                if self._schedule.retry_newcomer(pod.pod_id):
                    self._wake.set()

    async def _ask(self, pods: list[WatchedPod]) -> None:
        self._sequence += 1
        sequence = self._sequence
        for pod in pods:
            if self._pods.get(pod.pod_id) is pod:
                self._schedule.forget(pod.pod_id)
        answer = await self._reader.read_chunk([pod.pod_id for pod in pods])
        self.pause.reset()
        now = self._clock.time()
        for pod in pods:
            error = answer.errors.get(pod.pod_id)
            if error is None:
                row = answer.rows.get(pod.pod_id)
                if pod.row is not None and row == pod.row:
                    # One copy of what has not changed: The cache keeps these rows, too.
                    row = answer.rows[pod.pod_id] = pod.row
                pod.observe(row, sequence, now)
                self._queue_lookup(pod, now)
            else:
                pod.refused = error
                pod.notify(sequence)

    def _passes(self, error: PrimePodsError, pods: Iterable[WatchedPod]) -> bool:
        """Tell whether an error passes by itself. One that does not ends the waits; a 429 pauses the hub."""
        if isinstance(error, RateLimitError):
            self.pause.apply_rate_limit(error)
        elif isinstance(error, AuthenticationError | PermissionDeniedError):
            self._end_all(error)
            return False
        elif not (
            isinstance(error, ServerError | ProtocolError)
            or (isinstance(error, TransportError) and error.transient)
        ):
            self._end(pods, error)
            return False
        return True

    def _end(self, pods: Iterable[WatchedPod], error: Exception) -> None:
        for pod in pods:
            pod.end(error)

    def _end_all(self, error: Exception) -> None:
        for subscription in self._subscriptions:
            subscription.end(error)

    def _queue_lookup(self, pod: WatchedPod, now: float) -> None:
        """Have ``get`` asked for a pod of which the status does not say all."""
        if not pod.looking_up and pod.wants_lookup(now):
            pod.looking_up = True
            self._lookups.add(pod)

    async def _look_up(self, pod: WatchedPod) -> None:
        try:
            # What a pause leaves out is asked for again after the next tick.
            if pod.subscriptions and self.pause.cause is None:
                await self._get(pod)
        finally:
            pod.looking_up = False

    async def _get(self, pod: WatchedPod) -> None:
        self._sequence += 1
        sequence = self._sequence
        pod.lookup_at = self._clock.time() + LOOKUP_INTERVAL
        decode = partial(decode_pod, pod_id=pod.pod_id)
        try:
            found = await self._executor.call(pod_request("GET", pod.pod_id), decode)
        except NotFoundError:
            pod.not_found(sequence)
        except PermissionDeniedError as exc:
            # This may be about the one pod, where the same answer to a batch is about the key.
            pod.end(exc)
        except PrimePodsError as exc:
            if self._passes(exc, [pod]):
                pod.lookup_failed(exc)
        except Exception as exc:  # noqa: BLE001 - as in _poll
            pod.end(exc)
        else:
            pod.found(found, sequence, self._clock.time())


_hubs: dict[tuple[asyncio.AbstractEventLoop, Settings, Any], Hub] = {}


def join(settings: Settings, session: Any) -> Hub:
    """Return the running loop's hub for ``settings``, a new one if there is none.

    Add a subscription before the next ``await``: a hub ends with its last one.

    Args:
        settings: Equal for those who share a hub, but for how often and how long a call is retried: the next
            tick is the retry.
        session: The caller's own aiohttp session, or ``None``.
    """
    loop = asyncio.get_running_loop()
    for key in [key for key in list(_hubs) if key[0].is_closed()]:
        # A loop that was thrown away with waits in it; its hub will never run again.
        _hubs.pop(key, None)
    settings = attrs.evolve(settings, deadline=_DEADLINE, retry=_ONCE)
    hub = _hubs.get((loop, settings, session))
    if hub is None:
        hub = _hubs[loop, settings, session] = Hub(settings, session)
    return hub
