"""The tests' own tools: a clock and a server that are trusted by all that follows."""

import asyncio
import threading

from tests.support.clock import ManualClock


async def test_an_automatic_clock_waits_for_threads() -> None:
    """It does not jump while a thread is at work for the loop, however long that takes."""
    clock = ManualClock(auto=True)
    sleeper = asyncio.create_task(clock.sleep(5))
    finish = threading.Event()
    at_work = asyncio.create_task(asyncio.to_thread(finish.wait))
    for _ in range(5):
        await asyncio.sleep(0.005)
    early = clock.elapsed
    finish.set()
    await at_work
    await sleeper
    assert (early, clock.elapsed) == (0, 5)
