"""The work of a run on its pod: upload, start the command as a job or find the job, follow it, download."""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import ConnectionLostError, JobError, PrimePodsError, TransferError
from ..remote import echo, find_nodes, rank_variables
from ._follow import follow_job
from ._host import FAILED, INTERRUPTED, USAGE, RunError, RunHost
from ._run import Run

if TYPE_CHECKING:
    from ..client import AsyncClient
    from ..leasing.lease import AsyncLease, AsyncLeasedPod
    from ..remote import AsyncJob, AsyncRemote, Exclusion

_MAX_DOWNLOAD_ATTEMPTS = 3
"""Max attempts to download a result if the connection is lost."""
_LOSS_CHECK_FACTOR = 6
"""Interval of the checks for a lost pod, as a multiple of the poll interval."""
_STOP_TIMEOUT = 5.0
"""Max seconds to end the command on its nodes."""


class PodLostError(Exception):
    """The run must continue on another pod: the pod or its job was lost, or some nodes have no job."""


class Work:
    """Work of a run, the same on each of its pods.

    Args:
        host: The command that executes the run.
        run: The run; this process holds its lock.
        variables: The command's environment variables.
    """

    def __init__(self, host: RunHost, run: Run, variables: dict[str, str]) -> None:
        self._host = host
        self._run = run
        self._variables = variables
        self._upload_sizes: dict[str, int] = {}

    @cached_property
    def _exclusion(self) -> Exclusion:
        record = self._run.record
        return self._host.exclusion(record.exclude, record.exclude_from)

    def measure_uploads(self) -> None:
        """Print the sizes of the uploads, and warn of large ones, before a pod is rented for them."""
        for local, _ in self._run.record.uploads:
            self._upload_sizes[local] = self._host.measure(local, self._exclusion)

    async def do(
        self,
        client: AsyncClient,
        lease: AsyncLease,
        pod: AsyncLeasedPod,
        *,
        is_taken_over: bool,
    ) -> int:
        """Do the work on a pod, and return the command's exit code, or 1 if only a download has failed.

        Args:
            client: The client.
            lease: The lease of the pod.
            pod: The pod.
            is_taken_over: Whether an earlier process of the run may have started the job.

        Raises:
            PodLostError: The run must continue on another pod.
        """
        record = self._run.record
        self._host.info(f"Logged in to {pod.name} ({pod.id}): {pod.ssh}")
        if record.is_stopping:
            raise RunError("stopped", INTERRUPTED)
        nodes = await find_nodes(pod)
        name = f"{self._run.name}-{record.restart}"
        jobs = [node.job(name) for node in nodes]
        if len(nodes) > 1:
            self._host.info(f"The command runs on {len(nodes)} nodes")
            self._run.save(nodes=max(record.nodes, len(nodes)))
        try:
            if record.job is None and not (is_taken_over and await _has_started(jobs)):
                await self._start(nodes, name)
            self._run.save(job=name)
            try:
                code = await self._follow(client, lease, pod, jobs)
            except ConnectionLostError:
                # Fetch the results so far: the pod may be deleted next.
                await self._download_all(lease, pod)
                raise
        except asyncio.CancelledError:
            await _stop(jobs)
            raise
        download_code = await self._download_all(lease, pod)
        code = code or download_code
        # Save the code before the deletion: a process that takes over cannot read it from a deleted pod.
        self._run.save(result=code)
        return code

    async def _start(self, nodes: Sequence[AsyncRemote], name: str) -> None:
        record = self._run.record
        for local, remote in record.uploads:
            with self._host.progress(
                f"uploaded {shown_path(local)}", self._upload_sizes.get(local)
            ) as on_progress:
                callbacks = [on_progress] + [None] * (len(nodes) - 1)
                await _all(
                    node.upload(local, remote, exclude=self._exclusion, on_progress=callback)
                    for node, callback in zip(nodes, callbacks, strict=True)
                )
            self._host.info(f"Uploaded {shown_path(local)} to {remote}")
        missing = set(record.variables) - self._variables.keys()
        if missing:
            raise RunError(f"these variables are not set here: {', '.join(sorted(missing))}", USAGE)
        again = {"PRIMEPODS_RESTART": str(record.restart)} if record.restart else {}
        ranks: list[dict[str, str]] = await rank_variables(nodes) if len(nodes) > 1 else [{}]
        await _all(
            node.start(record.command, name=name, env=rank | self._variables | again, cwd=record.workdir)
            for node, rank in zip(nodes, ranks, strict=True)
        )

    async def _follow(
        self,
        client: AsyncClient,
        lease: AsyncLease,
        pod: AsyncLeasedPod,
        jobs: list[AsyncJob],
    ) -> int:
        """Return the command's exit code; on several nodes, the first that is not 0.

        Raises:
            PodLostError: The pod was deleted or stopped, has failed, or has lost the job.
        """
        following = asyncio.create_task(self._wait(jobs))
        interval = self._run.record.lease["interval"] * _LOSS_CHECK_FACTOR
        watching = asyncio.create_task(_watch_loss(client, pod, interval))
        try:
            await asyncio.wait({following, watching}, return_when=asyncio.FIRST_COMPLETED)
            if lease.supervisor.is_ending:
                # The lease is ending, for example at a limit, and will cancel this task.
                await asyncio.Event().wait()
            if not following.done():
                raise PodLostError(f"The pod {pod.name} was lost: {watching.result()}")
            return following.result()
        except JobError:
            raise PodLostError(f"The job on the pod {pod.name} was lost") from None
        finally:
            for task in (following, watching):
                task.cancel()
            await asyncio.wait({following, watching})

    async def _wait(self, jobs: list[AsyncJob]) -> int:
        if len(jobs) == 1 and not self._run.record.is_detached:
            result = await jobs[0].wait(check=False, capture=False, reconnect=self._run.record.reconnect)
            return result.exit_code
        outputs = {stream: echo(stream) for stream in ("stdout", "stderr")}
        following = [asyncio.create_task(self._wait_on(node, job, outputs)) for node, job in enumerate(jobs)]
        try:
            for ended in asyncio.as_completed(following):
                if code := await ended:
                    if len(jobs) > 1:
                        self._host.info("The command has failed on a node: ending it on the others")
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
        self, node: int, job: AsyncJob, outputs: Mapping[str, Callable[[bytes], Awaitable[None]]]
    ) -> int:
        if self._run.record.is_detached:
            return (await follow_job(job, self._run, node)).exit_code or 0
        async with job.output(reconnect=self._run.record.reconnect) as lines:
            async for line in lines:
                await outputs[line.stream](f"{node}: {line}\n".encode())
        return (await job.state()).exit_code or 0

    async def _download_all(self, lease: AsyncLease, pod: AsyncLeasedPod) -> int:
        """Download the results; return 0, or 1 if one cannot be downloaded."""
        record = self._run.record
        code = 0
        for remote, local in record.downloads:
            source = remote if remote.startswith("~") else posixpath.join(record.workdir or "", remote)
            try:
                await self._download(pod, source, local)
            except (TransferError, ConnectionLostError, OSError) as error:
                # Fetch the others: the pod may be deleted next.
                self._host.problem(error)
                code = FAILED
            else:
                self._host.info(f"Downloaded {remote} to {shown_path(local)}")
        if code and record.keep_on_failed_download and not lease.supervisor.rentals[-1].is_kept:
            pod.keep()
            self._host.info(f"Keeping the pod, since a download failed: try `primepods cp {pod.id}:PATH .`")
        return code

    async def _download(self, pod: AsyncLeasedPod, source: str, local: str) -> None:
        for attempts_left in reversed(range(_MAX_DOWNLOAD_ATTEMPTS)):
            try:
                with self._host.progress(f"downloaded {source}") as on_progress:
                    await pod.download(source, local, on_progress=on_progress)
            except ConnectionLostError as error:
                if not attempts_left:
                    raise
                self._host.problem(f"{error} Trying again.")
            else:
                return


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
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _stop(jobs: Iterable[AsyncJob]) -> None:
    """Try to end the command on all nodes."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_STOP_TIMEOUT):
            stops = [job.stop(grace=_STOP_TIMEOUT / 2) for job in jobs]
            await asyncio.gather(*stops, return_exceptions=True)


def shown_path(path: str) -> str:
    """Return a local path for messages, relative to the current folder; keep a slash at its end."""
    try:
        shown = os.path.relpath(path)
    except OSError:  # the current folder was deleted
        return path
    return shown + ("/" if path.endswith("/") else "")


async def _watch_loss(client: AsyncClient, pod: AsyncLeasedPod, interval: float) -> str:
    """Wait until the API shows that a pod is lost; return the reason."""
    while True:
        with suppress(PrimePodsError):
            async for change in client.pods.watch([pod.id], interval=interval):
                status = change.after
                if status is None:
                    return "it is gone"
                if status.has_failed or status.has_ended:
                    return status.failure or f"it is {status.status}"
        await asyncio.sleep(interval)
