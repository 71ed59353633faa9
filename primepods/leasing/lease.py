"""The lease of the async client: a context manager that provides a pod, and deletes it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from .._utils.arguments import check_interval, check_seconds
from .._utils.money import money
from .._utils.pod_reference import PodReference
from .._utils.summaries import html_table
from ..errors import ClientClosedError, PrimePodsError, WaitTimeoutError
from ..models import Endpoint, Node, Pod, PodStatus
from ..remote import AsyncRemote
from ..ssh import SSHTarget
from ..waiting.wait import OnChange
from .open_leases import intercepted_ctrl_c, wait_released
from .pods_api import read_ended_pods
from .supervisor import LeaseSupervisor


class LeasedPodView(PodReference):
    """Members of a leased pod that need no request; shared by both clients."""

    def __init__(self, supervisor: LeaseSupervisor) -> None:
        self._supervisor = supervisor
        self._rental = rental = supervisor.rentals[-1]
        if rental.pod is None or rental.status is None or rental.status.ssh is None:
            raise RuntimeError("The pod is not ready.")
        self.pod: Pod = rental.pod
        """The pod, as it was ordered."""
        self.status: PodStatus = rental.status
        """The pod's status when it was ready."""
        self.name: str = rental.pod.name or rental.name
        """The pod's name, with a unique suffix."""
        self.ssh: SSHTarget = rental.status.ssh
        """SSH target of the first node that has one."""

    @property
    def id(self) -> str:
        """The pod's id."""
        return self.pod.id

    @property
    def pod_id(self) -> str:
        """The id, named as in a status."""
        return self.pod.id

    @property
    def price_hr(self) -> float:
        """The highest price per hour so far; the order's ``max_price``, or 0, until a price is known."""
        return self._rental.price_hr

    @property
    def is_kept(self) -> bool:
        """Whether ``keep`` was called: the end of the lease does not delete the pod."""
        return self._rental.is_kept

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the lease reaches ``max_hours`` or, at the present price, ``max_spend``.

        ``None`` without a limit, and for a kept pod.
        """
        return self._supervisor.seconds_left

    def endpoint(self, internal_port: int) -> Endpoint | None:
        """Return the public address of a port; ``None`` if the API showed none when the pod was ready.

        Args:
            internal_port: The port in the pod.
        """
        return self.status.endpoint(internal_port)

    def spent(self) -> float:
        """Return the pod's cost since its order, at the highest price seen.

        The cost rises until the pod is confirmed gone or, if it is kept, until the lease ends. The bill may
        differ: the API has another clock, and charges another price during provisioning. See ``final_cost``.
        """
        return self._rental.spent

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} ({self.name}), {money(self.price_hr)} an hour>"

    def _repr_html_(self) -> str:
        price, spent = money(self.price_hr), money(self.spent())
        row = (self.id, self.name, price, f"about {spent}", self.ssh)
        return html_table("Leased pod", ("id", "name", "price per hour", "spent", "ssh"), [row])


class AsyncLeasedPod(LeasedPodView, AsyncRemote):
    """The pod of a lease: ready in the ``async with`` block, and deleted at its end unless it is kept.

    Attributes:
        pod: The pod, as it was ordered.
        status: The pod's status when it was ready.
        name: The pod's name, with a unique suffix.
        ssh: SSH target of the first node that has one.

    It has the methods of an :class:`AsyncRemote`, such as ``run``, ``upload`` and ``download``.
    """

    def __init__(self, supervisor: LeaseSupervisor) -> None:
        LeasedPodView.__init__(self, supervisor)
        AsyncRemote.__init__(self, self.pod.id, self.status.nodes, supervisor.options.ssh)

    async def _find_nodes(self, *, again: bool = False) -> tuple[Node, ...]:
        return (await self._rental.client.pods.get(self.id)).nodes if again else self.status.nodes

    def _check_usable(self) -> None:
        # The address of a deleted pod may be given to another machine.
        if self._supervisor.is_ending and not self._rental.is_kept:
            reason, error = "has ended", self._supervisor.budget_error
            if error is not None:
                reason = f"has reached max_{error.budget}={error.limit:g}"
            raise PrimePodsError(
                f"Nothing was sent to pod {self.id}: its lease {reason}, and deletes it. "
                "Use the pod only in the block."
            )

    def keep(self) -> None:
        """Do not delete the pod at the end of the block: it runs, and is billed, until you delete it.

        Once the lease is ending, this only logs a warning. The name of a pod with ``max_hours`` says when it
        expires: ``sweep(expired=True)`` deletes it then.
        """
        self._supervisor.keep()

    async def final_cost(self, *, timeout: float = 900.0, interval: float = 15.0) -> float:
        """Return the amount billed for the pod, once the pod is released and its bill has settled.

        It polls ``GET /api/v1/pods/history`` until two responses agree.

        Args:
            timeout: Max seconds to wait.
            interval: Seconds between two polls, at least 0.05.

        Raises:
            WaitTimeoutError: The bill has not settled in time.
        """
        check_seconds("timeout", timeout)
        check_interval(interval)
        clock = self._rental.client.settings.clock
        ends_at = clock.time() + timeout
        billed = await self._read_bill()
        while clock.time() + interval <= ends_at:
            await clock.sleep(interval)
            previous, current = billed, await self._read_bill()
            if current is not None and current == previous:
                return current
            billed = previous if current is None else current
        found = (
            "no record of its end was found in the history"
            if billed is None
            else f"the last amount is {money(billed)}"
        )
        raise WaitTimeoutError(
            f"After {timeout:g} s the bill of pod {self.id} has not settled: {found}. Look at "
            "`pods.history()` later.",
            statuses={},
            pending=(self.id,),
        )

    async def _read_bill(self) -> float | None:
        records = await read_ended_pods(self._rental.client.pods)
        return next((record.total_billed_price for record in records if record.id == self.id), None)


class AsyncLease:
    """A context manager that rents a pod and deletes it; made by ``pods.lease``, and used once.

    The ``async with`` block gets an :class:`AsyncLeasedPod` that is ready. On every exit, the pod is deleted
    and confirmed gone, unless the block has called ``keep``. If that fails, the block raises a
    :class:`~primepods.NotReleasedError`, or the exception that ended it gets a note.
    """

    def __init__(self, supervisor: LeaseSupervisor, on_change: OnChange | None) -> None:
        self.supervisor = supervisor
        self._on_change = on_change
        self._block: asyncio.Timeout | None = None
        self._task: asyncio.Task[Any] | None = None
        self._earlier_cancellations = 0
        """Number of cancellations of the task before the block."""

    async def __aenter__(self) -> AsyncLeasedPod:
        supervisor = self.supervisor
        supervisor.check_unused()
        supervisor.end_block = self._end_block
        try:
            await supervisor.begin(self._on_change)
            check_ready(supervisor, intercepted_ctrl_c(supervisor))
        except BaseException as exc:
            # An error of the lease is no interruption: its release may still be running.
            if isinstance(exc, Exception):
                supervisor.end()
            else:
                supervisor.interrupt()
            await wait_released(supervisor)
            add_notes(exc, supervisor)
            raise
        self._task = task = asyncio.current_task()
        self._earlier_cancellations = task.cancelling() if task else 0
        # `asyncio.Timeout` distinguishes its own cancellation of the block from other cancellations.
        self._block = await asyncio.timeout(None).__aenter__()
        return AsyncLeasedPod(supervisor)

    def _end_block(self) -> asyncio.Task[Any] | None:
        """Cancel the block, but only once; return its task."""
        task = self._task
        if self._block is None or task is None:
            return None
        # A block that something else has cancelled may be saving its work: cancel it only with its lease.
        is_told = self._block.expired() or task.cancelling() > self._earlier_cancellations
        if not is_told or (self.supervisor.is_ending and not self._block.expired()):
            self._block.reschedule(0)
        return task

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        supervisor = self.supervisor
        if not supervisor.has_begun_in_this_process:
            return
        supervisor.end()
        block, self._block = self._block, None
        cancelled: asyncio.CancelledError | None = None
        try:
            if block is not None:
                await block.__aexit__(kind, exc, traceback)
                if block.expired() and not isinstance(exc, asyncio.CancelledError):
                    # The block has ended before its cancellation was raised: raise it here.
                    await asyncio.sleep(0)
        except TimeoutError:
            # Only this lease has cancelled the block. A budget error replaces the CancelledError.
            if supervisor.block_error is not None:
                exc = None
        except asyncio.CancelledError as another:
            task = asyncio.current_task()
            if task is None or task.cancelling() > self._earlier_cancellations:
                cancelled = another
        cancelled = await wait_released(supervisor) or cancelled
        error = cancelled or intercepted_ctrl_c(supervisor) or (None if exc else exit_error(supervisor))
        add_notes(error or exc, supervisor)
        if error is not None:
            raise error from None


def check_ready(supervisor: LeaseSupervisor, interrupted: BaseException | None = None) -> None:
    """Raise the error of a lease that got no pod."""
    if not supervisor.is_ready or supervisor.budget_error is not None:
        closed = ClientClosedError(
            "The lease ended before its block began, for example because the client was closed. "
            "The lease deletes the pod."
        )
        raise (interrupted or supervisor.block_error or supervisor.release_error or closed)


def exit_error(supervisor: LeaseSupervisor) -> BaseException | None:
    """Return the error to raise at the end of a block that has not failed."""
    return supervisor.block_error or supervisor.release_error


def add_notes(error: BaseException | None, supervisor: LeaseSupervisor) -> None:
    """Add the lease's other errors as notes."""
    for other in (supervisor.block_error, supervisor.release_error):
        if error is not None and other is not None and other is not error:
            error.add_note(str(other))
