"""Clients that are closed, loops that end, calls that are cancelled: nothing is left or mixed up."""

import asyncio
import gc
import warnings
from collections.abc import Coroutine
from typing import Any

import aiohttp
import pytest

import primepods
from primepods import RetryPolicy
from tests.support.client import make_client, serve
from tests.support.clock import ManualClock, settle
from tests.support.server import Answer, Hang, Held, Received, Reply, Reset, Server, refused_url, reply

PATH = "/api/v1/things"
OK = reply({"ok": True})
ONCE = RetryPolicy(attempts=1)


async def test_a_closed_client_says_so() -> None:
    """After `aclose`, which may come twice, every call raises `ClientClosedError`; the `repr` tells."""
    async with Server(default=OK) as server:
        client = make_client(server.url)
        await client.request("GET", PATH)
        await client.aclose()
        await client.aclose()
        with pytest.raises(primepods.ClientClosedError, match="This client is closed"):
            await client.request("GET", PATH)
        with pytest.raises(primepods.ClientClosedError):
            await client.pods.statuses(["a"])
        assert repr(client).endswith(" closed>")
        never_used = make_client(server.url)
        await never_used.aclose()
        with pytest.raises(primepods.ClientClosedError):
            await never_used.request("GET", PATH)
    assert len(server.requests) == 1


@pytest.mark.parametrize("closed", ["the client", "a client with a session", "the session"])
async def test_closing_ends_what_is_under_way(closed: str) -> None:
    """Calls in flight, in the queue and in a pause end with `ClientClosedError`; none of them hangs."""
    clock = ManualClock()

    def answer(request: Received) -> Answer:
        return Reply(503) if request.path == "/pause" else Hang()

    async with Server(answer) as server, aiohttp.ClientSession() as session:
        given = None if closed == "the client" else session
        client = make_client(server.url, clock=clock, max_concurrency=2, session=given, timeout=60)
        pausing = asyncio.create_task(client.request("GET", "/pause"))
        await settle()
        assert clock.sleeps
        # Not even where nothing would be tried again is this a failure of the network.
        once = client.with_options(retry=ONCE)
        flying = [asyncio.create_task(once.request(method, "/hang")) for method in ("GET", "POST")]
        await settle()
        queued = asyncio.create_task(client.request("GET", "/hang"))
        await settle()
        if closed == "the session":
            await session.close()
            await clock.advance(60)
        else:
            await client.aclose()
            await settle()
            assert all(call.done() for call in (pausing, *flying, queued))
            assert not session.closed
        results = await asyncio.gather(pausing, *flying, queued, return_exceptions=True)
        await client.aclose()
    assert [type(result) for result in results] == [primepods.ClientClosedError] * 4
    what = "The aiohttp session that this client was given" if closed == "the session" else "This client"
    assert {str(result).partition(" is closed")[0] for result in results} == {what}
    assert len(server.requests) == 3


def test_a_client_outlives_its_loop() -> None:
    """A client that is not closed serves a second `asyncio.run` as the first, and leaves nothing open."""
    client: primepods.AsyncClient | None = None

    async def first() -> None:
        nonlocal client
        async with Server(default=OK) as server:
            client = make_client(server.url, max_concurrency=1)
            # Some have to queue: what they queue at must not belong to this loop for good.
            await asyncio.gather(*[client.request("GET", PATH) for _ in range(3)])
            port = int(server.url.rpartition(":")[2])
        ports.append(port)

    async def second() -> None:
        assert client is not None
        async with Server(default=OK, port=ports[0]) as server:
            await asyncio.gather(*[client.request("GET", PATH) for _ in range(3)])
            assert len(server.requests) == 3
            await client.aclose()

    ports: list[int] = []
    # What earlier tests have left is theirs.
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(first())
        asyncio.run(second())
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_a_client_is_closed_after_a_loop_was_thrown_away() -> None:
    """With a call between two attempts in it, which will never be woken: nothing breaks."""
    loop = asyncio.new_event_loop()

    async def begin() -> tuple[primepods.AsyncClient, asyncio.Task[Any]]:
        client = make_client(refused_url(), retry=RetryPolicy(base_delay=30, jitter=False))
        task = asyncio.ensure_future(client.request("GET", PATH))
        await settle()
        return client, task

    client, task = loop.run_until_complete(begin())
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own
    loop.close()
    asyncio.run(client.aclose())
    assert not task.done()


@pytest.mark.parametrize("then", ["dropped", "used in another loop", "closed in another loop"])
def test_a_loop_that_was_closed_without_its_generators_leaves_no_session(then: str) -> None:
    """`loop.close()` alone, as old scripts do it: aiohttp complains of no session and no connector."""

    def run(call: Coroutine[Any, Any, Any]) -> None:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(call)
        finally:
            loop.close()

    gc.collect()
    with warnings.catch_warnings(record=True) as caught, Server(default=OK).in_thread() as server:
        warnings.simplefilter("always")
        client = make_client(server.url)
        run(client.request("GET", PATH))
        if then == "used in another loop":
            run(client.request("POST", PATH))
        elif then == "closed in another loop":
            run(client.aclose())
        del client
        gc.collect()
    # What asyncio itself says of the sockets cannot be helped: nothing can be awaited in that loop any more.
    told = [str(warning.message) for warning in caught]
    assert [text for text in told if not text.startswith(("unclosed transport", "unclosed <socket"))] == []


async def test_a_client_belongs_to_one_running_loop() -> None:
    """From a second loop, while the first one runs, a call is refused; in the first all goes on."""
    async with Server(default=OK) as server, make_client(server.url) as client:
        await client.request("GET", PATH)

        async def call() -> None:
            await client.request("GET", PATH)

        with pytest.raises(primepods.ClientClosedError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, call())
        assert await client.request("GET", PATH) == {"ok": True}


def test_a_session_of_a_loop_that_has_ended_is_told_apart() -> None:
    """A session that belongs to a loop that is over cannot serve another one: the error says so."""

    async def use() -> primepods.AsyncClient:
        session = aiohttp.ClientSession()
        client = make_client(refused_url(), session=session, retry=ONCE)
        with pytest.raises(primepods.TransportError):
            await client.request("GET", PATH)
        kept.append(session)
        return client

    kept: list[aiohttp.ClientSession] = []
    client = asyncio.run(use())
    with pytest.raises(primepods.ClientClosedError, match="session"):
        asyncio.run(client.request("GET", PATH))
    asyncio.run(kept[0].close())


CANCELLED_AT = [*range(25), 30, 40, 50, 60, 80, 100]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["answer", "reset", "retry", "body", "hang"])
@pytest.mark.parametrize("own", [True, False])
async def test_a_cancelled_call_leaves_nothing_behind(*, kind: str, own: bool) -> None:
    """Cancelled at any await, a call passes its `CancelledError` on and frees its slot for the next one."""
    cancelled = 0
    for turns in CANCELLED_AT:
        clock = ManualClock()
        script: dict[str, list[Answer]] = {
            "answer": [OK],
            "reset": [Reset()] * 2,
            "retry": [Reply(503)],
            "body": [Reply(200, b'{"ok": true}', cut=5, stall=True)],
            "hang": [Hang()],
        }
        async with serve(
            script[kind], default=OK, clock=clock, max_concurrency=1, given=None if own else {}
        ) as (server, client):
            task = asyncio.create_task(client.request("GET", PATH))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel("enough")
            await asyncio.wait([task])
            if task.cancelled():
                with pytest.raises(asyncio.CancelledError, match="enough"):
                    await task
                cancelled += 1
            else:
                assert (kind, task.result()) == ("answer", {"ok": True})
            assert clock.timers == 0
            server._answers.clear()
            assert await client.request("GET", PATH) == {"ok": True}
            await settle()
            assert server.in_flight == 0
    # Some loops get further in a turn than others.
    assert cancelled >= 5


async def test_a_cancelled_place_in_the_queue_is_given_up() -> None:
    """Who is cancelled while waiting for a slot takes none, also when that happens just as it comes."""
    event = asyncio.Event()
    async with serve([Held(event, OK)], default=OK, max_concurrency=1) as (_server, client):
        first = asyncio.create_task(client.request("GET", PATH))
        await settle()
        queued = [asyncio.create_task(client.request("GET", PATH)) for _ in range(3)]
        await settle()
        queued[0].cancel()
        first.cancel()
        queued[1].cancel()
        assert await queued[2] == {"ok": True}
        assert await client.request("GET", PATH) == {"ok": True}
        assert {
            type(result) for result in await asyncio.gather(first, *queued[:2], return_exceptions=True)
        } == {asyncio.CancelledError}


async def test_a_callers_own_timeout_is_the_callers() -> None:
    """`asyncio.timeout` around a call ends it as a plain `TimeoutError` of the caller's, not one of ours."""
    async with Server([Hang()], default=OK) as server, make_client(server.url, max_concurrency=1) as client:
        limits: list[asyncio.Timeout] = []

        async def call() -> None:
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                await client.request("GET", PATH)

        task = asyncio.create_task(call())
        await settle()
        limits[0].reschedule(0)
        with pytest.raises(TimeoutError) as caught:
            await task
        assert type(caught.value) is TimeoutError
        assert await client.request("GET", PATH) == {"ok": True}
