"""The tests' own tools: a clock and a server that are trusted by all that follows."""

from __future__ import annotations

import asyncio
import threading
from random import Random

import pytest

from tests.support.client import make_client
from tests.support.clock import ManualClock, settle
from tests.support.server import Server, reply

pytestmark = pytest.mark.anyio


async def test_a_timeout_fires_and_says_so() -> None:
    """The block ends with `TimeoutError`, and `expired` tells it from one that came from inside."""
    clock = ManualClock()

    async def block(when: float) -> bool:
        limit = clock.timeout_at(when)
        with pytest.raises(TimeoutError):
            async with limit:
                await asyncio.get_running_loop().create_future()
        return limit.expired()

    task = asyncio.create_task(block(clock.time() + 5))
    await clock.advance(4.9)
    assert not task.done()
    await clock.advance(0.2)
    assert await task
    assert await block(clock.time())
    inner = clock.timeout_at(clock.time() + 1)
    with pytest.raises(TimeoutError):
        async with inner:
            raise TimeoutError
    assert not inner.expired()
    assert clock.timers == 0


async def test_an_automatic_clock_jumps_when_nothing_else_can_happen() -> None:
    """An hour is slept in no time, and an answer that is on its way comes before the jump."""
    clock = ManualClock(auto=True, chance=Random(1))
    await clock.sleep(3600.0)
    assert clock.elapsed == 3600.0
    sleeper = asyncio.create_task(clock.sleep(0.5))
    await settle()
    await sleeper
    clock = ManualClock(auto=True)
    async with Server([reply({"data": []})]) as server, make_client(server.url, clock=clock) as client:
        await client.request("GET", "/x")
    assert clock.elapsed == 0


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
