"""Waiting for the releases of leases."""

from __future__ import annotations

import asyncio

import anyio

from .supervisor import LeaseSupervisor


async def released(*supervisors: LeaseSupervisor) -> asyncio.CancelledError | None:
    """Return when nothing is left to do; a cancellation interrupts the releases, and is returned."""
    cancelled: asyncio.CancelledError | None = None
    # Shielded, or a cancel scope around the block would cancel each of these awaits, not only the first.
    with anyio.CancelScope(shield=True):
        while still_open := [each for each in supervisors if each.is_open and not each.is_stranded]:
            try:
                tasks = [supervisor.task for supervisor in still_open]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as exc:
                cancelled = exc
                for supervisor in still_open:
                    supervisor.interrupt()
    return cancelled
