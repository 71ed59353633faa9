"""Waiting and watching: what the shared poller's news mean to those who asked."""

from __future__ import annotations

import asyncio
import inspect
import math
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import AsyncGeneratorType, TracebackType
from typing import Final, Self, cast

import attrs

from .._utils.clock import Clock
from .._utils.exceptions import copy_exception
from .._utils.text import one_line
from ..errors import ClientClosedError, NotFoundError, PodFailedError, WaitTimeoutError
from ..models import InstallationState, PodChange, PodState, PodStatus
from ..results import PodStatuses
from ._hub import Hub
from ._watched_pod import Feed, View

Until = Callable[[PodStatus | None], bool]
OnChange = Callable[[PodChange], Awaitable[object] | object]

APPEAR_GRACE: Final = 60.0
_NAMED: Final = 5
_LONGEST_STATE: Final = 50
_LONGEST_REASON: Final = 500
_ENDED: Final = frozenset({PodState.ERROR, PodState.TERMINATED, PodState.DELETING, PodState.STOPPED})


def ready(status: PodStatus | None) -> bool:
    """Tell whether a pod can be used: ACTIVE, installed, and an address for every node."""
    return status is not None and status.is_ready


def failed(status: PodStatus | None) -> bool:
    """Tell whether a pod will not become ready by itself: ERROR, STOPPED, DELETING, TERMINATED, gone, or an
    installation that ended in ERROR (which a wait believes when it stays for ``install_grace``).
    """
    return status is None or status.has_failed


def gone(status: PodStatus | None) -> bool:
    """Tell whether the API has no such pod any more."""
    return status is None


def settled(status: PodStatus | None) -> bool:
    """Tell whether a pod is ready or has failed: nothing more is to be expected of it."""
    return ready(status) or failed(status)


class OpenFeeds:
    """All that a client and its views wait for: it ends when the client closes."""

    def __init__(self) -> None:
        self._hubs: dict[Feed, tuple[Hub, asyncio.AbstractEventLoop]] = {}
        self._closed = False

    def check(self) -> None:
        """Do nothing, unless the client is closed.

        Raises:
            ClientClosedError: It is.
        """
        if self._closed:
            raise _closed()

    def add(self, feed: Feed, hub: Hub) -> None:
        """Note that somebody waits."""
        self._hubs[feed] = hub, asyncio.get_running_loop()

    def discard(self, feed: Feed) -> None:
        """Note that somebody waits no more."""
        self._hubs.pop(feed, None)

    def close(self) -> None:
        """End all waits, also those of iterators that nobody looks at any more."""
        self._closed = True
        for feed, (hub, loop) in self._hubs.items():
            # In the child of a fork there are the parent's, too, in a loop that nothing runs here.
            if loop is asyncio.get_running_loop():
                feed.end(_closed())
                hub.release(feed)


@attrs.frozen
class Waits:
    """What a wait of one client, or of a view on it, needs.

    Attributes:
        clock: The client's clock.
        open_feeds: Those who wait already.
        join: Finds the running loop's hub.
        missing: Builds the error for a pod that never appeared.
    """

    clock: Clock
    open_feeds: OpenFeeds
    join: Callable[[], Hub]
    missing: Callable[[str], NotFoundError]

    def polling(self, pod_ids: list[str], interval: float) -> _Polling:
        """Poll for ``pod_ids`` in the block."""
        return _Polling(self, Feed(pod_ids, interval))


class _Polling:
    """``async with`` it, and the hub polls for a feed.

    No generator: a loop that ends closes all generators at once, and a watch must not meet its own in that.
    """

    def __init__(self, waits: Waits, feed: Feed) -> None:
        self.feed = feed
        self._waits = waits
        self._hub: Hub | None = None

    async def __aenter__(self) -> tuple[Feed, Hub]:
        self._waits.open_feeds.check()
        hub = self._hub = self._waits.join()
        hub.enter(self.feed)
        self._waits.open_feeds.add(self.feed, hub)
        return self.feed, hub

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
        # A coroutine that is being closed must not await: the collector does that, in whatever loop.
        if kind is not GeneratorExit:
            await self.ended()

    def release(self) -> None:
        """Poll for it no longer."""
        self._waits.open_feeds.discard(self.feed)
        if self._hub is not None:
            self._hub.release(self.feed)

    async def ended(self) -> None:
        """Return when nothing is left of the hub, if this was the last."""
        if self._hub is not None:
            await self._hub.ended()


def _closed() -> ClientClosedError:
    return ClientClosedError(
        "The client was closed while it waited. The pods go on; wait again with another."
    )


class _Tracker:
    """Turns news of the poller into changes as one who waits sees them.

    Args:
        feed: The news.
        clock: The client's clock.
        appear_grace: Seconds for a pod never seen to appear, before it is reported as gone.

    Attributes:
        last: What was last reported of each pod.
        rows: Each pod's last row, also of those that are gone by now.
        never: Pods that did not appear.
    """

    def __init__(self, feed: Feed, clock: Clock, appear_grace: float) -> None:
        self.last: dict[str, PodStatus | None] = {}
        self.rows: dict[str, PodStatus] = {}
        self.never: set[str] = set()
        self._feed = feed
        self._clock = clock
        self._appear_by = self._look_at = clock.time() + appear_grace
        self._absent: dict[str, None] = {}

    async def changes(self, until: float | None) -> Iterator[PodChange]:
        """Wait until something has changed, or the clock says ``until``.

        Returns:
            What has changed, each pod's state as it is when it is taken from the iterator.
        """
        times = [time for time in (until, self._look_at if self._absent else None) if time is not None]
        views: list[View] = []
        if times:
            limit = self._clock.timeout_at(min(times))
            try:
                async with limit:
                    views = await self._feed.changed()
            except TimeoutError:
                if not limit.expired():
                    raise
        else:
            views = await self._feed.changed()
        return self._take(views)

    def _take(self, views: list[View]) -> Iterator[PodChange]:
        for view in views:
            change = self._change(view)
            if change is not None:
                yield change
        now = self._clock.time()
        if self._absent and now >= self._look_at:
            self._look_at = now + self._feed.interval
            for pod_id in list(self._absent):
                # An outage is no proof: only an answer from after the grace is.
                if self._feed.views[pod_id].seen_at >= self._appear_by:
                    del self._absent[pod_id]
                    self.never.add(pod_id)
                    self.last[pod_id] = None
                    yield PodChange(pod_id=pod_id, before=None, after=None)

    def _change(self, view: View) -> PodChange | None:
        if view.refused is not None:
            raise copy_exception(view.refused)
        if view.absent:
            if view.pod_id not in self.last:
                self._absent[view.pod_id] = None
            return None
        self._absent.pop(view.pod_id, None)
        return self._report(view.pod_id, view.row)

    def _report(self, pod_id: str, after: PodStatus | None) -> PodChange | None:
        before = self.last.get(pod_id)
        if pod_id in self.last and before == after:
            return None
        self.last[pod_id] = after
        if after is not None:
            self.rows[pod_id] = after
        return PodChange(pod_id=pod_id, before=before, after=after)


class Wait:
    """One call of ``pods.wait``.

    Args:
        waits: The client's waits.
        pod_ids: Checked ids.
        until: What is waited for.
        timeout: Seconds.
        interval: Seconds between two looks.
        on_change: Told of each change.
        appear_grace: Seconds for a pod never seen to appear.
        install_grace: Seconds for a failed installation to recover.
    """

    def __init__(  # noqa: PLR0913 - the parameters of `pods.wait`
        self,
        waits: Waits,
        pod_ids: list[str],
        *,
        until: Until,
        timeout: float,
        interval: float,
        on_change: OnChange | None,
        appear_grace: float,
        install_grace: float,
    ) -> None:
        self._waits = waits
        self._clock = waits.clock
        self._ids = pod_ids
        self._until = until
        self._timeout = timeout
        self._interval = interval
        self._on_change = on_change
        self._appear_grace = 0.0 if until is gone else appear_grace
        self._install_grace = install_grace
        self._pending = dict.fromkeys(pod_ids)
        self._doubtful: dict[str, float] = {}
        self._doubted_at = -math.inf

    async def run(self) -> PodStatuses:
        """Wait until every pod has been where it was wanted."""
        if not self._ids:
            return PodStatuses({})
        limit = self._clock.timeout_at(self._clock.time() + self._timeout)
        async with self._waits.polling(self._ids, self._interval) as (feed, hub):
            tracker = _Tracker(feed, self._clock, self._appear_grace)
            try:
                async with limit:
                    await self._until_done(tracker, feed, hub)
                    return _as_statuses(self._ids, tracker.last)
            except TimeoutError:
                if not limit.expired():
                    raise
            raise timed_out(list(self._pending), self._timeout, tracker.last, feed, hub)

    async def _until_done(self, tracker: _Tracker, feed: Feed, hub: Hub) -> None:
        while self._pending:
            for change in await tracker.changes(self._doubt_ends()):
                if self._on_change is not None:
                    told = self._on_change(change)
                    if inspect.isawaitable(told):
                        await told
                self._judge(change.pod_id, tracker, feed, hub)
            now = self._clock.time()
            if now >= (self._doubt_ends() or math.inf):
                self._doubted_at = now
                for pod_id in [pod_id for pod_id, time in self._doubtful.items() if time <= now]:
                    self._judge(pod_id, tracker, feed, hub)

    def _judge(self, pod_id: str, tracker: _Tracker, feed: Feed, hub: Hub) -> None:
        """Decide whether a pod is where it was wanted, has failed, or is still on its way."""
        status = tracker.last[pod_id]
        doubtful = self._doubts(feed.views[pod_id], status)
        ours = self._until is settled or self._until is failed
        if not (doubtful and ours) and self._until(status):
            self._doubtful.pop(pod_id, None)
            self._pending.pop(pod_id, None)
            hub.drop(feed, pod_id)
        elif self._until is gone or doubtful:
            return
        elif pod_id in tracker.never:
            raise self._waits.missing(pod_id)
        elif failed(status):
            raise self._failed(pod_id, status, tracker)

    def _doubts(self, view: View, status: PodStatus | None) -> bool:
        """Tell whether a failed installation may still recover: until an answer from after the grace."""
        if status is None or status.status in _ENDED or status.installation_status != InstallationState.ERROR:
            self._doubtful.pop(view.pod_id, None)
            return False
        return view.seen_at < self._doubtful.setdefault(view.pod_id, view.seen_at + self._install_grace)

    def _doubt_ends(self) -> float | None:
        """Return when to look again at the pods in doubt: at the end of a grace, then once an interval."""
        if not self._doubtful:
            return None
        return max(min(self._doubtful.values()), self._doubted_at + self._interval)

    def _failed(self, pod_id: str, status: PodStatus | None, tracker: _Tracker) -> PodFailedError:
        if status is None:
            reason = "it is gone: somebody, or the provider, has terminated it"
            remedy = "Look for it in `pods.history()`."
        else:
            reason = (status.failure or f"status {status.status}")[:_LONGEST_REASON]
            remedy = "It may still be billed: look at `pods.get()` and `pods.logs()`, and delete it."
        others = len(self._pending) - 1
        rest = f" {others} other pods were still waited for." if others else ""
        return PodFailedError(
            f"Pod {pod_id} has failed: {reason}. {remedy}{rest}",
            statuses=_as_statuses(self._ids, tracker.last),
            pending=tuple(self._pending),
            pod_id=pod_id,
            last=tracker.rows.get(pod_id),
            reason=reason,
        )


def timed_out(
    pending: list[str], timeout: float, last: dict[str, PodStatus | None], feed: Feed, hub: Hub
) -> WaitTimeoutError:
    """Build the error that names who is still pending, what it costs, and what kept failing."""
    shown = ", ".join(f"{pod_id} ({_describe(last.get(pod_id))})" for pod_id in pending[:_NAMED])
    more = f" and {len(pending) - _NAMED} more" if len(pending) > _NAMED else ""
    prices = [
        row.cost_per_hr for pod_id in pending if (row := last.get(pod_id)) and row.cost_per_hr is not None
    ]
    cost = f" They cost at least {sum(prices):.2f} an hour." if prices else ""
    views = [feed.views[pod_id] for pod_id in pending]
    troubles = (view.trouble or view.look_trouble for view in views)
    trouble = next((error for error in troubles if error is not None), hub.pausing)
    failing = ""
    if trouble is not None:
        failing = f" What kept failing: {trouble}"
    elif any(view.seen_at == -math.inf for view in views):
        failing = " The API has not answered yet."
    text = (
        f"After {timeout:g} s {len(pending)} of {len(feed.pod_ids)} pods are still pending: {shown}{more}."
        f"{cost} They go on and are billed: wait again with the same ids, or delete them.{failing}"
    )
    return WaitTimeoutError(text, statuses=_as_statuses(feed.pod_ids, last), pending=tuple(pending))


def _as_statuses(pod_ids: Iterable[str], last: dict[str, PodStatus | None]) -> PodStatuses:
    """Return every pod's last state in the order asked; those gone or never seen are ``missing``."""
    rows = {pod_id: row for pod_id in pod_ids if (row := last.get(pod_id)) is not None}
    return PodStatuses(rows, missing=tuple(pod_id for pod_id in pod_ids if pod_id not in rows))


def _describe(status: PodStatus | None) -> str:
    if status is None:
        return "not seen"
    # A word that only the server knows may hold anything, and any amount of it.
    state, progress = one_line(f"{status.status}")[:_LONGEST_STATE], status.installation_progress
    return f"{state}, installation {progress} %" if progress is not None else state


class _StoppedError(Exception):
    """Somebody has closed the watch while it waited."""


class AsyncWatch:
    """The changes of some pods, as they are seen: ``async for change in client.pods.watch(ids)``.

    Yields a :class:`PodChange` for each pod's first state, then for each change; a consumer that is slow gets
    each pod's newest state. Ends when all pods are gone. Each iteration is a new watch; leaving it early
    leaks nothing, ``async with`` makes it prompt.
    """

    def __init__(self, waits: Waits, pod_ids: list[str], *, interval: float, timeout: float | None) -> None:
        self._waits = waits
        self._ids = pod_ids
        self._interval = interval
        self._timeout = timeout
        self._open: weakref.WeakKeyDictionary[AsyncGeneratorType[PodChange, None], _Polling] = (
            weakref.WeakKeyDictionary()
        )

    def __aiter__(self) -> AsyncIterator[PodChange]:
        polling = self._waits.polling(self._ids, self._interval)
        iterator = cast("AsyncGeneratorType[PodChange, None]", self._changes(polling))
        self._open[iterator] = polling
        return iterator

    async def aclose(self) -> None:
        """End all iterations of this watch, also those that wait for a change in another task."""
        for iterator, polling in list(self._open.items()):
            polling.feed.end(_StoppedError())
            polling.release()
            if not iterator.ag_running:
                await iterator.aclose()
            await polling.ended()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncWatch of {len(self._ids)} pods, interval={self._interval:g}>"

    async def _changes(self, polling: _Polling) -> AsyncGenerator[PodChange, None]:
        if not self._ids:
            return
        clock = self._waits.clock
        ends_at = None if self._timeout is None else clock.time() + self._timeout
        try:
            async with polling as (feed, hub):
                tracker = _Tracker(feed, clock, APPEAR_GRACE)
                while feed.views:
                    for change in await tracker.changes(ends_at):
                        if change.after is None:
                            hub.drop(feed, change.pod_id)
                        yield change
                    if ends_at is not None and feed.views and clock.time() >= ends_at:
                        raise timed_out(list(feed.views), self._timeout or 0.0, tracker.last, feed, hub)
        except _StoppedError:
            return
