"""Waits of tests for what another process or thread does."""

import asyncio
import time
from collections.abc import Callable


async def eventually(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Return when the condition holds.

    Raises:
        TimeoutError: It does not hold in time.
    """
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


def wait_for(condition: Callable[[], object], what: str = "", seconds: float = 60.0) -> None:
    """Return when the condition holds, in a test without an event loop."""
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, f"in vain: {what}"
        time.sleep(0.002)
