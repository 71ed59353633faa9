"""The shared poller: thousands wait for thousands of pods, and the API sees one calm client.

A :class:`Hub` is shared by all clients of one event loop that have equal settings. It exists while somebody
waits. Those who wait are :class:`Feed` objects: each names pods and an interval, is told when one of them has
changed, and reads the pod's newest state from its :class:`View`. What that state means to a wait is decided
in :mod:`primepods.waiting`.

Times of polling lie on one grid for each interval, jittered as a whole and never drifting. A newcomer is
polled once promptly and then joins the grid. There is no retry inside a tick: the next tick is the retry.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

import attrs

from .._utils.clock import Clock
from ..errors import (
    APIError,
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    PrimePodsError,
    ProtocolError,
    RateLimitError,
    ServerError,
    TransportError,
)
from ..models import Pod, PodStatus
from ._watched_pod import LOOK_AGAIN, Feed, View

T = TypeVar("T")

_JITTER: Final = 0.1
_GATHER: Final = 0.05
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0


class Answer(Protocol):
    """What a status request brought."""

    @property
    def rows(self) -> dict[str, PodStatus]:
        """Rows by id; those that are remembered, too, if the call was given something to remember."""
        ...

    @property
    def errors(self) -> Mapping[str, APIError]:
        """Ids that the API refused."""
        ...


class Backend(Protocol):
    """What the hub needs of the API; nothing in it retries."""

    clock: Clock
    concurrency: int
    """How many chunks may be asked for at the same time."""
    lookups: int
    """How many pods may be looked up one by one at the same time."""

    def chunks(self, pod_ids: Iterable[str]) -> list[list[str]]:
        """Split ids into requests."""
        ...

    async def statuses(self, pod_ids: list[str]) -> Answer:
        """Ask for one chunk."""
        ...

    async def pod(self, pod_id: str) -> Pod:
        """Ask for one pod."""
        ...

    async def aclose(self) -> None:
        """Free the connections."""
        ...


@attrs.define
class _Grid:
    """The times at which the pods of one interval are polled."""

    interval: float
    epoch: float
    ticks: int = 0
    next_at: float = -math.inf
    ids: dict[str, int] = attrs.field(factory=dict[str, int])

    def advance(self, now: float, chance: float) -> None:
        """Move to the next time. Jitter moves a time, never the grid; times that were missed are skipped."""
        self.ticks = max(self.ticks, int((now - self.epoch) / self.interval)) + 1
        self.next_at = self.epoch + (self.ticks + _JITTER * chance) * self.interval


class _Crew(Generic[T]):
    """Works off a queue, a few items at a time."""

    def __init__(
        self,
        size: int,
        work: Callable[[T], Awaitable[None]],
        start: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._size = size
        self._work = work
        self._start = start
        self._queue: deque[T] = deque()
        self._busy = 0

    def add(self, item: T) -> None:
        self._queue.append(item)
        if self._busy < self._size:
            self._busy += 1
            self._start(self._run())

    async def _run(self) -> None:
        try:
            while self._queue:
                await self._work(self._queue.popleft())
        finally:
            self._busy -= 1


class Hub:
    """The poller. Made and found by :func:`join`.

    Args:
        backend: What it asks.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._clock = backend.clock
        self._feeds: set[Feed] = set()
        self._views: dict[str, View] = {}
        self._grids: dict[float, _Grid] = {}
        self._newcomers: dict[str, None] = {}
        self._newcomers_at = math.inf
        self._paused_until = -math.inf
        self._pause = _FIRST_PAUSE
        self._limit: RateLimitError | None = None
        self._sequence = 0
        self._polls = _Crew(backend.concurrency, self._poll, self._start)
        self._looks = _Crew(backend.lookups, self._look_up, self._start)
        self._jobs: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._ending = False
        # An empty context: else its log lines would land in whichever task happened to come first.
        self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())

    @property
    def pausing(self) -> RateLimitError | None:
        """What the API said when it asked for less, while the hub heeds it."""
        return self._limit if self._clock.time() < self._paused_until else None

    def enter(self, feed: Feed) -> None:
        """Begin to poll for ``feed``: once promptly, then on the grid of its interval."""
        now = self._clock.time()
        feed.since = self._sequence
        self._feeds.add(feed)
        grid = self._grids.get(feed.interval)
        if grid is None:
            grid = self._grids[feed.interval] = _Grid(feed.interval, now)
            grid.advance(now, self._clock.random())
        self._newcomers_at = min(self._newcomers_at, now + _GATHER * feed.interval)
        for pod_id in feed.pod_ids:
            view = self._views.get(pod_id)
            if view is None:
                view = self._views[pod_id] = View(pod_id)
            view.feeds.add(feed)
            view.expecting.add(feed)
            feed.views[pod_id] = view
            grid.ids[pod_id] = grid.ids.get(pod_id, 0) + 1
            self._newcomers[pod_id] = None
        self._wake.set()

    def drop(self, feed: Feed, pod_id: str) -> None:
        """Poll no longer for one of the feed's pods."""
        view = feed.views.pop(pod_id, None)
        if view is not None and feed in self._feeds:
            self._forget(feed, view)

    def release(self, feed: Feed) -> None:
        """End the polling for ``feed``; whoever leaves last puts out the light."""
        if feed not in self._feeds:
            return
        self._feeds.discard(feed)
        for view in feed.views.values():
            self._forget(feed, view)
        if not self._feeds:
            self._retire()
            if not self._ending:
                self._ending = True
                self._task.cancel()

    async def ended(self) -> None:
        """Return when nothing is left, if nobody waits any more."""
        if not self._feeds:
            # Not the task itself: who is cancelled meanwhile must not cancel it.
            await asyncio.wait([self._task])

    def _forget(self, feed: Feed, view: View) -> None:
        view.feeds.discard(feed)
        view.expecting.discard(feed)
        grid = self._grids[feed.interval]
        grid.ids[view.pod_id] -= 1
        if not grid.ids[view.pod_id]:
            del grid.ids[view.pod_id]
        if not grid.ids:
            del self._grids[feed.interval]
        if not view.feeds:
            del self._views[view.pod_id]
            self._newcomers.pop(view.pod_id, None)

    def _retire(self) -> None:
        """See to it that nobody joins any more."""
        for place in [place for place, hub in list(_hubs.items()) if hub is self]:
            _hubs.pop(place, None)

    async def _run(self) -> None:
        try:
            while True:
                await self._sleep_until(max(self._due_at(), self._paused_until))
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
            await self._backend.aclose()

    async def _sleep_until(self, when: float) -> None:
        """Sleep until ``when``, or until somebody enters."""
        self._wake.clear()
        limit = self._clock.timeout_at(when)
        try:
            async with limit:
                await self._wake.wait()
        except TimeoutError:
            if not limit.expired():
                raise

    def _due_at(self) -> float:
        # Without a grid nobody waits: whoever left last is about to end this.
        idle = self._clock.time() + _LONGEST_PAUSE
        return min([idle, self._newcomers_at, *(grid.next_at for grid in self._grids.values())])

    def _tick(self) -> None:
        """Send for all that is due; each pod at most once, in full batches."""
        now = self._clock.time()
        if now < self._paused_until:
            return
        due = self._due_grids(now)
        pod_ids = dict.fromkeys(pod_id for grid in due for pod_id in grid.ids)
        if due or self._newcomers_at <= now:
            pod_ids |= self._newcomers
            self._newcomers_at = math.inf
        views = [view for pod_id in pod_ids if not (view := self._views[pod_id]).in_flight]
        # First those whose last request failed: else a rate limit would always leave out the same ones.
        views.sort(key=lambda view: view.trouble is None)
        for view in views:
            view.in_flight = True
        for chunk in self._backend.chunks(view.pod_id for view in views):
            self._polls.add([self._views[pod_id] for pod_id in chunk])

    def _due_grids(self, now: float) -> list[_Grid]:
        """Move on the grids that are due, and with them those that nearly are, so that requests are
        shared.
        """
        grids = self._grids.values()
        if all(grid.next_at > now for grid in grids):
            return []
        due = [grid for grid in grids if grid.next_at <= now + _JITTER * grid.interval]
        for grid in due:
            grid.advance(now, self._clock.random())
        return due

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _poll(self, views: list[View]) -> None:
        """Ask for one chunk, unless a pause has begun, and pass on what it brings, be it an error."""
        trouble: PrimePodsError | None = None
        try:
            trouble = self.pausing
            if trouble is None:
                await self._ask(views)
        except PrimePodsError as exc:
            trouble = exc if self._passes(exc, views) else None
        except Exception as exc:  # noqa: BLE001 - a defect ends the waits; it must not leave them hanging
            self._end(views, exc)
        finally:
            for view in views:
                view.in_flight = False
                view.trouble = trouble
                if view.pod_id in self._newcomers:
                    # It came while the request was under way, and is owed one of its own.
                    self._newcomers_at = -math.inf
                    self._wake.set()

    async def _ask(self, views: list[View]) -> None:
        self._sequence += 1
        sequence = self._sequence
        for view in views:
            if self._views.get(view.pod_id) is view:
                self._newcomers.pop(view.pod_id, None)
        answer = await self._backend.statuses([view.pod_id for view in views])
        self._pause = _FIRST_PAUSE
        now = self._clock.time()
        for view in views:
            error = answer.errors.get(view.pod_id)
            if error is None:
                row = answer.rows.get(view.pod_id)
                if view.raw is not None and row == view.raw:
                    # One copy of what has not changed: The cache keeps these rows, too.
                    row = answer.rows[view.pod_id] = view.raw
                view.observe(row, sequence, now)
                self._look(view, now)
            else:
                view.refused = error
                view.tell(sequence)

    def _passes(self, error: PrimePodsError, views: Iterable[View]) -> bool:
        """Tell whether an error passes by itself. One that does not ends the waits; a 429 pauses the hub."""
        if isinstance(error, RateLimitError):
            self._heed(error)
        elif isinstance(error, AuthenticationError | PermissionDeniedError):
            self._end_all(error)
            return False
        elif not (
            isinstance(error, ServerError | ProtocolError)
            or (isinstance(error, TransportError) and error.transient)
        ):
            self._end(views, error)
            return False
        return True

    def _heed(self, limit: RateLimitError) -> None:
        """Pause the hub. A burst of refusals counts once: the largest of many jitters would be no jitter."""
        now = self._clock.time()
        if limit.retry_after is None and now < self._paused_until:
            return
        seconds = self._pause if limit.retry_after is None else limit.retry_after
        if now + seconds <= self._paused_until:
            return
        if limit.retry_after is None:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        # With the exact time many processes would come back in step.
        self._paused_until = now + seconds + max(1.0, 0.5 * seconds) * self._clock.random()
        self._limit = limit

    def _end(self, views: Iterable[View], error: Exception) -> None:
        for feed in {feed for view in views for feed in view.feeds}:
            feed.end(error)

    def _end_all(self, error: Exception) -> None:
        for feed in self._feeds:
            feed.end(error)

    def _look(self, view: View, now: float) -> None:
        """Have ``get`` asked for a pod of which the status does not say all."""
        if not view.looking and view.wants_look(now):
            view.looking = True
            self._looks.add(view)

    async def _look_up(self, view: View) -> None:
        try:
            # What a pause leaves out is asked for again after the next tick.
            if view.feeds and self.pausing is None:
                await self._ask_for(view)
        finally:
            view.looking = False

    async def _ask_for(self, view: View) -> None:
        self._sequence += 1
        sequence = self._sequence
        view.look_at = self._clock.time() + LOOK_AGAIN
        try:
            pod = await self._backend.pod(view.pod_id)
        except NotFoundError:
            view.not_found(sequence)
        except PermissionDeniedError as exc:
            # This may be about the one pod, where the same answer to a batch is about the key.
            self._end([view], exc)
        except PrimePodsError as exc:
            if self._passes(exc, [view]):
                view.look_failed(exc)
        except Exception as exc:  # noqa: BLE001 - as in _poll
            self._end([view], exc)
        else:
            view.found(pod, sequence, self._clock.time())


_hubs: dict[tuple[asyncio.AbstractEventLoop, object], Hub] = {}


def join(key: object, make_backend: Callable[[], Backend]) -> Hub:
    """Return the running loop's hub for ``key``, a new one if there is none.

    Enter a feed before the next ``await``: an empty hub ends with its last feed.

    Args:
        key: Equal for those who may share: settings, and the caller's session or none.
        make_backend: Makes what a new hub asks.
    """
    loop = asyncio.get_running_loop()
    for place in [place for place in list(_hubs) if place[0].is_closed()]:
        # A loop that was thrown away with waits in it; its hub will never run again.
        _hubs.pop(place, None)
    place = (loop, key)
    hub = _hubs.get(place)
    if hub is None:
        hub = _hubs[place] = Hub(make_backend())
    return hub
