"""Blocking leases: drive the asynchronous ones in the client's event loop."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable
from itertools import product
from types import TracebackType
from typing import Final

from .._utils.arguments import check_callable
from ..errors import PrimePodsError
from ..leasing.lease import AsyncLease, LeasedPodView, add_notes, entry_error, exit_error
from ..leasing.supervisor import LeaseSupervisor
from ..models import PodChange
from ..remote import AsyncRemote
from ._call import in_calling_thread
from ._portal import Portal
from ._remote import Remote

OnChange = Callable[[PodChange], object]

_MAX_INTERRUPTIONS: Final = 100
"""Maximum interruptions of a wait for a release; the lease itself gives up at the second."""


class LeasedPod(LeasedPodView, Remote):
    """A pod that is ready, and is deleted at the end of the block: what ``with pods.lease(…)`` gives.

    Attributes:
        pod: The pod, as it was ordered.
        status: Its status when it was ready.
        name: Its name, with the suffix that no other pod has.
        ssh: The ssh target of the first node.

    It can do what a :class:`Remote` can: ``run`` commands, ``upload`` and ``download``.
    """

    def __init__(self, supervisor: LeaseSupervisor, portal: Portal) -> None:
        LeasedPodView.__init__(self, supervisor)
        Remote.__init__(self, portal, AsyncRemote(self.pod.id, self.ssh, supervisor.ssh_options))

    def keep(self) -> None:
        """Do not delete the pod at the end of the block: it goes on, and is billed, until you delete it.

        The name of a pod with ``max_hours`` says when it expires: ``sweep(expired=True)`` deletes it then.
        """
        self._portal.call(_as_coroutine, self._supervisor.keep)

    def final_cost(self, *, timeout: float = 900.0, interval: float = 15.0) -> float:
        """Return what was billed for the pod, once it is released and its bill has settled.

        It polls ``GET /api/v1/pods/history`` until two responses agree.

        Args:
            timeout: Maximum seconds to wait.
            interval: Seconds between two polls, from 0.05.

        Raises:
            WaitTimeoutError: The bill has not settled in time.
        """
        return self._portal.call(self._supervisor.final_cost, timeout=timeout, interval=interval)


class Lease:
    """A context manager that rents a pod and gives it back; made by ``pods.lease``, and used once.

    ``with`` it: the block gets a :class:`LeasedPod` that is ready. On every exit the pod is deleted and
    confirmed terminated; else the block ends with a :class:`~primepods.NotReleasedError`, or with a note on
    the exception that ends it.
    """

    def __init__(self, portal: Portal, lease: AsyncLease, on_change: OnChange | None) -> None:
        if on_change is not None:
            check_callable("on_change", on_change)
        self._portal = portal
        self._lease = lease
        self._on_change = on_change
        self._is_entered = False

    def __enter__(self) -> LeasedPod:
        supervisor = self._lease.supervisor
        if self._is_entered:
            # Check first: the code below would end the block that already uses it.
            supervisor.check_unused()
        self._is_entered = True
        try:
            _portals[supervisor] = self._portal
            return self._begin_block(supervisor)
        except BaseException as exc:
            # The loop's thread may be about to send its order.
            supervisor.abandon()
            if supervisor.has_begun:
                _wait_for_release(self._portal, supervisor, supervisor.end)
                add_notes(exc, supervisor)
            _portals.pop(supervisor, None)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        supervisor = self._lease.supervisor
        interrupted: BaseException | None = None
        step = supervisor.end
        while True:
            try:
                if not supervisor.is_ours:
                    return
                interrupted = _wait_for_release(self._portal, supervisor, step) or interrupted
                break
            except PrimePodsError:
                raise
            except BaseException as again:  # noqa: BLE001 - Ctrl-C between two steps of this
                interrupted, step = again, supervisor.interrupt
        _portals.pop(supervisor, None)
        error = interrupted or (exit_error(supervisor) if exc is None else None)
        add_notes(error or exc, supervisor)
        if error is not None:
            raise error from None

    def _begin_block(self, supervisor: LeaseSupervisor) -> LeasedPod:
        self._portal.call(supervisor.begin, on_change=in_calling_thread(self._on_change))
        if not supervisor.is_ready:
            raise entry_error(supervisor)
        return LeasedPod(supervisor, self._portal)


def release_leases(portal: Portal | None = None) -> None:
    """Release the open leases of a client, or of all clients, together, even if their blocks go on."""
    leases = _open_leases(portal)
    interrupted: BaseException | None = None
    failed: PrimePodsError | None = None
    # Start all, then wait for all: twice, in case an interruption came between two steps of the first wait.
    for wait, (supervisor, of) in product((_call, _wait_for_release, _wait_for_release), leases):
        step = supervisor.end if interrupted is None else supervisor.interrupt
        try:
            interrupted = wait(of, supervisor, step) or interrupted
        except PrimePodsError as exc:
            # Its client's loop is gone, and with it the supervisor; still release the others.
            failed = exc
        except BaseException as exc:  # noqa: BLE001 - Ctrl-C: as in a block, still release the others
            interrupted = exc
    error = interrupted or failed
    if error is not None:
        raise error


def _open_leases(portal: Portal | None) -> list[tuple[LeaseSupervisor, Portal]]:
    """Return the leases of a client, or of all clients, that have something left to do."""
    # A copy, since other threads may lease pods meanwhile.
    of_all = list(_portals.items())
    return [(supervisor, of) for supervisor, of in of_all if portal in {None, of} and supervisor.is_open]


def _call(portal: Portal, supervisor: LeaseSupervisor, step: Callable[[], None]) -> BaseException | None:
    """Run one step of the release in the loop."""
    del supervisor
    portal.call(_as_coroutine, step)
    return None


_portals: Final[dict[LeaseSupervisor, Portal]] = {}
# Runs before the handler of `_loop`, registered earlier, which ends the loops.
atexit.register(release_leases)


def _wait_for_release(
    portal: Portal, supervisor: LeaseSupervisor, first: Callable[[], None]
) -> BaseException | None:
    """Wait for the end of the release; return the interruption that hurried it, if any."""
    interrupted: BaseException | None = None
    step = first
    for _ in range(_MAX_INTERRUPTIONS):
        if not supervisor.is_open:
            # Already released when its client was closed.
            break
        try:
            portal.call(_until_released, supervisor, step)
        except PrimePodsError:
            # The client's loop is gone, and with it the supervisor.
            raise
        except BaseException as exc:  # noqa: BLE001 - Ctrl-C, or what a signal handler raises
            interrupted, step = exc, supervisor.interrupt
        else:
            break
    return interrupted


async def _until_released(supervisor: LeaseSupervisor, step: Callable[[], None]) -> None:
    step()
    await asyncio.wait({supervisor.task})


async def _as_coroutine(function: Callable[[], None]) -> None:
    function()
