"""Execution of a run: rent a pod, do the work on it (see :mod:`._work`), and delete it unless it is kept.

The process may die at any time. `attach` and `stop` then start another one, which finds in the record:

| The process died after | Fields of the record | The next process |
|---|---|---|
| its start | no `lease_file` | starts from the beginning |
| `note_order` | `lease_file`, `leased_at` | takes the lease over, finds the pod by its name |
| the first status of the pod | also `pod_id` | takes the lease over, starts the job unless it has started |
| the confirmed start of the job | also `job` | takes the lease over, follows the job |
| the downloads | also `result` | the same, and downloads again |
| the deletion of the pod | `lease_file` names no file | returns `result`, or fails without one |
| the loss of a pod | `restart`, no `lease_file` | starts on another pod |
| `Run.end` | `exit_code` | does nothing |

If the last order was refused, `lease_file` names no file and there is no `pod_id`. The next process orders
again.

Only the lease knows whether the pod is kept, and which pods were ordered.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._utils.money import money
from ..errors import BudgetExceededError, NotFoundError, PodFailedError, PrimePodsError
from ..leasing.loss import describe_gone
from ..models import PodChange, PodStatus
from ..remote import SSHOptions
from ..specs import PodSpec
from ._ending import Reason, RunInterruptions, verdict_of
from ._host import BUDGET_EXCEEDED, FAILED, INTERRUPTED, POD_FAILED, RunError, RunHost
from ._run import Run, RunRecord
from ._take_over import take_over_lease
from ._work import MIN_LOGIN_TIMEOUT, PodLostError, Work, describe_limits, short_id

if TYPE_CHECKING:
    from ..client import AsyncClient
    from ..leasing.lease import AsyncLease, AsyncLeasedPod
    from ..leasing.supervisor import LeaseSupervisor

USED_UP = 1e-9
"""Limit that replaces a used-up one. With it, a lease that is taken over deletes its pod at once."""


class Runner:
    """Execution of a run: pods, one after the other, until the work is done on one of them.

    Args:
        host: The command that executes the run.
        run: The run; this process holds its lock.
        variables: The command's environment variables.
    """

    def __init__(self, host: RunHost, run: Run, variables: dict[str, str]) -> None:
        self._host = host
        self._run = run
        self.interruptions: RunInterruptions = RunInterruptions()
        self._work = Work(host, run, variables, self.interruptions)
        self.must_take_over: bool = run.record.lease_file is not None
        """Whether the lease of a dead process is neither taken over nor known to be gone."""
        self._lease: LeaseSupervisor | None = None
        """The last lease."""

    @property
    def _record(self) -> RunRecord:
        return self._run.record

    @property
    def _is_holding(self) -> bool:
        return self._record.held_until is not None

    async def execute(self, client: AsyncClient) -> int:
        """Execute the run, and return its exit code; a cancellation counts as Ctrl-C."""
        with self.interruptions.handled(lambda: self._is_holding):
            work = asyncio.create_task(self._rent_and_restart(client))
            self.interruptions.on_change = partial(self._note_interruption, work)
            while not work.done():
                try:
                    await asyncio.wait({work})
                except asyncio.CancelledError:
                    self.interruptions.add()
        if work.cancelled():
            result, code = self._record.result, self.interruptions.exit_code
            if result == 0 and self._work.outcome.is_complete and not self._run.may_have_pod:
                return 0
            # A result is missing, as at the end of a hold.
            return result or (FAILED if result == 0 and self._is_holding else code)
        return work.result()

    @property
    def _is_stopping(self) -> bool:
        return self._record.is_stopping or self.interruptions.count > 0

    def _note_interruption(self, work: asyncio.Task[int]) -> None:
        """Let the work end, or cancel it: the lease then deletes the pod."""
        is_first = self.interruptions.count == 1
        has_pod = self._lease is not None and self._lease.has_pod
        # Before there is a job, there is nothing to fetch. A lease must be taken over before its pod can go.
        is_in_order = has_pod or self._record.job is not None
        if self.must_take_over or (is_first and is_in_order and not self._is_holding):
            if self._work.outcome.reason is not None and not self._work.outcome.is_complete:
                self._host.info("The run is ending already. Another interruption deletes the pod at once.")
            return
        if is_first and not has_pod:
            self._host.info("Interrupted: deleting any ordered pod, and waiting until it is confirmed gone")
        work.cancel()

    async def _rent_and_restart(self, client: AsyncClient) -> int:
        """Do the work; start again on another pod if a pod is lost, up to the limit of restarts."""
        if self._record.job is None and not self.must_take_over:
            self._work.measure_uploads()
        while True:
            try:
                return await self._rent(client)
            except Exception as exc:
                record = self._record
                if record.result_without_pod is not None and not self._run.may_have_pod:
                    # The work was done, and the pod is gone.
                    if not isinstance(exc, PrimePodsError | PodLostError):
                        self._host.problem(exc)
                    self._work.outcome.reason = Reason.COMMAND_ENDED
                    return record.result_without_pod
                if not isinstance(exc, PodLostError):
                    raise
                error = None if self._lease is None else self._lease.release_error
                is_final = error is not None or record.has_idle_watchdog
                if record.restart >= record.restarts or is_final or self.interruptions.count:
                    if error is not None:
                        self._host.problem(error)
                    return POD_FAILED
                self._host.info(f"Restart {record.restart + 1} of {record.restarts}, on another pod")
                self._run.save(
                    restart=record.restart + 1,
                    lease_file=None,
                    pod_id=None,
                    job=None,
                    are_fetched=False,
                    ending=None,
                    offsets=self._run.sizes(),
                )

    async def _rent(self, client: AsyncClient) -> int:
        """Rent a pod or take one over, and do the work on it; return the exit code."""
        spent_before = self._record.spent
        lease, is_taken_over = await self._make_lease(client)
        supervisor = self._lease = lease.supervisor
        if self.interruptions.count > 1 and (work := asyncio.current_task()) is not None:
            work.cancel()  # the lease then deletes the pod at once
        pod: AsyncLeasedPod | None = None
        try:
            async with lease as pod:
                self._run.save(pod_id=pod.id, price_hr=pod.price_hr, was_ready=True)
                if self._record.keep:
                    pod.keep()
                try:
                    code = await self._work.do(client, supervisor, pod, is_taken_over=is_taken_over)
                except PodLostError as exc:
                    raise self._note_loss(str(exc)) from None
                finally:
                    if not pod.is_kept:
                        self._host.waiting(
                            f"Deleting the pod {short_id(pod.id)}, and waiting until it is confirmed gone"
                        )
        except BudgetExceededError as exc:
            if exc.budget == "hourly":  # nothing was ordered
                raise
            outcome = self._work.outcome
            if supervisor.release_error is not None:
                self._host.problem(supervisor.release_error)
            # The lease has ended at the limit what had not ended before it.
            if pod is None or outcome.reason in {None, Reason.LIMIT_NEAR}:
                outcome.reason = Reason.LIMIT_NEAR
                return BUDGET_EXCEEDED
            return self._record.result or FAILED
        except Exception as exc:
            # If the pod may still be billed, the lease's error says so.
            is_gone = isinstance(exc, PodFailedError | NotFoundError) and supervisor.release_error is None
            has_lost = is_taken_over if pod is None else exc is supervisor.error
            if is_gone and has_lost and self._record.job is not None:
                # The pod was lost while the run had no process, or its lease has noticed the loss first.
                self._work.outcome.reason = Reason.POD_LOST
                gone = f"The pod {self._record.pod_id} was lost: {describe_gone(self._record.pod_watchdog)}"
                raise self._note_loss(gone if isinstance(exc, NotFoundError) else str(exc)) from None
            raise
        finally:
            self._host.waiting("")
            if supervisor.disk_note is not None:
                self._host.info(supervisor.disk_note)
            # After a release error, the next process takes over the lease, which counts its last pod's cost.
            if supervisor.release_error is None:
                self._run.save(spent=spent_before + supervisor.budget.spent, leased_at=None)
            else:
                last = supervisor.last_order
                spent = spent_before + supervisor.budget.spent - last.spent
                self._run.save(spent=spent, price_hr=last.price_hr)
        return code

    def _note_loss(self, text: str) -> PodLostError:
        """Tell that the pod was lost, before the lease deletes it; return the error for it."""
        self._host.info(f"{text.rstrip('.')}.")
        return PodLostError(text)

    def _lease_options(self, leased_at: float | None = None) -> dict[str, Any]:
        """Return the arguments of a lease with what is left of the limits, which are for the whole run.

        Args:
            leased_at: When the order of a lease began that is taken over.
        """
        record = self._record
        # The run winds down by itself, with its own time.
        lease: dict[str, Any] = {**record.lease, "wind_down": 0.0}
        hours = ((leased_at or time.time()) - record.began_at) / 3600
        for name, used in (("max_hours", hours), ("max_spend", record.spent)):
            if lease[name] is not None:
                lease[name] = max(lease[name] - used, USED_UP)
        return lease

    async def _make_lease(self, client: AsyncClient) -> tuple[AsyncLease, bool]:
        """Return a lease that has not begun, and whether it is that of an earlier process."""
        record = self._record
        # A lease that is taken over counts its hours from its order. If its file is gone, the next order is a
        # new one.
        lease = self._lease_options(record.leased_at if self._run.may_have_pod else None)
        if record.lease_file is not None:
            taken = await self._take_over(client, record.lease_file, lease)
            self.must_take_over = False
            if taken is not None:
                return taken, True
            if record.pod_id is not None:
                raise RunError(
                    f"the run's pod {record.pod_id} is no longer leased by this machine: see `primepods get "
                    f"{record.pod_id}`"
                )
        specs = await self._prepare_order(client, lease)
        made = client.pods.lease(specs, on_change=self._show_change, **lease)

        def note_order(lease_file: Path) -> None:
            # Another process that takes over the lease counts the cost of this order only.
            spent = record.spent + made.supervisor.budget.spent
            self._run.save(
                lease_file=lease_file.name,
                pod_id=None,
                was_ready=False,
                leased_at=time.time(),
                price_hr=0.0,
                spent=spent,
            )

        made.supervisor.on_order = note_order
        return made, False

    async def _take_over(
        self, client: AsyncClient, lease_file: str, lease: dict[str, Any]
    ) -> AsyncLease | None:
        """Take over the lease of an earlier process; return ``None`` if its file is gone."""
        record = self._record
        if not self._is_stopping and USED_UP not in {lease["max_hours"], lease["max_spend"]}:
            # Check ssh first: a lease that cannot log in deletes its pod, and the results. Until the
            # take-over, another process may try again.
            names = {"ssh_options", "ssh_command"} & lease.keys()
            await SSHOptions(**{name: lease[name] for name in names}).check()
        was_shown = record.was_ready or record.job is not None  # the job starts on a ready pod
        if was_shown:
            # A check beside the job could fail because of the job, and a login because the pod is out of
            # reach, which it may be for as long as in any run. The lease would then delete the pod.
            login_timeout = max(record.reconnect, MIN_LOGIN_TIMEOUT)
            lease = {**lease, "check": None, "login_timeout": login_timeout}
        return take_over_lease(client, lease_file, was_shown=was_shown, on_change=self._show_change, **lease)

    async def _prepare_order(self, client: AsyncClient, lease: dict[str, Any]) -> list[PodSpec]:
        """Return the specs to order, the preferred one first; add to the arguments of the lease.

        Raises:
            RunError: Nothing must be ordered.
        """
        record = self._record
        if USED_UP in {lease["max_hours"], lease["max_spend"]}:
            raise RunError(f"the limit is used up ({describe_limits(record)})", BUDGET_EXCEEDED)
        if self._is_stopping:
            raise RunError("the run was stopped before it had a pod", INTERRUPTED)
        # The name of the run begins those of its pods.
        changes: dict[str, Any] = {**await self._host.resolve(client, record), "name": self._run.name}
        find = dict(record.find)
        if "disks" in changes:
            find["disks"] = changes["disks"]
        offers = await client.availability.find(**find)
        if not offers:
            # This raises an error with the reasons, unless there is an offer now.
            wanted = {name: value for name, value in find.items() if name not in {"limit", "wait"}}
            offers = [await client.availability.cheapest(**wanted)]
        specs = PodSpec.from_offers(offers, **changes)
        first, others = offers[0], len(specs) - 1
        more = f", or one of {others} other{'s' * (others > 1)}" if others else ""
        rate = money(first.price_hr, first.prices.currency)
        machine = f"{first.gpu_count} x {first.gpu_type} at {first.provider}"
        up_to = f"up to {record.pods} pods of " if record.pods > 1 else ""
        self._host.info(f"Renting {up_to}{machine} for {rate} an hour{more}")
        self._host.info(_limits_text(record))
        if record.is_detached and lease["max_hours"] is None:
            # `max_hours` adds an expiry to the pod's name, by which `sweep --expired` works on any machine.
            lease["max_hours"] = (lease["max_spend"] or 0.0) / min(offer.price_hr or 0.01 for offer in offers)
        if record.watchdog is not None:
            lease["watchdog"] = record.pod_watchdog
        return specs

    def _show_change(self, change: PodChange) -> None:
        """Save the pod's id, and print each new state, but not each percent of an installation."""
        if change.pod_id != self._record.pod_id:
            self._run.save(pod_id=change.pod_id)
        status = change.after
        if status is not None and _stage(status) != _stage(change.before):
            condition = (
                "logging in" if status.is_ready else str(status).partition(": ")[2].partition(" · ")[0]
            )
            self._host.waiting(f"{short_id(status.pod_id)}: {condition}")
        if self._is_stopping and not self._record.was_ready:
            # End the lease now: no command has begun, and until the pod is ready, it would only be billed.
            raise RunError("stopped", INTERRUPTED)

    def verdict(self, exit_code: int) -> str:
        """Return how the run has ended; empty if nothing was ordered."""
        if self._lease is None and self._record.result is None:
            return ""
        return verdict_of(self._run, self._work, self._lease, self.interruptions, exit_code)


def _stage(status: PodStatus | None) -> object:
    """Return the part of a status that is shown."""
    return status and (status.status, status.installation_status, status.is_ready)


def _limits_text(record: RunRecord) -> str:
    if record.keep:
        return "The pod is billed until you delete it (--keep): once it is ready, it has no limit"
    limits = describe_limits(record)
    if not limits:
        until = (
            "The pods run until all items have ended"
            if record.pods
            else "The pod runs until the command ends"
        )
        return f"{until}, without a limit: see --max-hours and --max-spend"
    what = "All pods are deleted at the limit" if record.pods else "The pod is deleted at its limit"
    return f"{what} at the latest ({limits})"
