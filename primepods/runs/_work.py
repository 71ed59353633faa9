"""The work of a run on its pod: upload, start the command as a job or find the job, follow it, end it."""

from __future__ import annotations

import asyncio
import glob
import math
import os
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from .._utils.money import money
from .._utils.text import exact_duration, short_duration
from ..errors import ConnectionLostError, JobError, LoginError, PrimePodsError
from ..leasing.loss import LOSS_CHECK_FACTOR, Loss, wait_until_lost
from ..remote import JobState, Stream, echo, find_nodes, limit_logins, rank_variables
from ._ending import CommandEnd, Reason, RunInterruptions
from ._follow import follow_job
from ._host import FAILED, POD_FAILED, USAGE, RunError, RunHost
from ._results import Results, shown_path
from ._run import Run, RunRecord

if TYPE_CHECKING:
    from ..client import AsyncClient
    from ..leasing.lease import AsyncLeasedPod
    from ..leasing.supervisor import LeaseSupervisor
    from ..remote import AsyncJob, AsyncRemote, Exclusion

_LIMIT_CHECK_INTERVAL = 30.0
"""Max seconds between two looks at the limits: timers stand still while this machine sleeps."""
_LAST_OUTPUT_TIMEOUT = 5.0
"""Max seconds for the rest of the output of a command that has ended."""
MIN_LOGIN_TIMEOUT = 15.0
"""Seconds to log in if `--reconnect` is shorter, or after a pod could not be reached for all of it."""
_FETCH_LOGIN_TIMEOUT = 30.0
"""Max seconds to log in for results before the pod is held, and the login tried again."""
_FAILED_POD_TIMEOUT = 60.0
"""Max seconds to fetch results from a pod that has failed."""
_STOP_TIMEOUT = 5.0
"""Max seconds to end the command on its other nodes after a failure on one."""
_WIND_DOWN_SHARE = 0.1
"""Max part of a limit that the wind-down takes."""
_SHORT_ID = 8


class PodLostError(Exception):
    """The run must continue on another pod: the pod or its job was lost, or some nodes have no job."""


@attrs.define
class Outcome:
    """How the work on a pod has ended so far, for the verdict.

    Attributes:
        reason: Why it ends; ``None`` while it does not.
        command: How the command ended; ``None`` if it has not begun.
        results: The results.
        is_complete: Whether all steps before the deletion were taken.
    """

    results: Results
    reason: Reason | None = None
    command: CommandEnd | None = None
    is_complete: bool = False


class Work:
    """Work of a run, the same on each of its pods.

    Args:
        host: The command that executes the run.
        run: The run; this process holds its lock.
        variables: The command's environment variables.
        interruptions: What asks the run to end.
        write: Writes a line of output, for an item of a run; without it, the output goes to this process's,
            or to the run's files.
    """

    def __init__(
        self,
        host: RunHost,
        run: Run,
        variables: dict[str, str],
        interruptions: RunInterruptions,
        write: Callable[[Stream, str], Awaitable[None]] | None = None,
    ) -> None:
        self._write = write
        self._host = host
        self._run = run
        self._variables = variables
        self._interruptions = interruptions
        self._upload_sizes: dict[str, int] = {}
        self._may_have_begun = False
        """Whether the start of the command was sent, perhaps by an earlier process."""
        self._early_fetches: list[asyncio.Task[None]] = []
        """The task that fetches results while the command runs; it ends before the last fetch."""
        self.outcome = Outcome(Results(host, run))

    def _exclusion(self, local: str) -> Exclusion:
        """Return the exclusion of an upload, which also leaves out the folders that downloads go to."""
        record = self._run.record
        left_out = [f"/{glob.escape(path)}" for path in _result_folders(local, record)]
        return self._host.exclusion([*record.exclude, *left_out], record.exclude_from)

    def measure_uploads(self) -> None:
        """Print the sizes of the uploads, and warn of large ones, before a pod is rented for them."""
        record = self._run.record
        named = [local for local, _ in record.uploads]
        for local in named:
            for path in _result_folders(local, record):
                folder = shown_path(f"{local}/{path}")
                if folder not in map(shown_path, named):
                    self._host.info(
                        f"Not uploaded: {folder}, where a download goes (or give it an --upload of its own)"
                    )
            self._upload_sizes[local] = self._host.measure(local, self._exclusion(local))

    async def do(
        self, client: AsyncClient, lease: LeaseSupervisor, pod: AsyncLeasedPod, *, is_taken_over: bool
    ) -> int:
        """Do the work on a pod until there is a reason to end it, and end it; return the run's exit code.

        Args:
            client: The client.
            lease: The supervisor of the pod's lease.
            pod: The pod.
            is_taken_over: Whether an earlier process of the run may have started the job.

        Raises:
            PodLostError: The run must continue on another pod.
        """
        record = self._run.record
        self._host.waiting("")
        if self._write is None:
            since = record.leased_at if not is_taken_over else None
            begin = "Taken over" if since is None else f"Ready in {short_duration(time.time() - since)}"
            self.show_pod(begin, pod)
        self.outcome = Outcome(Results(self._host, self._run))
        self._may_have_begun = is_taken_over
        nodes = await find_nodes(pod)
        for remote in (pod, *nodes):
            limit_logins(remote, max(record.reconnect, MIN_LOGIN_TIMEOUT))
        jobs = [node.job(self._run.job_name) for node in nodes]
        if len(nodes) > 1:
            self._host.info(f"The command runs on {len(nodes)} nodes")
            self._run.save(nodes=max(record.nodes, len(nodes)))
        working = asyncio.create_task(
            self._start_and_follow(client, pod, nodes, jobs, is_taken_over=is_taken_over)
        )
        lost = asyncio.create_task(self._wait_for_loss(client, lease, pod))
        # In the order of their priority.
        reasons = {
            working: Reason.COMMAND_ENDED,
            lost: Reason.POD_LOST,
            asyncio.create_task(self._interruptions.requested.wait()): Reason.INTERRUPTED,
            asyncio.create_task(self._wait_for_limit(pod)): Reason.LIMIT_NEAR,
        }
        try:
            if record.ending is None:
                await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
                if working.done() and isinstance(working.exception(), ConnectionLostError | LoginError):
                    # Of a lost pod, the connection may end before the API shows the loss.
                    others = [task for task in reasons if task is not working]
                    await asyncio.wait(
                        others, timeout=self._loss_timeout, return_when=asyncio.FIRST_COMPLETED
                    )
                    if lost.done():
                        del reasons[working]
            if lease.is_ending:
                # The lease is ending, for example at a limit, and will cancel this task.
                await asyncio.Event().wait()
            self.outcome.reason = (
                next(reason for task, reason in reasons.items() if task.done())
                if record.ending is None
                else Reason[record.ending]
            )
            self.outcome.results.reached_at = time.monotonic()
            # A pod whose job was lost may be gone; otherwise, leave half of the time for the results.
            timeout = _FETCH_LOGIN_TIMEOUT if self.outcome.reason is Reason.COMMAND_ENDED else math.inf
            if pod.seconds_left is not None:
                timeout = min(timeout, max(pod.seconds_left // 2, MIN_LOGIN_TIMEOUT))
            for remote in (pod, *nodes):
                limit_logins(remote, timeout)
            return await self._end(pod, jobs, working, lost)
        finally:
            await _cancel([*reasons, *self._early_fetches])

    @property
    def _loss_timeout(self) -> float:
        """Seconds within which the API shows the loss of a pod."""
        interval: float = self._run.record.lease["interval"]
        return 2 * LOSS_CHECK_FACTOR * interval

    def show_pod(self, begin: str, pod: AsyncLeasedPod) -> None:
        """Show a pod that is ready; ``begin`` says since when."""
        machine = f"{pod.pod.gpu_count} x {pod.pod.gpu_name} · {pod.pod.provider_type}"
        self._host.info(f"✓ {begin} · {machine} · {money(pod.price_hr)}/h · {short_id(pod.id)}")

    async def _wait_for_loss(self, client: AsyncClient, lease: LeaseSupervisor, pod: AsyncLeasedPod) -> Loss:
        interval = self._run.record.lease["interval"] * LOSS_CHECK_FACTOR
        loss = await wait_until_lost(
            lambda: client.pods.watch([pod.id], interval=interval), watchdog=self._run.record.pod_watchdog
        )
        if lease.is_ending:
            await asyncio.Event().wait()  # it has deleted the pod, and will cancel this
        return loss

    async def _end(
        self,
        pod: AsyncLeasedPod,
        jobs: list[AsyncJob],
        working: asyncio.Task[CommandEnd],
        lost: asyncio.Task[Loss],
    ) -> int:
        """Take the steps of :mod:`._ending` except the deletion; return the run's exit code.

        Raises:
            PodLostError: The run must continue on another pod.
        """
        outcome, record = self.outcome, self._run.record
        loss, code = "", None
        if outcome.reason is Reason.POD_LOST:
            loss = f"The pod {pod.name} was lost: {lost.result().reason}"
        elif outcome.reason is Reason.COMMAND_ENDED:
            try:
                outcome.command = working.result()
            except (JobError, PodLostError) as exc:
                outcome.reason, loss = Reason.JOB_LOST, str(exc).rstrip(".")
            except (ConnectionLostError, LoginError) as exc:
                outcome.reason, code = Reason.UNREACHABLE, self._host.problem(exc)
                limit_logins(pod, MIN_LOGIN_TIMEOUT)
                outcome.results.reached_at = -math.inf
            except Exception as exc:  # noqa: BLE001 - also an error of the host: results first
                outcome.reason, code = Reason.FAILED, self._host.problem(exc)
        reason = outcome.reason or Reason.COMMAND_ENDED
        has_begun = self._run.record.job is not None or self._may_have_begun
        code = code or (record.result if reason.value.is_asked else None) or self._code(reason)
        if reason.value.is_asked:
            if not loss:
                # The next process goes on with this end, if this one dies.
                self._save(ending=reason.name, result=code)
            has_begun = await self._ask_to_end(pod, jobs, working)
        if code is None and outcome.command is not None:
            code = outcome.command.exit_code
        if not loss:
            # Save the code before the deletion: a process that takes over cannot read it from a deleted pod.
            self._save(result=code)
        if has_begun:
            may_hold = not loss or record.restart >= record.restarts
            await self._fetch(pod, lost, may_hold=may_hold)
            self._save(are_fetched=outcome.results.are_complete, job=jobs[0].name)
        if not code and has_begun and not outcome.results.are_complete:
            code = POD_FAILED if outcome.reason is Reason.POD_LOST else FAILED
            self._save(result=code)
        outcome.is_complete = pod.seconds_left != 0.0
        if loss:
            raise PodLostError(loss)
        return code or 0

    def _save(self, **changes: Any) -> None:
        """Change the record; a full disk here must not delete the pod before its results are fetched."""
        self._run.save_or_tell(self._host.problem, **changes)

    def _code(self, reason: Reason) -> int | None:
        return self._interruptions.exit_code if reason is Reason.INTERRUPTED else reason.value.exit_code

    async def _fetch(self, pod: AsyncLeasedPod, lost: asyncio.Task[Loss], *, may_hold: bool) -> None:
        """Fetch the results, unless the pod is lost meanwhile; try it on a pod that has failed."""
        await _cancel(self._early_fetches)
        limit_logins(pod, _FETCH_LOGIN_TIMEOUT)
        outcome = self.outcome
        command = outcome.command if outcome.reason is Reason.COMMAND_ENDED else None
        # Of a lost pod, the job may end before the API shows the loss.
        hold_after = self._loss_timeout if outcome.reason is Reason.JOB_LOST else 0.0
        fetching = asyncio.create_task(
            outcome.results.fetch(pod, command, may_hold=may_hold, hold_after=hold_after)
        )
        try:
            await asyncio.wait({fetching, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not fetching.done() and lost.result().may_answer:
                await asyncio.wait({fetching}, timeout=_FAILED_POD_TIMEOUT)
            if fetching.done():
                fetching.result()
            elif outcome.reason is not Reason.POD_LOST:
                self._host.problem(f"The pod {pod.name} was lost: {lost.result().reason}")
                outcome.reason = Reason.POD_LOST
        finally:
            await _cancel([fetching])

    async def _ask_to_end(
        self, pod: AsyncLeasedPod, jobs: list[AsyncJob], working: asyncio.Task[CommandEnd]
    ) -> bool:
        """Ask the command to end on all nodes, and wait for its end; return whether it had begun."""
        outcome = self.outcome
        has_begun = self._run.record.job is not None
        if not has_begun:
            if self._may_have_begun:
                # The verdict names the results, also if another interruption comes meanwhile.
                self._save(job=jobs[0].name)
            await _cancel([working])
            if not self._may_have_begun:
                return False
        # After a late start or a take-over, less than the whole wind-down may be left.
        left = math.inf if pod.seconds_left is None else pod.seconds_left
        grace = min(self._wind_down(pod), left) / 2
        if has_begun and outcome.reason is not Reason.JOB_LOST:
            self._host.info(
                f"Ending the run, since {self.describe_reason()}. The command gets SIGTERM and up to "
                f"{exact_duration(grace)} to end, then its results are fetched"
            )
        found = await asyncio.gather(*(job.stop(grace=grace) for job in jobs), return_exceptions=True)
        states = [state for state in found if isinstance(state, JobState)]
        problems = [problem for problem in found if isinstance(problem, Exception)]
        if states:
            outcome.results.reached_at = time.monotonic()
        if has_begun and problems and pod.seconds_left != 0.0:
            self._host.problem(problems[0])
        await asyncio.wait({working}, timeout=_LAST_OUTPUT_TIMEOUT)
        if has_begun and working.done() and not working.cancelled() and working.exception() is None:
            outcome.command = working.result()
        elif states:
            outcome.command = _end_of(states)
        if not has_begun and not states and all(isinstance(problem, JobError) for problem in problems):
            self._save(job=None)
            return False
        return True

    def _wind_down(self, pod: AsyncLeasedPod) -> float:
        """Return the seconds before the limit at which the command is asked to end."""
        record = self._run.record
        hours, spend = record.lease["max_hours"], record.lease["max_spend"]
        seconds = [record.wind_down]
        seconds += [] if hours is None else [_WIND_DOWN_SHARE * 3600 * hours]
        if spend is not None and pod.price_hr:
            seconds.append(_WIND_DOWN_SHARE * 3600 * spend / pod.price_hr / max(1, record.pods))
        return min(seconds)

    async def _wait_for_limit(self, pod: AsyncLeasedPod) -> None:
        """Wait until only the time of the wind-down is left before a limit."""
        while self._run.record.wind_down > 0:
            left = math.inf if pod.seconds_left is None else pod.seconds_left - self._wind_down(pod)
            if left <= 0:
                return
            # At least 1 ms, as in the lease: a billionth of a second would make this loop spin.
            await asyncio.sleep(min(max(left, 0.001), _LIMIT_CHECK_INTERVAL))
        await asyncio.Event().wait()

    def describe_reason(self) -> str:
        """Return a phrase for the reason of the end; empty if the command's end says it all."""
        reason = self.outcome.reason
        if reason is Reason.INTERRUPTED:
            return self._interruptions.phrase
        if reason is Reason.LIMIT_NEAR:
            return f"its limit was near ({describe_limits(self._run.record)})"
        return "" if reason is None else reason.value.phrase

    async def _start_and_follow(
        self,
        client: AsyncClient,
        pod: AsyncLeasedPod,
        nodes: Sequence[AsyncRemote],
        jobs: list[AsyncJob],
        *,
        is_taken_over: bool,
    ) -> CommandEnd:
        """Start the command unless it has begun; return how it ended.

        Raises:
            PodLostError: It has begun on some nodes only.
            PrimePodsError: It cannot be started or followed.
        """
        record = self._run.record
        if record.job is None and not (is_taken_over and await _has_started(jobs)):
            await self._start(nodes, jobs[0].name, await self._find_disks(client, pod))
        self._run.save(job=jobs[0].name)
        if record.download_every:
            fetching = self.outcome.results.fetch_regularly(pod, record.download_every)
            self._early_fetches.append(asyncio.create_task(fetching))
        return await self._wait(jobs)

    async def _find_disks(self, client: AsyncClient, pod: AsyncLeasedPod) -> dict[str, str]:
        """Show where the API says that the run's disks are, and return it as variables of the command."""
        variables: dict[str, str] = {}
        if not self._run.record.changes.get("disks"):
            return variables
        names: dict[str, str] = {}
        with suppress(PrimePodsError):
            names = {disk.id: disk.name or disk.id async for disk in client.disks.list()}
        for attached in pod.pod.attached_resources:
            if (name := names.get(attached.id)) is None:
                continue  # the pod's own disk
            if attached.mount_path is None:
                self._host.info(
                    f"The API does not say where the disk {name} is on the pod: see `df -h` there"
                )
            else:
                self._host.info(f"The disk {name} is at {attached.mount_path}")
                variables[f"PRIMEPODS_DISK_{re.sub('[^A-Z0-9]', '_', name.upper())}"] = attached.mount_path
        return variables

    async def upload(self, nodes: Sequence[AsyncRemote]) -> None:
        """Copy the run's uploads to all nodes of a pod."""
        for local, remote in self._run.record.uploads:
            exclusion = self._exclusion(local)
            with self._host.progress(
                f"uploaded {shown_path(local)}", self._upload_sizes.get(local)
            ) as on_progress:
                callbacks = [on_progress] + [None] * (len(nodes) - 1)
                await _all(
                    node.upload(local, remote, exclude=exclusion, on_progress=callback)
                    for node, callback in zip(nodes, callbacks, strict=True)
                )
            self._host.info(f"✓ Uploaded {shown_path(local)} to {remote}")

    def check_variables(self) -> None:
        """Raise :class:`RunError` if a process that has taken over the run lacks variables of the command."""
        missing = set(self._run.record.variables) - self._variables.keys()
        if missing:
            raise RunError(f"these variables are not set here: {', '.join(sorted(missing))}", USAGE)

    async def _start(self, nodes: Sequence[AsyncRemote], name: str, disks: Mapping[str, str]) -> None:
        record = self._run.record
        await self.upload(nodes)
        self.check_variables()
        again = {"PRIMEPODS_RESTART": str(record.restart)} if record.restart else {}
        variables = {**disks, **self._variables, **again}
        self._may_have_begun = True
        ranks: list[dict[str, str]] = await rank_variables(nodes) if len(nodes) > 1 else [{}]
        await _all(
            node.start(record.command, name=name, env=rank | variables, cwd=record.workdir)
            for node, rank in zip(nodes, ranks, strict=True)
        )

    async def _wait(self, jobs: list[AsyncJob]) -> CommandEnd:
        if len(jobs) == 1 and not self._run.record.is_detached and self._write is None:
            result = await jobs[0].wait(check=False, capture=False, reconnect=self._run.record.reconnect)
            return CommandEnd(result.exit_code, result.seconds)
        outputs = {stream: echo(stream) for stream in ("stdout", "stderr")}

        async def write(stream: Stream, line: str) -> None:
            await outputs[stream](line.encode())

        following = [
            asyncio.create_task(self._wait_on(job, self._write or write, node if len(jobs) > 1 else None))
            for node, job in enumerate(jobs)
        ]
        try:
            end = CommandEnd(0, None)
            for ended in asyncio.as_completed(following):
                end = await ended
                if end.exit_code:
                    if len(jobs) > 1 and self.outcome.reason is None:
                        self._host.info("The command has failed on a node: ending it on the others")
                        await _stop(jobs)
                    break
            return end
        finally:
            for task in following:
                task.cancel()
            await asyncio.wait(following)
            for output in outputs.values():
                output.close()

    async def _wait_on(
        self, job: AsyncJob, write: Callable[[Stream, str], Awaitable[None]], node: int | None
    ) -> CommandEnd:
        if self._run.record.is_detached:
            return _end_of([await follow_job(job, self._run, node or 0)])
        async with job.output(reconnect=self._run.record.reconnect) as lines:
            async for line in lines:
                await write(line.stream, f"{line}\n" if node is None else f"{node}: {line}\n")
        return _end_of([await job.state()])


def _result_folders(local: str, record: RunRecord) -> list[str]:
    """Return the folders in an uploaded one to which downloads go, relative to it."""
    root = Path(os.path.abspath(local))  # noqa: PTH100 - `resolve` follows links
    targets = [Path(os.path.abspath(target)) for _, target in record.downloads]  # noqa: PTH100 - as above
    return [
        str(path.relative_to(root).as_posix()) for path in targets if root in path.parents and path.is_dir()
    ]


def short_id(pod_id: str) -> str:
    """Return a prefix of an id that commands accept for it."""
    return pod_id[:_SHORT_ID]


def describe_limits(record: RunRecord) -> str:
    """Return the limits of a run as they were typed, such as ``--max-hours 60s``; empty without a limit."""
    hours, spend = record.lease["max_hours"], record.lease["max_spend"]
    limits: dict[str, str] = {}
    if hours is not None:
        limits["--max-hours"] = short_duration(3600 * hours)
    if spend is not None:
        limits["--max-spend"] = money(spend)
    return ", ".join(f"{option} {record.typed.get(option, limit)}" for option, limit in limits.items())


async def _has_started(jobs: list[AsyncJob]) -> bool:
    """Return whether the jobs have been started on all nodes.

    Raises:
        PodLostError: They have been started on some nodes only.
    """
    started = 0
    for job in jobs:
        with suppress(JobError):
            await job.state()
            started += 1
    if 0 < started < len(jobs):
        raise PodLostError(f"The command has begun on {started} of {len(jobs)} nodes only")
    return started > 0


async def _all(work: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Await all coroutines; the first error cancels the others."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait for their end; ignore their errors."""
    tasks = list(tasks)
    for task in tasks:
        # Read the error also if this call is cancelled: asyncio would log it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _end_of(states: Sequence[JobState]) -> CommandEnd:
    """Return the end of a command on its nodes: the first failure, or the longest run."""
    codes = [state.exit_code for state in states]
    code = next((code for code in codes if code != 0), 0)
    seconds = [
        (state.ended_at - state.started_at).total_seconds() for state in states if state.ended_at is not None
    ]
    return CommandEnd(code, max(seconds, default=None))


async def _stop(jobs: Iterable[AsyncJob]) -> None:
    """Try to end the command on all nodes."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_STOP_TIMEOUT):
            stops = [job.stop(grace=_STOP_TIMEOUT / 2) for job in jobs]
            await asyncio.gather(*stops, return_exceptions=True)
