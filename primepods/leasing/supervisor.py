"""The lifecycle of a lease: order pods until one is ready, wait for the block to end, delete the pod.

A lease has two phases, ``_use`` and ``_release``. They run in tasks, so that nothing in the ``with`` block
can stop a deletion. Another task, ``_run``, supervises them and handles interruptions: cancellations, Ctrl-C,
and the end of the event loop, which cancels all tasks.

1. While an async block runs, the first interruption only ends the block. Its ``finally`` can use the pod: the
   lease is ending when the block has ended, or its task, or a limit is reached.
2. The next one, or the first without such a block, cancels ``_use``; an order in flight is finished first,
   unless step 4 comes.
3. The next one hurries the release: an accepted deletion then has 10 seconds to be confirmed.
4. The next one gives up: the running phase is cancelled, even during an order, and an error and the log name
   the pod.

``interrupt`` handles each interruption. In step 1 it sets ``_is_interrupted``, and calls ``end_block``. In
step 2 it calls ``end``, which sets ``is_ending``; if that was set before, ``ReleaseInterruptions`` counts the
interruption and hurries the release. ``_must_give_up`` is true from the second counted one on. ``_run_phase``
reads both: it cancels ``_use`` if ``is_ending`` and not ``_is_ordering``, and any phase if ``_must_give_up``.
If something else has cancelled ``_use`` in step 1, ``_wait_for_cancellation`` runs in its place.

The wind-down before a limit is like step 1: ``_apply_budget`` sets ``budget_error`` and calls ``end_block``.
At the limit it calls ``end``. Neither is an interruption.

If the block has ended by itself, the first interruption is step 3. An interruption does not count if it comes
less than 0.05 seconds (chosen) after step 1, after the lease became ending or after any earlier interruption,
because the end of a loop cancels all tasks of a lease together. A phase that
ignores its cancellation for 60 seconds is left running, and may still delete pods or log while the next phase
runs.

A lease never goes back to an earlier state. It may skip ready, and may become ending during any await of
``_use``:

======  ==============================  ===========  ============  =============  ===========================
State   Begins when                     ``is_open``  ``is_ready``  ``is_ending``  Phase
======  ==============================  ===========  ============  =============  ===========================
new     it is created                   no           no            no             none
begun   ``begin`` is called             yes          no            no             ``_use``
ready   ``_use`` has a ready pod        yes          yes           no             ``_use``, or a wait
ending  ``end`` is called               yes          no            yes            ``_use``, then ``_release``
done    ``_run`` returns                no           no            yes            none
======  ==============================  ===========  ============  =============  ===========================

The blocking client may set ``is_ending`` earlier, from its caller's thread.

``tests/renting/test_interrupted_leases.py`` tests interruptions, and ``tests/worlds/stories/cancelled.py``
tests sequences of them.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from .. import errors
from .._operations import LISTENERS, begin_operation, listeners_only_context
from .._utils.unique_names import UniqueName
from ..config import lease_folder
from ..errors import PrimePodsError
from ..models import Pod, PodChange
from ..specs import PodSpec
from ..waiting.wait import OnChange
from ._ctrl_c import ctrl_c
from ._failover import log_failover, reorder_delay, replace_remedy_after_deletion, should_try_next_spec
from ._lease_record import LeaseRecord, new_record
from ._order import LeaseBudget, PodOrder
from ._rental import ReleaseInterruptions, Rental
from ._watchdog import find_loss, stop_watchdog, watch_watchdog
from .ledger import LeaseFile, read_ledger
from .pods_api import LIST_TIMEOUT, LeaseOptions, ListedPod, Listing, TeamClient

_log = logging.getLogger("primepods")

_INTERRUPTS: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
# Max seconds between two checks of the budget: one long timer would stand still while the machine sleeps.
_CHECK_INTERVAL: Final = 60.0
# Max seconds to wait for a cancelled phase: the user's callback may ignore the cancellation.
_CANCEL_TIMEOUT: Final = 60.0
# Number of counted interruptions at which the lease is given up.
_MAX_INTERRUPTIONS: Final = 2


def resumed_spec(pod: Pod | LeaseRecord) -> PodSpec:
    """Return a spec for ``pods.lease`` before ``resume`` or ``adopt``: only name and team are used."""
    return PodSpec(
        cloud_id="-",
        gpu_type="-",
        socket="-",
        gpu_count=1,
        provider="-",
        name=UniqueName(pod.name or ""),
        team_id=pod.team_id,
    )


class LeaseSupervisor:
    """Supervisor of a lease, from its first order until its pods are confirmed gone, kept or given up.

    Args:
        orders: The specs to try, the preferred one first, each with the client of the team that pays for its
            pod.
        options: The parameters of the lease.
        add: Registers the lease, so that the client releases it when it closes; returns a function that
            unregisters it.

    Attributes:
        is_ending: Whether the lease is ending or done; no new order is begun.
        error: The error that ended ``_use``, usually because no pod became ready, or ``None``.
        budget_error: The error that says which budget is used up, or ``None``.
        had_ctrl_c: Whether Ctrl-C was intercepted. The caller then raises ``KeyboardInterrupt`` at the end,
            unless the caller's task is cancelled.
        disk_note: Sentence about the disks that stay after the lease, with their cost if it was read.
        rentals: The orders so far; only the last one can have a ready pod.
        budget: The limits and the cost of the lease.
        end_block: Called when the block must end, because the lease was cancelled or its budget is used up;
            returns the block's task if the lease can wait for it.
        on_order: Called with the path of each order's lease file, before the order is sent.
    """

    def __init__(
        self,
        orders: Sequence[tuple[TeamClient, PodSpec]],
        options: LeaseOptions,
        add: Callable[[LeaseSupervisor], Callable[[], object]],
    ) -> None:
        self.is_ending: bool = False
        self.error: BaseException | None = None
        self.budget_error: errors.BudgetExceededError | None = None
        self.had_ctrl_c: bool = False
        self.disk_note: str | None = None
        self.end_block: Callable[[], asyncio.Task[Any] | None] = lambda: None
        self.on_order: Callable[[Path], None] = lambda _: None
        self.options: LeaseOptions = options
        self.rentals: list[Rental] = []
        self.budget: LeaseBudget = LeaseBudget(options, self.rentals)
        self._orders = orders
        self._add = add
        self._clock = orders[0][0].settings.clock
        self._interruptions = ReleaseInterruptions(self._clock)
        # Takes over the pod of a dead process.
        self._take_over: Callable[[], Awaitable[None]] | None = None
        self._is_ordering = False
        # Whether the lease was cancelled from outside while its block ran.
        self._is_interrupted = False
        # Ends the watchdog of a kept pod.
        self._watchdog_end: asyncio.Task[None] | None = None
        # Whether the block has a pod with a watchdog.
        self._is_watched = False
        # Wakes `_run_phase`.
        self._changed = asyncio.Event()
        # Set once a pod is ready or the release has ended.
        self._has_entered = asyncio.Event()
        self._pid = 0
        self._task: asyncio.Task[None] | None = None

    def check_unused(self) -> None:
        """Raise an error if the lease was begun before, in this process or in the parent of a fork."""
        if self._pid != 0:
            raise RuntimeError("A lease can be used only once. Make another with `pods.lease`.")

    def resume(self, file: LeaseFile, *, was_shown: bool) -> None:
        """Let :meth:`begin` use the pod of a lease whose process has died, instead of ordering one.

        Args:
            file: The file of that lease, which this process has claimed.
            was_shown: Whether the API has ever shown the pod.

        Raises:
            ConfigError: The lease belongs to another API, key or team. The file is not changed.
        """
        if reason := file.record.foreign_reason(self._orders[0][0].settings):
            raise errors.ConfigError(
                f"The pod {file.record.name} is not taken over, and may be billed: {reason}. Use the "
                "settings with which it was ordered."
            )
        # Create the rental now, so that the release deletes the pod even if `_use` ends before `_order`.
        # The pod has a watchdog already, if it was to have one.
        self.options = attrs.evolve(self.options, watchdog=None)
        rental = Rental(*self._orders[0], self.options, file)
        rental.restore()
        self.rentals.append(rental)
        self._take_over = partial(rental.resume, was_shown=was_shown)

    def adopt(self, pod: Pod) -> None:
        """Let :meth:`begin` use the pod of an ended process, perhaps of another machine, like :meth:`resume`.

        Args:
            pod: The pod, with the unique name of its order.

        Raises:
            ConfigError: That process may still run, the lease belongs to another API, key or team, or the
                file of the lease cannot be read or written.
        """
        folder, settings, name = lease_folder(), self._orders[0][0].settings, UniqueName(pod.name or "")
        ledger = read_ledger(folder)
        path = next((path for path, record in ledger.records.items() if record.name == name), None)
        if path is None and ledger.unreadable:
            # It may be the record of this pod, and its process may still run.
            unreadable, reason = next(iter(ledger.unreadable.items()))
            raise errors.ConfigError(
                f"The lease file {unreadable} cannot be read ({reason}): it may be that of the pod {name}. "
                "Nothing was changed: make it readable or, if no process of its lease runs, remove it."
            )
        file = None if path is None else LeaseFile.claim(path)
        if path is not None and file is None and path.exists():
            raise errors.ConfigError(f"The process of the lease file {path} may still run.", transient=True)
        if file is None:
            record = new_record(
                name, settings, None if pod.created_at is None else pod.created_at.timestamp()
            )
            file = LeaseFile.new(folder, attrs.evolve(record, pod_id=pod.id)).write()
        try:
            self.resume(file, was_shown=True)
        except BaseException:
            file.close()
            raise
        self.rentals[-1].is_kept = False

    async def begin(self, on_change: OnChange | None) -> None:
        """Order a pod, and wait until it is ready or the lease has ended.

        Args:
            on_change: Called with each change of a pod until one is ready.

        Raises:
            ClientClosedError: The client is being closed.
        """
        # Register the lease before the task is created: an eager task may end at once, and its callback then
        # unregisters the lease.
        unregister = self._add(self)
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        operation = begin_operation("pods.lease", self._orders[0][0].settings)
        # The context variables of the caller, such as a request id for its log, must not reach the task.
        context = listeners_only_context()
        if operation is not None:
            context.run(LISTENERS.set, operation.listeners)
            for rental in self.rentals:  # from `resume`
                rental.listeners = operation.listeners
        self._task = self._loop.create_task(self._run(), context=context)
        self._task.add_done_callback(lambda _: unregister())
        if operation is not None:
            # An error about a pod that may be running has priority.
            self._task.add_done_callback(
                lambda _: operation.end(self.release_error or self.budget_error or self.error)
            )
        await self._has_entered.wait()

    @property
    def has_begun_in_this_process(self) -> bool:
        """Whether this process has begun the lease; a forked child leaves the pod to its parent."""
        return self._pid == os.getpid()

    @property
    def task(self) -> asyncio.Task[None]:
        """The task of the lease; it is done when nothing is left to do."""
        if self._task is None:
            raise RuntimeError("The lease has not begun.")
        return self._task

    @property
    def has_pod(self) -> bool:
        """Whether a pod is or was ready, and is not released yet."""
        return self.is_open and self._has_entered.is_set()

    @property
    def is_ready(self) -> bool:
        """Whether a pod is ready, and the lease is not ending."""
        return self.has_pod and not self.is_ending

    @property
    def is_open(self) -> bool:
        """Whether this process has begun the lease and has something left to do."""
        return self.has_begun_in_this_process and not (self._task and self._task.done())

    @property
    def is_stranded(self) -> bool:
        """Whether the lease can do nothing, because its event loop has stopped.

        Read it in an event loop, after :meth:`begin`.
        """
        return self._loop is not asyncio.get_running_loop() and not self._loop.is_running()

    @property
    def block_error(self) -> BaseException | None:
        """The error that ends the block: a limit, or the loss of the pod."""
        return self.budget_error or self.error

    @property
    def release_error(self) -> errors.NotReleasedError | None:
        """The first error about a pod that may still be running."""
        return next((rental.release_error for rental in self.rentals if rental.release_error), None)

    @property
    def last_order(self) -> PodOrder:
        """The last order; only it can have a ready pod."""
        return self.rentals[-1]

    @property
    def has_file(self) -> bool:
        """Whether an order has left its file, because its pod may exist."""
        return any(rental.file.path.exists() for rental in self.rentals)

    @property
    def is_kept(self) -> bool:
        """Whether the pod stays after the lease."""
        return bool(self.rentals) and self.rentals[-1].is_kept

    @property
    def seconds_left(self) -> float | None:
        """Seconds until a limit ends the lease; ``None`` if there is no limit."""
        seconds = self.budget.seconds_left
        return None if seconds == math.inf else max(0.0, seconds)

    def check_budget(self) -> None:
        """Compute again when the budget is used up."""
        self._changed.set()

    def keep(self) -> None:
        """Keep the pod, and end its budget; if the lease is ending, only log a warning."""
        rental = self.rentals[-1]
        if self.is_ending:
            _log.warning("%s is not kept: its lease is ending, and deletes it", rental.label)
            return
        rental.keep()
        if self.options.watchdog is not None or (self._take_over is not None and self.options.login):
            context = listeners_only_context()
            self._watchdog_end = self._loop.create_task(stop_watchdog(rental, self.options), context=context)
        if self.options.max_hours is not None:
            text = "%s is kept, but its name says when it expires: `sweep(expired=True)` deletes it then"
            _log.warning(text, rental.label)

    def end(self) -> None:
        """Begin the release, or give up if the lease is stranded; call it in an event loop."""
        if not self.is_open:
            return
        if self.is_stranded:
            self._give_up("the event loop of its lease has ended")
            return
        ctrl_c.intercept(self._on_ctrl_c)
        if not self.is_ending:
            # When all tasks are cancelled, the block may end before the lease's task is cancelled. That
            # cancellation must not count as an interruption of the release.
            self._interruptions.begin_ending()
        self.is_ending = True
        self._changed.set()

    def interrupt(self) -> None:
        """Do the next of the four steps in the module's docstring; call it in an event loop."""
        was_ending = self.is_ending
        if self.is_ready and not self.is_stranded:
            if self._is_interrupted and not self._interruptions.is_new():
                return
            if not self._is_interrupted:
                self._is_interrupted = True
                self._interruptions.begin_ending()
                ctrl_c.intercept(self._on_ctrl_c)
                fate = "kept" if self.rentals[-1].is_kept else "deleted"
                _log.warning("a lease was cancelled from outside: its block ends, then its pod is %s", fate)
                if (block_task := self.end_block()) is not None:
                    # The task may end without the end of the block, for example if nothing leaves the block.
                    block_task.add_done_callback(lambda _: self.end())
                    return
        self.end()
        if not was_ending or not self.is_open or self.is_stranded:
            return
        if self._interruptions.add() and self.rentals and not self.rentals[-1].is_kept:
            text = "%s is being deleted. After another interruption, it may be left running."
            _log.warning(text, self.rentals[-1].label)

    def _on_ctrl_c(self) -> None:
        self.had_ctrl_c = True
        self.interrupt()

    async def _run(self) -> None:
        """Run the first phase, then the second one until it is done or must be given up."""
        try:
            work = self._use
            while True:
                error = await self._run_phase(work(), is_use=True)
                if not isinstance(error, _INTERRUPTS):
                    self.error = error
                elif not self.is_ending:
                    # Other code has cancelled the phase.
                    self.interrupt()
                if self.is_ending or self.error is not None or self._must_give_up:
                    break
                work = _wait_for_cancellation  # until the block ends
            self.end()
            while (error := await self._run_phase(self._release(*reversed(self.rentals)))) is not None:
                was_cancelled = isinstance(error, _INTERRUPTS)
                if was_cancelled and not self._must_give_up:
                    self.interrupt()
                    continue
                if self.has_begun_in_this_process:
                    end = "was interrupted" if was_cancelled else f"failed with {error!r}"
                    self._give_up(f"its release {end}")
                break
            if self.disk_note is not None:
                _log.info("%s", self.disk_note)
            if self.rentals and self.release_error is None:
                replace_remedy_after_deletion(self.error, self.rentals[-1].pod_id)
            self._has_entered.set()
            if self.block_error is not None:
                self.end_block()
        finally:
            ctrl_c.stop_intercepting(self._on_ctrl_c)

    def _give_up(self, reason: str) -> None:
        for rental in self.rentals:
            rental.give_up(reason)

    @property
    def _must_give_up(self) -> bool:
        """Whether too many interruptions were counted, or this process is a forked child."""
        return self._interruptions.count >= _MAX_INTERRUPTIONS or not self.has_begun_in_this_process

    async def _run_phase(
        self, work: Coroutine[Any, Any, None], *, is_use: bool = False
    ) -> BaseException | None:
        """Run a phase in another task, and return its error.

        A cancellation of this task is an interruption, and need not cancel the phase: see the module's
        docstring.
        """
        phase = asyncio.get_running_loop().create_task(work)
        phase.add_done_callback(lambda _: self._changed.set())
        cancelled_at = math.inf
        while not phase.done() and self._clock.time() < cancelled_at + _CANCEL_TIMEOUT:
            self._changed.clear()
            seconds_left = self._apply_budget()
            # Not an order in flight: it would be unknown whether there is a pod.
            if self._must_give_up or (is_use and self.is_ending and not self._is_ordering):
                phase.cancel()  # again at each wake-up, since a callback of the user may have ignored it
                cancelled_at = min(cancelled_at, self._clock.time())
            try:
                # At least 1 ms: a budget that ends in a billionth of a second would make this loop spin.
                await self._clock.wait(self._changed, min(max(seconds_left, 0.001), _CHECK_INTERVAL))
            except _INTERRUPTS:
                # Handled here: before Python 3.11.3, `asyncio.timeout` of a task with an earlier cancellation
                # raises another one when it expires.
                if (task := asyncio.current_task()) is not None:
                    task.uncancel()
                self.interrupt()
        return asyncio.CancelledError() if not phase.done() or phase.cancelled() else phase.exception()

    def _apply_budget(self) -> float:
        """End the block at the wind-down, and the lease at its limit; return the seconds until the next."""
        if self.is_ending:
            return math.inf
        seconds_left, is_told = self.budget.seconds_left, self.budget_error is not None
        seconds_until_wind_down = seconds_left if is_told else self.budget.seconds_until_wind_down
        if seconds_until_wind_down > 0:
            return seconds_until_wind_down
        self.budget_error = self.budget_error or self.budget.error()
        if seconds_left > 0 and self.is_ready:
            self.end_block()
            return seconds_left
        self.end()
        if is_told:
            # What still uses the pod after the wind-down ends, too.
            self.end_block()
        return math.inf

    async def _use(self) -> None:
        """Run the first phase: order pods until one is ready, then wait to be cancelled."""
        if self.options.login:
            await self.options.ssh.check()
        if self.options.watchdog is not None:
            await self._orders[0][0].check_watchdog_key(self.options.watchdog.api_key or "")
        failures: list[PrimePodsError] = []
        listed: list[ListedPod] = []
        for number, (client, spec) in enumerate(self._orders, 1):
            try:
                listed = await (await self._order(client, spec)).make_ready(
                    self._note_change, lambda: self.budget.seconds_left
                )
                break
            except PrimePodsError as exc:
                for earlier in failures:
                    exc.add_note(f"Before that: {earlier}")
                failures.append(exc)
                left = len(self._orders) - number
                if left == 0 or not should_try_next_spec(failures):
                    raise
                rental = self.rentals[-1]
                # A pod without a known id may appear later: the lease searches for it at its end.
                if rental.pod_id is not None:
                    await self._release(rental)
                if self.release_error is not None:
                    # A pod may still be running: do not rent another.
                    raise
                replace_remedy_after_deletion(exc, rental.pod_id)
                log_failover(failures, rental.name, left)
        rental = self.rentals[-1]
        rental.notify("LeaseReady")
        self._has_entered.set()
        for other in self.rentals:
            await other.delete_others(listed, self._interruptions)
        if disks := rental.spec.disks:
            # Without prices, in case reading them is interrupted.
            self.disk_note = f"Disks that stay, and are billed: {', '.join(disks)}"
            self.disk_note = await rental.client.describe_disks(disks)
        if self.options.watchdog is not None:
            self._is_watched = True
            await watch_watchdog(rental, self.options)
        await _wait_for_cancellation()

    async def _order(self, client: TeamClient, spec: PodSpec) -> Rental:
        """Take over the pod of a dead process, or order a pod; retry as :func:`reorder_delay` says."""
        if self._take_over is not None:
            await self._take_over()
            return self.rentals[-1]
        ends_at = self._clock.time() + self.options.ready_timeout
        refusals = 0
        while True:
            try:
                rental = await Rental.prepare(client, spec, self.options)
                # Append the rental first: the release then removes the file if this is cancelled.
                self.rentals.append(rental)
                await asyncio.to_thread(rental.file.write)
                self.on_order(rental.file.path)
                await client.allow(rental.spec)
                if self.is_ending:
                    # Once `_is_ordering` is set, `_run_phase` would let the order finish.
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
        self.check_budget()  # the price may have changed
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
            # If the callback raises a CancelledError, `_run` would take it for an interruption.
            raise RuntimeError(f"on_change raised {exc!r}") from exc

    async def _release(self, *rentals: Rental) -> None:
        """Run the second phase, or release the order of a failed spec.

        For each order, delete its pod, then same-named pods.
        """
        # If any order needs the list, read the lists of all teams: a refused order may have been carried out
        # (imagined).
        if self._watchdog_end is not None:
            await asyncio.wait({self._watchdog_end})
        if self._is_watched and self.block_error is None and not self.rentals[-1].is_kept:
            self.error = await find_loss(self.rentals[-1], self.options)
        is_list_needed = any(rental.needs_list for rental in rentals)
        listings: dict[str | None, Listing] = {}
        for rental in rentals:
            client, team_id = rental.client, rental.client.settings.team_id
            failure = await rental.delete_own(self._interruptions)
            if is_list_needed and team_id not in listings:
                # A hurried release reads these lists within 10 s of the last counted interruption.
                started_at = min(self._clock.time(), self._interruptions.hurried_at)
                listings[team_id] = await client.shared_list.read(client, started_at + LIST_TIMEOUT)
            listed, is_complete = listings.get(team_id, ([], True))
            failures = (failure, await rental.delete_others(listed, self._interruptions))
            rental.settle("; ".join(filter(None, failures)), is_searched=is_complete or not rental.needs_list)


async def _wait_for_cancellation() -> None:
    await asyncio.Event().wait()
