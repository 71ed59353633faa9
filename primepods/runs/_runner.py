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
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._utils.money import money
from .._utils.text import short_duration
from ..errors import NotFoundError, PodFailedError, PrimePodsError
from ..models import PodChange
from ..remote import SSHOptions
from ..signals import exit_on_sigterm
from ..specs import PodSpec
from ._host import BUDGET_EXCEEDED, INTERRUPTED, POD_FAILED, RunError, RunHost
from ._process import delayed_stop
from ._run import Run, RunRecord
from ._take_over import take_over_lease
from ._work import PodLostError, Work

if TYPE_CHECKING:
    from ..client import AsyncClient
    from ..leasing.lease import AsyncLease, AsyncLeasedPod

_USED_UP = 1e-9
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
        self._work = Work(host, run, variables)
        self._is_renting = False
        """Whether the lease orders a pod, or waits for the pod and its login."""
        self.is_interrupted: bool = run.record.lease_file is not None
        """Whether the lease of a dead process is neither taken over nor known to be gone."""
        self._is_stopping = run.record.is_stopping
        self._last_stage: object = None

    @property
    def _record(self) -> RunRecord:
        return self._run.record

    async def execute(self, client: AsyncClient) -> int:
        """Execute the run, and return its exit code."""
        # `exit_on_sigterm` cancels the task that enters it: this one, not the task of the work.
        with exit_on_sigterm(), delayed_stop(is_delayed=False):
            while True:
                # The work is a second task, so that this task can report Ctrl-C before the pod is deleted.
                work = asyncio.create_task(self._rent_and_restart(client))
                try:
                    return await asyncio.shield(work)
                except asyncio.CancelledError:
                    # Once the pod is ready, `_rent` prints the message.
                    if self._is_renting:
                        self._host.info(
                            "Interrupted: deleting any ordered pod, and waiting until it is confirmed gone"
                        )
                    work.cancel()
                    if not self.is_interrupted or self._is_stopping:
                        await work
                        raise
                    # Take the lease over first, since the pod would be billed.
                    with suppress(asyncio.CancelledError, PrimePodsError):
                        await work
                    self._is_stopping = True

    async def _rent_and_restart(self, client: AsyncClient) -> int:
        """Do the work; start again on another pod if a pod is lost, up to the limit of restarts."""
        if self._record.job is None and not self.is_interrupted:
            self._work.measure_uploads()
        while True:
            try:
                return await self._rent(client)
            except Exception as exc:
                record = self._record
                if record.result is not None and not self._run.may_have_pod:
                    # The work was done, and the pod is gone.
                    return record.result
                if not isinstance(exc, PodLostError):
                    raise
                may_be_billed = getattr(exc, "__notes__", ())
                if record.restart >= record.restarts or may_be_billed:
                    text = " ".join([f"{exc}. Its results are lost.", *may_be_billed])
                    raise RunError(text, POD_FAILED) from None
                self._host.info(f"{exc}. Starting again on another pod: restart {record.restart + 1}")
                self._run.save(
                    restart=record.restart + 1,
                    lease_file=None,
                    pod_id=None,
                    job=None,
                    offsets=self._run.sizes(),
                )

    async def _rent(self, client: AsyncClient) -> int:
        """Rent a pod or take one over, do the work on it, and print a summary."""
        started_at, spent_before = time.monotonic(), self._record.spent
        lease, is_taken_over = await self._make_lease(client)
        supervisor = lease.supervisor
        pod: AsyncLeasedPod | None = None
        self._is_renting = True
        try:
            async with lease as pod:
                self._is_renting = False
                self._run.save(pod_id=pod.id, price_hr=pod.price_hr)
                if self._record.keep:
                    pod.keep()
                try:
                    code = await self._work.do(client, lease, pod, is_taken_over=is_taken_over)
                finally:
                    if not supervisor.rentals[-1].is_kept:
                        self._host.info(
                            f"Deleting the pod {pod.name}, and waiting until it is confirmed gone"
                        )
        except BaseException as exc:
            # If the pod may still be billed, the lease's error says so.
            if supervisor.release_error is None:
                self._print_summary(lease, pod, started_at, is_interrupted=not isinstance(exc, Exception))
                is_gone = isinstance(exc, PodFailedError | NotFoundError)
                if pod is None and is_gone and is_taken_over and self._record.job is not None:
                    # The pod was lost while the run had no process.
                    raise PodLostError(str(exc).rstrip(".")) from None
            raise
        finally:
            # After a release error, the next process takes over the lease, which counts its last pod's cost.
            if supervisor.release_error is None:
                self._run.save(spent=spent_before + supervisor.budget.spent, leased_at=None)
            elif supervisor.rentals:
                *earlier, last = supervisor.rentals
                spent = spent_before + sum(rental.spent for rental in earlier)
                self._run.save(spent=spent, price_hr=last.price_hr)
        self._print_summary(lease, pod, started_at)
        return code

    async def _make_lease(self, client: AsyncClient) -> tuple[AsyncLease, bool]:
        """Return a lease that has not begun, and whether it is that of an earlier process."""
        record = self._record
        lease = dict(record.lease)
        # The limits are for the whole run. A lease that is taken over counts its hours from its order. If its
        # file is gone, the next order is a new one.
        leased_at = record.leased_at if self._run.may_have_pod else None
        hours = ((leased_at or time.time()) - record.began_at) / 3600
        for name, used in (("max_hours", hours), ("max_spend", record.spent)):
            if lease[name] is not None:
                lease[name] = max(lease[name] - used, _USED_UP)
        if record.lease_file is not None:
            if not self._is_stopping and _USED_UP not in {lease["max_hours"], lease["max_spend"]}:
                # Check ssh first: a lease that cannot log in deletes its pod, and the results. Until the
                # take-over, another process may try again.
                names = {"ssh_options", "ssh_command"} & lease.keys()
                await SSHOptions(**{name: lease[name] for name in names}).check()
            was_shown = record.job is not None  # the job starts on a ready pod
            if was_shown:
                # A check beside the job could fail because of the job, and the lease would delete the pod.
                lease.pop("check", None)
            taken = take_over_lease(
                client, record.lease_file, was_shown=was_shown, on_change=self._show_change, **lease
            )
            self.is_interrupted = False
            if taken is not None:
                return taken, True
            if record.pod_id is not None:
                raise RunError(
                    f"the run's pod {record.pod_id} is no longer leased by this machine: see `primepods get "
                    f"{record.pod_id}`"
                )
        if _USED_UP in {lease["max_hours"], lease["max_spend"]}:
            used_up = "the budget of --max-hours or --max-spend is used up"
            raise RunError(used_up, BUDGET_EXCEEDED)
        if self._is_stopping:
            raise RunError("the run was stopped before it had a pod", INTERRUPTED)
        specs, min_price = await self._find_specs(client)
        if record.is_detached and lease["max_hours"] is None:
            # `max_hours` adds an expiry to the pod's name, by which `sweep --expired` works on any machine.
            lease["max_hours"] = (lease["max_spend"] or 0.0) / min_price
        made = client.pods.lease(specs, on_change=self._show_change, **lease)

        def note_order(lease_file: Path) -> None:
            # Another process that takes over the lease counts the cost of this order only.
            spent = record.spent + sum(rental.spent for rental in made.supervisor.rentals)
            self._run.save(
                lease_file=lease_file.name,
                pod_id=None,
                leased_at=time.time(),
                price_hr=made.supervisor.rentals[-1].file.record.price_hr or 0.0,
                spent=spent,
            )

        made.supervisor.on_order = note_order
        return made, False

    async def _find_specs(self, client: AsyncClient) -> tuple[list[PodSpec], float]:
        """Return the specs to order, the preferred one first, and the lowest price per hour."""
        record = self._record
        changes = await self._host.resolve(client, record)
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
        more = f", or the next of {len(specs)} offers if it is sold out" if others else ""
        rate = money(first.price_hr, first.prices.currency)
        machine = f"{first.gpu_count} x {first.gpu_type} at {first.provider}"
        self._host.info(f"Renting {machine} for {rate} an hour{more}")
        self._host.info(_limits_text(record.lease, keep=record.keep))
        return specs, min(offer.price_hr or 0.01 for offer in offers)

    def _show_change(self, change: PodChange) -> None:
        """Save the pod's id, and print each new state, but not each percent of an installation."""
        if change.pod_id != self._record.pod_id:
            self._run.save(pod_id=change.pod_id)
        status = change.after
        stage: object = None
        if status is not None:
            stage = (change.pod_id, status.status, status.installation_status, status.is_ready)
            if stage != self._last_stage:
                self._host.info(str(status))
        self._last_stage = stage
        if self._is_stopping:
            # End the lease now: until the pod is ready, it would only be billed.
            raise RunError("stopped", INTERRUPTED)

    def _print_summary(
        self,
        lease: AsyncLease,
        pod: AsyncLeasedPod | None,
        started_at: float,
        *,
        is_interrupted: bool = False,
    ) -> None:
        duration = short_duration(time.monotonic() - started_at)
        if lease.supervisor.disk_note is not None:
            self._host.info(lease.supervisor.disk_note)
        rentals = lease.supervisor.rentals
        if not rentals or (pod is None and not rentals[-1].is_kept):
            # If a lease file is left, the order's pod may exist, and the lease has reported this.
            is_certain = not any(rental.file.path.exists() for rental in rentals)
            if is_certain and (is_interrupted or any(rental.pod_id is not None for rental in rentals)):
                self._host.info(f"No pod is left: every pod that was ordered was deleted, after {duration}.")
            return
        rental = rentals[-1]  # the pod's rental
        totals = f"after {duration}, for about {money(rental.spent)}"
        if rental.is_kept:
            pod_id = rental.pod_id
            self._host.info(
                f"The pod {rental.name} still runs and is billed ({totals}). "
                f"Log in with `primepods ssh {pod_id}`; delete it with `primepods delete {pod_id}`."
            )
        else:
            self._host.info(f"The pod {rental.name} ({rental.pod_id}) was deleted, {totals}.")


def _limits_text(lease: dict[str, Any], *, keep: bool) -> str:
    if keep:
        return "The pod is billed until you delete it (--keep): once it is ready, it has no limit"
    hours, spend = lease["max_hours"], lease["max_spend"]
    limits = [] if hours is None else [f"after {short_duration(hours * 3600)} (--max-hours)"]
    limits += [] if spend is None else [f"at {money(spend)} (--max-spend)"]
    if not limits:
        return "The pod runs until the command ends, without a limit: see --max-hours and --max-spend"
    return f"The pod is deleted {' or '.join(limits)} at the latest"
