"""Pools: many pieces of work on a few leased pods, which are used again and replaced when they are lost.

A pool is leases and a queue. Each member is a task that enters a lease, takes jobs from the queue while its
pod lasts, and leaves the lease. A member starts when a job waits and no member is free. Everything else is
the lease's: orders, failover, limits, deletion.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Self, TypedDict, TypeVar, cast

import attrs
from anyio import CancelScope

from .._utils.clock import Clock
from .._utils.exceptions import copy_exception
from .._utils.iterators import ClosableAsyncIterator
from .._utils.plain import ToDict
from ..errors import (
    ClientClosedError,
    ConnectionLostError,
    LoginError,
    NotReleasedError,
    PodFailedError,
    PrimePodsError,
    PrimePodsErrorGroup,
)
from ..remote import Watchdog
from ..waiting.wait import OnChange
from ..waiting.watch import AsyncWatch
from ._order import LeaseBudget, PodOrder
from .lease import AsyncLease, AsyncLeasedPod
from .loss import Loss, wait_until_lost
from .supervisor import LeaseSupervisor

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger("primepods")

_RENT_PAUSE: Final = 60.0
"""Seconds after a failed rental, or a failed ``setup``, in which only a pool without members rents."""


class LeaseArguments(TypedDict, total=False):
    """The keyword arguments of ``pods.lease``."""

    login: bool
    login_timeout: float
    check: str | Sequence[str] | None
    check_timeout: float
    ssh_options: Sequence[str]
    ssh_command: str
    ready_timeout: float
    interval: float
    on_change: OnChange | None
    max_hours: float | None
    max_spend: float | None
    wind_down: float
    release_timeout: float
    watchdog: Watchdog | None


@attrs.frozen(kw_only=True)
class PoolResult(Generic[T, R]):
    """How one item of ``pool.map`` ended.

    Attributes:
        item: The item.
        value: What ``work`` returned; ``None`` after an error.
        error: What ``work`` raised, or the error of the last lost pod; ``None`` after a success.
        pod_name: Name of the last pod that worked on the item.
        attempts: Number of pods that began the item, 1 unless a pod was lost.
        seconds: Duration of the last attempt.
    """

    item: T
    value: R | None = None
    error: Exception | None = None
    pod_name: str | None = None
    attempts: int = 1
    seconds: float = 0.0

    def get(self) -> R:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast("R", self.value)  # `work` has returned it


@attrs.frozen(kw_only=True)
class PoolProgress(ToDict):
    """How far the work of a pool is; see ``on_progress`` of ``pods.pool``.

    Attributes:
        done: Number of items that have ended without an error; a block of ``pool.pod`` counts as an item.
        failed: Number of items that have ended with one.
        running: Number of items that pods work on.
        pods: Number of pods that are rented, or being rented.
        spent: Cost of all pods so far, at the highest prices seen.
        price_hr: Price per hour of the pods that are rented now.
    """

    done: int
    failed: int
    running: int
    pods: int
    spent: float
    price_hr: float


@attrs.define(eq=False, kw_only=True)
class _Job:
    """An item with its work, and what is called with the result."""

    item: Any
    work: Callable[[LeaseSupervisor, Any], Awaitable[Any]]
    attempts_left: int
    end: Callable[[PoolResult[Any, Any]], None]
    attempts: int = 0


class AsyncPool:
    """A pool of leased pods; made by ``pods.pool``, and used once.

    Pods are rented when there is work for them, at most ``size`` at a time. At the end of the ``async with``
    block all work is cancelled, and all pods are deleted and confirmed gone, as at the end of a lease.
    """

    def __init__(self, supervisor: PoolSupervisor) -> None:
        self.supervisor = supervisor

    @property
    def pods(self) -> int:
        """Number of pods that are rented, or being rented."""
        return self.supervisor.pods

    def spent(self) -> float:
        """Return the cost of all pods so far, at the highest prices seen."""
        return self.supervisor.spent()

    async def __aenter__(self) -> Self:
        self.supervisor.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        cancelled: asyncio.CancelledError | None = None
        # Without this shield, a cancel scope around the block would cancel each await, not only the first.
        with CancelScope(shield=True):
            while True:
                try:
                    await self.supervisor.end()
                    break
                except asyncio.CancelledError as again:
                    cancelled = again
        self.supervisor.report(cancelled or exc)
        if cancelled is not None:
            raise cancelled

    def map(
        self,
        work: Callable[[AsyncLeasedPod, T], Awaitable[R]],
        items: Iterable[T] | AsyncIterator[T],
        *,
        retries: int | None = None,
    ) -> ClosableAsyncIterator[PoolResult[T, R]]:
        """Do the same work for each item, each on a pod, and yield the results as they come.

        Args:
            work: Async function of a pod and an item. A failure of it is its item's result.
            items: The items, read only as far as there is room: at most ``2 * size`` are begun or wait for
                their reader. May be endless, and may be an async iterable.
            retries: How often an item is tried again on another pod if its pod is lost; by default that of
                the pool.

        Returns:
            An async iterator of :class:`PoolResult`. It raises an error if no pod can be rented and none is
            left, if a limit of the pool is reached, if ``setup`` fails on every pod, and if reading
            ``items`` does.
        """

        async def on_async_pod(supervisor: LeaseSupervisor, item: T) -> R:
            return await work(AsyncLeasedPod(supervisor), item)

        return self.supervisor.map(on_async_pod, items, retries)

    @asynccontextmanager
    async def pod(self) -> AsyncGenerator[AsyncLeasedPod]:
        """Take one pod for a block, and give it back to the pool at the block's end."""
        async with self.supervisor.lend() as supervisor:
            yield AsyncLeasedPod(supervisor)


class PoolSupervisor:
    """The queue and the members of a pool.

    Args:
        make_lease: Returns a new lease.
        watch: Returns a watch of a pod.
        size: Max number of members.
        retries: How often a lost item is tried again, by default.
        clock: The client's clock.

    Attributes:
        setup: Awaited with the supervisor of each new pod's lease before its first item.
        on_progress: Called with each change of the progress; must not raise.
        on_order: Called with the path of each order's lease file, before the order is sent.
        error: The error that has ended the work, or ``None``.
    """

    def __init__(
        self,
        make_lease: Callable[[], AsyncLease],
        watch: Callable[[str], AsyncWatch],
        *,
        size: int,
        retries: int,
        clock: Clock,
    ) -> None:
        self.setup: Callable[[LeaseSupervisor], Awaitable[object]] | None = None
        self.on_progress: Callable[[PoolProgress], None] | None = None
        self.on_order: Callable[[Path], object] = lambda _: None
        self.error: Exception | None = None
        self._clock = clock
        self._make_lease = make_lease
        self._watch = watch
        self._size = size
        self._retries = retries
        self._jobs: deque[_Job] = deque()
        # Replaced each time that it is set: it wakes all who wait.
        self._changed = asyncio.Event()
        # Dicts in place of sets, so that a seed of a simulated world is one order of steps.
        self._members: dict[asyncio.Task[None], LeaseSupervisor] = {}
        # Members that will take a job: they rent, or wait for one.
        self._free: dict[asyncio.Task[None], None] = {}
        # Members that have a pod that can be used.
        self._ready: dict[asyncio.Task[None], None] = {}
        # Ends when a pool with members may rent again, after a failed rental.
        self._renting_pause: asyncio.Task[None] | None = None
        # Whether `setup` has succeeded on a pod.
        self._can_set_up = False
        self._results: dict[PoolResults[Any, Any], None] = {}
        self._orders: list[PodOrder] = []
        self._unreleased: list[NotReleasedError] = []
        self._is_open: bool | None = None
        self._done_count = self._failed_count = self._running_count = 0

    @property
    def pods(self) -> int:
        """Number of pods that are rented, or being rented."""
        return len(self._members)

    @property
    def booting(self) -> int:
        """Number of pods that are rented, or being rented, and cannot be used yet."""
        return len(self._free.keys() - self._ready.keys())

    @property
    def progress(self) -> PoolProgress:
        """How far the work is."""
        rented = [order for order in self._orders if not order.is_settled]
        return PoolProgress(
            done=self._done_count,
            failed=self._failed_count,
            running=self._running_count,
            pods=self.pods,
            spent=self.spent(),
            price_hr=sum(order.price_hr for order in rented),
        )

    def _note_progress(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.progress)

    def spent(self) -> float:
        """Return the cost of all pods so far, at the highest prices seen."""
        return sum(order.spent for order in self._orders)

    def begin(self) -> None:
        """Let the pool be used, once."""
        if self._is_open is not None:
            raise RuntimeError("A pool can be used only once. Make another with `pods.pool`.")
        self._is_open = True

    async def end(self) -> None:
        """End all work, and wait until the pods are gone; each further call hurries their deletion."""
        is_hurried, self._is_open = not self._is_open, False
        for results in list(self._results):
            results.stop(
                ClientClosedError("The pool has ended, and its work with it. Read the results in its block.")
            )
        if self._renting_pause is not None:
            self._renting_pause.cancel()
        for member, supervisor in list(self._members.items()):
            # A cancellation would hurry the deletion of a lost pod.
            if is_hurried or not supervisor.is_ending:
                member.cancel()
        if self._members:
            await asyncio.wait(self._members)

    def report(self, error: BaseException | None) -> None:
        """Report pods that may still run, as notes of an error or, without one, as an error."""
        if error is not None:
            for unreleased in self._unreleased:
                error.add_note(str(unreleased))
        elif len(self._unreleased) == 1:
            raise self._unreleased[0]
        elif self._unreleased:
            raise PrimePodsErrorGroup("Several pods of the pool may still run.", self._unreleased)

    def map(
        self,
        work: Callable[[LeaseSupervisor, T], Awaitable[R]],
        items: Iterable[T] | AsyncIterator[T],
        retries: int | None,
    ) -> PoolResults[T, R]:
        """Return the results of the work for each item; see :meth:`AsyncPool.map`."""
        if not self._is_open:
            raise RuntimeError("The pool is closed: use it in its `with` block.")
        results = PoolResults(
            self, work, items, self._retries if retries is None else retries, 2 * self._size
        )
        self._results[results] = None
        return results

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[LeaseSupervisor]:
        """Take one pod for a block, and give it back at its end; yield the supervisor of its lease."""
        taken: asyncio.Future[LeaseSupervisor] = asyncio.get_running_loop().create_future()
        is_given_back = asyncio.Event()

        async def use(supervisor: LeaseSupervisor, _: None) -> None:
            if not taken.done():
                taken.set_result(supervisor)
            await is_given_back.wait()

        results = self.map(use, [None], 0)
        waiting = asyncio.ensure_future(anext(results))
        try:
            tasks: set[asyncio.Future[Any]] = {waiting, taken}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not taken.done():
                waiting.result().get()
            yield taken.result()
        finally:
            is_given_back.set()
            if not taken.done():
                results.stop()  # no pod has taken the job: do not wait for one
            taken.cancel()
            await asyncio.wait({waiting})
            results.stop()
            with suppress(Exception):
                waiting.result()

    def submit(self, job: _Job) -> None:
        """Queue a job, and rent a pod if no member is free for it."""
        self._jobs.append(job)
        self._wake()
        self._rent_by_need()

    def forget(self, results: PoolResults[Any, Any]) -> None:
        """Remove the jobs of an iteration that has ended from the queue."""
        self._results.pop(results, None)
        self._jobs = deque(job for job in self._jobs if job.end != results.add)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _rent_by_need(self) -> None:
        while (
            self._is_open
            and self.error is None
            and len(self._jobs) > len(self._free)
            and len(self._members) < self._size
            and (not self._members or self._renting_pause is None)
        ):
            lease = self._make_lease()
            member = asyncio.create_task(self._run_member(lease))
            self._members[member] = lease.supervisor
            self._free[member] = None
            member.add_done_callback(self._end_member)

    def _end_member(self, member: asyncio.Task[None]) -> None:
        self._members.pop(member, None)
        self._free.pop(member, None)
        self._note_progress()
        if not member.cancelled() and (error := member.exception()) is not None:
            self._fail(error)
        self._rent_by_need()

    def _fail(self, error: BaseException) -> None:
        """End the pool's work with an error."""
        self.error = self.error or (error if isinstance(error, Exception) else RuntimeError(repr(error)))
        for results in self._results:
            results.wake()

    async def _run_member(self, lease: AsyncLease) -> None:
        supervisor = lease.supervisor
        # The limits are the pool's: all its orders count for them.
        supervisor.budget = LeaseBudget(supervisor.options, self._orders)

        def note_order(lease_file: Path) -> None:
            self._orders.append(supervisor.rentals[-1])
            self.on_order(lease_file)
            self._note_progress()
            # Another pod has changed the time at which ``max_spend`` is reached.
            for other in self._members.values():
                other.check_budget()

        supervisor.on_order = note_order
        member = cast("asyncio.Task[None]", asyncio.current_task())
        is_used = False
        try:
            async with lease as pod:
                try:
                    is_used = await self._set_up(supervisor)
                    if is_used:
                        self._ready[member] = None
                        self._wake()
                        await self._take_jobs(member, supervisor, pod)
                finally:
                    # Another member takes the jobs while this one's pod is deleted.
                    self._ready.pop(member, None)
                    self._free.pop(member, None)
                    self._rent_by_need()
        except PrimePodsError as exc:
            if supervisor.budget_error is not None:
                # Not the hourly cap of all pods, which only refuses another one.
                self._fail(exc)
                for other in self._members:
                    if other is not member:
                        other.cancel()
            elif not is_used:  # else it is the error of its release
                self._go_on_without(exc)
        finally:
            if supervisor.release_error is not None:
                self._unreleased.append(supervisor.release_error)

    async def _take_jobs(
        self, member: asyncio.Task[None], supervisor: LeaseSupervisor, pod: AsyncLeasedPod
    ) -> None:
        """Do jobs on a pod until it, or the connection to it, is lost."""
        losing = asyncio.create_task(
            wait_until_lost(partial(self._watch, pod.id), self._clock, supervisor.options.watchdog)
        )
        try:
            is_lost = False
            while not is_lost and not losing.done():
                if not self._jobs:
                    await _first_of(losing, self._changed.wait())
                    continue
                job = self._jobs.popleft()
                self._free.pop(member)
                # After a lost connection, the item's command may still run: it would disturb the next one.
                is_lost = await self._work(job, supervisor, pod, losing)
                self._free[member] = None
        finally:
            losing.cancel()
            await asyncio.wait({losing})

    def _go_on_without(self, error: Exception) -> None:
        """Go on with the other members, and rent no pod for a while; without other members, fail."""
        if len(self._members) == 1:
            self._fail(error)
            return
        _log.warning("the pool goes on with its other pods (%d): %s", len(self._members) - 1, error)
        if self._renting_pause is not None:
            self._renting_pause.cancel()
        self._renting_pause = asyncio.create_task(self._pause_renting())

    async def _pause_renting(self) -> None:
        await self._clock.sleep(_RENT_PAUSE)
        # Otherwise, members that fail could follow each other for ever.
        while not self._ready:
            await self._changed.wait()
        self._renting_pause = None
        self._rent_by_need()

    async def _set_up(self, supervisor: LeaseSupervisor) -> bool:
        """Await ``setup``; return whether the pod can be used. A first error of it ends the pool's work."""
        if self.setup is not None:
            try:
                await self.setup(supervisor)
            except (ConnectionLostError, LoginError):
                raise
            except Exception as exc:  # noqa: BLE001 - raised by the pool's results, or logged
                # If it has never succeeded, it would fail on the next pod, too.
                (self._go_on_without if self._can_set_up else self._fail)(exc)
                return False
        self._can_set_up = True
        return True

    async def _work(
        self, job: _Job, supervisor: LeaseSupervisor, pod: AsyncLeasedPod, losing: asyncio.Task[Loss]
    ) -> bool:
        """Do a job on a pod; return whether it was lost. A lost job is queued again, or ends."""
        job.attempts += 1
        began_at = self._clock.time()
        self._running_count += 1
        self._note_progress()
        working = asyncio.ensure_future(_call(job, supervisor))
        try:
            await asyncio.wait({working, losing}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # The lease ends, for example because something else has cancelled it: another pod does the job.
            self._jobs.appendleft(job)
            raise
        finally:
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
            self._running_count -= 1
        error = asyncio.CancelledError() if working.cancelled() else working.exception()
        is_lost = error is not None and (losing.done() or isinstance(error, ConnectionLostError | LoginError))
        if is_lost and losing.done():
            error = PodFailedError(
                f"Pod {pod.name} was lost while it worked on an item: {losing.result().reason}.",
                pod_id=pod.id,
                last=None,
                reason=losing.result().reason,
                statuses={},
                pending=(pod.id,),
            )
        if is_lost and job.attempts_left:
            _log.warning("%s Another pod does the item.", error)
            job.attempts_left -= 1
            self._jobs.appendleft(job)
            self._wake()
            self._note_progress()
            return True
        self._done_count += error is None
        self._failed_count += error is not None
        self._note_progress()
        job.end(
            PoolResult(
                item=job.item,
                value=None if error is not None else working.result(),
                error=error if error is None or isinstance(error, Exception) else RuntimeError(repr(error)),
                pod_name=pod.name,
                attempts=job.attempts,
                seconds=self._clock.time() - began_at,
            )
        )
        return is_lost


class PoolResults(AsyncIterator[PoolResult[T, R]]):
    """The results of ``pool.map``, as they come."""

    def __init__(
        self,
        pool: PoolSupervisor,
        work: Callable[[LeaseSupervisor, T], Awaitable[R]],
        items: Iterable[T] | AsyncIterator[T],
        retries: int,
        room: int,
    ) -> None:
        self._pool = pool
        self._work = work
        self._items = items
        self._retries = retries
        # Items that are begun or wait for their reader.
        self._room = asyncio.Semaphore(room)
        self._begun_count = 0
        self._results: deque[PoolResult[T, R]] = deque()
        self._changed = asyncio.Event()
        self._feeding: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._error: Exception | None = None

    async def __anext__(self) -> PoolResult[T, R]:
        if self._feeding is None and not self._is_stopped:
            self._feeding = asyncio.create_task(self._feed())
            self._feeding.add_done_callback(lambda _: self.wake())
        while True:
            self._changed.clear()
            if self._results:
                self._room.release()
                return self._results.popleft()
            feeding = self._feeding
            if (error := self._error or self._pool.error) is not None:
                self.stop(error)
                raise copy_exception(error)
            if feeding is None or (feeding.done() and not self._begun_count):
                self.stop()
                if feeding is not None and not feeding.cancelled():
                    feeding.result()  # raises the error of the items
                raise StopAsyncIteration
            await self._changed.wait()

    async def aclose(self) -> None:
        """End the iteration: no further item is begun; what runs on the pods ends with the pool."""
        self.stop()

    def stop(self, error: Exception | None = None) -> None:
        """Begin no further item, forget those that wait, and let the reader end, or raise an error."""
        self._is_stopped = True
        self._error = self._error or error
        if self._feeding is not None:
            self._feeding.cancel()
            self._feeding = None
        self._pool.forget(self)
        self.wake()

    def wake(self) -> None:
        """Let the reader look again."""
        self._changed.set()

    def add(self, result: PoolResult[T, R]) -> None:
        """Add a result."""
        self._begun_count -= 1
        self._results.append(result)
        self._changed.set()

    async def _feed(self) -> None:
        items = self._items
        source = items if isinstance(items, AsyncIterator) else _iterate(items)
        while True:
            await self._room.acquire()
            try:
                item = await anext(source)
            except StopAsyncIteration:
                return
            self._begun_count += 1
            self._pool.submit(_Job(item=item, work=self._work, attempts_left=self._retries, end=self.add))


async def _iterate(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


async def _call(job: _Job, supervisor: LeaseSupervisor) -> Any:
    return await job.work(supervisor, job.item)


async def _first_of(task: asyncio.Task[Any], other: Coroutine[Any, Any, object]) -> None:
    """Wait for a task, which goes on, or for a coroutine, which is cancelled then."""
    waiting = asyncio.ensure_future(other)
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
