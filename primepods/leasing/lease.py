"""What a lease is to its user: a context manager that gives a pod that is ready, and takes it back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType

from .._utils.pod_reference import PodReference
from ..errors import ClientClosedError
from ..models import Endpoint, Pod, PodStatus
from ..ssh import SSHTarget
from ..waiting import OnChange
from .keeper import Keeper, released
from .open_leases import OpenLeases, held_back_ctrl_c

FinalCost = Callable[..., Awaitable[float]]


class LeasedPodView(PodReference):
    """What is known of a leased pod without asking: the part that both clients share."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self.pod: Pod
        """The pod, as it was ordered."""
        self.status: PodStatus
        """Its status when it was ready."""
        self.pod, self.status = keeper.handed_over()

    @property
    def id(self) -> str:
        """Its id."""
        return self.pod.id

    @property
    def pod_id(self) -> str:
        """The id, under the name that it has in a status."""
        return self.pod.id

    @property
    def name(self) -> str | None:
        """Its name."""
        return self.pod.name

    @property
    def ssh(self) -> SSHTarget | None:
        """How to log in to the first node."""
        return self.status.ssh

    @property
    def price_hr(self) -> float:
        """What it costs an hour."""
        return self.pod.price_hr

    def endpoint(self, internal_port: int) -> Endpoint | None:
        """Return where a port of the pod is reached from outside, or ``None``.

        Args:
            internal_port: The port in the pod.
        """
        return self.status.endpoint(internal_port)

    def spent(self) -> float:
        """Return what it has cost so far: the price of its order for the time since then.

        The API bills by its own clock, and other prices while a pod is provisioned: see ``final_cost``.
        """
        return self._keeper.spent()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} ({self.name}), {self.price_hr:g} an hour>"


class AsyncLeasedPod(LeasedPodView):
    """A pod that is ready, and is deleted at the end of the block: what ``async with pods.lease(…)`` gives.

    Attributes:
        pod: The pod, as it was ordered.
        status: Its status when it was ready.
    """

    def __init__(self, keeper: Keeper, final_cost: FinalCost) -> None:
        super().__init__(keeper)
        self._final_cost = final_cost

    def keep(self) -> None:
        """Do not delete the pod at the end of the block: it goes on, and is billed, until you delete it."""
        self._keeper.keep()

    async def final_cost(self, *, timeout: float = 900.0, interval: float = 15.0) -> float:
        """Return what was billed for the pod, once it is released and its bill has settled.

        It reads ``GET /api/v1/pods/history`` until two looks agree.

        Args:
            timeout: Seconds to wait at most.
            interval: Seconds between two looks, from 0.05.

        Raises:
            WaitTimeoutError: The bill has not settled in time.
        """
        return await self._final_cost(self.id, timeout=timeout, interval=interval)


class AsyncLease:
    """A context manager that rents a pod and gives it back; made by ``pods.lease``, and used once.

    ``async with`` it: the block gets an :class:`AsyncLeasedPod` that is ready. On every way out the pod is
    deleted and seen gone; what cannot be seen gone is a :class:`~primepods.NotReleasedError`, or a note on
    the exception that is under way.
    """

    def __init__(
        self,
        make_keeper: Callable[[Callable[[], None]], Keeper],
        on_change: OnChange | None,
        open_leases: OpenLeases,
        final_cost: FinalCost,
    ) -> None:
        self._keeper = make_keeper(self._cancel_block)
        self._on_change = on_change
        self._open_leases = open_leases
        self._final_cost = final_cost
        self._task: asyncio.Task[object] | None = None
        self._in_block = self._has_cancelled = False
        self._cancelling = 0

    async def __aenter__(self) -> AsyncLeasedPod:
        keeper, task = self._keeper, asyncio.current_task()
        self._open_leases.start(keeper, self._on_change)
        try:
            await asyncio.wait({keeper.ready})
        except BaseException as exc:
            keeper.interrupt()
            await released(keeper)
            add_notes(exc, keeper)
            raise
        if not keeper.is_ready:
            error = held_back_ctrl_c([keeper]) or entry_error(keeper)
            add_notes(error, keeper)
            raise error
        self._task, self._cancelling = task, task.cancelling() if task else 0
        self._in_block = True
        return AsyncLeasedPod(keeper, self._final_cost)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._in_block = False
        keeper = self._keeper
        if not keeper.is_ours:
            return
        keeper.end()
        cancelled = await released(keeper)
        if self._has_cancelled and await self._take_back_cancellation(exc, cancelled):
            cancelled = None
            exc = None if isinstance(exc, asyncio.CancelledError) else exc
        error = cancelled or held_back_ctrl_c([keeper]) or (exit_error(keeper) if exc is None else None)
        add_notes(error or exc, keeper)
        if error is not None:
            raise error from None

    def _cancel_block(self) -> None:
        """End the block: its pod is gone, because the budget is used up."""
        if self._in_block and self._task is not None:
            self._has_cancelled = True
            self._task.cancel()

    async def _take_back_cancellation(self, *delivered: BaseException | None) -> bool:
        """Take back what :meth:`_cancel_block` did; returns whether nobody else has cancelled the task."""
        if not any(isinstance(exc, asyncio.CancelledError) for exc in delivered):
            # Asked for when the block had just ended: it would be raised at the next await.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        return self._task is None or self._task.uncancel() <= self._cancelling


def entry_error(keeper: Keeper) -> BaseException:
    """Return why a lease brought no pod; nothing is left of it, or :func:`add_notes` says so."""
    return (
        keeper.budget_error
        or keeper.error
        or keeper.not_released
        or ClientClosedError("The client was closed before the pod was ready. It is deleted.")
    )


def exit_error(keeper: Keeper) -> BaseException | None:
    """Return what is wrong at the end of a block that has not failed."""
    return keeper.budget_error or keeper.not_released


def add_notes(error: BaseException | None, keeper: Keeper) -> None:
    """Note with the error that is raised what else the caller has to know."""
    for other in (keeper.budget_error, keeper.not_released):
        if error is not None and other is not None and other is not error:
            error.add_note(str(other))
