"""The life of a leased pod: ordered, waited for, used, deleted and seen gone, whatever interrupts it.

One task, the keeper's, does all of it, so that nothing that happens to the ``with`` block stops a deletion.
What interrupts that block begins the release. An interruption of the release itself lets it go on until the
deletion is accepted, and then for 10 seconds to see the pod gone; the next one ends it, and the pod is named
in an error, in the log, and in the lease's file. The end of the event loop, which cancels the keeper's task,
is one of these interruptions, and so is a Ctrl-C that Python raises inside that task.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import math
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from .._utils.arguments import check_amount, check_interval, check_seconds
from ..config import Settings
from ..errors import (
    BudgetExceededError,
    CreateUncertainError,
    NotReleasedError,
    PrimePodsError,
    WaitTimeoutError,
)
from ..models import Pod, PodChange, PodState, PodStatus
from ..specs import PodSpec
from ..waiting import OnChange
from ._ledger import LeaseFile, new_record
from ._operations import PodOperations

T = TypeVar("T")

log = logging.getLogger("primepods")

_HURRY: Final = 10.0
"""Seconds to see a pod gone after its deletion was accepted, once the release was interrupted."""
_UNSEEN: Final = 60.0
"""Seconds after its creation in which a pod that was never seen may still appear, whatever a 404 says."""
_LONGEST_PAUSE: Final = 10.0
_SAME_INTERRUPTION: Final = 0.05
"""Seconds in which interruptions count as one: the end of a loop cancels block and keeper together."""
_GIVE_UP: Final = 2
"""Interruptions of the release that end it."""
_INTERRUPTS: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)


def _seconds(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    check_seconds(attribute.name, value)


def _budget(_: object, attribute: attrs.Attribute[float | None], value: float | None) -> None:
    if value is not None:
        check_amount(attribute.name, value, attribute.name.removeprefix("max_"))


def _interval(_: object, __: object, value: float) -> None:
    check_interval(value)


@attrs.frozen(kw_only=True)
class LeaseOptions:
    """The parameters of ``pods.lease`` but for the spec; refuses what cannot be.

    Raises:
        TypeError: No number.
        ValueError: Out of range.
    """

    ready_timeout: float = attrs.field(validator=_seconds)
    interval: float = attrs.field(validator=_interval)
    max_hours: float | None = attrs.field(validator=_budget)
    max_spend: float | None = attrs.field(validator=_budget)
    release_timeout: float = attrs.field(validator=_seconds)


class _GivenUpError(Exception):
    """The release was interrupted too often."""


class _EndedError(Exception):
    """The lease ends before the step that was under way is done."""


class _TooLateError(Exception):
    """The step that was under way was not done in time."""


class Keeper:
    """Orders a pod and cares for it until it is seen gone.

    Args:
        operations: What it does it with.
        settings: The client's settings.
        folder: Where the files of leases are.
        spec: What to order; it has a name.
        options: How.
        on_budget: Called when the pod was deleted because its budget is used up.

    Attributes:
        ready: Done when the pod is ready, or nothing is left to do.
        has_begun: Whether it has been started.
        is_ready: Whether the pod can be used.
        pod: The pod as ordered; ``None`` before that.
        status: Its status as last seen.
        error: Why it did not become ready.
        budget_error: Which budget is used up.
        not_released: Why it may go on.
    """

    ready: asyncio.Future[None]

    def __init__(  # noqa: PLR0913 - what a lease is made of
        self,
        *,
        operations: PodOperations,
        settings: Settings,
        folder: Path,
        spec: PodSpec,
        options: LeaseOptions,
        on_budget: Callable[[], None],
    ) -> None:
        self.pod: Pod | None = None
        self.status: PodStatus | None = None
        self.error: Exception | None = None
        self.budget_error: BudgetExceededError | None = None
        self.not_released: NotReleasedError | None = None
        self._operations = operations
        self._settings = settings
        self._clock = settings.clock
        self._folder = folder
        self._spec = spec
        self._options = options
        self._on_budget = on_budget
        self.has_begun: bool = False
        self.is_ready: bool = False
        self._ending = self._kept = False
        self._interruptions = 0
        self._interrupted_at = -math.inf
        self._made_at = math.inf
        self._ended_wall: float | None = None

    def start(self, on_change: OnChange | None) -> None:
        """Write the file, and begin; in the event loop.

        Args:
            on_change: Told of each change until the pod is ready.

        Raises:
            ConfigError: The folder cannot be written. Nothing was ordered.
            RuntimeError: It was begun before.
        """
        if self.has_begun:
            msg = "A lease is used once. Make another with `pods.lease`."
            raise RuntimeError(msg)
        loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._process = os.getpid()
        team_id = self._spec.team_id or self._settings.team_id
        record = new_record(str(self._spec.name), self._settings, team_id)
        self._file = LeaseFile.create(self._folder, record)
        self._signal: asyncio.Future[None] = loop.create_future()
        self.ready = loop.create_future()
        self._ordered_at, self._ordered_wall = self._clock.time(), self._clock.wall()
        # An empty context: what surrounds the block, such as a cancel scope, must not reach in here.
        self._task = loop.create_task(self._run(), context=contextvars.Context())
        self.has_begun = True

    def handed_over(self) -> tuple[Pod, PodStatus]:
        """Return the pod and its status, when it is ready."""
        if self.pod is None or self.status is None:
            msg = "The pod is not ready."
            raise RuntimeError(msg)
        return self.pod, self.status

    @property
    def is_ours(self) -> bool:
        """Whether this process has begun the lease; a child of a fork must leave it alone."""
        return self._process == os.getpid()

    @property
    def task(self) -> asyncio.Task[None]:
        """Done when nothing is left to do."""
        return self._task

    @property
    def is_open(self) -> bool:
        """Whether this process has something left to do."""
        return self.has_begun and self.is_ours and not self._task.done()

    def spent(self) -> float:
        """Return what the pod has cost so far, by the price of its order."""
        until = self._clock.wall() if self._ended_wall is None else self._ended_wall
        return 0.0 if self.pod is None else self.pod.price_hr * (until - self._ordered_wall) / 3600

    def keep(self) -> None:
        """Let the pod go on after the lease, and without its budget."""
        self._kept = True
        self._file.remove()
        self._wake()

    def abandon(self) -> None:
        """Order nothing, if nothing is ordered yet; from any thread."""
        self._ending = True

    def end(self) -> None:
        """Begin the release, if it has not begun."""
        self._ending = True
        self._wake()

    def interrupt(self) -> None:
        """Begin the release; be quick about it if it has begun; give it up if it is quick already."""
        now = self._clock.time()
        if self._ending and now - self._interrupted_at >= _SAME_INTERRUPTION:
            self._interruptions += 1
            if self._interruptions == 1:
                log.warning("%s is being deleted: interrupted again, it may be left running", self._what)
        self._interrupted_at = now
        self.end()

    async def _run(self) -> None:
        try:
            pod = await self._order()
            await self._boot(pod)
            await self._in_use(pod)
        except (_EndedError, _GivenUpError):
            pass
        except _INTERRUPTS:
            self.interrupt()
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is raised in the block when the pod is gone
            self.error = exc
        self._ending = True
        while not await self._is_released():
            pass
        self._ended_wall = self._clock.wall()
        self._file.close()
        self.is_ready = False
        if not self.ready.done():
            self.ready.set_result(None)
        if self.budget_error is not None:
            self._on_budget()

    async def _is_released(self) -> bool:
        """Release the pod; returns whether there is nothing left to do."""
        try:
            # In the child of a fork this is the copy of a task of the parent's, which cares for the pod.
            if self.pod is not None and not self._kept and self.is_ours:
                await self._release(self.pod)
        except _INTERRUPTS:
            self.interrupt()
            return False
        except Exception as exc:  # noqa: BLE001 - a defect must not hide that the pod goes on
            self._fail(f"its release failed with {exc!r}")
        return True

    async def _order(self) -> Pod:
        if self._ending:
            self._file.remove()
            raise _EndedError
        try:
            try:
                pod = await self._step(self._operations.create(self._spec))
            except _INTERRUPTS:
                # The event loop ends, and the order may have been carried out.
                pod = await self._step(self._operations.find(str(self._spec.name), self._ordered_wall))
        except CreateUncertainError:
            with contextlib.suppress(OSError):
                self._file.update(given_up=True)
            raise
        except PrimePodsError:
            # Provably nothing was made.
            self._file.remove()
            raise
        except (_GivenUpError, *_INTERRUPTS):
            self._fail("its order was interrupted")
            raise _GivenUpError from None
        self.pod, self._made_at = pod, self._clock.time()
        with contextlib.suppress(OSError):
            # The name in the file is enough to find it.
            self._file.update(pod_id=pod.id, price_hr=pod.price_hr)
        return pod

    async def _boot(self, pod: Pod) -> None:
        work = self._operations.wait_ready(
            pod.id,
            timeout=self._options.ready_timeout,
            interval=self._options.interval,
            on_change=self._changed,
        )
        self.status = await self._use(pod, work)

    async def _in_use(self, pod: Pod) -> None:
        self.is_ready = True
        self.ready.set_result(None)
        await self._use(pod, asyncio.Event().wait())

    async def _changed(self, change: PodChange) -> None:
        self.status = change.after or self.status
        if self._on_change is not None:
            answer = self._on_change(change)
            if inspect.isawaitable(answer):
                await answer

    async def _use(self, pod: Pod, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work`` until the lease ends, or its budget is used up."""
        hours, spend = self._options.max_hours, self._options.max_spend
        spend_hours = math.inf if spend is None or pod.price_hr <= 0 else spend / pod.price_hr
        allowed = min(math.inf if hours is None else hours, spend_hours)
        try:
            return await self._step(work, until=lambda: self._budget_end(allowed), in_use=True)
        except _TooLateError:
            budget = "spend" if allowed == spend_hours else "hours"
            limit = spend if budget == "spend" else hours
            self.budget_error = BudgetExceededError(
                f"Pod {pod.id} has reached its budget, max_{budget}={limit:g}, which ends its lease.",
                pod_id=pod.id,
                budget=budget,
                spent=self.spent(),
                limit=limit or 0.0,
            )
            raise _EndedError from None

    def _budget_end(self, hours: float) -> float:
        return math.inf if self._kept else self._ordered_at + 3600 * hours

    async def _release(self, pod: Pod) -> None:
        """Delete the pod and see it gone, however often that fails, within ``release_timeout``."""
        ends_at = self._clock.time() + self._options.release_timeout
        deleted_at, failures, last = math.inf, 0, ""

        def see_until() -> float:
            in_a_hurry = max(deleted_at, self._interrupted_at) + _HURRY
            return min(ends_at, in_a_hurry) if self._interruptions else ends_at

        while True:
            try:
                if failures:
                    pause = min(_LONGEST_PAUSE, 0.25 * 2.0**failures)
                    await self._step(self._clock.wait(asyncio.Event(), pause), until=see_until)
                if deleted_at == math.inf:
                    await self._step(self._delete(pod), until=lambda: ends_at)
                    deleted_at = self._clock.time()
                left = max(_SAME_INTERRUPTION, see_until() - self._clock.time())
                gone = self._operations.wait_gone(pod.id, timeout=left, interval=self._options.interval)
                await self._step(gone, until=see_until)
            except _GivenUpError:
                return self._fail(f"its release was interrupted{last}")
            except (_TooLateError, WaitTimeoutError):
                accepted = "is not accepted" if deleted_at == math.inf else "was accepted, but it is not gone"
                return self._fail(f"its deletion {accepted} in time{last}")
            except _INTERRUPTS:
                self.interrupt()
            except PrimePodsError as exc:
                self._log_failure(exc, failures)
                failures, last = failures + 1, f"; the last failure: {str(exc).rstrip('.')}"
            else:
                return self._file.remove()

    def _log_failure(self, error: PrimePodsError, before: int) -> None:
        """Say that a release takes longer, once."""
        if not before:
            log.warning("%s is not released yet: %s", self._what, error)

    async def _delete(self, pod: Pod) -> None:
        may_appear = self.status is None and self._clock.time() < self._made_at + _UNSEEN
        state = await self._operations.delete(pod.id, missing_ok=not may_appear)
        if may_appear and state == PodState.TERMINATED:
            # A 404 after an attempt whose answer was lost is no success of it while nothing is to be seen.
            msg = f"Pod {pod.id} has not appeared in the API since it was created."
            raise PrimePodsError(msg)

    async def _step(
        self,
        work: Coroutine[Any, Any, T],
        *,
        until: Callable[[], float] = lambda: math.inf,
        in_use: bool = False,
    ) -> T:
        """Await ``work`` in a task of its own; what interrupts this one is noted, and goes on waiting.

        Args:
            work: What to await; cancelled when it is waited for no longer.
            until: When that is at the latest, by the clock; asked anew after each interruption.
            in_use: Whether it is also ended by the end of the lease.

        Raises:
            _TooLateError: It was not done in time.
            _EndedError: The lease ends.
            _GivenUpError: The release is given up.
            CancelledError: ``work`` was cancelled: the event loop ends.
        """
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            while not task.done():
                self._signal = loop.create_future()
                if self._interruptions >= _GIVE_UP or not self.is_ours:
                    raise _GivenUpError
                if in_use and self._ending:
                    raise _EndedError
                if self._clock.time() >= until():
                    raise _TooLateError
                try:
                    await self._wait(task, until())
                except _INTERRUPTS:
                    self.interrupt()
            return task.result()
        finally:
            task.cancel()

    async def _wait(self, task: asyncio.Task[Any], until: float) -> None:
        """Return when ``task`` is done, something has been signalled, or the clock says ``until``."""
        limit = contextlib.nullcontext() if until == math.inf else self._clock.timeout_at(until)
        with contextlib.suppress(TimeoutError):
            async with limit:
                await asyncio.wait({task, self._signal}, return_when=asyncio.FIRST_COMPLETED)

    @property
    def _what(self) -> str:
        """The pod, for messages."""
        if self.pod is None:
            return f"A pod named {self._spec.name}"
        return f"Pod {self.pod.id} (name {self._spec.name}, {self.pod.price_hr:g} an hour)"

    def _wake(self) -> None:
        if not self._signal.done():
            self._signal.set_result(None)

    def _fail(self, reason: str) -> None:
        """Say, in all places, that the pod may go on."""
        if not self.is_ours:
            return
        pod = self.pod
        what = (
            f"Pod {pod.id} (name {self._spec.name}, {pod.price_hr:g} an hour)"
            if pod
            else f"A pod named {self._spec.name}"
        )
        self.not_released = NotReleasedError(
            f"{what} may be running and billed: {reason}. `primepods sweep` removes it, or "
            + (f"`client.pods.delete({pod.id!r})`." if pod else "look for that name in `pods.list()`."),
            pod_id=None if pod is None else pod.id,
            name=str(self._spec.name),
            price_hr=None if pod is None else pod.price_hr,
        )
        log.error("%s", self.not_released)
        with contextlib.suppress(OSError):
            self._file.update(given_up=True)
