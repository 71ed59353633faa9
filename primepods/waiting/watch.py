"""Watching pods."""

from __future__ import annotations

import math
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self

from .._operations import begin_operation
from .._utils.iterators import ClosableAsyncIterator
from ..errors import ClientClosedError
from ..models import PodChange
from ._watched_pod import WatchedPod
from .connection import PollerConnection
from .subscription import Subscription
from .wait import wait_timeout_error

if TYPE_CHECKING:
    from .._operations.operation import Operation


class AsyncWatch:
    """The changes of pods as they happen: ``async for change in client.pods.watch(ids)``.

    Yields a :class:`PodChange` for the first state of every pod, then for its changes. A slow consumer gets
    only the newest states. The watch ends when all pods are gone, or have not appeared for a minute. An
    ``anext`` that was cancelled, for example by a timeout, has lost no change and can be repeated. After an
    error, ``anext`` raises that error again. Every iteration is a new watch. An early ``break`` leaks
    nothing; ``async with`` makes the cleanup immediate.
    """

    def __init__(
        self, connection: PollerConnection, pod_ids: list[str], *, interval: float, timeout: float | None
    ) -> None:
        self._ids = pod_ids
        self._interval = interval
        self._timeout = math.inf if timeout is None else timeout
        self._connection = connection
        self._make_subscription = partial(Subscription, connection, pod_ids, interval)
        self._open_iterations: set[_Iteration] = set()

    def __aiter__(self) -> ClosableAsyncIterator[PodChange]:
        return WatchIterator(
            _Iteration(self._connection, self._make_subscription, self._timeout, self._open_iterations)
        )

    async def aclose(self) -> None:
        """End all iterations of this watch.

        An unfinished iteration then raises :class:`~primepods.ClientClosedError`, even in a task that is
        waiting for the next change.
        """
        for iteration in list(self._open_iterations):
            await iteration.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncWatch of {len(self._ids)} pods, interval={self._interval:g}>"


class _Iteration:
    """State of a :class:`WatchIterator`, without a reference to it, so that the iterator can be freed.

    An iteration begins with its first :meth:`next_change`, and ends with an error, which stays: it may be
    ``StopAsyncIteration``, or come from an :meth:`aclose` of another task. Ending can be repeated.

    Args:
        timeout: Seconds for the iteration; infinity for no limit.
        open_iterations: The set of open iterations; this one is in it until it is closed.
    """

    def __init__(
        self,
        connection: PollerConnection,
        make_subscription: Callable[[], Subscription],
        timeout: float,
        open_iterations: set[_Iteration],
    ) -> None:
        self._connection = connection
        self._operation: Operation | None = None
        self._make_subscription = make_subscription
        self._timeout = timeout
        self._open_iterations = open_iterations
        self._open_iterations.add(self)
        self._subscription: Subscription | None = None
        self._ends_at = math.inf
        self._changed_pods: Iterator[WatchedPod] = iter(())
        self._is_waiting = False
        self._final_error: Exception | None = None

    async def next_change(self) -> PodChange:
        """Return the next change.

        Raises:
            StopAsyncIteration: All pods are gone, or have not appeared for a minute.
            ClientClosedError: The client or the watch was closed.
            WaitTimeoutError: The timeout has passed.
            RuntimeError: Another task already waits for the next change.
            PrimePodsError: Polling cannot continue.
        """
        if self._is_waiting:
            msg = "Another task already waits for this watch's next change: iterate over it in one task."
            raise RuntimeError(msg)
        if self._final_error is not None:
            # Drop the frames of earlier raises.
            raise self._final_error.with_traceback(None)
        self._is_waiting = True
        try:
            subscription = self._subscription
            if subscription is None:
                self._operation = begin_operation("pods.watch", self._connection)
                make = self._make_subscription
                # The events of the polling belong to the operation.
                subscription = make() if self._operation is None else self._operation.run(make)
                subscription.start()
                self._subscription = subscription
                self._ends_at = self._connection.clock.time() + self._timeout
            while True:
                for pod in self._changed_pods:
                    change = subscription.report(pod)
                    if change is not None:
                        if change.after is None:
                            subscription.remove_pod(change.pod_id)
                        return change
                if not subscription.pods:
                    raise StopAsyncIteration
                if self._connection.clock.time() >= self._ends_at:
                    raise wait_timeout_error(subscription, self._timeout)
                self._changed_pods = iter(await subscription.changed(ends_at=self._ends_at))
        except Exception as exc:  # noqa: BLE001 - after any error, the watch must not end normally
            # After `aclose`, this is the same error.
            self._final_error = exc
        finally:
            self._is_waiting = False
        await self._close()
        raise self._final_error

    async def aclose(self) -> None:
        """End the iteration, even while another task waits for the next change."""
        closed = ClientClosedError("The watch was closed before all its pods were gone. Watch them again.")
        self._final_error = self._final_error or closed
        if self._subscription is not None:
            self._subscription.end(closed)
        await self._close()

    def abandon(self) -> None:
        """Close an iteration whose iterator was garbage-collected; may be called in any thread."""
        self._open_iterations.discard(self)
        if self._subscription is not None:
            with suppress(RuntimeError):  # The loop is closed, and the poller has ended with it.
                self._subscription.poller.loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
        if self._operation is not None:
            is_complete = isinstance(self._final_error, StopAsyncIteration)
            self._operation.end(None if is_complete else self._final_error)

    async def _close(self) -> None:
        self._open_iterations.discard(self)
        self._stop()
        if self._subscription is not None:
            await self._subscription.aclose()


class WatchIterator(AsyncIterator[PodChange]):
    """One iteration of an :class:`AsyncWatch`; a class, because a cancelled generator cannot continue."""

    def __init__(self, iteration: _Iteration) -> None:
        self._iteration = iteration
        # Do not call `abandon` at exit, which ends the polling anyway.
        weakref.finalize(self, iteration.abandon).atexit = False

    async def __anext__(self) -> PodChange:
        try:
            return await self._iteration.next_change()
        finally:
            # A cancelled task keeps this frame, which must not keep the iterator and its polling alive.
            del self

    async def aclose(self) -> None:
        """End this iteration and wait for its cleanup."""
        await self._iteration.aclose()
