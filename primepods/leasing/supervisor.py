"""The lifecycle of a lease: order pods until one is ready, watch its block, delete it and confirm that.

One task, the supervisor's, does all of this, so that nothing in the ``with`` block can stop a deletion.
Interruptions of a lease are cancellations, Ctrl-C, and the end of the event loop, which cancels all tasks:

1. the first starts the release;
2. the second hurries it: once the deletion is accepted, it is confirmed for 10 seconds at most;
3. the third gives it up: an error, the log and the lease's file name the pod.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from .._operations import LISTENERS, begin_operation, empty_context
from ..errors import (
    BudgetExceededError,
    ConnectionLostError,
    LoginError,
    NotReleasedError,
    PodFailedError,
    PriceTooHighError,
    SoldOutError,
    WaitError,
    WaitTimeoutError,
)
from ..models import Pod, PodChange, PodStatus
from ..remote import AsyncRemote, SSHOptions, wait_for_login
from ..specs import PodSpec
from ..ssh import SSHTarget
from ..waiting import OnChange
from ._budget import Budget
from ._callback import call_back
from ._ctrl_c import ctrl_c
from ._rental import Rental
from ._steps import INTERRUPTS, EndedError, GivenUpError, Steps, TooLateError
from .account import Account
from .open_leases import OpenLeases
from .options import LeaseOptions

T = TypeVar("T")

_log = logging.getLogger("primepods")

_CHECK_INTERVAL: Final = 60.0
"""Seconds between two checks of the lease file and of the budget.

One long timer would not do for the budget: timers stand still while the machine sleeps, and billing does not.
"""
_FAILOVER_ERRORS: Final = (
    SoldOutError,
    PriceTooHighError,
    PodFailedError,
    WaitTimeoutError,
    LoginError,
    ConnectionLostError,
)
"""Errors after which the next spec is tried."""
_MAX_KEY_REFUSALS: Final = 2
"""Number of pods that refuse the user's keys, after which no more are ordered: they would refuse, too."""


class LeaseSupervisor:
    """Supervisor of a lease, from the first order until its pod is confirmed terminated.

    Args:
        orders: The pods to order, the preferred first, each with the account that pays for it.
        options: The parameters of the lease.
        open_leases: The client's leases.

    Attributes:
        has_begun: Whether the lease has begun.
        is_ready: Whether the pod can be used.
        error: The error that says why no pod became ready.
        budget_error: The error that says which budget is used up.
        had_ctrl_c: Whether Ctrl-C was intercepted; the caller raises ``KeyboardInterrupt`` in the end.
        on_pod_lost: Called when the pod is deleted before the end of its block.
    """

    _ready: asyncio.Future[None]
    """Done when the pod is ready, or nothing is left to do."""

    def __init__(
        self, orders: Sequence[tuple[Account, PodSpec]], options: LeaseOptions, open_leases: OpenLeases
    ) -> None:
        self.error: BaseException | None = None
        self.budget_error: BudgetExceededError | None = None
        self.has_begun: bool = False
        self.is_ready: bool = False
        self.had_ctrl_c: bool = False
        self.on_pod_lost: Callable[[], None] | None = None
        self._orders = orders
        self._options = options
        self._open_leases = open_leases
        self._clock = orders[0][0].settings.clock
        self._steps = Steps(self._clock, self.interrupt)
        self._rental: Rental | None = None
        self._budget = Budget(options)
        self._is_kept = False
        self._task: asyncio.Task[None] | None = None

    def check_unused(self) -> None:
        """Raise an error if the lease was begun before."""
        if self.has_begun:
            raise RuntimeError("A lease is used once. Make another with `pods.lease`.")

    async def begin(self, on_change: OnChange | None) -> None:
        """Order a pod, and wait until it is ready or nothing is left to do; used by both clients.

        Args:
            on_change: Called with each change of a pod until one is ready.

        Raises:
            ClientClosedError: The client is being closed.
            RuntimeError: The lease was begun before.
        """
        self.check_unused()
        # Add this lease first: its task may run as soon as the task exists.
        self._open_leases.add(self)
        self._start(on_change)
        self.task.add_done_callback(lambda _: self._open_leases.discard(self))
        await asyncio.wait({self._ready})

    def _start(self, on_change: OnChange | None) -> None:
        """Create the task of the lease."""
        loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._steps.begin()
        self._ready = loop.create_future()
        self.has_begun = True
        operation = begin_operation("pods.lease", self._orders[0][0].settings)
        # In an empty context, so that a cancel scope around the block does not affect the task.
        context = empty_context()
        if operation is not None:
            context.run(LISTENERS.set, operation.listeners)
        self._task = loop.create_task(self._run(), context=context)
        if operation is not None:
            # Of several errors, the operation reports that a pod may be running.
            self._task.add_done_callback(
                lambda _: operation.end(self.release_error or self.budget_error or self.error)
            )

    def ready_pod(self) -> tuple[Rental, Pod, PodStatus, SSHTarget]:
        """Return the order of the ready pod, the pod, its status and its ssh target."""
        rental = self._rental
        if rental is None or rental.pod is None or rental.status is None or rental.status.ssh is None:
            raise RuntimeError("The pod is not ready.")
        return rental, rental.pod, rental.status, rental.status.ssh

    @property
    def ssh_options(self) -> SSHOptions:
        """How to log in to the pod."""
        return self._options.ssh

    @property
    def has_begun_in_this_process(self) -> bool:
        """Whether this process began the lease; a forked child leaves the pod to its parent."""
        return self._steps.has_begun_in_this_process

    @property
    def task(self) -> asyncio.Task[None]:
        """The task of the lease, done when nothing is left to do."""
        if self._task is None:
            raise RuntimeError("The lease has not begun.")
        return self._task

    @property
    def is_open(self) -> bool:
        """Whether this process has something left to do."""
        return self.has_begun and self.has_begun_in_this_process and not (self._task and self._task.done())

    @property
    def release_error(self) -> NotReleasedError | None:
        """The error that says why the pod may still be running."""
        return None if self._rental is None else self._rental.release_error

    def keep(self) -> None:
        """Keep the pod after the lease, and ignore its budget."""
        if self._steps.is_ending:
            _log.warning("%s is not kept: its lease has ended, and deletes it", self._label)
            return
        self._is_kept = True
        if self._rental is not None:
            self._rental.file.remove()
            self._rental.notify("LeaseKept")
            if self._options.max_hours is not None:
                _log.warning(
                    "%s is kept, but its name says when it expires: `sweep(expired=True)` deletes it then",
                    self._label,
                )

    @property
    def is_usable(self) -> bool:
        """Whether the pod is not being deleted: a deleted pod's address may be given to another machine."""
        return self._is_kept or not self._steps.is_ending

    @property
    def _label(self) -> str:
        """The pod, for messages."""
        return "The pod" if self._rental is None else self._rental.label

    def abandon(self) -> None:
        """Prevent an order that has not begun; may be called from any thread."""
        self._steps.is_ending = True

    def end(self) -> None:
        """Start the release, if it has not started; call it in the event loop."""
        if self._prepare_release():
            self._steps.end()

    def interrupt(self) -> None:
        """Start the release; a second call hurries it, a third gives it up; call it in the event loop."""
        if not self._prepare_release():
            return
        was_ending = self._steps.is_ending
        self._steps.interrupt(self._label)
        if self.is_ready and not was_ending and self.on_pod_lost is not None:
            # A block that ends calls `end`. So other code has cancelled the lease's task, and perhaps not the
            # block's task.
            _log.warning("a lease was cancelled from outside: its pod is deleted, and its block ends")
            self.on_pod_lost()

    @property
    def is_stranded(self) -> bool:
        """Whether the lease can do nothing, because its event loop has stopped."""
        loop = self._ready.get_loop()
        return loop is not asyncio.get_running_loop() and not loop.is_running()

    def _prepare_release(self) -> bool:
        """Return whether a release is possible; if it is, intercept Ctrl-C from now on.

        If the lease's event loop has stopped, report that its pod may still run.
        """
        if not self.is_open:
            return False
        if self.is_stranded:
            if self._rental is not None:
                self._rental.report_failure("the event loop of its lease has ended")
            return False
        ctrl_c.intercept(self._on_ctrl_c)
        return True

    def _on_ctrl_c(self) -> None:
        self.had_ctrl_c = True
        self.interrupt()

    async def _run(self) -> None:
        try:
            await self._order_use_and_release()
        finally:
            ctrl_c.stop_intercepting(self._on_ctrl_c)

    async def _order_use_and_release(self) -> None:
        try:
            await self._watch_block(await self._first_ready())
        except (EndedError, GivenUpError):
            pass
        except INTERRUPTS:
            self.interrupt()
        except GeneratorExit:
            # Python closes this coroutine, which can await nothing any more.
            raise
        except BaseException as exc:  # noqa: BLE001 - the block raises it, after the release
            self.error = exc
        self.end()
        await self._release(at_end=True)
        if self.error is not None and (note := self._deletion_note(self.error)):
            self.error.add_note(note)
        self.is_ready = False
        if not self._ready.done():
            self._ready.set_result(None)
        if self.budget_error is not None and self.on_pod_lost is not None:
            self.on_pod_lost()

    async def _first_ready(self) -> Rental:
        """Order the pods one after the other, until a pod is ready; return its order."""
        if self._options.login:
            await self._options.ssh.check()
        *earlier_orders, (last_account, last_spec) = self._orders
        failures: list[str] = []
        key_refusals = 0
        for account, spec in earlier_orders:
            try:
                return await self._make_ready(account, spec, failures)
            except _FAILOVER_ERRORS as exc:
                await self._release()
                key_refusals += isinstance(exc, LoginError) and exc.is_key_refused
                must_stop = self._steps.is_ending or self.release_error is not None
                if must_stop or key_refusals == _MAX_KEY_REFUSALS:
                    raise
                failures.append(f"{exc} {self._deletion_note(exc)}".rstrip())
                _log.info("%s; trying the next spec", exc)
        return await self._make_ready(last_account, last_spec, failures)

    async def _make_ready(self, account: Account, spec: PodSpec, failures: list[str]) -> Rental:
        """Order one pod, and return the order when the pod is ready.

        Args:
            account: The account that orders the pod.
            spec: The pod.
            failures: Errors of earlier specs; they become notes of this spec's error.
        """
        rental = self._rental = Rental(account, spec, self._options, self._steps)
        self._budget.rentals.append(rental)
        try:
            pod = await rental.order()
            target = await self._boot(rental, pod.id)
            if self._options.login:
                remote = AsyncRemote(pod.id, target, self._options.ssh)
                await self._until_end(wait_for_login(remote))
        except _FAILOVER_ERRORS as exc:
            for failure in failures:
                exc.add_note(f"Before that: {failure}")
            raise
        return rental

    async def _check_refused(self) -> None:
        """If an order of this lease was refused, check that the API did not create a pod all the same."""
        if any(rental.is_refused for rental in self._budget.rentals):
            await self._open_leases.refused.check()

    def _deletion_note(self, error: BaseException | None) -> str:
        """Return a note that the pod is deleted, if ``error`` says that it runs, as errors of waits do."""
        rental = self._rental
        if not isinstance(error, WaitError) or rental is None or rental.pod is None or rental.release_error:
            return ""
        return f"Its lease has deleted pod {rental.pod.id}."

    async def _release(self, *, at_end: bool = False) -> None:
        """Release the pod; at the end of the lease, check refused orders. An interruption restarts this."""
        rental = self._rental
        while rental is not None and self.has_begun_in_this_process:
            try:
                await rental.release(is_kept=self._is_kept)
                if at_end:
                    check = self._check_refused()
                    await self._steps.run(check, deadline=lambda: self._steps.hurried_deadline)
            except (GivenUpError, TooLateError):
                return
            except INTERRUPTS:
                self.interrupt()
            except Exception as exc:  # noqa: BLE001 - after a defect, too, the user must know that the pod runs
                rental.report_failure(f"its release failed with {exc!r}")
                return
            else:
                return

    async def _boot(self, rental: Rental, pod_id: str) -> SSHTarget:
        """Wait until an ordered pod is ready; return its ssh target."""

        async def note_change(change: PodChange) -> None:
            rental.note_status(change.after)
            if self._on_change is not None:
                await call_back(self._on_change, change)

        wait = rental.account.pods.wait_ready(
            pod_id,
            timeout=self._options.ready_timeout,
            interval=self._options.interval,
            on_change=note_change,
        )
        status = await self._until_end(wait)
        rental.note_status(status)
        rental.check_price()
        await self._until_end(rental.confirm_name(pod_id))
        if status.ssh is None:
            reason = "it is ready, but the API names no address to log in at"
            raise PodFailedError(
                f"{rental.label} cannot be used: {reason}.",
                pod_id=pod_id,
                last=status,
                reason=reason,
                statuses={pod_id: status},
                pending=(),
            )
        return status.ssh

    async def _watch_block(self, rental: Rental) -> None:
        """Let the block begin; check the budget and the lease file until it ends."""
        self.is_ready = True
        rental.notify("LeaseReady")
        self._ready.set_result(None)
        await self._until_end(self._check_refused())
        while True:
            await self._until_end(self._clock.sleep(_CHECK_INTERVAL))
            if rental.file.is_lost():
                _log.warning(
                    "the file %s of %s was removed: it is written again", rental.file.path, rental.label
                )
                await self._steps.run(asyncio.to_thread(rental.file.update))

    async def _until_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work``; stop at the end of the lease, or when its budget is used up.

        Raises:
            EndedError: The lease ended first.
        """

        def deadline() -> float:
            # Called again at each wake-up. The result is in the future while hours are left, and at most a
            # minute away, so that hours in which the machine slept are noticed.
            hours = math.inf if self._is_kept else self._budget.hours_left
            return self._clock.time() + min(hours * 3600, _CHECK_INTERVAL)

        try:
            return await self._steps.run(work, deadline=deadline, stops_at_end=True)
        except TooLateError:
            self.budget_error = self._budget.error()
            raise EndedError from None
