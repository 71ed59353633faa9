"""The work of `primepods run`: rent a pod, run the command as a job, fetch the results, delete the pod.

The process may die at any time. `attach` and `stop` then start another one, which finds in the record:

| The process died after | Fields of the record | The next process |
|---|---|---|
| its start | no `lease_file` | starts from the beginning |
| `_note_order` | `lease_file`, `leased_at` | takes the lease over, finds the pod by its name |
| the first status of the pod | also `pod_id` | takes the lease over, starts the job unless it has started |
| the confirmed start of the job | also `job` | takes the lease over, follows the job |
| the downloads | also `result` | the same, and downloads again |
| the deletion of the pod | no file of that name | returns `result`, or fails without one |
| a failed deletion | `spent`, no `leased_at` | takes the lease over, as before |
| the loss of a pod | `restart`, no `lease_file` | starts on another pod |
| `Run.end` | `exit_code` | does nothing |

If a refused order was the last one, there is no file of that name and no `pod_id`: the next process orders
again.

`Runner.is_interrupted` is true in the next process until it has taken over the lease, or knows that the
lease's file is gone. While it is true, the run does not end, so that another process may try again.
`_is_taken_over` is true once the process has taken over the lease, until a restart. Only the lease knows
whether the pod is kept, and which pods were ordered.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import primepods
from primepods.remote import echo, find_nodes, rank_variables
from primepods.runs import Run, RunRecord, follow_job, take_over_lease

from ._account import check_permission, choose_disks
from ._copies import describe, measure_and_warn, parse_exclusion, progress
from ._durations import short_duration
from ._errors import CommandError, ExitCode, print_error
from ._offers import find_key
from ._pod_table import price
from ._table import print_info

if TYPE_CHECKING:
    from primepods.remote import Exclusion

_MAX_DOWNLOAD_ATTEMPTS = 3
"""Max attempts to download a result if the connection is lost."""
_LOSS_CHECK_FACTOR = 6
"""Interval of the checks for a lost pod, as a multiple of the poll interval."""
_STOP_TIMEOUT = 5.0
"""Max seconds to end the command before its pod is deleted."""
_MIN_LIMIT = 1e-9
"""Budget, in hours and in money, of a lease that is taken over only to delete its pod."""
_LOST_STATES = {"STOPPED", "DELETING", "TERMINATED"}


class _PodLostError(Exception):
    """The run must continue on another pod: the pod or its job was lost, or some nodes have no job."""


class Runner:
    """Execution of a run.

    Args:
        program: The name of this command as typed, for messages.
        run: The run; this process holds its lock.
        variables: The command's environment variables.
    """

    def __init__(self, program: str, run: Run, variables: dict[str, str]) -> None:
        self._program = program
        self._run = run
        self._variables = variables
        self._is_renting = False
        """Whether the lease orders a pod, or waits for the pod and its login."""
        self._lease: primepods.AsyncLease | None = None
        self.is_interrupted: bool = run.record.lease_file is not None
        """Whether an earlier process of the run has died, and its lease is not taken over yet."""
        self._is_taken_over = False
        """Whether the current lease is that of an earlier process."""
        self._upload_sizes: dict[str, int] = {}
        self._last_stage: object = None
        self._started_at = time.monotonic()

    @property
    def _record(self) -> RunRecord:
        return self._run.record

    @property
    def _is_kept(self) -> bool:
        """Whether the lease leaves its pod running."""
        return self._lease is not None and any(one.is_kept for one in self._lease.supervisor.rentals)

    @cached_property
    def _exclusion(self) -> Exclusion:
        return parse_exclusion(self._record.exclude, map(Path, self._record.exclude_from))

    async def execute(self, client: primepods.AsyncClient) -> int:
        """Rent a pod, do the work, delete the pod, and return the command's exit code."""
        # `exit_on_sigterm` cancels the task that enters it. It must be this one, not the task of the work.
        with primepods.exit_on_sigterm():
            # The work is a second task, so that this task can report Ctrl-C before the pod is deleted.
            work = asyncio.create_task(self._rent_and_restart(client))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                # Once the pod is ready, `_work_and_announce_deletion` prints the message.
                if self._is_renting:
                    print_info(
                        "Interrupted: deleting any ordered pod, and waiting until it is confirmed gone"
                    )
                work.cancel()
                await work
                raise

    async def _rent_and_restart(self, client: primepods.AsyncClient) -> int:
        """Do the work; start again on another pod if a pod is lost, up to the limit of restarts."""
        for local, _ in self._record.uploads if self._record.job is None and not self.is_interrupted else ():
            size = measure_and_warn(self._program, local, self._exclusion)
            self._upload_sizes[local] = size.bytes
            print_info(f"To upload: {_shown(local)} ({describe(size)})")
        while True:
            try:
                return await self._rent(client)
            except (_PodLostError, CommandError, primepods.PrimePodsError) as exc:
                record = self._record
                if record.result is not None and not self._run.may_have_pod:
                    # An earlier process had done the work, and the pod is gone.
                    return record.result
                if not isinstance(exc, _PodLostError):
                    raise
                may_be_billed = getattr(exc, "__notes__", ())
                if record.restart >= record.restarts or may_be_billed:
                    text = " ".join([f"{exc}. Its results are lost.", *may_be_billed])
                    raise CommandError(text, ExitCode.POD_FAILED) from None
                print_info(f"{exc}. Starting again on another pod: restart {record.restart + 1}")
                self._is_taken_over = False
                self._run.save(
                    restart=record.restart + 1,
                    lease_file=None,
                    pod_id=None,
                    job=None,
                    offsets=self._run.sizes(),
                )

    async def _rent(self, client: primepods.AsyncClient) -> int:
        """Rent a pod or take one over, do the work on it, and print a summary."""
        self._started_at = time.monotonic()
        lease = self._lease = await self._make_lease(client)
        pod: primepods.AsyncLeasedPod | None = None
        self._is_renting = True
        try:
            async with lease as pod:
                self._is_renting = False
                self._run.save(pod_id=pod.id, price_hr=pod.price_hr)
                code = await self._work_and_announce_deletion(client, pod)
        except BaseException as exc:
            # If the pod may still be billed, the lease's error says so.
            if lease.supervisor.release_error is None:
                self._print_summary(pod, is_interrupted=not isinstance(exc, Exception))
            is_gone = isinstance(exc, primepods.PodFailedError | primepods.NotFoundError)
            if pod is None and is_gone and self._is_taken_over and self._record.job is not None:
                # The pod was lost while the run had no process.
                raise _PodLostError(str(exc).rstrip(".")) from None
            raise
        finally:
            self._run.save(spent=self._record.spent + lease.supervisor.budget.spent, leased_at=None)
        self._print_summary(pod)
        return code

    async def _make_lease(self, client: primepods.AsyncClient) -> primepods.AsyncLease:
        record = self._record
        lease = dict(record.lease)
        # The limits are for the whole run. A lease that is taken over counts its hours from its order.
        if lease["max_hours"] is not None:
            lease["max_hours"] -= ((record.leased_at or time.time()) - record.began_at) / 3600
        if lease["max_spend"] is not None:
            lease["max_spend"] -= record.spent
        limits = {name: lease[name] for name in ("max_hours", "max_spend") if lease[name] is not None}
        if record.lease_file is not None:
            # Take the lease over even if the budget is used up: it then deletes its pod at once.
            at_once = {name: max(limit, _MIN_LIMIT) for name, limit in limits.items()}
            was_shown = record.job is not None  # the job starts on a ready pod
            taken = take_over_lease(
                client,
                record.lease_file,
                was_shown=was_shown,
                on_change=self._show_change,
                **lease | at_once,
            )
            self._is_taken_over = taken is not None
            self.is_interrupted = False
            if taken is not None:
                return taken
            if record.pod_id is not None:
                raise CommandError(
                    f"the run's pod {record.pod_id} is no longer leased by this machine: see `primepods get "
                    f"{record.pod_id}`"
                )
        if any(limit <= 0 for limit in limits.values()):
            used_up = "the budget of --max-hours or --max-spend is used up"
            raise CommandError(used_up, ExitCode.BUDGET_EXCEEDED)
        if record.is_stopping:
            raise CommandError("the run was stopped before it had a pod", ExitCode.INTERRUPTED)
        specs, min_price = await self._find_specs(client)
        if record.is_detached and lease["max_hours"] is None:
            # `max_hours` adds an expiry to the pod's name, by which `sweep --expired` works on any machine.
            lease["max_hours"] = (lease["max_spend"] or 0.0) / min_price
        made = client.pods.lease(specs, on_change=self._show_change, **lease)
        made.supervisor.on_order = self._note_order
        return made

    def _note_order(self, lease_file: Path) -> None:
        """Record an order before it is sent, so that another process can take over its lease."""
        self._run.save(lease_file=lease_file.name, pod_id=None, leased_at=time.time(), price_hr=0.0)

    async def _work_and_announce_deletion(
        self, client: primepods.AsyncClient, pod: primepods.AsyncLeasedPod
    ) -> int:
        if self._record.keep:
            pod.keep()
        try:
            return await self._work(client, pod)
        finally:
            if not self._is_kept:
                print_info(f"Deleting the pod {pod.name}, and waiting until it is confirmed gone")

    async def _find_specs(self, client: primepods.AsyncClient) -> tuple[list[primepods.PodSpec], float]:
        """Return the specs to order, the preferred one first, and the lowest price per hour."""
        record = self._record
        changes = dict(record.changes)
        find = dict(record.find)
        with suppress(primepods.PrimePodsError):
            check_permission(await client.account.whoami(), "instances")
        if "disks" in changes:
            found = choose_disks(changes["disks"], *await client.disks._listed().collect())  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as find_disks
            changes["disks"] = find["disks"] = [disk.id for disk in found]
        if record.ssh_key is not None:
            changes["ssh_key_id"] = find_key(record.ssh_key, [key async for key in client.ssh_keys.list()])
        offers = await client.availability.find(**find)
        if not offers:
            # This raises an error with the reasons, unless there is an offer now.
            wanted = {name: value for name, value in find.items() if name not in {"limit", "wait"}}
            offers = [await client.availability.cheapest(**wanted)]
        specs = primepods.PodSpec.from_offers(offers, **changes)
        first, others = offers[0], len(specs) - 1
        more = f", or the next of {len(specs)} offers if it is sold out" if others else ""
        money = price(first.price_hr, first.prices.currency)
        machine = f"{first.gpu_count} x {first.gpu_type} at {first.provider}"
        print_info(f"Renting {machine} for {money} an hour{more}")
        print_info(_limits_text(record.lease))
        return specs, min(offer.price_hr or 0.01 for offer in offers)

    async def _work(self, client: primepods.AsyncClient, pod: primepods.AsyncLeasedPod) -> int:
        record = self._record
        print_info(f"Logged in to {pod.name} ({pod.id}): {pod.ssh}")
        workdir = next((remote for local, remote in record.uploads if os.path.isdir(local)), None)  # noqa: ASYNC240, PTH112 - a look at a local folder
        if record.is_stopping:
            raise CommandError("stopped", ExitCode.INTERRUPTED)
        nodes = await find_nodes(pod)
        name = f"{self._run.name}-{record.restart}"
        jobs = [node.job(name) for node in nodes]
        if len(nodes) > 1:
            print_info(f"The command runs on {len(nodes)} nodes")
            self._run.save(nodes=max(record.nodes, len(nodes)))
        try:
            if record.job is None and not await self._has_started(jobs):
                await self._start(nodes, name, workdir)
            self._run.save(job=name)
            code = await self._follow(client, pod, jobs)
        except primepods.ConnectionLostError:
            # Fetch the results so far: the pod is about to be deleted.
            await self._download_all(pod, workdir)
            raise
        except asyncio.CancelledError:
            await _stop(jobs)
            raise
        download_code = await self._download_all(pod, workdir)
        code = code or download_code
        # Save the code before the deletion: a process that takes over cannot read it from a deleted pod.
        self._run.save(result=code)
        return code

    async def _has_started(self, jobs: list[primepods.AsyncJob]) -> bool:
        """Return whether an earlier process of the run has started the job on all nodes.

        Raises:
            _PodLostError: It has started the job on some nodes only.
        """
        started = 0
        for job in jobs if self._is_taken_over else ():
            with suppress(primepods.JobError):
                await job.state()
                started += 1
        if 0 < started < len(jobs):
            raise _PodLostError(f"The command has begun on {started} of {len(jobs)} nodes only")
        return started > 0

    async def _start(self, nodes: Sequence[primepods.AsyncRemote], name: str, workdir: str | None) -> None:
        record = self._record
        for local, remote in record.uploads:
            with progress(f"uploaded {_shown(local)}", self._upload_sizes.get(local)) as on_progress:
                callbacks = [on_progress] + [None] * (len(nodes) - 1)
                await _all(
                    node.upload(local, remote, exclude=self._exclusion, on_progress=callback)
                    for node, callback in zip(nodes, callbacks, strict=True)
                )
            print_info(f"Uploaded {_shown(local)} to {remote}")
        missing = set(record.variables) - self._variables.keys()
        if missing:
            raise CommandError(
                f"these variables are not set here: {', '.join(sorted(missing))}", ExitCode.USAGE
            )
        again = {"PRIMEPODS_RESTART": str(record.restart)} if record.restart else {}
        ranks: list[dict[str, str]] = await rank_variables(nodes) if len(nodes) > 1 else [{}]
        await _all(
            node.start(record.command, name=name, env=rank | self._variables | again, cwd=workdir)
            for node, rank in zip(nodes, ranks, strict=True)
        )

    async def _follow(
        self, client: primepods.AsyncClient, pod: primepods.AsyncLeasedPod, jobs: list[primepods.AsyncJob]
    ) -> int:
        """Return the command's exit code; on several nodes, the first that is not 0.

        Raises:
            _PodLostError: The pod was deleted or stopped, has failed, or has lost the job.
        """
        following = asyncio.create_task(self._wait(jobs))
        interval = self._record.lease["interval"] * _LOSS_CHECK_FACTOR
        watching = asyncio.create_task(_watch_loss(client, pod, interval))
        try:
            await asyncio.wait({following, watching}, return_when=asyncio.FIRST_COMPLETED)
            if self._lease is not None and self._lease.supervisor.is_ending:
                # The lease ends, for example at a limit: it deletes the pod, and then cancels this task.
                await asyncio.Event().wait()
            if not following.done():
                raise _PodLostError(f"The pod {pod.name} was lost: {watching.result()}")
            return following.result()
        except primepods.JobError:
            raise _PodLostError(f"The job on the pod {pod.name} was lost") from None
        finally:
            for task in (following, watching):
                task.cancel()
            await asyncio.wait({following, watching})

    async def _wait(self, jobs: list[primepods.AsyncJob]) -> int:
        if len(jobs) == 1 and not self._record.is_detached:
            result = await jobs[0].wait(check=False, capture=False, reconnect=self._record.reconnect)
            return result.exit_code
        outputs = {stream: echo(stream) for stream in ("stdout", "stderr")}
        following = [asyncio.create_task(self._wait_on(node, job, outputs)) for node, job in enumerate(jobs)]
        try:
            for ended in asyncio.as_completed(following):
                if code := await ended:
                    if len(jobs) > 1:
                        print_info("The command has failed on a node: ending it on the others")
                        await _stop(jobs)
                    return code
            return 0
        finally:
            for task in following:
                task.cancel()
            await asyncio.wait(following)
            for output in outputs.values():
                output.close()

    async def _wait_on(
        self, node: int, job: primepods.AsyncJob, outputs: Mapping[str, Callable[[bytes], Awaitable[None]]]
    ) -> int:
        if self._record.is_detached:
            return (await follow_job(job, self._run, node)).exit_code or 0
        async with job.output(reconnect=self._record.reconnect) as lines:
            async for line in lines:
                await outputs[line.stream](f"{node}: {line}\n".encode())
        return (await job.state()).exit_code or 0

    async def _download_all(self, pod: primepods.AsyncLeasedPod, workdir: str | None) -> int:
        """Download the results; return 0, or 1 if one cannot be downloaded."""
        code = 0
        for remote, local in self._record.downloads:
            source = remote if remote.startswith("~") else posixpath.join(workdir or "", remote)
            try:
                await self._download(pod, source, local)
            except (primepods.TransferError, primepods.ConnectionLostError, OSError) as error:
                # Fetch the others: the pod is about to be deleted.
                print_error(self._program, error)
                code = ExitCode.FAILED
            else:
                print_info(f"Downloaded {remote} to {_shown(local)}")
        if code and self._record.keep_on_failed_download and not self._is_kept:
            pod.keep()
            print_info(f"Keeping the pod, since a download failed: try `primepods cp {pod.id}:PATH .`")
        return code

    async def _download(self, pod: primepods.AsyncLeasedPod, source: str, local: str) -> None:
        for attempts_left in reversed(range(_MAX_DOWNLOAD_ATTEMPTS)):
            try:
                with progress(f"downloaded {source}") as on_progress:
                    await pod.download(source, local, on_progress=on_progress)
            except primepods.ConnectionLostError as error:
                if not attempts_left:
                    raise
                print_error(self._program, f"{error} Trying again.")
            else:
                return

    def _show_change(self, change: primepods.PodChange) -> None:
        """Save the pod's id, and print each new state, but not each percent of an installation."""
        if change.pod_id != self._record.pod_id:
            self._run.save(pod_id=change.pod_id)
        status = change.after
        stage: object = None
        if status is not None:
            stage = (change.pod_id, status.status, status.installation_status, status.is_ready)
            if stage != self._last_stage:
                print_info(str(status))
        self._last_stage = stage
        if self._record.is_stopping:
            # End the lease now: until the pod is ready, it would only be billed.
            raise CommandError("stopped", ExitCode.INTERRUPTED)

    def _print_summary(self, pod: primepods.AsyncLeasedPod | None, *, is_interrupted: bool = False) -> None:
        duration = short_duration(time.monotonic() - self._started_at)
        if self._lease is not None and self._lease.supervisor.disk_note is not None:
            print_info(self._lease.supervisor.disk_note)
        rentals = [] if self._lease is None else self._lease.supervisor.rentals
        if not rentals or (pod is None and not self._is_kept):
            if is_interrupted or any(rental.pod_id is not None for rental in rentals):
                print_info(f"No pod is left: every pod that was ordered was deleted, after {duration}.")
            return
        rental = rentals[-1]  # the pod's rental
        totals = f"after {duration}, for about {price(rental.spent)}"
        if rental.is_kept:
            # Print two lines, since `print_info` clips a line at 200 characters.
            print_info(f"The pod {rental.name} still runs and is billed ({totals})")
            pod_id = rental.pod_id
            print_info(f"Log in with `primepods ssh {pod_id}`; delete it with `primepods delete {pod_id}`.")
        else:
            print_info(f"The pod {rental.name} ({rental.pod_id}) was deleted, {totals}.")


async def _all(work: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Await all coroutines; the first error cancels the others."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _stop(jobs: Iterable[primepods.AsyncJob]) -> None:
    """End the command on all nodes that can be reached."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_STOP_TIMEOUT):
            stops = [job.stop(grace=_STOP_TIMEOUT / 2) for job in jobs]
            await asyncio.gather(*stops, return_exceptions=True)


def _limits_text(lease: dict[str, Any]) -> str:
    hours, spend = lease["max_hours"], lease["max_spend"]
    limits = [] if hours is None else [f"after {short_duration(hours * 3600)} (--max-hours)"]
    limits += [] if spend is None else [f"at {price(spend)} (--max-spend)"]
    if not limits:
        return "The pod runs until the command ends, without a limit: see --max-hours and --max-spend"
    return f"The pod is deleted {' or '.join(limits)} at the latest"


def _shown(path: str) -> str:
    """Return a local path for messages, relative to the current folder; keep a slash at its end."""
    try:
        shown = os.path.relpath(path)
    except OSError:  # the current folder was deleted
        return path
    return shown + ("/" if path.endswith("/") else "")


async def _watch_loss(client: primepods.AsyncClient, pod: primepods.AsyncLeasedPod, interval: float) -> str:
    """Wait until the API shows that a pod is lost; return the reason."""
    while True:
        with suppress(primepods.PrimePodsError):
            async for change in client.pods.watch([pod.id], interval=interval):
                status = change.after
                if status is None:
                    return "it is gone"
                if status.has_failed or status.status in _LOST_STATES:
                    return status.failure or f"it is {status.status}"
        await asyncio.sleep(interval)
