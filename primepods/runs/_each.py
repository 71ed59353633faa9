"""Runs of many items: a pool of pods, and around it the record of a run.

Each item is the work of a run (see :mod:`._work`) on one of the pool's pods. The run's folder has the items
and their results (see :mod:`._items`). If the process dies, the next one deletes the pods of the
dead one, and begins those items again that have no line. If it must stop instead, it first ends and fetches
what runs on these pods.
"""

from __future__ import annotations

import asyncio
import math
import shlex
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from .._utils.money import money
from .._utils.text import short_duration
from ..errors import (
    BudgetExceededError,
    ConfigError,
    ConnectionLostError,
    NotFoundError,
    NotReleasedError,
    PrimePodsError,
)
from ..leasing.lease import AsyncLeasedPod
from ..leasing.loss import describe_gone
from ..remote import Stream, check_work, echo, find_nodes
from ._check import check_run
from ._ending import Reason, describe_pod
from ._follow import DISK_FULL
from ._host import BUDGET_EXCEEDED, FAILED, INTERRUPTED, ItemProgress, RunError, RunHost
from ._items import MAX_SIZE, Items, fill_command
from ._results import shown_path
from ._run import Run, RunRecord
from ._runner import USED_UP, Runner
from ._take_over import read_leases, take_over_lease
from ._work import MIN_LOGIN_TIMEOUT, PodLostError, Work

if TYPE_CHECKING:
    from ..client import AsyncClient
    from ..leasing.lease import AsyncLease
    from ..leasing.ledger import LeaseRecord
    from ..leasing.pool import AsyncPool, PoolProgress, PoolResult
    from ..leasing.supervisor import LeaseSupervisor
    from ..models import PodChange


def check_each(record: RunRecord, variables: dict[str, str], items: Sequence[str]) -> list[str]:
    """Check a run of many items before anything is rented, as :func:`check_run` does; return warnings.

    Raises:
        ValueError: Something is invalid.
    """
    if not items:
        raise ValueError("--each has no items: write one a line")
    for refused, option in ((record.keep, "--keep"), (record.hold is not None, "--hold")):
        if refused:
            raise ValueError(f"{option} and --each cannot be combined: the next item needs the pod")
    if sum(len(item.encode()) + 1 for item in items) > MAX_SIZE:
        raise ValueError(f"--each has more than {MAX_SIZE >> 20} MB")
    for number, item in enumerate(items, 1):
        try:
            check_work(_item_record(record, number, item).command)
        except ValueError as exc:
            raise ValueError(f"item {number} of --each: {exc}") from None
    first = _item_record(record, 1, items[0])
    return check_run(attrs.evolve(first, uploads=record.uploads, hold=None), variables)


def _item_record(record: RunRecord, number: int, item: str, *, restart: int = 0) -> RunRecord:
    """Return the record of the work for one item."""
    return attrs.evolve(
        record,
        command=fill_command(record.command, item),
        downloads=[(remote, f"{Path(local, str(number))}/") for remote, local in record.downloads],
        # The pool's setup has uploaded, and a missing result must not keep a pod from the next item.
        uploads=[],
        hold=0.0,
        is_detached=False,
        restart=restart,
        job=None,
        are_fetched=False,
    )


class _ItemRun(Run):
    """The run of one item, whose record is in memory: without a result, the item begins again."""

    def save(self, **changes: Any) -> None:
        self.record = attrs.evolve(self.record, **changes)


class EachRunner(Runner):
    """Execution of a run of many items on a pool of pods."""

    def __init__(self, host: RunHost, run: Run, variables: dict[str, str]) -> None:
        super().__init__(host, run, variables)
        self._variables = variables
        # Several pods are set up at a time, and there is one place for progress.
        self._work = Work(host.labelled(""), run, variables, self.interruptions)
        self._items = Items(run.path)
        self.must_take_over: bool = run.may_have_pod
        self._pool: AsyncPool | None = None
        self._outputs = {stream: echo(stream) for stream in ("stdout", "stderr")}
        # Numbers of the items at work, with the number of their pods so far.
        self._attempts: dict[int, int] = {}
        self._at_work = set[int]()
        # Numbers of the items that were asked to end, and whose results were fetched then.
        self._fetched_early = set[int]()
        # By the pod's ID, the command that removes what items have left where results are looked for.
        self._removals: dict[str, str] = {}
        self._spent_before = 0.0
        self._running_count = 0
        self._is_limit_near = False
        self._are_fetched = True
        self._last_problem = ""

    async def execute(self, client: AsyncClient) -> int:
        """Execute the run, show its items, and return its exit code; a cancellation counts as Ctrl-C."""
        try:
            return await super().execute(client)
        finally:
            self._host.waiting("")
            self._write_results()
            for output in self._outputs.values():
                output.close()

    @property
    def _is_ending(self) -> bool:
        return self._is_stopping or self._is_limit_near

    def _note_interruption(self, work: asyncio.Task[int]) -> None:
        """Let the items at work end, or cancel the pool, which then deletes its pods."""
        # The leases of a dead process must be taken over before their pods can go.
        if self.must_take_over or (self.interruptions.count == 1 and self._at_work):
            return
        self._host.info("Interrupted: deleting all pods, and waiting until they are confirmed gone")
        work.cancel()

    async def _rent_and_restart(self, client: AsyncClient) -> int:
        if self.must_take_over:
            await self._end_old_pods(client)
        if (left := self._items.left) and not self._is_stopping:
            await self._do_all(client, left)
        if self._is_limit_near:
            return BUDGET_EXCEEDED
        if self._items.left:
            return self.interruptions.exit_code
        return FAILED if self._items.failed_count else 0

    async def _end_old_pods(self, client: AsyncClient) -> None:
        """Delete the pods of the dead process; after `stop`, end and fetch their items at work first."""
        is_fetching, then = self.interruptions.count == 1, "its unfinished items begin again"
        if self._is_stopping:
            then = "what its items had saved is lost"
        if is_fetching:
            then = "before that, its items at work are ended, and their results fetched"
        self._host.info(f"Deleting the pods of the process that has died: {then}")
        records, names = read_leases(self._run), self._run.open_leases
        leases = [
            self._take_over_old(client, name, records.get(name) if is_fetching else None) for name in names
        ]
        ending = asyncio.gather(
            *(
                self._end_old_pod(client, lease, is_fetching=is_fetching)
                for lease in leases
                if lease is not None
            ),
            return_exceptions=True,
        )
        if is_fetching:
            await asyncio.sleep(0)
            # All leases have begun: from now on, a cancellation deletes their pods at once.
            self.must_take_over = False
            if self.interruptions.count > 1:
                ending.cancel()
        try:
            errors = [error for error in await ending if error is not None]
        finally:
            self._save(spent=self._run.cost(), leased_at=None, lease_files=self._run.open_leases)
        if errors:
            raise errors[0]
        if is_fetching:
            self._save(are_fetched=self._are_fetched)
        self.must_take_over = False

    def _take_over_old(self, client: AsyncClient, file: str, record: LeaseRecord | None) -> AsyncLease | None:
        """Take over the lease of a dead process's pod; without a record, the lease deletes it at once."""
        run = self._record
        lease: dict[str, Any] = {"max_hours": USED_UP, "interval": run.lease["interval"]}
        if record is not None:
            # A lease that is taken over counts its hours from its order.
            ordered_at = max(run.began_at, record.ordered_at.timestamp())
            lease = {**self._lease_options(ordered_at), "check": None}
            lease["login_timeout"] = max(run.reconnect, MIN_LOGIN_TIMEOUT)
            if lease["max_spend"] is not None:
                # The limit of all pods together, at the price that they have together.
                left = (run.lease["max_spend"] - self._run.cost()) / (run.price_hr or math.inf)
                hours = max(USED_UP, (time.time() - ordered_at) / 3600 + left)
                lease |= {"max_hours": min(hours, lease["max_hours"] or math.inf), "max_spend": None}
        return take_over_lease(client, file, was_shown=False, on_change=_check_ready, **lease)

    async def _end_old_pod(self, client: AsyncClient, lease: AsyncLease, *, is_fetching: bool) -> None:
        """Delete a pod of the dead process; after `stop`, end and fetch its item at work first.

        If its order was interrupted and nothing has shown a pod, that is logged, and its file stays for a
        sweep.
        """
        supervisor = lease.supervisor
        pod_name = supervisor.last_order.name
        try:
            async with lease as pod:
                left = {f"{self._run.name}-{number}": number for number in self._items.left}
                names = [job.name.rpartition("-") for job in await pod.jobs()]
                # The results of the earlier ones were fetched before the last one began. Jobs that began in
                # the same second may be in another order.
                for name, _, restart in [parts for parts in names if parts[0] in left][-1:]:
                    if restart.isdecimal():
                        await self._do(client, supervisor, left[name], int(restart))
        except PrimePodsError as exc:
            if is_fetching and not isinstance(exc, RunError | NotReleasedError):
                self._are_fetched = False
                gone = describe_gone(self._record.pod_watchdog)
                is_gone = isinstance(exc, NotFoundError)
                self._host.problem(f"The pod {pod_name} was lost: {gone}." if is_gone else exc)
        error = supervisor.release_error
        if error is not None and error.pod_id is not None:
            raise error

    async def _do_all(self, client: AsyncClient, left: Sequence[int]) -> None:
        record = self._record
        self._work.check_variables()
        self._work.measure_uploads()
        lease = self._lease_options()
        specs = await self._prepare_order(client, lease)
        self._spent_before = record.spent
        size = min(record.pods, len(left))
        restarts = 0 if record.has_idle_watchdog else record.restarts
        pool = client.pods.pool(
            specs, size=size, setup=self._set_up, on_progress=self._note_progress, **lease
        )
        pool.supervisor.on_order = self._note_order
        self._pool = pool
        try:
            async with pool:
                async for result in pool.supervisor.map(partial(self._do, client), left, restarts):
                    self._note_result(result)
                    if self._is_ending and not self._at_work:
                        break
                self._save(are_fetched=self._are_fetched)
                if not self._items.left:
                    self._save(result=FAILED if self._items.failed_count else 0)
                self._host.waiting("Deleting the pods, and waiting until they are confirmed gone")
        except BudgetExceededError:
            if self._run.may_have_pod:
                raise
            self._is_limit_near = True

    async def _set_up(self, pod: AsyncLeasedPod) -> None:
        """Upload to a new pod."""
        if not self._is_ending:
            self._work.show_pod("Ready", pod)
            await self._work.upload(await find_nodes(pod))
            paths = [
                shlex.quote(path) for path in _result_paths(self._record) if not await _exists(pod, path)
            ]
            if paths:
                self._removals[pod.id] = f"rm -rf -- {' '.join(paths)}"

    async def _do(
        self, client: AsyncClient, supervisor: LeaseSupervisor, number: int, begun: int | None = None
    ) -> int | None:
        """Do the work for an item; return the exit code, or ``None`` if it was ended or not begun.

        Args:
            client: The client.
            supervisor: The supervisor of the pod's lease.
            number: The item's number.
            begun: The number of the restart that a dead process has begun on the pod, to be ended.

        Raises:
            ConnectionLostError: The pod or its job was lost.
        """
        if self._is_ending and begun is None:
            return None
        pod = AsyncLeasedPod(supervisor)
        restart = self._attempts.get(number, -1) + 1 if begun is None else begun
        self._attempts[number] = restart
        if self._record.job is None:
            self._save(job=self._run.name)  # the first command starts
        record = _item_record(self._record, number, self._items.lines[number - 1], restart=restart)
        run, label = _ItemRun(self._run.path / f"{self._run.name}-{number}", record), f"[{number}] "
        if restart and begun is None:
            self._host.labelled(label).info(f"Restart {restart} of {record.restarts}, on another pod")
        shown: dict[Stream, int] = {}
        if begun is not None:
            run.save(job=run.job_name)
            shown = {stream: _count_lines(file, label) for stream, file in self._run.files(0).items()}

        async def write(stream: Stream, line: str) -> None:
            if shown.get(stream):
                shown[stream] -= 1
            else:
                await self._write(stream, f"{label}{line}".encode())

        work = Work(
            self._host.labelled(label),
            run,
            {**self._variables, "PRIMEPODS_ITEM": str(number)},
            self.interruptions,
            write,
        )
        self._at_work.add(number)
        try:
            if removal := self._removals.get(pod.id):
                # If this fails, the item does: it could fetch the results of another one.
                await pod.run(removal)
            code = await work.do(client, supervisor, pod, is_taken_over=begun is not None)
        except PodLostError as exc:
            if self._is_ending:
                self._are_fetched = False
                return None
            raise ConnectionLostError(f"{exc}.", pod_id=pod.id) from None
        finally:
            self._at_work.discard(number)
        reason = work.outcome.reason
        if reason in {Reason.UNREACHABLE, Reason.POD_LOST} and not self._is_ending:
            raise ConnectionLostError(f"{pod.name} cannot be reached.", pod_id=pod.id)
        self._are_fetched = self._are_fetched and work.outcome.results.are_complete
        self._is_limit_near = self._is_limit_near or reason is Reason.LIMIT_NEAR
        if reason not in {Reason.INTERRUPTED, Reason.LIMIT_NEAR}:
            return code
        if record.downloads and work.outcome.results.are_complete:
            self._fetched_early.add(number)
        return None

    async def _write(self, stream: Stream, line: bytes) -> None:
        """Write a line of output; while the disk here is full, it waits."""
        if not self._record.is_detached:
            await self._outputs[stream](self._host.before_output() + line)
            return
        while True:
            try:
                with self._run.files(0)[stream].open("ab") as file:
                    file.write(line)
            except OSError as exc:
                if exc.errno not in DISK_FULL:
                    raise
                await asyncio.sleep(self._record.lease["interval"])
            else:
                return

    def _note_result(self, result: PoolResult[int, int | None]) -> None:
        """Record how an item has ended, and show it."""
        host, code = self._host.labelled(f"[{result.item}] "), result.value
        if result.error is not None:
            code = host.problem(result.error)
        if code is None:
            return
        self._items.add(result.item, code)
        self._write_results()
        host.info(f"Exit code {code} after {short_duration(result.seconds)}; {self._progress()}")
        self._show_progress()

    def _write_results(self) -> None:
        """Write the results to the record; if that fails, they wait for the next one."""
        try:
            self._items.write()
        except OSError as exc:
            self._note_problem(self._run.describe_problem(exc))

    def _save(self, **changes: Any) -> None:
        """Change the record; a full disk here must not end the items at work."""
        self._run.save_or_tell(self._note_problem, **changes)

    def _note_problem(self, text: str) -> None:
        """Tell that the record cannot be written, but not at each change of it."""
        if text != self._last_problem:
            self._last_problem = text
            self._host.problem(text)

    def _progress(self) -> ItemProgress:
        return ItemProgress(
            done=len(self._items.results),
            failed=self._items.failed_count,
            running=self._running_count,
            booting=0 if self._pool is None else self._pool.supervisor.booting,
            total=len(self._items.lines),
            spent=self._record.spent,
        )

    def _show_progress(self) -> None:
        if self._items.left and not self._is_ending:
            self._host.show_items(self._progress())

    def _note_order(self, lease_file: Path) -> None:
        try:
            self._run.save(lease_files=[*self._record.lease_files, lease_file.name])
        except OSError as exc:
            # Nothing would delete the pod if this process died. The other pods go on.
            raise ConfigError(
                f"The record of {self._run.name} cannot be written ({exc.strerror}): this pod is not ordered."
            ) from None

    def _note_progress(self, progress: PoolProgress) -> None:
        self._save(
            spent=self._spent_before + progress.spent,
            price_hr=progress.price_hr,
            leased_at=time.time() if progress.price_hr else None,
        )
        self._running_count = progress.running
        self._show_progress()

    def verdict(self, exit_code: int) -> str:
        """Return how the run has ended: items, results, cost, and whether a pod is left."""
        items = self._items
        if self._pool is None and not items.results and self._record.job is None:
            return ""
        done = len(items.results)
        failed = sorted(number for number, code in items.results.items() if code)
        fetched_early = [number for number in items.left if number in self._fetched_early]
        lost = [number for number in items.left if number not in self._fetched_early]
        ends = {
            "succeeded": done - len(failed),
            f"failed ({_ranges(failed)})": len(failed),
            f"ended early with results ({_ranges(fetched_early)})": len(fetched_early),
            f"without a result ({_ranges(lost)})": len(lost),
        }
        reason = self.interruptions.phrase if self.interruptions.count else ""
        reason = "its limit was near" if self._is_limit_near else reason
        folders = ", ".join(f"{shown_path(local).rstrip('/')}/ITEM" for _, local in self._record.downloads)
        sentences = [
            f"{self._run.name}: {reason and f'{reason}, '}exit code {exit_code}",
            f"Of {len(items.lines)} items, {', '.join(f'{n} {end}' for end, n in ends.items() if n)}",
            f"Results in {folders}" if folders and (done or fetched_early) else "",
            f"Cost about {money(self._run.cost())}",
            describe_pod(self._run, self._lease),
        ]
        return " ".join(f"{sentence}." for sentence in sentences if sentence)


def _ranges(numbers: Iterable[int]) -> str:
    """Return ascending numbers for a message, such as ``2, 7-12``."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    return ", ".join("-".join(map(str, ends)) for ends in ranges)


def _result_paths(record: RunRecord) -> list[str]:
    """Return where results are looked for in the home folder; what is elsewhere may be on a shared disk."""
    found = [path.removeprefix("~/") for remote, _ in record.downloads for path in record.sources(remote)]
    return [path for path in found if path[:1] not in {"/", "~"} and ".." not in path.split("/")]


async def _exists(pod: AsyncLeasedPod, path: str) -> bool:
    quoted = shlex.quote(path)
    return (await pod.run(f"[ -e {quoted} ] || [ -L {quoted} ] || echo none")).stdout == ""


def _check_ready(change: PodChange) -> None:
    """End the lease of a dead process's pod that is not ready: no item has begun on it."""
    if change.after is not None and not change.after.is_ready:
        raise RunError("stopped", INTERRUPTED)


def _count_lines(file: Path, label: str) -> int:
    """Return how many lines of an item are in a file of output."""
    with suppress(FileNotFoundError), file.open("rb") as lines:
        return sum(line.startswith(label.encode()) for line in lines)
    return 0
