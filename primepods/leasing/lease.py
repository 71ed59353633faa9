"""Lease context managers: they provide a pod that is ready, and delete it."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

from .._utils.pod_reference import PodReference
from ..errors import ClientClosedError, PrimePodsError
from ..models import Endpoint, Pod, PodStatus
from ..remote import AsyncRemote
from ..ssh import SSHTarget
from ..waiting import OnChange
from ._cost import final_cost
from ._released import wait_released
from .open_leases import intercepted_ctrl_c
from .supervisor import LeaseSupervisor


class LeasedPodView(PodReference):
    """Properties of a leased pod that need no request; shared by both clients."""

    def __init__(self, supervisor: LeaseSupervisor) -> None:
        self._supervisor = supervisor
        self._rental, pod, status, ssh = supervisor.ready_pod()
        self.pod: Pod = pod
        """The pod, as it was ordered."""
        self.status: PodStatus = status
        """Its status when it was ready."""
        self.name: str = pod.name or self._rental.name
        """Its name, with the suffix that no other pod has."""
        self.ssh: SSHTarget = ssh
        """How to log in to the first node."""

    @property
    def id(self) -> str:
        """Its id."""
        return self.pod.id

    @property
    def pod_id(self) -> str:
        """The id, named as in a status."""
        return self.pod.id

    @property
    def price_hr(self) -> float:
        """Price per hour: the highest that was seen."""
        return self._rental.price_hr

    def endpoint(self, internal_port: int) -> Endpoint | None:
        """Return the public address of a port of the pod, or ``None``.

        Args:
            internal_port: The port in the pod.
        """
        return self.status.endpoint(internal_port)

    def spent(self) -> float:
        """Return the pod's cost since its order, at the highest price seen.

        The bill may differ: the API has its own clock, and charges another price during provisioning. See
        ``final_cost``.
        """
        return self._rental.spent

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} ({self.name}), {self.price_hr:g} an hour>"


class AsyncLeasedPod(LeasedPodView, AsyncRemote):
    """A leased pod, as ``async with pods.lease(…)`` gives it: ready, and deleted at the end of the block.

    Attributes:
        pod: The pod, as it was ordered.
        status: Its status when it was ready.
        name: Its name, with the suffix that no other pod has.
        ssh: How to log in to the first node.

    It has the methods of an :class:`AsyncRemote`: ``run``, ``upload`` and ``download``.
    """

    def __init__(self, supervisor: LeaseSupervisor) -> None:
        LeasedPodView.__init__(self, supervisor)
        AsyncRemote.__init__(self, self.pod.id, self.ssh, supervisor.ssh_options)

    def _check_usable(self) -> None:
        if not self._supervisor.is_usable:
            raise PrimePodsError(
                f"Nothing was sent to pod {self.id}: its lease has ended, and deletes it. "
                "Use the pod only in the block."
            )

    def keep(self) -> None:
        """Do not delete the pod at the end of the block: it runs, and is billed, until you delete it.

        The name of a pod with ``max_hours`` says when it expires: ``sweep(expired=True)`` deletes it then.
        """
        self._supervisor.keep()

    async def final_cost(self, *, timeout: float = 900.0, interval: float = 15.0) -> float:
        """Return what was billed for the pod, once it is released and its bill has settled.

        It polls ``GET /api/v1/pods/history`` until two responses agree.

        Args:
            timeout: Maximum seconds to wait.
            interval: Seconds between two polls, from 0.05.

        Raises:
            WaitTimeoutError: The bill has not settled in time.
        """
        account = self._rental.account
        return await final_cost(
            account.pods, account.settings.clock, self.id, timeout=timeout, interval=interval
        )


class AsyncLease:
    """A context manager that rents a pod and deletes it; made by ``pods.lease``, and used once.

    The ``async with`` block gets an :class:`AsyncLeasedPod` that is ready. On every exit, the pod is deleted
    and confirmed terminated. If that fails, the block raises a :class:`~primepods.NotReleasedError`, or the
    exception that ended it gets a note.
    """

    def __init__(self, supervisor: LeaseSupervisor, on_change: OnChange | None) -> None:
        self.supervisor = supervisor
        self._on_change = on_change
        self._task: asyncio.Task[object] | None = None
        self._in_block = False
        self._has_cancelled_block = False
        self._earlier_cancellations = 0
        """Number of cancellations of the task before the block."""

    async def __aenter__(self) -> AsyncLeasedPod:
        supervisor = self.supervisor
        supervisor.check_unused()
        supervisor.on_pod_lost = self._cancel_block
        try:
            await supervisor.begin(self._on_change)
        except BaseException as exc:
            supervisor.interrupt()
            await wait_released(supervisor)
            add_notes(exc, supervisor)
            raise
        if not supervisor.is_ready:
            error = intercepted_ctrl_c([supervisor]) or entry_error(supervisor)
            add_notes(error, supervisor)
            raise error
        self._task = asyncio.current_task()
        self._earlier_cancellations = self._task.cancelling() if self._task else 0
        self._in_block = True
        return AsyncLeasedPod(supervisor)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._in_block = False
        supervisor = self.supervisor
        if not supervisor.has_begun_in_this_process:
            return
        supervisor.end()
        cancelled = await wait_released(supervisor)
        error = await self._error_to_raise(exc, cancelled)
        add_notes(error or exc, supervisor)
        if error is not None:
            raise error from None

    async def _error_to_raise(
        self, block_error: BaseException | None, cancelled: asyncio.CancelledError | None
    ) -> BaseException | None:
        """Return the error to raise in place of the block's own; ``None`` to leave that one, if any.

        Args:
            block_error: The exception that has ended the block, or ``None``.
            cancelled: A cancellation during the release, or ``None``.
        """
        supervisor = self.supervisor
        # Only a budget's cancellation is undone; one for another loss of the pod stays.
        has_budget_cancelled = self._has_cancelled_block and supervisor.budget_error is not None
        if has_budget_cancelled and await self._uncancel(block_error, cancelled):
            # Forget that cancellation: `exit_error` below then returns the budget's error.
            cancelled = None
            if isinstance(block_error, asyncio.CancelledError):
                block_error = None
        interruption = cancelled or intercepted_ctrl_c([supervisor])
        if interruption is not None:
            return interruption
        return exit_error(supervisor) if block_error is None else None

    def _cancel_block(self) -> None:
        """Cancel the block's task, unless it is cancelled already."""
        if not self._in_block or self._task is None:
            return
        if self._task.cancelling() <= self._earlier_cancellations:
            self._has_cancelled_block = True
            self._task.cancel()

    async def _uncancel(self, *caught: BaseException | None) -> bool:
        """Undo :meth:`_cancel_block`; return whether that was the only cancellation since the block began.

        Args:
            caught: Exceptions that were caught; the cancellation may be one of them.
        """
        if not any(isinstance(exc, asyncio.CancelledError) for exc in caught):
            # The block ended before the cancellation was raised: catch it here.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        return self._task is None or self._task.uncancel() <= self._earlier_cancellations


def entry_error(supervisor: LeaseSupervisor) -> BaseException:
    """Return the error of a lease that got no pod."""
    return (
        supervisor.budget_error
        or supervisor.error
        or supervisor.release_error
        or ClientClosedError("The client was closed before the pod was ready. The pod is deleted.")
    )


def exit_error(supervisor: LeaseSupervisor) -> BaseException | None:
    """Return the error to raise at the end of a block that has not failed."""
    return supervisor.budget_error or supervisor.release_error


def add_notes(error: BaseException | None, supervisor: LeaseSupervisor) -> None:
    """Add the lease's other errors as notes."""
    for other in (supervisor.budget_error, supervisor.release_error):
        if error is not None and other is not None and other is not error:
            error.add_note(str(other))
