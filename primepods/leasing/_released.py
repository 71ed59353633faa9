"""Wait for the releases of leases."""

from __future__ import annotations

import asyncio

import anyio

from .supervisor import LeaseSupervisor


async def wait_released(*supervisors: LeaseSupervisor) -> asyncio.CancelledError | None:
    """Wait until nothing is left to do; a cancellation interrupts the releases, and is returned."""
    cancelled: asyncio.CancelledError | None = None
    # Without this shield, a cancel scope around the block would cancel each await, not only the first.
    with anyio.CancelScope(shield=True):
        while unreleased := [each for each in supervisors if each.is_open and not each.is_stranded]:
            try:
                tasks = [supervisor.task for supervisor in unreleased]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as exc:
                cancelled = exc
                for supervisor in unreleased:
                    supervisor.interrupt()
    return cancelled
