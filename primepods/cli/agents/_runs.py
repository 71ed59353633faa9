"""Runs that hold the pods of agents.

Each pod of an agent has a run, as with `primepods run --detach`. A process holds the run's lock and its
lease, writes its record, and continues after the session. The run's job is a sleep. ``Run.state`` is:

- ``renting`` until the sleep has started. The record gets ``pod_id`` when the pod is known, and then ``job``.
- ``running`` from then on. Other commands can run on the pod.
- ``interrupted`` if the process has died. If ``may_have_pod`` is true, :meth:`AgentRuns.stop` starts another
  process, which deletes the pod. Otherwise, the next ``AgentBudget.settle`` ends the run.
- ``ended`` if the record has an ``exit_code``. If ``may_have_pod`` is true, the pod's deletion is not
  confirmed, and :meth:`AgentRuns.stop` sweeps the pod.

The budget has a reservation for each run. ``AgentBudget.settle`` sets the reservation's ``spent`` when the
run has ended and no longer has a pod.
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import anyio
from anyio.to_thread import run_sync

import primepods
from primepods.runs import (
    AgentBudget,
    Reservation,
    Run,
    RunRecord,
    list_runs,
    read_leases,
    start_process,
    stop_run,
)

from .._shared.command import Api
from .._shared.errors import CommandError
from .._shared.handles import resolve_handle_async
from .._shared.table import print_info
from ._results import Quote, Rented

MAX_WAIT = 50.0
"""Max seconds of a wait whose length the agent does not set: some MCP hosts end a call after a minute."""
RELEASE_TIMEOUT = 600.0
"""Max seconds for the deletion of a pod at the end of its lease. The pod may be billed meanwhile."""
_MAX_LOG_LENGTH = 2_000
_RUN_POLL_INTERVAL = 0.2
"""Seconds between two readings of a run's record."""
_STATUS_INTERVAL = 5.0
"""Seconds between two requests for a pod's status."""


class AgentRuns:
    """Runs of all sessions that share a budget.

    Args:
        api: The common options.
        client: The client of this session.
        budget: The shared budget.
    """

    def __init__(self, api: Api, client: primepods.AsyncClient, budget: AgentBudget) -> None:
        self._api = api
        self._client = client
        self.budget = budget
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._stopped: set[str] = set()

    async def start(self, quote: Quote, offer: primepods.Offer) -> Run:
        """Start a run for a quoted offer, and wait until its pod is known, for at most ``MAX_WAIT``.

        Raises:
            BudgetExceededError: The run would exceed a limit of the budget. Nothing was rented.
            CommandError: The run's process has ended. The message says whether a pod may be billed.
        """
        run = await run_sync(self._start_process, quote, offer)
        await wait_for_run(run, MAX_WAIT, lambda record: record.pod_id is not None)
        if not run.is_live:
            await run_sync(self.budget.settle)
            run.reload()
            if run.may_have_pod:
                billed = f"the process of {run.name} has ended, and its pod may be billed: call release"
                raise CommandError(f"{billed} with {run.name!r}. {last_messages(run)}")
            raise CommandError(f"the pod was not rented, or was deleted: {last_messages(run)}")
        return run

    def _start_process(self, quote: Quote, offer: primepods.Offer) -> Run:
        names = ("cloud_id", "gpu_type", "gpu_count", "provider", "socket")
        machine = {name: getattr(offer, name) for name in names}
        limits = {"max_hours": quote.hours, "max_spend": quote.price_hr * quote.hours}
        limits["release_timeout"] = RELEASE_TIMEOUT
        run = Run.create(
            RunRecord(
                client=self._api.account,
                find={**machine, "max_price": quote.price_hr, "spot": bool(offer.is_spot), "limit": 1},
                changes={"name": "agent", "max_price": quote.price_hr},
                lease={"login": True, "interval": _STATUS_INTERVAL, **limits},
                # `max_hours` ends the lease at least an hour before the sleep ends.
                command=["sleep", str(math.ceil(quote.hours * 3600) + 3600)],
                is_detached=True,
                began_at=time.time(),
                # If this process dies before the reservation, `primepods attach` rents nothing for this run.
                is_stopping=True,
            )
        )
        try:
            self.budget.reserve(run.name, amount=quote.worst_cost, price_hr=quote.price_hr)
        except BaseException:
            run.remove()
            raise
        run.save(is_stopping=False)
        self._started[run.name] = start_process(run, {})
        return run

    async def find(self, pod: str) -> tuple[Run, Reservation]:
        """Settle the budget; return the run of a pod that agents rented, and the run's reservation.

        Raises:
            CommandError: No run with a reservation has this pod.
        """
        for process in self._started.values():
            process.poll()  # otherwise ended processes would stay as zombies
        balance = await run_sync(self.budget.settle)
        found = {reservation.run: reservation for reservation in balance.reservations}
        pod_id = pod if pod in found else await resolve_handle_async(self._client, pod, team=self._api.team)
        for run in (await run_sync(list_runs))[0]:
            if run.name in found and pod_id in {run.name, run.record.pod_id}:
                return run, found[run.name]
        raise CommandError(f"agents on this machine have not rented {pod!r}: nothing was done")

    async def stop(self, run: Run) -> None:
        """Ask a run to end, wait for its end, and sweep its pod if the pod may be left.

        All of this takes at most ``MAX_WAIT``.
        """
        with anyio.move_on_after(MAX_WAIT):
            with suppress(ProcessLookupError):
                await run_sync(stop_run, run)
                self._stopped.add(run.name)
            await wait_for_run(run, MAX_WAIT, lambda record: record.exit_code is not None)
            if run.state == "ended" and run.may_have_pod:
                lease = read_leases(run).get(str(run.record.lease_file))
                name = None if lease is None else lease.name
                # By its name, too: an order may have several pods, or another id than the run has seen.
                found = tuple(
                    primepods.OrphanedPod(name=name, pod_id=pod_id, price_hr=None, created_at=None)
                    for pod_id in (run.record.pod_id, None)
                )
                await self._client.pods.sweep(only=primepods.Sweep(found=found))

    def leave(self) -> None:
        """Print the runs of this session whose pods are or may be billed."""
        runs = {run.name: run for run in list_runs()[0]}
        for name, process in self._started.items():
            if process.poll() is None:
                process.returncode = 0  # otherwise Popen would warn that it still runs
            run = runs.get(name)
            if run is None:
                print_info(f"There is no readable record of {name}: see `primepods runs`.")
            elif run.is_live and name in self._stopped:
                print_info(f"{name} is being stopped, and is billed until its pod is deleted.")
            elif run.is_live:
                still = f"{name} still runs, and is billed until it expires."
                print_info(f"{still} To stop it, run `primepods stop {name}`.")
            elif run.may_have_pod:
                billed = f"{name} has no process, and its pod may be billed."
                print_info(f"{billed} To delete it, run `primepods sweep`.")


async def wait_for_run(run: Run, seconds: float, is_done: Callable[[RunRecord], bool]) -> None:
    """Wait until ``is_done`` returns true, the run no longer has a process, or ``seconds`` have passed."""
    with anyio.move_on_after(seconds):
        while not is_done(run.reload()) and run.is_live:  # noqa: ASYNC110 - another process changes it
            await anyio.sleep(_RUN_POLL_INTERVAL)


def last_messages(run: Run) -> str:
    """Return the end of the log of a run's processes."""
    with suppress(FileNotFoundError):
        return (run.path / "log").read_text(encoding="utf-8", errors="replace")[-_MAX_LOG_LENGTH:]
    return "no messages"


def rented_result(run: Run, reservation: Reservation, next_step: str = "") -> Rented:
    return Rented(
        name=run.name,
        pod_id=run.record.pod_id,
        state=run.state,
        worst_cost=reservation.amount,
        spent=reservation.spent,
        expires_at=datetime.fromtimestamp(run.record.began_at + run.record.lease["max_hours"] * 3600, UTC),
        next_step=next_step,
    )
