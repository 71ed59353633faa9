"""A lease for threads that block: the same keeper, in the client's event loop."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable
from types import TracebackType
from typing import Final

from .._utils.arguments import check_callable
from ..errors import PrimePodsError
from ..leasing.keeper import USED_ONCE, Keeper
from ..leasing.lease import LeasedPodView, add_notes, entry_error, exit_error
from ..leasing.leases import Leases
from ..leasing.options import LeaseOptions
from ..models import PodChange
from ..specs import PodSpec
from ._budget_interrupt import Block, BlockInterrupted
from ._portal import Portal

OnChange = Callable[[PodChange], object]

_MOST_INTERRUPTIONS: Final = 100
"""How often waiting for a release is taken up again; the keeper gives up at the second interruption."""


class LeasedPod(LeasedPodView):
    """A pod that is ready, and is deleted at the end of the block: what ``with pods.lease(…)`` gives.

    Attributes:
        pod: The pod, as it was ordered.
        status: Its status when it was ready.
    """

    def __init__(self, keeper: Keeper, portal: Portal, leases: Leases) -> None:
        super().__init__(keeper)
        self._portal = portal
        self._leases = leases

    def keep(self) -> None:
        """Do not delete the pod at the end of the block: it goes on, and is billed, until you delete it."""
        self._portal.call(_as_coroutine, self._keeper.keep)

    def final_cost(self, *, timeout: float = 900.0, interval: float = 15.0) -> float:
        """Return what was billed for the pod, once it is released and its bill has settled.

        It reads ``GET /api/v1/pods/history`` until two looks agree.

        Args:
            timeout: Seconds to wait at most.
            interval: Seconds between two looks, from 0.05.

        Raises:
            WaitTimeoutError: The bill has not settled in time.
        """
        return self._portal.call(self._leases.final_cost, self.id, timeout=timeout, interval=interval)


class Lease:
    """A context manager that rents a pod and gives it back; made by ``pods.lease``, and used once.

    ``with`` it: the block gets a :class:`LeasedPod` that is ready. On every way out the pod is deleted and
    seen gone; what cannot be seen gone is a :class:`~primepods.NotReleasedError`, or a note on the exception
    that is under way.
    """

    def __init__(
        self, portal: Portal, leases: Leases, spec: PodSpec, options: LeaseOptions, on_change: OnChange | None
    ) -> None:
        if on_change is not None:
            check_callable("on_change", on_change)
        self._portal = portal
        self._leases = leases
        self._on_change = on_change
        self._keeper = leases.keeper(spec, options, self._on_budget)
        self._block: Block | None = None

    def __enter__(self) -> LeasedPod:
        keeper = self._keeper
        if self._block is not None:
            # Here: what follows would end the block that uses it.
            raise RuntimeError(USED_ONCE)
        self._block = block = Block()
        try:
            _open_leases[keeper] = self._portal
            pod = self._begin_block()
            block.enter()
        except BaseException as exc:
            block.leave()
            # Its order may be about to be sent by the loop's thread.
            keeper.abandon()
            if keeper.has_begun:
                _wait_for_release(self._portal, keeper, keeper.end)
            _open_leases.pop(keeper, None)
            is_ours = block.is_due and isinstance(exc, BlockInterrupted)
            error = entry_error(keeper) if is_ours else exc
            if keeper.has_begun:
                add_notes(error, keeper)
            block.done(interrupt_outer=not isinstance(error, BlockInterrupted))
            if error is exc:
                raise
            raise error from None
        return pod

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        keeper, block = self._keeper, self._block
        if block is None:
            return
        interrupted: BaseException | None = None
        step = keeper.end
        while True:
            try:
                if not keeper.is_ours:
                    return
                block.leave()
                interrupted = _wait_for_release(self._portal, keeper, step) or interrupted
                break
            except BlockInterrupted:
                # It was asked for before the block was left.
                continue
            except PrimePodsError:
                block.done(interrupt_outer=True)
                raise
            except BaseException as again:  # noqa: BLE001 - Ctrl-C between two steps of this
                interrupted, step = again, keeper.interrupt
        _open_leases.pop(keeper, None)
        if block.is_due and isinstance(exc, BlockInterrupted):
            exc = None
        error = interrupted or (exit_error(keeper) if exc is None else None)
        add_notes(error or exc, keeper)
        block.done(interrupt_outer=not isinstance(exc, BlockInterrupted))
        if error is not None:
            raise error from None

    def _begin_block(self) -> LeasedPod:
        self._portal.call(self._begin, on_change=self._on_change)
        if not self._keeper.is_ready:
            raise entry_error(self._keeper)
        return LeasedPod(self._keeper, self._portal, self._leases)

    async def _begin(self, on_change: OnChange | None) -> None:
        self._leases.open_leases.start(self._keeper, on_change)
        await asyncio.wait({self._keeper.ready})

    def _on_budget(self) -> None:
        if self._block is not None:
            self._block.interrupt()


def release_leases(portal: Portal | None = None) -> None:
    """Release the open leases of a client, or of all clients, together, though their blocks go on."""
    # A copy, since other threads lease pods meanwhile.
    of_all = list(_open_leases.items())
    leases = [(keeper, of) for keeper, of in of_all if portal in {None, of} and keeper.is_open]
    interrupted: BaseException | None = None
    failed: PrimePodsError | None = None
    # The last time for those whose wait was interrupted between two of its steps.
    for wait in (_call, _wait_for_release, _wait_for_release):
        for keeper, of in leases:
            step = keeper.end if interrupted is None else keeper.interrupt
            try:
                interrupted = wait(of, keeper, step) or interrupted
            except PrimePodsError as exc:
                # Its client's loop is gone, and with it the keeper; the others are released all the same.
                failed = exc
            except BaseException as exc:  # noqa: BLE001 - Ctrl-C: as in a block, the others are released all the same
                interrupted = exc
    error = interrupted or failed
    if error is not None:
        raise error


def _call(portal: Portal, keeper: Keeper, step: Callable[[], None]) -> BaseException | None:
    """Have the loop take a step of the release, and wait for nothing else."""
    del keeper
    portal.call(_as_coroutine, step)
    return None


_open_leases: Final[dict[Keeper, Portal]] = {}
# Before the exit of `_portal`, which was registered earlier and so comes later, ends the loops.
atexit.register(release_leases)


def _wait_for_release(portal: Portal, keeper: Keeper, first: Callable[[], None]) -> BaseException | None:
    """Wait until nothing is left to do; return what interrupted that, and so hurried it."""
    interrupted: BaseException | None = None
    step = first
    for _ in range(_MOST_INTERRUPTIONS):
        if not keeper.is_open:
            # Released when its client was closed, whose loop is gone.
            break
        try:
            portal.call(_until_released, keeper, step)
        except PrimePodsError:
            # The client's loop is gone, and with it the keeper.
            raise
        except BaseException as exc:  # noqa: BLE001 - Ctrl-C, or what a signal handler raises
            interrupted, step = exc, keeper.interrupt
        else:
            break
    return interrupted


async def _until_released(keeper: Keeper, step: Callable[[], None]) -> None:
    step()
    await asyncio.wait({keeper.task})


async def _as_coroutine(function: Callable[[], None]) -> None:
    function()
