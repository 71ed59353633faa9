"""One flow run on one pod: ordered, ready, logged in to, used, and given back on every way out."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio
import attrs

from .. import AsyncClient, ConnectionLostError, OutputLine, PodChange, PodStatus, gone
from ._configuration import PrimePodJobConfiguration, is_pod_of
from ._log_text import log_text

if TYPE_CHECKING:
    Log = logging.LoggerAdapter[logging.Logger]

log = logging.getLogger("primepods")

_GONE_TIMEOUT: Final = 600.0
"""Seconds for a deleted pod to be seen gone, as in a lease."""
SSH_FAILED: Final = 255
"""What ``ssh`` itself exits with when it loses its connection."""
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@attrs.define(kw_only=True, eq=False)
class PodRun:
    """A flow run that has, or will have, a pod in this process.

    Attributes:
        flow_run_id: The flow run.
        configuration: What to order and to run.
        log: The flow run's log.
        infrastructure_pid: What the server was last told.
        is_running: Whether the command has begun.
        is_stopped: Whether it was told to end before its command does.
        ended: Set when nothing is left to do.
        error: What went wrong, once ``ended`` is set.
    """

    flow_run_id: UUID
    configuration: PrimePodJobConfiguration
    log: Log
    infrastructure_pid: str = ""
    is_running: bool = False
    is_stopped: bool = False
    ended: anyio.Event = attrs.field(factory=anyio.Event)
    error: Exception | None = None
    _scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)

    def stop(self) -> None:
        """End it, whatever it does; its pod is deleted."""
        self.is_stopped = True
        self._scope.cancel()

    async def execute(self, on_start: Callable[[], Awaitable[bool]]) -> int | None:
        """Rent a pod, run the command on it, and give it back.

        Args:
            on_start: Called when the pod lets us log in, and the command is about to run; returns whether it
                still shall.

        Returns:
            The command's exit code; ``None`` if it was stopped. The pod has been seen gone.

        Raises:
            Exception: What went wrong. The pod has been seen gone, or the error says that it was not.
        """
        async with self.configuration.get_client() as client:
            with self._scope:
                return await self._on_pod(client, on_start)
            # What the lease could not do was noted with a cancellation that nobody sees.
            await delete_by_name(client, self.configuration.pod_name)
        return None

    async def _on_pod(self, client: AsyncClient, on_start: Callable[[], Awaitable[bool]]) -> int | None:
        config = self.configuration
        # Refused before anything is rented.
        line, env = shell_line(config.command or "", config.setup), checked_env(config.env)
        specs = await config.pod_specs(client)
        for spec in specs[:1]:
            self.log.info("Ordering pod %s: %s x %s", spec.name, spec.gpu_count, spec.gpu_type)
        lease = client.pods.lease(
            specs,
            login=True,
            login_timeout=config.login_timeout,
            ssh_options=config.ssh_options,
            ssh_command=config.ssh_command,
            ready_timeout=config.ready_timeout,
            interval=config.poll_interval,
            on_change=self._log_change,
            max_hours=config.max_hours,
            max_spend=config.max_spend,
        )
        async with lease as pod:
            if not await on_start():
                self.is_stopped = True
                return None
            self.is_running = True
            on_line = self._log_line if config.stream_output else _drop
            try:
                code = (await pod.run(line, env=env, on_line=on_line, check=False)).exit_code
            except ConnectionLostError as exc:
                self.log.error("%s The pod may have failed.", exc)  # noqa: TRY400 - no traceback in a run's log
                code = SSH_FAILED
        self.log.info("Pod %s is gone, after about %.4f; exit code %s", pod.name, pod.spent(), code)
        return code

    def _log_line(self, line: OutputLine) -> None:
        if text := log_text(line.text):
            self.log.info("%s", text)

    def _log_change(self, change: PodChange) -> None:
        if _stage(change.before) != _stage(change.after):
            self.log.info("Pod %s", change.after or f"{change.pod_id} is gone")


def shell_line(command: str, setup: str | None) -> str:
    """Return a line that sets up and runs a command, for which what the set-up exports is there."""
    run = f"exec sh -c {shlex.quote(command)}"
    return f"set -e; eval {shlex.quote(setup)}\n{run}" if setup else run


def checked_env(env: Mapping[str, str | None]) -> dict[str, str]:
    """Return the variables that are set.

    Raises:
        ValueError: A variable that no environment can hold; its value is not shown.
    """
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name) or "\0" in (value or ""):
            raise ValueError(
                f"The environment variable {name!r} cannot be set on the pod: names are letters, digits and "
                "_, and values hold no NUL. Change `env` in the job variables."
            )
    return {name: value for name, value in env.items() if value is not None}


async def delete_by_name(client: AsyncClient, name: str) -> bool:
    """Delete the pods whose names begin so, and see them gone; unreadable rows of others are passed over.

    Returns:
        Whether there were any.

    Raises:
        PrimePodsError: One could not be deleted, or not be seen gone. It may be billed.
    """
    pods, unreadable = await client.pods.list().find(lambda pod: is_pod_of(name, pod))
    if unreadable is not None:
        log.warning("looking for the pod %r: %s", name, unreadable)
    if not pods:
        return False
    (await client.pods.delete_many(pods, missing_ok=True)).raise_for_errors()
    await client.pods.wait(pods, until=gone, timeout=_GONE_TIMEOUT, interval=2.0)
    return True


def _stage(status: PodStatus | None) -> object:
    """What is worth a line in the log when it changes: not each percent of an installation."""
    return status and (status.status, status.installation_status, status.is_ready)


def _drop(_: OutputLine) -> None:
    """Pass over a line of output."""
