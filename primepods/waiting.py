"""Waiting and watching: what the shared poller's news mean to those who asked."""

from __future__ import annotations

import copy
import inspect
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self

import attrs

from ._clock import Clock
from ._views import Feed, View
from .errors import ClientClosedError, NotFoundError, PodFailedError, WaitTimeoutError
from .models import InstallationState, PodChange, PodState, PodStatus
from .polling import Hub
from .results import PodStatuses

Until = Callable[[PodStatus | None], bool]
OnChange = Callable[[PodChange], Awaitable[object] | object]

APPEAR_GRACE: Final = 60.0
_NAMED: Final = 5
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
        self._feeds: set[Feed] = set()
        self._closed = False

    def add(self, feed: Feed) -> None:
        """Note that somebody waits.

        Raises:
            ClientClosedError: The client is closed.
        """
        if self._closed:
            raise _closed()
        self._feeds.add(feed)

    def discard(self, feed: Feed) -> None:
        """Note that somebody waits no more."""
        self._feeds.discard(feed)

    def close(self) -> None:
        """End all waits."""
        self._closed = True
        for feed in self._feeds:
            feed.end(_closed())


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

    @asynccontextmanager
    async def feed(self, pod_ids: list[str], interval: float) -> AsyncGenerator[tuple[Feed, Hub]]:
        """Poll for ``pod_ids`` in the block."""
        feed = Feed(pod_ids, interval)
        self.open_feeds.add(feed)
        try:
            hub = self.join()
            hub.enter(feed)
            try:
                yield feed, hub
            finally:
                await hub.leave(feed)
        finally:
            self.open_feeds.discard(feed)


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
    """

    def __init__(self, feed: Feed, clock: Clock, appear_grace: float) -> None:
        self.last: dict[str, PodStatus | None] = {}
        self.rows: dict[str, PodStatus] = {}
        self._feed = feed
        self._clock = clock
        self._appear_by = clock.time() + appear_grace
        self._absent: dict[str, None] = {}

    async def changes(self, until: float | None) -> list[PodChange]:
        """Return what has changed, each pod's newest state once; nothing when ``until`` comes first."""
        times = [time for time in (until, self._appear_by if self._absent else None) if time is not None]
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
        found = [self._change(view) for view in views]
        if self._absent and self._clock.time() >= self._appear_by:
            found += [self._report(pod_id, None) for pod_id in self._absent]
            self._absent.clear()
        return [change for change in found if change is not None]

    def _change(self, view: View) -> PodChange | None:
        if view.refused is not None:
            raise copy.copy(view.refused)
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

    async def run(self) -> PodStatuses:
        """Wait until every pod has been where it was wanted."""
        if not self._ids:
            return PodStatuses({})
        limit = self._clock.timeout_at(self._clock.time() + self._timeout)
        async with self._waits.feed(self._ids, self._interval) as (feed, hub):
            tracker = _Tracker(feed, self._clock, self._appear_grace)
            try:
                async with limit:
                    await self._until_done(tracker, feed, hub)
                    return self._statuses(tracker)
            except TimeoutError:
                if not limit.expired():
                    raise
            raise self._timed_out(tracker, feed)

    async def _until_done(self, tracker: _Tracker, feed: Feed, hub: Hub) -> None:
        while self._pending:
            for change in await tracker.changes(min(self._doubtful.values(), default=None)):
                if self._on_change is not None:
                    told = self._on_change(change)
                    if inspect.isawaitable(told):
                        await told
                if change.before is None and change.after is None and self._until is not gone:
                    raise self._waits.missing(change.pod_id)
                self._judge(change.pod_id, tracker, feed, hub)
            now = self._clock.time()
            for pod_id in [pod_id for pod_id, time in self._doubtful.items() if time <= now]:
                self._judge(pod_id, tracker, feed, hub)

    def _judge(self, pod_id: str, tracker: _Tracker, feed: Feed, hub: Hub) -> None:
        """Decide whether a pod is where it was wanted, has failed, or is still on its way."""
        status = tracker.last[pod_id]
        believed = self._believe(pod_id, status)
        ours = self._until is settled or self._until is failed
        if (believed or not ours) and self._until(status):
            self._doubtful.pop(pod_id, None)
            self._pending.pop(pod_id, None)
            hub.drop(feed, pod_id)
        elif believed and failed(status) and self._until is not gone:
            raise self._failed(pod_id, status, tracker)

    def _believe(self, pod_id: str, status: PodStatus | None) -> bool:
        """Tell whether a pod is what it seems: a failed installation may recover for a while."""
        if status is None or status.status in _ENDED or status.installation_status != InstallationState.ERROR:
            self._doubtful.pop(pod_id, None)
            return True
        now = self._clock.time()
        return now >= self._doubtful.setdefault(pod_id, now + self._install_grace)

    def _statuses(self, tracker: _Tracker) -> PodStatuses:
        last = tracker.last
        rows = {pod_id: row for pod_id in self._ids if (row := last.get(pod_id)) is not None}
        return PodStatuses(rows, missing=tuple(pod_id for pod_id in self._ids if pod_id not in rows))

    def _failed(self, pod_id: str, status: PodStatus | None, tracker: _Tracker) -> PodFailedError:
        if status is None:
            reason = "it is gone: somebody, or the provider, has terminated it"
            remedy = "Look for it in `pods.history()`."
        else:
            reason = status.failure or f"status {status.status}"
            remedy = "It may still be billed: look at `pods.get()` and `pods.logs()`, and delete it."
        others = len(self._pending) - 1
        rest = f" {others} other pods were still waited for." if others else ""
        return PodFailedError(
            f"Pod {pod_id} has failed: {reason}. {remedy}{rest}",
            statuses=self._statuses(tracker),
            pending=tuple(self._pending),
            pod_id=pod_id,
            last=tracker.rows.get(pod_id),
            reason=reason,
        )

    def _timed_out(self, tracker: _Tracker, feed: Feed) -> WaitTimeoutError:
        return timed_out(list(self._pending), self._timeout, tracker.last, feed, self._statuses(tracker))


def timed_out(
    pending: list[str],
    timeout: float,
    last: dict[str, PodStatus | None],
    feed: Feed,
    statuses: PodStatuses,
) -> WaitTimeoutError:
    """Build the error that names who is still pending, what it costs, and what kept failing."""
    shown = ", ".join(f"{pod_id} ({_describe(last.get(pod_id))})" for pod_id in pending[:_NAMED])
    more = f" and {len(pending) - _NAMED} more" if len(pending) > _NAMED else ""
    prices = [
        row.cost_per_hr for pod_id in pending if (row := last.get(pod_id)) and row.cost_per_hr is not None
    ]
    cost = f" They cost at least {sum(prices):.2f} an hour." if prices else ""
    troubles = {pod_id: view.trouble for pod_id, view in feed.views.items() if view.trouble is not None}
    trouble = next((error for pod_id, error in troubles.items() if pod_id in pending), None)
    failing = f" What kept failing: {trouble}" if trouble is not None else ""
    text = (
        f"After {timeout:g} s {len(pending)} of {len(feed.pod_ids)} pods are still pending: {shown}{more}."
        f"{cost} They go on and are billed: wait again with the same ids, or delete them.{failing}"
    )
    return WaitTimeoutError(text, statuses=statuses, pending=tuple(pending))


def _describe(status: PodStatus | None) -> str:
    if status is None:
        return "not seen"
    progress = status.installation_progress
    return f"{status.status}, installation {progress} %" if progress is not None else f"{status.status}"


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
        self._open: weakref.WeakSet[AsyncGenerator[PodChange, None]] = weakref.WeakSet()

    def __aiter__(self) -> AsyncIterator[PodChange]:
        iterator = self._changes()
        self._open.add(iterator)
        return iterator

    async def aclose(self) -> None:
        """End all iterations of this watch."""
        for iterator in list(self._open):
            await iterator.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncWatch of {len(self._ids)} pods, interval={self._interval:g}>"

    async def _changes(self) -> AsyncGenerator[PodChange, None]:
        if not self._ids:
            return
        clock = self._waits.clock
        ends_at = None if self._timeout is None else clock.time() + self._timeout
        async with self._waits.feed(self._ids, self._interval) as (feed, hub):
            tracker = _Tracker(feed, clock, APPEAR_GRACE)
            while feed.views:
                for change in await tracker.changes(ends_at):
                    if change.after is None:
                        hub.drop(feed, change.pod_id)
                    yield change
                if ends_at is not None and feed.views and clock.time() >= ends_at:
                    rows = {
                        pod_id: row for pod_id in self._ids if (row := tracker.last.get(pod_id)) is not None
                    }
                    raise timed_out(
                        list(feed.views), self._timeout or 0.0, tracker.last, feed, PodStatuses(rows)
                    )
