"""The lifecycle of a lease: order pods until one is ready, wait for the block to end, delete the pod.

A lease is two phases, ``use`` and ``release``, each a task of its own, so that nothing in the ``with`` block
can stop a deletion. The supervisor's task runs them and handles interruptions: cancellations, Ctrl-C, and the
end of the event loop, which cancels all tasks.

1. The first interruption ends the use, after an order in flight.
2. The second hurries the release: it waits at most 10 seconds for the confirmation of an accepted deletion.
3. The third gives up: the pod is named in an error, in the log and in the lease file.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from .. import errors
from .._operations import LISTENERS, begin_operation, empty_context
from ..errors import PrimePodsError
from ..models import PodChange
from ..specs import PodSpec
from ..waiting.wait import OnChange
from ._ctrl_c import ctrl_c
from ._failover import log_failover, reorder_delay, replace_remedy_after_deletion, should_try_next_spec
from ._order import Budget
from ._rental import Rental
from .ledger import LeaseFile
from .pods_api import LIST_TIMEOUT, LeaseOptions, ListedPod, Listing, TeamClient

_log = logging.getLogger("primepods")

_INTERRUPTS: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
# Seconds between two checks of the budget, and the longest wait for a cancelled phase. One long timer would
# not do: timers stand still while the machine sleeps, billing does not.
_CHECK_INTERVAL: Final = 60.0
# Seconds; closer interruptions count as one: the end of a loop cancels all tasks of a lease together.
_MIN_INTERRUPTION_INTERVAL: Final = 0.05
# Number of interruptions of a release at which it is given up.
_MAX_INTERRUPTIONS: Final = 2


class LeaseSupervisor:
    """Supervisor of a lease, from the first order until its pods are confirmed terminated.

    Args:
        orders: The pods to order, the preferred first, each with the client of the team that pays for it.
        options: The parameters of the lease.
        add: Adds this lease to those that are released when the client closes; returns a function that
            removes it.

    Attributes:
        is_ready: Whether the pod can be used.
        is_ending: Whether the lease is ending; nothing is ordered any more.
        error: The error that says why no pod became ready.
        budget_error: The error that says which budget is used up.
        had_ctrl_c: Whether Ctrl-C was intercepted; the caller raises ``KeyboardInterrupt`` in the end.
        rentals: Its orders; the last one is of the ready pod.
        budget: Its limits and cost.
        on_pod_lost: Called when the pod is deleted before the end of its block.
        on_order: Called with the lease file of each order, before it is sent.
    """

    def __init__(
        self,
        orders: Sequence[tuple[TeamClient, PodSpec]],
        options: LeaseOptions,
        add: Callable[[LeaseSupervisor], Callable[[], object]],
    ) -> None:
        self.is_ready: bool = False
        self.is_ending: bool = False
        self.error: BaseException | None = None
        self.budget_error: errors.BudgetExceededError | None = None
        self.had_ctrl_c: bool = False
        self.disk_note: str | None = None
        """Sentence about the disks that stay after the lease, with their cost."""
        self.on_pod_lost: Callable[[], None] = lambda: None
        self.on_order: Callable[[Path], None] = lambda _: None
        self.options: LeaseOptions = options
        self.rentals: list[Rental] = []
        self.budget: Budget = Budget(options, self.rentals)
        self._orders = orders
        self._add = add
        self._clock = orders[0][0].settings.clock
        self._resumed: LeaseFile | None = None
        self._was_shown = False
        self._is_ordering = False
        self._interruptions = 0
        self._interrupted_at = -math.inf
        self._changed = asyncio.Event()
        # Set when the pod is ready, or nothing is left to do.
        self._has_entered = asyncio.Event()
        self._pid = 0
        self._task: asyncio.Task[None] | None = None

    def check_unused(self) -> None:
        """Raise an error if the lease was begun before, in this process or before a fork."""
        if self._pid != 0:
            raise RuntimeError("A lease can be used only once. Make another with `pods.lease`.")

    def resume(self, file: LeaseFile, *, was_shown: bool) -> None:
        """Use the pod of a lease whose process has died, instead of ordering one.

        Args:
            file: Its file, which this process has claimed.
            was_shown: Whether the API has ever shown its pod.

        Raises:
            ConfigError: The file is another account's. It stays as it is.
        """
        if reason := file.record.foreign_reason(self._orders[0][0].settings):
            raise errors.ConfigError(
                f"The pod {file.record.name} is not taken over, and may be billed: {reason}. Use the API "
                "key and the base URL with which it was ordered."
            )
        self._resumed = file
        self._was_shown = was_shown

    async def begin(self, on_change: OnChange | None) -> None:
        """Order a pod, and wait until it is ready or nothing is left to do; used by both clients.

        Args:
            on_change: Called with each change of a pod until one is ready.

        Raises:
            ClientClosedError: The client is being closed.
        """
        # Add this lease before its task exists: an eager task may run at once, and end.
        discard = self._add(self)
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        operation = begin_operation("pods.lease", self._orders[0][0].settings)
        # In an empty context, so that a cancel scope around the block does not affect the task.
        context = empty_context()
        if operation is not None:
            context.run(LISTENERS.set, operation.listeners)
        self._task = self._loop.create_task(self._run(), context=context)
        self._task.add_done_callback(lambda _: discard())
        if operation is not None:
            # An error about a pod that may still be running comes first.
            self._task.add_done_callback(
                lambda _: operation.end(self.release_error or self.budget_error or self.error)
            )
        await self._has_entered.wait()

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
        return self._loop is not asyncio.get_running_loop() and not self._loop.is_running()

    @property
    def release_error(self) -> errors.NotReleasedError | None:
        """The error that says why a pod may still be running."""
        return next((rental.release_error for rental in self.rentals if rental.release_error), None)

    def keep(self) -> None:
        """Keep the pod after the lease, and ignore its budget."""
        rental = self.rentals[-1]
        if self.is_ending:
            _log.warning("%s is not kept: its lease is ending, and deletes it", rental.label)
            return
        rental.keep()
        if self.options.max_hours is not None:
            _log.warning(
                "%s is kept, but its name says when it expires: `sweep(expired=True)` deletes it then",
                rental.label,
            )

    def end(self) -> None:
        """Start the release, if it has not started; call it in the event loop."""
        if not self.is_open:
            return
        if self.is_stranded:
            self._give_up("the event loop of its lease has ended")
            return
        ctrl_c.intercept(self._on_ctrl_c)
        if not self.is_ending:
            # When all tasks are cancelled, the block may end first. The lease's task is interrupted next:
            # that must not count as an interruption of the release.
            self._interrupted_at = self._clock.time()
        self.is_ending = True
        self._changed.set()

    def interrupt(self) -> None:
        """Start the release; hurry one that has started; the next call gives it up.

        Calls within 50 ms count as one. Call it in the event loop.
        """
        if not self.is_open or self.is_stranded:
            self.end()
            return
        now, was_ending = self._clock.time(), self.is_ending
        if was_ending and now - self._interrupted_at >= _MIN_INTERRUPTION_INTERVAL:
            self._interruptions += 1
            if self._interruptions == 1 and self.rentals:
                text = "%s is being deleted: if interrupted again, it may be left running"
                _log.warning(text, self.rentals[-1].label)
            for rental in self.rentals:
                rental.hurry()
        self.end()
        self._interrupted_at = now
        if self.is_ready and not was_ending:
            # The end of a block calls `end` first. So something else interrupts this lease, perhaps without
            # the block's task.
            _log.warning("a lease was cancelled from outside: its pod is deleted, and its block ends")
            self.on_pod_lost()

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
            while (error := await self._run_phase(self._release(*reversed(self.rentals)))) is not None:
                was_interrupted = isinstance(error, _INTERRUPTS)
                if was_interrupted and not self._has_given_up:
                    self.interrupt()
                    continue
                if self.has_begun_in_this_process:
                    end = "was interrupted" if was_interrupted else f"failed with {error!r}"
                    self._give_up(f"its release {end}")
                break
            if self.disk_note is not None:
                _log.info("%s", self.disk_note)
            if self.rentals and self.release_error is None:
                replace_remedy_after_deletion(self.error, self.rentals[-1].pod_id)
            self.is_ready = False
            self._has_entered.set()
            if self.budget_error is not None:
                self.on_pod_lost()
        finally:
            ctrl_c.stop_intercepting(self._on_ctrl_c)

    def _give_up(self, reason: str) -> None:
        """Report the pods that may run after a release that has not ended."""
        for rental in self.rentals:
            rental.give_up(reason)

    @property
    def _has_given_up(self) -> bool:
        """Whether the release was interrupted too often, or is that of the parent process."""
        return self._interruptions >= _MAX_INTERRUPTIONS or not self.has_begun_in_this_process

    async def _run_phase(
        self, work: Coroutine[Any, Any, None], *, ends_use: bool = False
    ) -> BaseException | None:
        """Run a phase in a task of its own, and return its error.

        Interruptions of this task go to `interrupt`, which decides whether the phase ends. With ``ends_use``,
        the end of the lease cancels the phase, except while it orders a pod.
        """
        phase = asyncio.get_running_loop().create_task(work)
        phase.add_done_callback(lambda _: self._changed.set())
        cancelled_at = math.inf
        # A callback that ignores its cancellation delays the release by at most a minute.
        while not phase.done() and self._clock.time() < cancelled_at + _CHECK_INTERVAL:
            self._changed.clear()
            seconds_left = math.inf if self.is_ending else 3600 * self.budget.hours_left
            if seconds_left <= 0:
                self.budget_error = self.budget.error()
                self.end()
            if self._has_given_up or (ends_use and self.is_ending and not self._is_ordering):
                phase.cancel()
                cancelled_at = min(cancelled_at, self._clock.time())
            try:
                # At least 1 ms: after rounding, a billionth of a second may be left, and the loop would spin.
                await self._clock.wait(self._changed, min(max(seconds_left, 0.001), _CHECK_INTERVAL))
            except _INTERRUPTS:
                self.interrupt()
        return asyncio.CancelledError() if not phase.done() or phase.cancelled() else phase.exception()

    async def _use(self) -> None:
        """The first phase: order pods until one is ready, then wait for the cancellation."""
        if self.options.login:
            await self.options.ssh.check()
        failures: list[PrimePodsError] = []
        listed: list[ListedPod] = []
        for number, (client, spec) in enumerate(self._orders, 1):
            try:
                listed = await (await self._order(client, spec)).make_ready(self._note_change)
                break
            except PrimePodsError as exc:
                for earlier in failures:
                    exc.add_note(f"Before that: {earlier}")
                failures.append(exc)
                left = len(self._orders) - number
                if left == 0 or not should_try_next_spec(failures):
                    raise
                rental = self.rentals[-1]
                if rental.pod_id is not None:
                    # A pod without an id, which may appear later, is left to the end of the lease.
                    await self._release(rental)
                if self.release_error is not None:
                    raise
                log_failover(exc, rental.name, rental.pod_id, left)
        rental = self.rentals[-1]
        self.is_ready = True
        rental.notify("LeaseReady")
        self._has_entered.set()
        for other in self.rentals:
            await other.delete_others(listed)
        if disks := rental.spec.disks:
            self.disk_note = f"Disks that stay, and are billed: {', '.join(disks)}"
            # Read the prices now, so that the end needs no request.
            self.disk_note = await rental.client.describe_disks(disks)
        await asyncio.Event().wait()

    async def _order(self, client: TeamClient, spec: PodSpec) -> Rental:
        """Order a pod; repeat the order after a 429, or if it was not sent before the deadline."""
        if self._resumed is not None:
            self.rentals.append(Rental(client, spec, self.options, self._resumed))
            await self.rentals[-1].resume(was_shown=self._was_shown)
            return self.rentals[-1]
        ends_at = self._clock.time() + self.options.ready_timeout
        refusals = 0
        while True:
            try:
                rental = await Rental.prepare(client, spec, self.options)
                # Append it before the file is written, so that the release removes the file if writing is
                # interrupted.
                self.rentals.append(rental)
                await asyncio.to_thread(rental.file.write)
                self.on_order(rental.file.path)
                await client.allow(rental.spec)
                if self.is_ending:
                    raise asyncio.CancelledError
                self._is_ordering = True
                await rental.order()
            except PrimePodsError as exc:
                pause = reorder_delay(exc, refusals, self._clock.random())
                if self._clock.time() + pause >= ends_at:
                    raise
                _log.warning("%s Ordering again in %.0f s", exc, pause)
            else:
                return rental
            finally:
                self._is_ordering = False
                self._changed.set()
            refusals += 1
            await self._clock.sleep(pause)

    async def _note_change(self, change: PodChange) -> None:
        # The price may have changed, and with it the time until the budget is used up.
        self._changed.set()
        if self._on_change is None:
            return
        try:
            result = self._on_change(change)
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # A CancelledError of the callback would look like an interruption of the lease.
            raise RuntimeError(f"on_change raised {exc!r}") from exc

    async def _release(self, *rentals: Rental) -> None:
        """The second phase, also for one failed spec: delete the pods, then same-named pods."""
        # Of all teams: a gateway may have carried out an order that was refused, and its pod may be late.
        is_list_needed = any(rental.needs_list for rental in rentals)
        listings: dict[str | None, Listing] = {}
        for rental in rentals:
            failure, client = await rental.delete_own(), rental.client
            team_id = client.settings.team_id
            if is_list_needed and team_id not in listings:
                # After an interruption, the list must be read within 10 s of it.
                started_at = self._interrupted_at if self._interruptions else self._clock.time()
                listings[team_id] = await client.shared_list.read(client, started_at + LIST_TIMEOUT)
            listed, is_complete = listings.get(team_id, ([], True))
            failure = await rental.delete_others(listed) or failure
            rental.settle(failure, is_searched=is_complete or not rental.needs_list)
