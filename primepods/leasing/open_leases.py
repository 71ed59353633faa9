"""The leases of a client that are not released yet.

``client`` imports this module, which therefore imports nothing that only leases need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import ClientClosedError

if TYPE_CHECKING:
    from .pods_api import SharedList
    from .supervisor import LeaseSupervisor


class OpenLeases:
    """The leases of a client, and of its ``with_options`` views, that are not released yet."""

    def __init__(self) -> None:
        # An ordered set: the values are unused.
        self._open: dict[LeaseSupervisor, None] = {}
        self._is_closing = False

    @cached_property
    def shared_list(self) -> SharedList:
        """The reader of the pod list that these leases share."""
        from .pods_api import SharedList

        return SharedList()

    def add(self, supervisor: LeaseSupervisor) -> Callable[[], object]:
        """Add a lease that is about to begin; return a function that removes it.

        Raises:
            ClientClosedError: The client is being closed.
        """
        if self._is_closing:
            # The lease's pod would outlive the client.
            msg = "The client is being closed: nothing was ordered. Make a new client, or close it later."
            raise ClientClosedError(msg)
        self._open[supervisor] = None
        return lambda: self._open.pop(supervisor, None)

    async def release(self) -> None:
        """Release all leases. A cancellation interrupts the releases, and is raised at the end."""
        supervisors = [supervisor for supervisor in self._open if supervisor.is_open]
        if not supervisors:
            return
        for supervisor in supervisors:
            supervisor.end()
        self._is_closing = True
        try:
            error = await wait_released(*supervisors) or intercepted_ctrl_c(*supervisors)
        finally:
            self._is_closing = False
        if error is not None:
            raise error


async def wait_released(*supervisors: LeaseSupervisor) -> asyncio.CancelledError | None:
    """Wait until the leases are released, except stranded ones.

    Returns:
        The last cancellation of this wait, if any; each one interrupts the releases.
    """
    import anyio

    cancelled: asyncio.CancelledError | None = None
    # Without this shield, a cancel scope around the block would cancel each await, not only the first.
    with anyio.CancelScope(shield=True):
        while unreleased := [lease for lease in supervisors if lease.is_open and not lease.is_stranded]:
            try:
                tasks = [supervisor.task for supervisor in unreleased]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as exc:
                cancelled = exc
                for supervisor in unreleased:
                    supervisor.interrupt()
    return cancelled


def intercepted_ctrl_c(*supervisors: LeaseSupervisor) -> KeyboardInterrupt | None:
    """Return ``KeyboardInterrupt`` if a lease has intercepted Ctrl-C and this task is not cancelled."""
    task = asyncio.current_task()
    is_cancelled = task is not None and task.cancelling() > 0
    had_ctrl_c = any(supervisor.had_ctrl_c for supervisor in supervisors)
    return KeyboardInterrupt() if had_ctrl_c and not is_cancelled else None
