"""One flow run on one pod: ordered, ready, logged in to, used, and given back on every way out."""

from __future__ import annotations

import logging
import shlex
import tempfile
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio
import attrs

from .. import AsyncClient, AsyncLease, PodChange, PodStatus, PriceTooHighError, SoldOutError, gone
from ._configuration import PrimePodJobConfiguration, is_pod_of
from ._remote import SSH_FAILED, Remote, make_script

if TYPE_CHECKING:
    Log = logging.LoggerAdapter[logging.Logger]

log = logging.getLogger("primepods")

_GONE_TIMEOUT: Final = 600.0
"""Seconds for a deleted pod to be seen gone, as in a lease."""
_MOST_ORDERS: Final = 3
_PAUSE: Final = 1.0


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
        script = make_script(config.command or "", config.setup, config.env)
        for orders in range(1, _MOST_ORDERS + 1):
            spec = await config.pod_spec(client)
            self.log.info("Ordering pod %s: %s x %s", spec.name, spec.gpu_count, spec.gpu_type)
            lease = client.pods.lease(
                spec,
                ready_timeout=config.ready_timeout,
                interval=config.poll_interval,
                on_change=self._log_change,
                max_hours=config.max_hours,
                max_spend=config.max_spend,
            )
            try:
                return await self._in_lease(lease, script, on_start)
            except (SoldOutError, PriceTooHighError) as exc:
                # Somebody else was quicker, such as the next flow run.
                if orders == _MOST_ORDERS:
                    raise
                self.log.info("%s", exc)
            await anyio.sleep(orders * _PAUSE)
        raise AssertionError

    async def _in_lease(
        self, lease: AsyncLease, script: str, on_start: Callable[[], Awaitable[bool]]
    ) -> int | None:
        config = self.configuration
        async with lease as pod:
            if pod.ssh is None:
                raise LookupError(f"Pod {pod.id} is ready, but the API names no address to log in at.")
            with tempfile.TemporaryDirectory(prefix="primepods-") as folder:
                remote = Remote(
                    target=pod.ssh,
                    program=shlex.split(config.ssh_command),
                    options=config.ssh_options,
                    known_hosts=f"{folder}/known_hosts",
                )
                await remote.wait_until_open(config.login_timeout)
                if not await on_start():
                    self.is_stopped = True
                    return None
                self.is_running = True
                on_line = self._log_line if config.stream_output else _drop
                code = await remote.run("exec sh -s", script=script, on_line=on_line)
        self.log.info("Pod %s is gone, after about %.4f; exit code %s", pod.name, pod.spent(), code)
        if code == SSH_FAILED:
            self.log.error("ssh ends with %s when it loses its connection: the pod may have failed", code)
        return code

    def _log_line(self, line: str) -> None:
        self.log.info("%s", line)

    def _log_change(self, change: PodChange) -> None:
        if _stage(change.before) != _stage(change.after):
            self.log.info("Pod %s", change.after or f"{change.pod_id} is gone")


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


def _drop(_: str) -> None:
    """Pass over a line of output."""
