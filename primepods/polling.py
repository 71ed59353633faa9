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
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Protocol

import attrs

from ._clock import Clock
from ._views import Feed, View
from .errors import (
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
from .models import Pod, PodStatus

_JITTER: Final = 0.1
_GATHER: Final = 0.05
_REMEMBERED: Final = 16
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0


class Answer(Protocol):
    """What a status request brought."""

    @property
    def rows(self) -> Mapping[str, PodStatus]:
        """Rows by id."""
        ...

    @property
    def errors(self) -> Mapping[str, APIError]:
        """Ids that the API refused."""
        ...


class Backend(Protocol):
    """What the hub needs of the API; nothing in it retries."""

    clock: Clock
    lookups: int
    """How many pods may be looked up one by one at the same time."""

    def chunks(self, pod_ids: Iterable[str]) -> list[list[str]]:
        """Split ids into requests."""
        ...

    async def statuses(self, pod_ids: list[str], known: Any) -> Answer:
        """Ask for one chunk."""
        ...

    def memory(self) -> Any:
        """Return a place for what one chunk was last answered, to hand to :meth:`statuses` each time."""
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
    next_at: float
    ids: dict[str, int] = attrs.field(factory=dict[str, int])

    def advance(self, now: float, chance: float) -> None:
        """Move to the next time. Jitter moves a time, never the grid; times that were missed are skipped."""
        ticks = int((max(now, self.next_at) - self.epoch) / self.interval) + 1
        self.next_at = self.epoch + (ticks + _JITTER * chance) * self.interval


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
        self._known: dict[tuple[str, ...], Any] = {}
        self._newcomers: dict[str, None] = {}
        self._newcomers_at = 0.0
        self._paused_until = 0.0
        self._pause = _FIRST_PAUSE
        self._sequence = 0
        self._lookups: deque[View] = deque()
        self._looking = 0
        self._jobs: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        # An empty context: else its log lines would land in whichever task happened to come first.
        self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())

    def enter(self, feed: Feed) -> None:
        """Begin to poll for ``feed``: once promptly, then on the grid of its interval."""
        now = self._clock.time()
        feed.since = self._sequence
        self._feeds.add(feed)
        grid = self._grids.get(feed.interval)
        if grid is None:
            grid = self._grids[feed.interval] = _Grid(feed.interval, now, now)
            grid.advance(now, self._clock.random())
        if not self._newcomers:
            self._newcomers_at = now + _GATHER * feed.interval
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
        if view is None:
            return
        view.feeds.discard(feed)
        view.expecting.discard(feed)
        grid = self._grids[feed.interval]
        grid.ids[pod_id] -= 1
        if not grid.ids[pod_id]:
            del grid.ids[pod_id]
        if not grid.ids:
            del self._grids[feed.interval]
        if not view.feeds:
            del self._views[pod_id]
            self._newcomers.pop(pod_id, None)

    async def leave(self, feed: Feed) -> None:
        """End the polling for ``feed``; whoever leaves last puts out the light."""
        for pod_id in list(feed.views):
            self.drop(feed, pod_id)
        self._feeds.discard(feed)
        if self._feeds:
            return
        self._retire()
        self._task.cancel()
        # A leaver that is cancelled meanwhile still leaves nothing behind.
        await asyncio.shield(asyncio.wait([self._task]))

    def _retire(self) -> None:
        """See to it that nobody joins any more."""
        for place in [place for place, hub in _hubs.items() if hub is self]:
            del _hubs[place]

    async def _run(self) -> None:
        try:
            while True:
                await self._sleep_until(max(self._due_at(), self._paused_until))
                self._tick()
        except Exception as exc:  # noqa: BLE001 - whatever breaks here must not leave anybody hanging
            self._end_all(exc)
        finally:
            self._retire()
            self._end_all(PrimePodsError("The polling was cancelled from outside. Wait again."))
            for job in self._jobs:
                job.cancel()
            if self._jobs:
                await asyncio.wait(self._jobs)
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
        times = [grid.next_at for grid in self._grids.values()]
        if any(not self._views[pod_id].in_flight for pod_id in self._newcomers):
            times.append(self._newcomers_at)
        # Without a grid nobody waits: whoever left last is about to end this.
        return min(times, default=self._clock.time() + _LONGEST_PAUSE)

    def _tick(self) -> None:
        """Send for all that is due; each pod at most once, in full batches."""
        now = self._clock.time()
        if now < self._paused_until:
            return
        due = self._due_grids(now)
        pod_ids = dict.fromkeys(pod_id for grid in due for pod_id in grid.ids)
        if due or self._newcomers_at <= now:
            pod_ids |= self._newcomers
        idle = [pod_id for pod_id in pod_ids if not self._views[pod_id].in_flight]
        for chunk in self._backend.chunks(idle):
            self._send(chunk, self._memory(chunk) if due else None)

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

    def _memory(self, chunk: list[str]) -> Any:
        """Return what is remembered of the last answer to the same chunk; the oldest are forgotten."""
        key = tuple(chunk)
        known = self._known[key] = self._known.pop(key, None) or self._backend.memory()
        if len(self._known) > _REMEMBERED + len(self._views) // _REMEMBERED:
            del self._known[next(iter(self._known))]
        return known

    def _send(self, chunk: list[str], known: Any) -> None:
        self._sequence += 1
        for pod_id in chunk:
            self._views[pod_id].in_flight = True
            self._newcomers.pop(pod_id, None)
        self._start(self._poll(chunk, known, self._sequence))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _poll(self, chunk: list[str], known: Any, sequence: int) -> None:
        """Ask for one chunk and pass on what it brings, be it an error."""
        views = [self._views[pod_id] for pod_id in chunk]
        try:
            answer = await self._backend.statuses(chunk, known)
            self._pause = _FIRST_PAUSE
            for view in views:
                error = answer.errors.get(view.pod_id)
                if error is None:
                    view.observe(answer.rows.get(view.pod_id), sequence)
                    self._look(view)
                else:
                    view.refused = error
                    view.tell(sequence)
        except PrimePodsError as exc:
            self._failed(exc, views)
        except Exception as exc:  # noqa: BLE001 - a defect ends the waits; it must not leave them hanging
            self._end(views, exc)
        finally:
            for view in views:
                view.in_flight = False
            if self._newcomers:
                # One of them may have been in flight, with a request sent before it came.
                self._wake.set()

    def _failed(self, error: PrimePodsError, views: Iterable[View]) -> None:
        """Sort an error: it pauses the hub, passes by itself, or ends waits."""
        views = list(views)
        if isinstance(error, RateLimitError):
            self._pause_for(error.retry_after)
        elif isinstance(error, AuthenticationError | PermissionDeniedError):
            self._end_all(error)
            return
        elif not (
            isinstance(error, ServerError | ProtocolError)
            or (isinstance(error, TransportError) and error.transient)
        ):
            self._end(views, error)
            return
        for view in views:
            view.trouble = error

    def _pause_for(self, retry_after: float | None) -> None:
        seconds = self._pause if retry_after is None else retry_after
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        # With the exact time many processes would come back in step.
        until = self._clock.time() + seconds + max(1.0, 0.5 * seconds) * self._clock.random()
        self._paused_until = max(self._paused_until, until)

    def _end(self, views: Iterable[View], error: Exception) -> None:
        for feed in {feed for view in views for feed in view.feeds}:
            feed.end(error)

    def _end_all(self, error: Exception) -> None:
        for feed in self._feeds:
            feed.end(error)

    def _look(self, view: View) -> None:
        """Have ``get`` asked for a pod of which the status does not say all."""
        if view.wants_look and not view.looking and self._clock.time() >= view.look_at:
            view.looking = True
            self._lookups.append(view)
            if self._looking < self._backend.lookups:
                self._looking += 1
                self._start(self._look_up())

    async def _look_up(self) -> None:
        """Ask for the queued pods one by one."""
        try:
            while self._lookups:
                view = self._lookups.popleft()
                try:
                    # What a pause leaves out is asked for again after the next tick.
                    if view.feeds and self._clock.time() >= self._paused_until:
                        await self._look_at(view)
                finally:
                    view.looking = False
        finally:
            self._looking -= 1

    async def _look_at(self, view: View) -> None:
        self._sequence += 1
        sequence = self._sequence
        try:
            pod = await self._backend.pod(view.pod_id)
        except NotFoundError:
            view.not_found(sequence, self._clock.time())
        except PermissionDeniedError as exc:
            # This may be about the one pod, where the same answer to a batch is about the key.
            self._end([view], exc)
        except PrimePodsError as exc:
            self._failed(exc, [view])
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
    for place in [place for place in _hubs if place[0].is_closed()]:
        # A loop that was thrown away with waits in it; its hub will never run again.
        del _hubs[place]
    place = (loop, key)
    hub = _hubs.get(place)
    if hub is None:
        hub = _hubs[place] = Hub(make_backend())
    return hub
