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
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio

from ..config import Settings
from ..errors import (
    BudgetExceededError,
    CreateUncertainError,
    NotReleasedError,
    PrimePodsError,
)
from ..models import Pod, PodChange, PodStatus
from ..specs import PodSpec
from ..waiting import OnChange
from ._ctrl_c import ctrl_c
from ._ledger import LeaseFile, new_record
from ._release import Release
from ._steps import INTERRUPTS, EndedError, GivenUpError, Steps, TooLateError
from .operations import PodOperations
from .options import LeaseOptions

T = TypeVar("T")

_log = logging.getLogger("primepods")

USED_ONCE: Final = "A lease is used once. Make another with `pods.lease`."
_UNSEEN: Final = 60.0
"""Seconds after its creation in which a pod that was never seen may still appear, whatever a 404 says."""


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
        had_ctrl_c: Whether a Ctrl-C came during the release, and was not raised.
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
        self.had_ctrl_c: bool = False
        self._kept = False
        self._has_ordered = False
        self._steps = Steps(settings.clock)
        self._made_at = -math.inf
        self._spent: float | None = None

    def start(self, on_change: OnChange | None) -> None:
        """Write the file, and begin; in the event loop.

        Args:
            on_change: Told of each change until the pod is ready.

        Raises:
            ConfigError: The folder cannot be written. Nothing was ordered.
            RuntimeError: It was begun before.
        """
        if self.has_begun:
            raise RuntimeError(USED_ONCE)
        loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._steps.begin()
        team_id = self._spec.team_id or self._settings.team_id
        record = new_record(str(self._spec.name), self._settings, team_id)
        self._file = LeaseFile.create(self._folder, record)
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
        return self._steps.is_ours

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
        if self._spent is not None:
            return self._spent
        seconds = self._clock.wall() - self._ordered_wall
        return 0.0 if self.pod is None else self.pod.price_hr * seconds / 3600

    def keep(self) -> None:
        """Let the pod go on after the lease, and without its budget."""
        self._kept = True
        self._file.remove()
        self._steps.wake()

    def abandon(self) -> None:
        """Order nothing, if nothing is ordered yet; from any thread."""
        self._steps.is_ending = True

    def end(self) -> None:
        """Begin the release, if it has not begun; in the event loop."""
        if self._can_go_on():
            self._steps.end()

    def interrupt(self) -> None:
        """Begin the release; the next time hurry it, and then give it up; in the event loop."""
        if self._can_go_on():
            self._steps.interrupt(self._what)

    @property
    def is_stranded(self) -> bool:
        """Whether its event loop has stopped, and another one runs: it would be waited for in vain."""
        loop = self._task.get_loop()
        return loop is not asyncio.get_running_loop() and not loop.is_running()

    def _can_go_on(self) -> bool:
        if not self.is_open:
            return True
        if self.is_stranded:
            self._fail("the event loop of its lease has ended")
            self._file.close()
            return False
        ctrl_c.hold_back(self._note_ctrl_c)
        return True

    def _note_ctrl_c(self) -> None:
        self.had_ctrl_c = True
        self.interrupt()

    async def _run(self) -> None:
        try:
            await self._order_use_and_release()
        finally:
            ctrl_c.let_go(self._note_ctrl_c)

    async def _order_use_and_release(self) -> None:
        try:
            pod = await self._order()
            await self._boot(pod)
            await self._in_use(pod)
        except (EndedError, GivenUpError):
            pass
        except INTERRUPTS:
            self.interrupt()
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is raised in the block when the pod is gone
            self.error = exc
        self.end()
        while not await self._is_released():
            pass
        self._spent = self.spent()
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
        except INTERRUPTS:
            self.interrupt()
            return False
        except Exception as exc:  # noqa: BLE001 - a defect must not hide that the pod goes on
            self._fail(f"its release failed with {exc!r}")
        return True

    async def _order(self) -> Pod:
        if self._steps.is_ending:
            self._file.remove()
            raise EndedError
        try:
            try:
                pod = await self._step(self._create())
            except INTERRUPTS:
                if not self._has_ordered:
                    # A pod of this name would be another's.
                    self._file.remove()
                    raise EndedError from None
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
        except (GivenUpError, *INTERRUPTS):
            self._fail("its order was interrupted")
            raise GivenUpError from None
        self.pod, self._made_at = pod, self._clock.time()
        with contextlib.suppress(OSError):
            # The name in the file is enough to find it.
            self._file.update(pod_id=pod.id, price_hr=pod.price_hr)
        return pod

    async def _create(self) -> Pod:
        self._has_ordered = True
        return await self._operations.create(self._spec)

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
        hours, budget, limit = self._options.budget(pod.price_hr)
        try:
            return await self._step(work, until=lambda: self._budget_end(hours), in_use=True)
        except TooLateError:
            self.budget_error = BudgetExceededError(
                f"Pod {pod.id} has reached its budget, max_{budget}={limit:g}, which ends its lease.",
                pod_id=pod.id,
                budget=budget,
                # Not spent(): the wall clock may have been set meanwhile.
                spent=pod.price_hr * (self._clock.time() - self._ordered_at) / 3600,
                limit=limit,
            )
            raise EndedError from None

    def _budget_end(self, hours: float) -> float:
        return math.inf if self._kept else self._ordered_at + 3600 * hours

    async def _release(self, pod: Pod) -> None:
        release = Release(
            pod,
            self._what,
            operations=self._operations,
            options=self._options,
            clock=self._clock,
            steps=self._steps,
            unseen_until=self._made_at + _UNSEEN if self.status is None else -math.inf,
        )
        reason = await release.run()
        if reason is None:
            self._file.remove()
        else:
            self._fail(reason)

    async def _step(
        self,
        work: Coroutine[Any, Any, T],
        *,
        until: Callable[[], float] = lambda: math.inf,
        in_use: bool = False,
    ) -> T:
        """Await a step; see :meth:`Steps.run`."""
        return await self._steps.run(work, self.interrupt, until=until, in_use=in_use)

    @property
    def _what(self) -> str:
        """The pod, for messages."""
        if self.pod is None:
            return f"A pod named {self._spec.name}"
        return f"Pod {self.pod.id} (name {self._spec.name}, {self.pod.price_hr:g} an hour)"

    def _fail(self, reason: str) -> None:
        """Say, in all places, that the pod may go on."""
        if not self.is_ours or self.not_released is not None:
            return
        pod = self.pod
        self.not_released = NotReleasedError(
            f"{self._what} may be running and billed: {reason}. `primepods sweep` removes it, or "
            + (f"`client.pods.delete({pod.id!r})`." if pod else "look for that name in `pods.list()`."),
            pod_id=None if pod is None else pod.id,
            name=str(self._spec.name),
            price_hr=None if pod is None else pod.price_hr,
        )
        _log.error("%s", self.not_released)
        with contextlib.suppress(OSError):
            self._file.update(given_up=True)


async def released(*keepers: Keeper) -> asyncio.CancelledError | None:
    """Return when nothing is left to do; a cancellation interrupts the releases, and is returned."""
    cancelled: asyncio.CancelledError | None = None
    # Shielded, or a cancel scope around the block would cancel each of these awaits, not only the first.
    with anyio.CancelScope(shield=True):
        while still_open := [keeper for keeper in keepers if keeper.is_open and not keeper.is_stranded]:
            try:
                tasks = [keeper.task for keeper in still_open]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as exc:
                cancelled = exc
                for keeper in still_open:
                    keeper.interrupt()
    return cancelled
