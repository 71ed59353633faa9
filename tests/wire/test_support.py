"""The tests' own tools: a clock and a server that are trusted by all that follows."""

from __future__ import annotations

import asyncio
import threading
from random import Random

import pytest

from tests.support.client import make_client
from tests.support.clock import ManualClock, settle
from tests.support.server import Close, Hang, Held, Raw, Reply, Reset, Server, reply

pytestmark = pytest.mark.anyio


async def test_sleepers_wake_in_the_order_of_their_time() -> None:
    """Whoever sleeps shorter wakes first, at the moment asked for, whatever `advance` jumps over."""
    clock = ManualClock()
    woken: list[tuple[float, float]] = []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.elapsed))
        if seconds == 1.0:
            await clock.sleep(0.5)
            woken.append((1.5, clock.elapsed))

    async with asyncio.TaskGroup() as group:
        for seconds in (3.0, 1.0, 2.0, 0.0):
            group.create_task(sleep(seconds))
        await clock.advance(10.0)
    assert woken == [(0.0, 0.0), (1.0, 1.0), (1.5, 1.5), (2.0, 2.0), (3.0, 3.0)]
    assert clock.elapsed == 10.0
    assert clock.timers == 0


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


async def test_the_server_does_as_scripted() -> None:
    """Each kind of misbehaviour shows at a plain socket as it was asked for."""
    event = asyncio.Event()
    script = [
        reply({"a": 1}),
        Reply(200, b"12345", cut=2),
        Reply(200, b"12345", length=9),
        Reply(200, b"12345", chunked=True),
        Raw(b"garbage\r\n\r\n"),
        Reset(),
        Close(),
        Held(event, Reply(204)),
        Hang(),
    ]
    async with Server(script) as server:

        async def ask() -> bytes:
            host, port = server.url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(b"POST /x?a=1&a=2 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
                return await asyncio.wait_for(reader.read(4096), 5)
            finally:
                writer.transport.abort()

        assert (await ask()).endswith(b'Content-Length: 8\r\n\r\n{"a": 1}')
        assert (await ask()).endswith(b"Content-Length: 5\r\n\r\n12")
        assert (await ask()).endswith(b"Content-Length: 9\r\n\r\n12345")
        assert (await ask()).endswith(b"chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n")
        assert await ask() == b"garbage\r\n\r\n"
        with pytest.raises(ConnectionResetError):
            await ask()
        assert await ask() == b""
        asyncio.get_running_loop().call_soon(event.set)
        assert (await ask()).startswith(b"HTTP/1.1 204 No Content")
        task = asyncio.create_task(ask())
        await settle()
        assert not task.done()
        server.reset_connections = 1
        with pytest.raises(ConnectionResetError):
            await ask()
        assert len(server.requests) == 9
        assert server.requests[0].values("a") == ["1", "2"]
        assert {request.body for request in server.requests} == {b"hi"}
        assert [request.connection for request in server.requests] == list(range(9))
    assert await task == b""
    assert server.open == 0
