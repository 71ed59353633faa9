"""One flow run on one pod: rent the pod, log in, run the command as a job, and delete the pod."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio
import attrs

from .. import (
    AsyncClient,
    AsyncJob,
    AsyncLease,
    AsyncLeasedPod,
    ConfigError,
    ConnectionLostError,
    JobError,
    LoginError,
    Pod,
    PodChange,
    PodSpec,
    PodStatus,
    check_work,
    gone,
)
from ._configuration import PrimePodJobConfiguration, is_pod_of

if TYPE_CHECKING:
    Log = logging.LoggerAdapter[logging.Logger]

log = logging.getLogger("primepods")

_GONE_TIMEOUT: Final = 600.0
"""Seconds to confirm that deleted pods are gone."""
_MAX_ADOPTIONS: Final = 60
"""Max attempts, a second apart, to take over the pod of a worker that may not have ended yet."""
SSH_FAILED: Final = 255
"""Exit code of ``ssh`` for its own errors, such as a lost connection."""
_ON_EXIT: Final = "[ $? != 0 ] || { echo 'The set-up called exit, so the command did not run.' >&2; exit 1; }"
"""Trap of the set-up, whose ``exit 0`` would otherwise count as the success of a command that never ran."""


@attrs.define(kw_only=True, eq=False)
class PodRun:
    """A flow run whose pod is managed by this process.

    Attributes:
        configuration: The order and the command.
        pod: The pod of an earlier worker, on which the command runs.
        offset: Offset of the output that the run's log has.
        has_started: ``True`` from just before the command starts.
        is_stopped: Whether the run was stopped, or must not begin.
        is_left: Whether the pod is kept for another worker.
        state_id: Id of the flow run's state that was last seen; the flow run's own id if the flow run is not
            on the server.
        state_since: When that state was first seen, in seconds of the monotonic clock.
        ended: Set at the end of the run, when its pod is gone or the run has failed.
        report_started: Called just before the command starts.
    """

    flow_run_id: UUID
    configuration: PrimePodJobConfiguration
    log: Log
    pod: Pod | None = None
    offset: int = 0
    has_started: bool = False
    is_stopped: bool = False
    is_left: bool = False
    state_id: UUID | None = None
    state_since: float = 0.0
    ended: anyio.Event = attrs.field(factory=anyio.Event)
    report_started: Callable[[], None] = lambda: None
    _scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)

    def stop(self) -> None:
        """Stop the run at any stage; its pod is deleted."""
        self.is_stopped = True
        self._scope.cancel()

    def leave(self) -> None:
        """End the run here, and keep its pod: another worker follows the command."""
        self.is_left = True
        self._scope.cancel()

    async def execute(self, should_run: Callable[[], Awaitable[bool]]) -> int | None:
        """Rent a pod, run the command on it, and delete it.

        Args:
            should_run: Called after the login, before the command runs; returns whether to run it.

        Returns:
            The command's exit code; ``None`` if the run was stopped or left. Unless it was left, the pod, if
            any, is gone.

        Raises:
            Exception: The run has failed. If a pod may be left, the error or a note of it says so.
        """
        async with self.configuration.get_client() as client:
            with self._scope:
                return await self._run_on_pod(client, should_run)
            if self.is_left:
                return None
            # Only a stopped run gets here. If the lease could not delete the pod, it has added a note to the
            # cancellation, which the scope has swallowed. So delete the pod again: this raises the error.
            await delete_by_prefix(client, self.configuration.pod_name_prefix)
        return None

    async def _run_on_pod(self, client: AsyncClient, should_run: Callable[[], Awaitable[bool]]) -> int | None:
        config = self.configuration
        # Validate before anything is rented.
        config.check()
        script = shell_script(config.command or "", config.setup)
        env = {name: value for name, value in config.env.items() if value is not None}
        check_work(script, env=env)
        order = self.pod or await config.pod_specs(client)
        if not isinstance(order, Pod):
            first = order[0]
            self.log.info("Ordering pod %s: %s x %s", first.name, first.gpu_count, first.gpu_type)
        lease = await self._make_lease(client, order)
        async with lease as pod:
            if self.pod is not None:
                self.log.info("Continuing on pod %s, with the command of an earlier worker", pod.name)
            elif not await should_run():
                self.is_stopped = True
                return None
            self.report_started()
            self.has_started = True
            try:
                job = pod.job(pod.name) if self.pod else await pod.start(script, name=pod.name, env=env)
                code = await self._follow(job)
            except (ConnectionLostError, JobError, LoginError) as exc:
                # Without a traceback in the run's log.
                self.log.log(logging.ERROR, "%s The pod may have failed.", exc)
                code = SSH_FAILED
            except anyio.get_cancelled_exc_class():
                self._keep_if_left(pod)
                raise
        self.log.info("Pod %s is gone and has cost about $%.2f; exit code %s", pod.name, pod.spent(), code)
        return code

    async def _make_lease(self, client: AsyncClient, order: Pod | list[PodSpec]) -> AsyncLease:
        config, attempts_left = self.configuration, _MAX_ADOPTIONS
        while True:
            try:
                return client.pods.lease(
                    order,
                    login=True,
                    login_timeout=config.login_timeout,
                    ssh_options=config.ssh_options,
                    ssh_command=config.ssh_command,
                    ready_timeout=config.ready_timeout,
                    interval=config.poll_interval,
                    on_change=self._log_change,
                    max_hours=config.max_hours,
                    max_spend=config.max_spend,
                    wind_down=0.0,  # nothing here uses the pod after a cancellation by the limit
                )
            except ConfigError as exc:
                # The worker that has left the pod may not have ended yet.
                attempts_left -= 1
                if not (exc.transient and attempts_left):
                    raise
                await anyio.sleep(1.0)

    def _keep_if_left(self, pod: AsyncLeasedPod) -> None:
        """Keep the pod if the worker ends, or another one has the run, but not after its limit."""
        is_over = pod.seconds_left is not None and pod.seconds_left <= 0
        is_wanted = self.is_left or self.configuration.has_limited_pod
        self.is_left = is_wanted and not (is_over or self.is_stopped)
        if self.is_left:
            pod.keep()

    async def _follow(self, job: AsyncJob) -> int:
        """Wait for the command's end, and return its exit code."""
        async with job.output(offset=self.offset) as output:
            async for line in output:
                self.log.info("%s", line.text)
                self.offset = line.offset
        if output.state is None or output.state.exit_code is None:
            raise AssertionError  # an output ends with its job
        return output.state.exit_code

    def _log_change(self, change: PodChange) -> None:
        if _stage(change.before) != _stage(change.after):
            self.log.info("Pod %s", change)


def shell_script(command: str, setup: str | None) -> str:
    """Return a script that runs the set-up, then the command with the set-up's exports."""
    # Run the command in another shell, since `set -e` is for the set-up only.
    run = f"exec sh -c {shlex.quote(command)}"
    if not setup:
        return run
    # Use `eval`, so that a quote left open in the set-up does not swallow the command.
    return f"set -e; trap {shlex.quote(_ON_EXIT)} EXIT; eval {shlex.quote(setup)}\ntrap - EXIT; {run}"


async def delete_by_prefix(client: AsyncClient, name_prefix: str) -> bool:
    """Delete the pods of one attempt of a flow run, and confirm that they are gone.

    ``name_prefix`` may also be the whole name of a pod. To be found, a pod needs only an id and a name in its
    row of the list.

    Returns:
        Whether any pod was found.

    Raises:
        PrimePodsError: The pods could not be listed, deleted or confirmed gone, or none was found but a row
            cannot be read. A pod may be billed.
    """
    listed = client.pods._listed()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the public list lacks rows that cannot be read
    rows, unreadable = await listed.find(lambda row: is_pod_of(name_prefix, row.name))
    pods = [row.id for row in rows]
    if not pods:
        if unreadable is not None:
            raise unreadable
        return False
    if unreadable is not None:
        log.warning("search for the pod %r is incomplete: %s", name_prefix, unreadable)
    (await client.pods.delete_many(pods, missing_ok=True)).raise_for_errors()
    await client.pods.wait(pods, until=gone, timeout=_GONE_TIMEOUT, interval=2.0)
    return True


def _stage(status: PodStatus | None) -> object:
    """Return the part of a status whose changes are logged, without the progress of an installation."""
    if status is None:
        return None
    return status.status, status.installation_status, status.is_ready
