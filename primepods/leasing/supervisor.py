"""The lifecycle of a lease: order pods until one is ready, watch its block, delete it and confirm that.

A lease is two phases, ``use`` and ``release``, each a task of its own, so that nothing in the ``with`` block
can stop a deletion. The supervisor's task waits for them, and is where interruptions of a lease arrive. These
are cancellations, Ctrl-C, and the end of the event loop, which cancels all tasks:

1. the first ends the use; an order that was sent is finished before;
2. the second hurries the release: once the deletion is accepted, it is confirmed for 10 seconds at most;
3. the third gives the release up: an error, the log and the lease's file name the pod.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

from .._operations import LISTENERS, begin_operation, empty_context
from .._utils.money import money
from ..errors import (
    BudgetExceededError,
    ConfigError,
    NotReleasedError,
    PodFailedError,
    PrimePodsError,
    ProtocolError,
    RateLimitError,
    RequestTimeoutError,
    SoldOutError,
    WaitError,
    WaitTimeoutError,
)
from ..models import Pod, PodChange, PodStatus
from ..remote import AsyncRemote, HostEntry, SSHOptions, note_hosts, wait_for_login
from ..specs import PodSpec
from ..ssh import SSHTarget
from ..waiting import OnChange
from ._ctrl_c import ctrl_c
from ._failover import is_rate_limited, tries_next_spec
from ._rental import Rental
from .ledger import LeaseFile
from .pods_api import LIST_TIMEOUT, Account, LeaseOptions, ListedPod, Listing

_log = logging.getLogger("primepods")

_INTERRUPTS: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
# Seconds between two checks of the lease file and of the budget.
# One long timer would not do for the budget: timers stand still while the machine sleeps, billing does not.
_CHECK_INTERVAL: Final = 60.0
# Seconds; closer interruptions count as one: the end of a loop cancels all tasks of a lease together.
_MIN_INTERRUPTION_INTERVAL: Final = 0.05
# Seconds between two orders that the rate limit refuses; doubled each time.
_MIN_ORDER_DELAY: Final = 5.0
_MAX_ORDER_DELAY: Final = 60.0
# Number of interruptions of a release at which it is given up.
_MAX_INTERRUPTIONS: Final = 2


class LeaseSupervisor:
    """Supervisor of a lease, from the first order until its pods are confirmed terminated.

    Args:
        orders: The pods to order, the preferred first, each with the account that pays for it.
        options: The parameters of the lease.
        add: Adds this lease to those that are released when the client closes.
        discard: Removes it, when it is released.

    Attributes:
        is_ready: Whether the pod can be used.
        is_ending: Whether the lease is ending; nothing is ordered any more.
        error: The error that says why no pod became ready.
        budget_error: The error that says which budget is used up.
        had_ctrl_c: Whether Ctrl-C was intercepted; the caller raises ``KeyboardInterrupt`` in the end.
        on_pod_lost: Called when the pod is deleted before the end of its block.
        on_order: Called with the lease file of each order, before it is sent.
    """

    def __init__(
        self,
        orders: Sequence[tuple[Account, PodSpec]],
        options: LeaseOptions,
        *,
        add: Callable[[LeaseSupervisor], None],
        discard: Callable[[LeaseSupervisor], None],
    ) -> None:
        self.is_ready: bool = False
        self.is_ending: bool = False
        self.error: BaseException | None = None
        self.budget_error: BudgetExceededError | None = None
        self.had_ctrl_c: bool = False
        self.disk_note: str | None = None
        """Which disks stay after the lease, and what they cost."""
        self.on_pod_lost: Callable[[], None] | None = None
        self.on_order: Callable[[Path], None] | None = None
        self._orders = orders
        self._options = options
        self._add = add
        self._discard = discard
        self._clock = orders[0][0].settings.clock
        self._rentals: list[Rental] = []
        self._resumed: LeaseFile | None = None
        self._is_kept = False
        self._is_ordering = False
        self._interruptions = 0
        self._interrupted_at = -math.inf
        self._changed = asyncio.Event()
        self._pid = 0
        self._task: asyncio.Task[None] | None = None

    def check_unused(self) -> None:
        """Raise an error if the lease was begun before."""
        # Begun in this process, or before a fork.
        if self._pid != 0:
            raise RuntimeError("A lease is used once. Make another with `pods.lease`.")

    def resume(self, file: LeaseFile) -> None:
        """Use the pod of a lease whose process has died, instead of ordering one.

        Args:
            file: Its file, which this process has claimed.

        Raises:
            ConfigError: The file is another account's. It stays as it is.
        """
        if reason := file.record.is_foreign_to(self._orders[0][0].settings):
            file.close()
            raise ConfigError(
                f"The pod {file.record.name} is not taken over, and may be billed: {reason}. Use the key "
                "and the address that rented it."
            )
        self._resumed = file

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
        self._add(self)
        loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._ready: asyncio.Future[None] = loop.create_future()
        self._pid = os.getpid()
        operation = begin_operation("pods.lease", self._orders[0][0].settings)
        # In an empty context, so that a cancel scope around the block does not affect the task.
        context = empty_context()
        if operation is not None:
            context.run(LISTENERS.set, operation.listeners)
        self._task = loop.create_task(self._run(), context=context)
        self._task.add_done_callback(lambda _: self._discard(self))
        if operation is not None:
            # Of several errors, the operation reports that a pod may be running.
            self._task.add_done_callback(
                lambda _: operation.end(self.release_error or self.budget_error or self.error)
            )
        # Done when the pod is ready, or nothing is left to do.
        await asyncio.wait({self._ready})

    def ready_pod(self) -> tuple[Rental, Pod, PodStatus, SSHTarget]:
        """Return the order of the ready pod, the pod, its status and its ssh target."""
        rental = self._rentals[-1]
        if rental.pod is None or rental.status is None or rental.status.ssh is None:
            raise RuntimeError("The pod is not ready.")
        return rental, rental.pod, rental.status, rental.status.ssh

    @property
    def ssh_options(self) -> SSHOptions:
        """How to log in to the pod."""
        return self._options.ssh

    @property
    def has_begun_in_this_process(self) -> bool:
        """Whether this process began the lease; a forked child leaves the pod to its parent."""
        return self._pid == os.getpid()

    @property
    def task(self) -> asyncio.Task[None]:
        """The task of the lease, done when nothing is left to do."""
        if self._task is None:
            raise RuntimeError("The lease has not begun.")
        return self._task

    @property
    def is_open(self) -> bool:
        """Whether this process has something left to do."""
        return self.has_begun_in_this_process and not (self._task and self._task.done())

    @property
    def is_stranded(self) -> bool:
        """Whether the lease can do nothing, because its event loop has stopped."""
        loop = self._ready.get_loop()
        return loop is not asyncio.get_running_loop() and not loop.is_running()

    @property
    def is_usable(self) -> bool:
        """Whether the pod is not being deleted: a deleted pod's address may be given to another machine."""
        return self._is_kept or not self.is_ending

    @property
    def release_error(self) -> NotReleasedError | None:
        """The error that says why a pod may still be running."""
        return next((rental.release_error for rental in self._rentals if rental.release_error), None)

    def keep(self) -> None:
        """Keep the pod after the lease, and ignore its budget."""
        rental = self._rentals[-1]
        if self.is_ending:
            _log.warning("%s is not kept: its lease has ended, and deletes it", rental.label)
            return
        self._is_kept = True
        rental.keep()
        if self._options.max_hours is not None:
            _log.warning(
                "%s is kept, but its name says when it expires: `sweep(expired=True)` deletes it then",
                rental.label,
            )

    def abandon(self) -> None:
        """Prevent an order that has not begun; may be called from any thread."""
        self.is_ending = True

    def end(self) -> None:
        """Start the release, if it has not started; call it in the event loop."""
        if not self._report_if_stranded():
            return
        ctrl_c.intercept(self._on_ctrl_c)
        if not self.is_ending:
            # When all tasks are cancelled, the block may end first. The lease's task is interrupted next:
            # that must not count as an interruption of the release.
            self._interrupted_at = self._clock.time()
        self.is_ending = True
        self._changed.set()

    def interrupt(self) -> None:
        """Start the release; a second call hurries it, a third gives it up; call it in the event loop."""
        if not self._report_if_stranded():
            return
        now = self._clock.time()
        was_ending = self.is_ending
        if was_ending and now - self._interrupted_at >= _MIN_INTERRUPTION_INTERVAL:
            self._interruptions += 1
            if self._interruptions == 1:
                label = self._rentals[-1].label if self._rentals else "The pod"
                _log.warning("%s is being deleted: if interrupted again, it may be left running", label)
            for rental in self._rentals:
                rental.hurry()
        self.end()
        self._interrupted_at = now
        if self.is_ready and not was_ending and self.on_pod_lost is not None:
            # A block that ends calls `end`. So other code has cancelled the lease's task, and perhaps not the
            # block's task.
            _log.warning("a lease was cancelled from outside: its pod is deleted, and its block ends")
            self.on_pod_lost()

    def _report_if_stranded(self) -> bool:
        """Report that the pod may run if the event loop has stopped; return whether a release is possible."""
        if self.is_open and self.is_stranded:
            for rental in self._rentals:
                rental.give_up("the event loop of its lease has ended")
            return False
        return self.is_open

    def _on_ctrl_c(self) -> None:
        self.had_ctrl_c = True
        self.interrupt()

    async def _run(self) -> None:
        try:
            error = await self._run_phase(self._use(), ends_use=True)
            if not isinstance(error, _INTERRUPTS):
                self.error = error
            elif not self.is_ending:
                self.interrupt()
            self.end()
            await self._run_release()
            if self.disk_note is not None:
                _log.info("%s", self.disk_note)
            self._note_deletion(self.error)
            self.is_ready = False
            if not self._ready.done():
                self._ready.set_result(None)
            if self.budget_error is not None and self.on_pod_lost is not None:
                self.on_pod_lost()
        finally:
            ctrl_c.stop_intercepting(self._on_ctrl_c)

    async def _run_release(self) -> None:
        """Run the release, again after each interruption, until it is done or given up."""
        while (error := await self._run_phase(self._release(*reversed(self._rentals)))) is not None:
            if not self._has_given_up and isinstance(error, _INTERRUPTS):
                self.interrupt()
                continue
            # After a defect, too, the user must know that the pod may run.
            reason = (
                "its release was interrupted" if self._has_given_up else f"its release failed with {error!r}"
            )
            for rental in self._rentals if self.has_begun_in_this_process else ():
                rental.give_up(reason)
            return

    @property
    def _has_given_up(self) -> bool:
        """Whether the release was interrupted too often, or is that of the parent process."""
        return self._interruptions >= _MAX_INTERRUPTIONS or not self.has_begun_in_this_process

    async def _run_phase(
        self, work: Coroutine[Any, Any, None], *, ends_use: bool = False
    ) -> BaseException | None:
        """Run a phase in a task of its own, and return its error; interruptions of this task do not end it.

        Args:
            work: The phase; it is cancelled if the lease is given up.
            ends_use: Whether the end of the lease cancels the phase, except while it orders a pod.
        """
        phase = asyncio.get_running_loop().create_task(work)
        phase.add_done_callback(lambda _: self._changed.set())
        cancelled_at = math.inf
        # A callback that ignores its cancellation delays the release by a minute, no longer.
        while not phase.done() and self._clock.time() < cancelled_at + _CHECK_INTERVAL:
            self._changed.clear()
            hours = (hours for hours, _, _ in self._budgets())
            seconds_left = math.inf if self.is_ending else 3600 * min(hours, default=math.inf)
            if seconds_left <= 0:
                self.budget_error = self._make_budget_error()
                self.end()
            if self._has_given_up or (ends_use and self.is_ending and not self._is_ordering):
                phase.cancel()
                cancelled_at = min(cancelled_at, self._clock.time())
            try:
                # Not shorter than a clock can tell: rounding may leave a billionth of a second.
                await self._clock.wait(self._changed, min(max(seconds_left, 0.001), _CHECK_INTERVAL))
            except _INTERRUPTS:
                self.interrupt()
        return asyncio.CancelledError() if not phase.done() or phase.cancelled() else phase.exception()

    async def _use(self) -> None:
        """The first phase: order pods until one is ready, then keep its file there until the cancellation."""
        if self._options.login:
            await self._options.ssh.check()
        errors: list[PrimePodsError] = []
        listed: list[ListedPod] = []
        for account, spec in self._orders:
            try:
                listed = await self._rent(account, spec)
                break
            except PrimePodsError as exc:
                for earlier in errors:
                    exc.add_note(f"Before that: {earlier}")
                errors.append(exc)
                if not await self._prepare_next(self._rentals[-1], errors):
                    raise
                self._note_deletion(exc)
                self._log_failover(self._rentals[-1], exc, tried=len(errors))
        self.is_ready = True
        self._rentals[-1].notify("LeaseReady")
        self._ready.set_result(None)
        for rental in self._rentals:
            await rental.delete_others(listed)
        rental = self._rentals[-1]
        if disks := rental.spec.disks:
            self.disk_note = f"Disks that stay, and are billed: {', '.join(disks)}"
            # The prices now, so that nothing has to be read at the end.
            self.disk_note = await rental.account.describe_disks(disks)
        while True:
            await self._clock.sleep(_CHECK_INTERVAL)
            file, label = self._rentals[-1].file, self._rentals[-1].label
            if file is not None and await asyncio.to_thread(file.restore):
                _log.warning("the file %s of %s was removed: it is written again", file.path, label)

    def _log_failover(self, rental: Rental, error: PrimePodsError, *, tried: int) -> None:
        """Say by the pod's name why it is not used."""
        _log.debug("%s", error)
        reason = error.reason if isinstance(error, PodFailedError) else str(error)
        if isinstance(error, SoldOutError):
            reason = "sold out"
        left = len(self._orders) - tried
        _log.warning("%s: %s; trying the next spec (%s left)", rental.name, reason.rstrip("."), left)

    async def _rent(self, account: Account, spec: PodSpec) -> list[ListedPod]:
        """Order a pod and make it ready; order again while the API's rate limit refuses the order."""
        ends_at = self._clock.time() + self._options.ready_timeout
        delay = _MIN_ORDER_DELAY
        while True:
            rental = Rental(account, spec, self._options)
            rental.file = self._resumed
            self._rentals.append(rental)
            try:
                return await self._make_ready(rental)
            except (RateLimitError, RequestTimeoutError) as exc:
                retry_after = exc.retry_after if isinstance(exc, RateLimitError) else None
                # Random, so that processes that were refused together do not order together.
                pause = max(retry_after or 0.0, delay) * (0.5 + self._clock.random())
                is_over = self._clock.time() + pause >= ends_at
                if rental.needs_list or is_over or not is_rate_limited(exc):
                    raise
                _log.warning("%s Ordering again in %.0f s", exc, pause)
            delay = min(2 * delay, _MAX_ORDER_DELAY)
            await self._clock.sleep(pause)

    async def _prepare_next(self, rental: Rental, errors: list[PrimePodsError]) -> bool:
        """Delete the pod of a spec that has failed; return whether the next spec is tried."""
        if len(errors) == len(self._orders) or not tries_next_spec(errors):
            return False
        if rental.pod_id is not None:
            # A pod without an id, which may appear later, is left to the end of the lease.
            await self._release(rental)
        return self.release_error is None

    async def _make_ready(self, rental: Rental) -> list[ListedPod]:
        """Order one pod, and wait until it can be used; return the list of pods that shows whose it is."""
        if rental.file is not None:
            await rental.resume(rental.file)
        else:
            file = await rental.prepare()
            if self.on_order is not None:
                self.on_order(file.path)
            await rental.account.allow(rental.spec)
            if self.is_ending:
                raise asyncio.CancelledError
            self._is_ordering = True
            try:
                await rental.order()
            finally:
                self._is_ordering = False
                self._changed.set()
        rental.check_price()
        rental.check_budget()
        pod_id = str(rental.pod_id)
        ends_at = self._clock.time() + self._options.ready_timeout
        status = await self._boot(rental, pod_id)
        listed = await self._identify(rental, pod_id, ends_at)
        if rental.pod_id is None:
            raise ProtocolError(
                f"The response to the order of pod {rental.name!r} has the id {pod_id}, and the API shows "
                "that pod with another name: it is neither used nor deleted. The list is searched for the "
                "ordered pod.",
                method="POST",
                url_path="/api/v1/pods/",
            )
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
        _log.info("%s is ready: %s", rental.label, status.ssh)
        nodes = tuple(node.ssh for node in status.nodes)
        note_hosts([HostEntry(pod_id, rental.name, nodes)], in_thread=True)
        if self._options.login:
            await wait_for_login(AsyncRemote(pod_id, status.nodes, self._options.ssh))
            _log.info("%s accepts the login", rental.label)
        return listed

    async def _boot(self, rental: Rental, pod_id: str) -> PodStatus:
        """Wait until an ordered pod is ready; return its status."""

        async def note_change(change: PodChange) -> None:
            rental.note_status(change.after)
            # The price may have changed, and with it the time until the budget is used up.
            self._changed.set()
            if self._on_change is not None:
                await _call_back(self._on_change, change)

        status = await rental.account.pods.wait_ready(
            pod_id,
            timeout=self._options.ready_timeout,
            interval=self._options.interval,
            on_change=note_change,
        )
        rental.note_status(status)
        rental.check_price()
        return status

    async def _identify(self, rental: Rental, pod_id: str, ends_at: float) -> list[ListedPod]:
        """Find out whose pod it is, and return the list that was read; ask again while nothing shows the pod.

        Raises:
            WaitTimeoutError: Nothing has shown it in time.
        """
        while True:
            try:
                return await rental.identify()
            except PrimePodsError as exc:
                rental.note_failure("is ready, but not used yet", exc)
                if self._clock.time() + self._options.interval >= ends_at:
                    text = f"{rental.label} was ready, but is not used, since it may be another's. {exc}"
                    statuses = {} if rental.status is None else {pod_id: rental.status}
                    raise WaitTimeoutError(text, statuses=statuses, pending=(pod_id,)) from None
            await self._clock.sleep(self._options.interval)

    async def _release(self, *rentals: Rental) -> None:
        """The second phase: delete the pods, then what the list shows under a name of the lease.

        Also called for a single order whose spec has failed.
        """
        for rental in rentals:
            if not rental.is_settled and not (self._is_kept and rental is self._rentals[-1]):
                await rental.delete_own()
        listings: dict[str | None, Listing] = {}
        for rental in rentals:
            team_id = rental.account.settings.team_id
            is_needed = rental.needs_list
            if team_id not in listings and any(each.needs_list for each in rentals):
                listings[team_id] = await self._read_list(rental.account)
            listed, is_complete = listings.get(team_id, ([], False))
            failure = await rental.delete_others(listed)
            rental.settle(failure, is_searched=is_complete or not is_needed)

    async def _read_list(self, account: Account) -> Listing:
        """Read the list; no longer than 10 s after an interruption of the release."""
        started_at = self._interrupted_at if self._interruptions else self._clock.time()
        with suppress(TimeoutError):
            async with self._clock.timeout_at(started_at + LIST_TIMEOUT):
                return await account.shared_list.read(account)
        return [], False

    def _note_deletion(self, error: BaseException | None) -> None:
        """Say in a wait's error that the pod is deleted, in place of the advice for a pod that runs."""
        pod_id = self._rentals[-1].pod_id if self._rentals else None
        if isinstance(error, WaitError) and pod_id is not None and self.release_error is None:
            text = str(error).removesuffix(error.remedy).rstrip()
            error.remedy = f"Its lease has deleted pod {pod_id}."
            error.args = (f"{text} {error.remedy}",)

    def _budgets(self) -> list[tuple[float, Literal["hours", "spend"], float]]:
        """Return the hours until each limit is reached, at the highest price seen, with its kind and size."""
        max_hours, max_spend = self._options.max_hours, self._options.max_spend
        found: list[tuple[float, Literal["hours", "spend"], float]] = []
        if self._is_kept or not self._rentals:
            return found
        if max_hours is not None:
            # The hours count from the first order.
            found.append((max_hours - self._rentals[0].seconds / 3600, "hours", max_hours))
        price_hr = self._rentals[-1].price_hr
        if max_spend is not None and price_hr > 0:
            found.append(((max_spend - self.spent) / price_hr, "spend", max_spend))
        return found

    @property
    def spent(self) -> float:
        """Cost of all its pods so far, at the highest prices seen."""
        return sum(rental.spent for rental in self._rentals)

    def _make_budget_error(self) -> BudgetExceededError:
        """Return the error that says which limit is reached."""
        _, kind, limit = min(self._budgets())
        rental, spent = self._rentals[-1], self.spent
        return BudgetExceededError(
            f"{rental.label} has reached its budget, max_{kind}={limit:g}, which ends its lease; it has cost "
            f"about {money(spent)}.",
            pod_id=rental.pod_id or "",
            budget=kind,
            spent=spent,
            limit=limit,
        )


async def _call_back(on_change: OnChange, change: PodChange) -> None:
    """Call ``on_change``, sync or async.

    Raises:
        RuntimeError: ``on_change`` raised ``CancelledError`` or ``GeneratorExit``, which would end the phase
            without an error.
    """
    task = asyncio.current_task()
    try:
        result = on_change(change)
        if inspect.isawaitable(result):
            await result
    except (asyncio.CancelledError, GeneratorExit) as exc:
        try:
            # Outside its task, a coroutine runs only to be closed, by `close()` or the garbage collector.
            is_raised_here = asyncio.current_task() is task and task is not None and not task.cancelling()
        except RuntimeError:  # no event loop
            is_raised_here = False
        if is_raised_here:
            raise RuntimeError(f"on_change raised {exc!r}") from exc
        raise
