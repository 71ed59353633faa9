"""The lifecycle of a lease: order pods until one is ready, hand it over, delete it and confirm that.

One task, the supervisor's, does all of it, so that nothing in the ``with`` block can stop a deletion. Of the
interruptions of a lease

1. the first starts the release;
2. the second hurries it: the deletion must be accepted, and is confirmed for 10 seconds at most;
3. the third gives it up: the pod is named in an error, in the log and in the lease's file.

The end of the event loop, which cancels the supervisor's task, is an interruption, and so is a Ctrl-C that
Python raises inside that task.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from .._operations import LISTENERS, begin
from ..errors import (
    BudgetExceededError,
    ConnectionLostError,
    LoginError,
    NotReleasedError,
    PodFailedError,
    PriceTooHighError,
    PrimePodsError,
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
from ._cost import final_cost
from ._ctrl_c import ctrl_c
from ._rental import Rental
from ._steps import INTERRUPTS, EndedError, GivenUpError, Steps, TooLateError
from .account import Account
from .open_leases import OpenLeases
from .options import LeaseOptions

T = TypeVar("T")

_log = logging.getLogger("primepods")

_TICK: Final = 60.0
"""Seconds between two checks of the file and of the budget, whose clock, unlike timers, runs in standby."""
_TRY_NEXT: Final = (
    SoldOutError,
    PriceTooHighError,
    PodFailedError,
    WaitTimeoutError,
    LoginError,
    ConnectionLostError,
)
"""Errors after which the next spec is tried."""
_MAX_KEY_REFUSALS: Final = 2
"""Number of pods that refuse the user's keys after which no other is ordered: it would refuse them too."""


class LeaseSupervisor:
    """Supervisor of a pod, from its order until it is confirmed terminated.

    Args:
        orders: What to order, in the order of preference, and through which account.
        options: How.
        open_leases: The client's leases.

    Attributes:
        ready: Done when the pod is ready, or nothing is left to do.
        has_begun: Whether it has been started.
        is_ready: Whether the pod can be used.
        error: Why no pod became ready.
        budget_error: Which budget is used up.
        had_ctrl_c: Whether a Ctrl-C came during the release, and was not raised.
        on_lost: Called when the pod was deleted, or is about to be, though its block has not ended.
    """

    ready: asyncio.Future[None]

    def __init__(
        self, orders: Sequence[tuple[Account, PodSpec]], options: LeaseOptions, open_leases: OpenLeases
    ) -> None:
        self.error: BaseException | None = None
        self.budget_error: BudgetExceededError | None = None
        self.has_begun: bool = False
        self.is_ready: bool = False
        self.had_ctrl_c: bool = False
        self.on_lost: Callable[[], None] | None = None
        self._orders = orders
        self._options = options
        self._open_leases = open_leases
        self._clock = orders[0][0].settings.clock
        self._steps = Steps(self._clock, self.interrupt)
        self._rental: Rental | None = None
        self._budget = Budget(options)
        self._kept = False
        self._has_refused_order = False
        self._task: asyncio.Task[None] | None = None

    def check_unused(self) -> None:
        """Raise an error if the lease was begun before."""
        if self.has_begun:
            raise RuntimeError("A lease is used once. Make another with `pods.lease`.")

    async def begin(self, on_change: OnChange | None) -> None:
        """Order a pod, and wait until it is ready or nothing is left to do; for both clients."""
        self._open_leases.start(self, on_change)
        await asyncio.wait({self.ready})

    def start(self, on_change: OnChange | None) -> None:
        """Begin; in the event loop.

        Args:
            on_change: Told of each change until the pod is ready.
        """
        self._loop = loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._steps.begin()
        self.ready = loop.create_future()
        self.has_begun = True
        operation = begin("pods.lease", self._orders[0][0].settings)
        # An empty context: what surrounds the block, such as a cancel scope, must not reach in here.
        context = contextvars.Context()
        if operation is not None:
            context.run(LISTENERS.set, operation.listeners)
        self._task = loop.create_task(self._run(), context=context)
        if operation is not None:
            # A failed release is reported rather than the error that ended the lease.
            self._task.add_done_callback(
                lambda _: operation.end(self.not_released or self.budget_error or self.error)
            )

    def ready_pod(self) -> tuple[Pod, PodStatus, str, SSHTarget]:
        """Return the ready pod, its status, its name and its ssh target."""
        rental = self._rental
        if rental is None or rental.pod is None or rental.status is None or rental.status.ssh is None:
            raise RuntimeError("The pod is not ready.")
        return rental.pod, rental.status, rental.pod.name or rental.name, rental.status.ssh

    @property
    def ssh_options(self) -> SSHOptions:
        """How to log in to the pod."""
        return self._options.ssh

    async def final_cost(self, *, timeout: float, interval: float) -> float:
        """Return what was billed for the pod; see :meth:`AsyncLeasedPod.final_cost`."""
        pod, _, _, _ = self.ready_pod()
        pods = self._orders[0][0].pods if self._rental is None else self._rental.account.pods
        return await final_cost(pods, self._clock, pod.id, timeout=timeout, interval=interval)

    @property
    def is_ours(self) -> bool:
        """Whether this process has begun the lease; a child of a fork must leave it alone."""
        return self._steps.is_ours

    @property
    def task(self) -> asyncio.Task[None]:
        """Done when nothing is left to do."""
        if self._task is None:
            raise RuntimeError("The lease has not begun.")
        return self._task

    @property
    def is_open(self) -> bool:
        """Whether this process has something left to do."""
        return self.has_begun and self.is_ours and not (self._task and self._task.done())

    @property
    def not_released(self) -> NotReleasedError | None:
        """Why the pod may be running."""
        return None if self._rental is None else self._rental.not_released

    @property
    def price_hr(self) -> float:
        """The highest price an hour that was seen."""
        return 0.0 if self._rental is None else self._rental.price_hr

    def spent(self) -> float:
        """Return the cost so far, at the highest price seen."""
        return 0.0 if self._rental is None else self._rental.spent

    def keep(self) -> None:
        """Keep the pod after the lease, and ignore its budget."""
        if self._steps.is_ending:
            what = "The pod" if self._rental is None else self._rental.what
            _log.warning("%s is not kept: its lease has ended, and deletes it", what)
            return
        self._kept = True
        if self._rental is not None:
            self._rental.file.remove()
            self._rental.tell("LeaseKept")
            if self._options.max_hours is not None:
                _log.warning(
                    "%s is kept, but its name says when it expires: `sweep(expired=True)` deletes it then",
                    self._rental.what,
                )

    def check_usable(self) -> None:
        """Raise an error if the pod is being deleted, or is gone: another machine may have its address.

        Raises:
            PrimePodsError: The lease has ended, and did not keep the pod.
        """
        if self._steps.is_ending and not self._kept:
            pod, _, _, _ = self.ready_pod()
            raise PrimePodsError(
                f"Nothing was sent to pod {pod.id}: its lease has ended, and deletes it. "
                "Use the pod only in the block."
            )

    def abandon(self) -> None:
        """Prevent an order that has not begun; from any thread."""
        self._steps.is_ending = True

    def end(self) -> None:
        """Start the release, if it has not started; in the event loop."""
        if self._prepare_release():
            self._steps.end()

    def interrupt(self) -> None:
        """Start the release; a second call hurries it, a third gives it up; in the event loop."""
        if self._prepare_release():
            was_ending = self._steps.is_ending
            self._steps.interrupt("A pod" if self._rental is None else self._rental.what)
            if self.is_ready and not was_ending and self.on_lost is not None:
                # This task was cancelled; the task of the `with` block may not know.
                _log.warning("a lease was cancelled from outside: its pod is deleted, and its block ends")
                self.on_lost()

    @property
    def is_stranded(self) -> bool:
        """True if the event loop of the lease has stopped, so that the lease can do nothing."""
        loop = self._loop
        return loop is not asyncio.get_running_loop() and not loop.is_running()

    def _prepare_release(self) -> bool:
        """Hold back Ctrl-C for an open lease.

        Returns:
            ``False``, with the failure noted, if its event loop has ended.
        """
        if not self.is_open:
            return True
        if self.is_stranded:
            if self._rental is not None:
                self._rental.fail("the event loop of its lease has ended")
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
            await self._in_use(await self._first_ready())
        except (EndedError, GivenUpError):
            pass
        except INTERRUPTS:
            self.interrupt()
        except GeneratorExit:
            # This coroutine is thrown away, and can await nothing any more.
            raise
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is raised in the block when the pod is gone
            self.error = exc
        self.end()
        await self._release(at_end=True)
        if self.error is not None and (note := self._deletion_note(self.error)):
            self.error.add_note(note)
        self.is_ready = False
        if not self.ready.done():
            self.ready.set_result(None)
        if self.budget_error is not None and self.on_lost is not None:
            self.on_lost()

    async def _first_ready(self) -> Rental:
        """Return the first of the pods that becomes ready; there is at most one at a time."""
        if self._options.login:
            self._options.ssh.check_program()
        *others, (account, spec) = self._orders
        failures: list[str] = []
        key_refusals = 0
        for other in others:
            try:
                return await self._make_ready(*other, failures)
            except _TRY_NEXT as exc:
                await self._release()
                key_refusals += isinstance(exc, LoginError) and exc.is_key_refused
                is_last = self._steps.is_ending or self.not_released is not None
                if is_last or key_refusals == _MAX_KEY_REFUSALS:
                    raise
                failures.append(f"{exc} {self._deletion_note(exc)}".rstrip())
                _log.info("%s; trying the next spec", exc)
        return await self._make_ready(account, spec, failures)

    async def _make_ready(self, account: Account, spec: PodSpec, failures: list[str]) -> Rental:
        """Order one pod, and return it when it is ready.

        Args:
            account: Where to order it.
            spec: What to order.
            failures: Errors of the specs before this one, for the notes of its error.
        """
        rental = self._rental = Rental(account, spec, self._options, self._steps)
        self._budget.add(rental)
        try:
            await self._order(rental)
            target = await self._boot(rental, account)
            if self._options.login:
                await self._use(self._log_in(rental, target))
        except _TRY_NEXT as exc:
            for failure in failures:
                exc.add_note(f"Before that: {failure}")
            raise
        return rental

    async def _order(self, rental: Rental) -> None:
        try:
            await rental.order()
        finally:
            if rental.is_refused:
                self._has_refused_order = True
                self._open_leases.refused.add(rental)

    async def _check_refused(self) -> None:
        """Search for pods of refused orders: while the block runs, and again at its end."""
        if self._has_refused_order:
            await self._open_leases.refused.check()

    def _deletion_note(self, error: BaseException | None) -> str:
        """Return a note that the pod is deleted, for the error of a wait, which says that the pod runs on."""
        rental = self._rental
        if not isinstance(error, WaitError) or rental is None or rental.pod is None or rental.not_released:
            return ""
        return f"Its lease has deleted pod {rental.pod.id}."

    async def _release(self, *, at_end: bool = False) -> None:
        """Release the pod, whatever interrupts that; at the end of the lease, check refused orders."""
        while not await self._is_released(at_end=at_end):
            pass

    async def _is_released(self, *, at_end: bool) -> bool:
        """Release the pod; return whether there is nothing left to do."""
        rental = self._rental
        # In a forked child there is nothing to do: the parent process releases the pod.
        if rental is None or not self.is_ours:
            return True
        try:
            await rental.release(is_kept=self._kept)
            if at_end:
                await self._steps.run(self._check_refused(), until=lambda: self._steps.hurry_until)
        except (GivenUpError, TooLateError):
            return True
        except INTERRUPTS:
            self.interrupt()
            return False
        except Exception as exc:  # noqa: BLE001 - a defect must not hide that the pod goes on
            rental.fail(f"its release failed with {exc!r}")
        return True

    async def _log_in(self, rental: Rental, target: SSHTarget) -> None:
        """Return when ``ssh`` has logged in to the pod."""
        await wait_for_login(AsyncRemote(rental.pod.id if rental.pod else "", target, self._options.ssh))

    async def _boot(self, rental: Rental, account: Account) -> SSHTarget:
        if rental.pod is None:
            raise EndedError

        async def changed(change: PodChange) -> None:
            rental.note_status(change.after)
            if self._on_change is not None:
                await call_back(self._on_change, change)

        work = account.pods.wait_ready(
            rental.pod.id,
            timeout=self._options.ready_timeout,
            interval=self._options.interval,
            on_change=changed,
        )
        rental.note_status(await self._use(work))
        rental.check_price()
        await self._use(rental.confirm_ownership())
        if rental.status is None or rental.status.ssh is None:
            reason = "it is ready, but the API names no address to log in at"
            raise PodFailedError(
                f"{rental.what} cannot be used: {reason}.",
                pod_id=rental.pod.id,
                last=rental.status,
                reason=reason,
                statuses={} if rental.status is None else {rental.pod.id: rental.status},
                pending=(),
            )
        return rental.status.ssh

    async def _in_use(self, rental: Rental) -> None:
        self.is_ready = True
        rental.tell("LeaseReady")
        self.ready.set_result(None)
        await self._use(self._check_refused())
        while True:
            await self._use(self._clock.sleep(_TICK))
            if rental.file.is_lost():
                _log.warning(
                    "the file %s of %s was removed: it is written again", rental.file.path, rental.what
                )
                await self._steps.run(asyncio.to_thread(rental.file.update))

    async def _use(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work`` until the lease ends, or its budget is used up."""

        def until() -> float:
            # Called again each tick at least: too late is only the end of the budget.
            hours = math.inf if self._kept else self._budget.hours_left
            return self._clock.time() + min(hours * 3600, _TICK)

        try:
            return await self._steps.run(work, until=until, in_use=True)
        except TooLateError:
            self.budget_error = self._budget.error()
            raise EndedError from None
