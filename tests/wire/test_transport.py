"""Connections: when they are opened, whose they are, how many, what comes over them, how they end."""

from __future__ import annotations

import asyncio
import gc
import gzip
import warnings
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

import primepods
from primepods import RetryPolicy
from primepods._http.failure import MAX_BODY
from tests.support.client import KEY, make_client
from tests.support.clock import ManualClock, settle
from tests.support.server import (
    Answer,
    Endless,
    Hang,
    Held,
    Raw,
    Received,
    Reply,
    Reset,
    Server,
    blurting,
    refused_url,
    reply,
)

PATH = "/api/v1/things"
OK = reply({"ok": True})
ONCE = RetryPolicy(attempts=1)


@pytest.mark.anyio
async def test_nothing_is_opened_before_the_first_call() -> None:
    """Construction connects to nothing; the first call does, the second uses the same connection."""
    async with Server(default=OK) as server:
        client = make_client(server.url)
        async with client:
            await settle()
            assert server.connections == 0
            for _ in range(2):
                assert await client.request("GET", PATH) == {"ok": True}
            assert (server.connections, server.open) == (1, 1)
        await settle()
        assert server.open == 0


def test_construction_needs_no_loop() -> None:
    """A client can be a module's global: made outside of any loop, also with views."""
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    client = primepods.AsyncClient(KEY).with_options(timeout=1)
    assert repr(client) == "<AsyncClient https://api.primeintellect.ai>"


@pytest.mark.anyio
async def test_a_callers_session_is_used_and_left_open() -> None:
    """Its connections and headers serve our calls; the key is ours; `aclose` ends the client only."""
    async with (
        Server(default=OK) as server,
        aiohttp.ClientSession(headers={"X-Mine": "1", "Authorization": "Basic abc"}) as session,
    ):
        async with make_client(server.url, session=session) as client:
            assert await client.request("GET", PATH) == {"ok": True}
        async with session.get(server.url) as response:
            assert response.status == 200
        with pytest.raises(primepods.ClientClosedError):
            await client.request("GET", PATH)
        assert not session.closed
    assert server.connections == 1
    assert server.requests[0].headers["x-mine"] == "1"
    assert server.requests[0].raw_head.lower().count(b"authorization:") == 1
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.anyio
async def test_a_function_makes_sessions_that_end_with_the_client() -> None:
    """Called in the loop at first use; the poller of waits has one of its own. What is wrong is said."""
    made: list[aiohttp.ClientSession] = []

    def make() -> aiohttp.ClientSession:
        made.append(aiohttp.ClientSession(headers={"X-Mine": "1"}))
        return made[-1]

    row = {"podId": "a", "status": "TERMINATED"}
    async with (
        Server(default=reply({"data": [row]})) as server,
        make_client(server.url, session=make) as client,
    ):
        assert not made
        await client.request("GET", PATH)
        await client.request("GET", PATH)
        assert len(made) == 1
        await client.pods.wait(["a"], until=lambda _: True)
        assert [session.closed for session in made] == [False, True]
    assert all(session.closed for session in made)
    assert {request.headers["x-mine"] for request in server.requests} == {"1"}
    async with primepods.AsyncClient(KEY, session=lambda: "session") as client:  # type: ignore[arg-type, return-value]
        with pytest.raises(TypeError, match="must return"):
            await client.request("GET", PATH)


@pytest.mark.anyio
async def test_a_callers_session_may_be_set_up_in_any_way() -> None:
    """A base URL, raise_for_status, a timeout or no decompression of its own do not get in the way."""
    body = gzip.compress(b'{"ok": true}')

    def answer(request: Received) -> Answer:
        if request.target.endswith("missing"):
            return reply({"detail": "no"}, 404)
        return Reply(200, body, headers={"Content-Encoding": "gzip"})

    async with (
        Server(answer) as server,
        aiohttp.ClientSession(
            base_url="http://elsewhere.example.test/",
            raise_for_status=True,
            timeout=aiohttp.ClientTimeout(total=1e-9),
            auto_decompress=False,
        ) as session,
        make_client(server.url, session=session) as client,
    ):
        assert await client.request("GET", PATH) == {"ok": True}
        with pytest.raises(primepods.NotFoundError):
            await client.request("GET", "/missing")
    assert {request.headers["accept-encoding"] for request in server.requests} == {"gzip, deflate"}


@pytest.mark.anyio
async def test_a_session_with_credentials_of_its_own_is_refused() -> None:
    """`auth` of a session would go out in the key's place: that is said at construction."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        session = aiohttp.ClientSession(auth=aiohttp.BasicAuth("me", "secret"))
    async with session:
        with pytest.raises(primepods.ConfigError, match="auth"):
            primepods.AsyncClient(KEY, session=session)
    with pytest.raises(TypeError, match="session must be"):
        primepods.AsyncClient(KEY, session="session")  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_netrc_has_no_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A .netrc that knows the host changes nothing, not even for a session that trusts the environment."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with Server(default=OK) as server, aiohttp.ClientSession(trust_env=True) as session:
        for own in (None, session):
            async with make_client(server.url, session=own) as client:
                assert await client.request("GET", PATH) == {"ok": True}
    assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {KEY}"] * 2


@pytest.mark.anyio
async def test_a_callers_hooks_see_our_requests() -> None:
    """Trace configs, as OpenTelemetry sets them, and middlewares of a caller's session are called as ever."""
    seen: list[str] = []

    async def note(_: object, __: object, params: aiohttp.TraceRequestStartParams) -> None:
        seen.append(f"start {params.method} {params.url.path}")
        params.headers["traceparent"] = "00-1-2-01"

    async def done(_: object, __: object, params: aiohttp.TraceRequestEndParams) -> None:
        seen.append(f"end {params.response.status}")

    async def through(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        seen.append("middleware")
        request.headers["X-Middle"] = "1"
        return await handler(request)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(note)
    trace.on_request_end.append(done)
    async with (
        Server(default=OK) as server,
        aiohttp.ClientSession(trace_configs=[trace], middlewares=[through]) as session,
        make_client(server.url, session=session) as client,
    ):
        await client.request("GET", PATH)
    assert seen == [f"start GET {PATH}", "middleware", "end 200"]
    assert server.requests[0].headers["traceparent"] == "00-1-2-01"
    assert server.requests[0].headers["x-middle"] == "1"


@pytest.mark.anyio
async def test_what_a_callers_middleware_raises_is_raised() -> None:
    """An exception that is no failure of the wire comes through as it is, and costs no slot."""

    class OddError(Exception):
        def __init__(self, *, number: int) -> None:
            super().__init__(number)

    broken = True

    async def through(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if broken:
            raise OddError(number=7)
        return await handler(request)

    async with (
        Server(default=OK) as server,
        aiohttp.ClientSession(middlewares=[through]) as session,
        make_client(server.url, session=session, max_concurrency=1) as client,
    ):
        for _ in range(3):
            with pytest.raises(OddError):
                await client.request("GET", PATH)
        broken = False
        assert await client.request("GET", PATH) == {"ok": True}


@pytest.mark.anyio
@pytest.mark.parametrize("own", [True, False])
async def test_no_more_requests_in_flight_than_allowed(*, own: bool) -> None:
    """The bound holds over all callers and all views of a client, and is used to the full."""
    event = asyncio.Event()
    async with Server(default=Held(event, OK)) as server, aiohttp.ClientSession() as session:
        client = make_client(server.url, max_concurrency=5, session=None if own else session)
        view = client.with_options(timeout=20)
        calls = [
            asyncio.create_task(caller.request("GET", f"{PATH}/{n}"))
            for n in range(20)
            for caller in (client, view, view.with_options(deadline=50))
        ]
        await settle()
        assert (server.in_flight, len(server.requests)) == (5, 5)
        event.set()
        assert await asyncio.gather(*calls) == [{"ok": True}] * 60
        assert server.most_in_flight == 5
        assert server.connections == 5
        await client.aclose()


@pytest.mark.anyio
async def test_a_call_that_pauses_makes_room_for_others() -> None:
    """The pause before a retry holds no slot."""
    clock = ManualClock()
    async with (
        Server([Reply(503), OK, OK]) as server,
        make_client(server.url, clock=clock, max_concurrency=1) as client,
    ):
        first = asyncio.create_task(client.request("GET", PATH))
        await settle()
        assert await client.request("GET", PATH) == {"ok": True}
        assert not first.done()
        await clock.advance(1)
        assert await first == {"ok": True}


@pytest.mark.anyio
async def test_a_body_without_an_end_is_not_held() -> None:
    """An endless stream is cut at the limit; no more than that is ever in memory."""
    endless = Endless(b" " * 1_000_000)
    async with Server(default=endless) as server, make_client(server.url, timeout=50) as client:
        with pytest.raises(primepods.ProtocolError, match=f"more than {MAX_BODY:,} bytes"):
            await client.request("GET", PATH)
        assert len(server.requests) == 1
        await settle()
        assert server.open == 0


@pytest.mark.anyio
async def test_compressed_answers_are_unpacked_and_broken_ones_retried() -> None:
    """Compression is asked for and undone; a stream that is torn or none may be better next time."""
    clock = ManualClock(auto=True)
    good = Reply(200, gzip.compress(b'{"ok": true}'), headers={"Content-Encoding": "gzip"})
    bad = Reply(200, b'{"ok": true}', headers={"Content-Encoding": "gzip"})
    torn = Reply(200, good.body[:-16], headers={"Content-Encoding": "gzip"})
    async with Server([bad, torn, good]) as server, make_client(server.url, clock=clock) as client:
        assert await client.request("GET", PATH) == {"ok": True}
    assert len(server.requests) == 3
    assert "gzip" in server.requests[0].headers["accept-encoding"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n{}",
        *(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}", b"HTTP/1.1 2000 OK\r\n\r\n{}"),
        *(b"HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"<html>", b"\x16\x03\x01\x00\x00"),
        *(b"\r\n" * 10, b"\x00" * 70_000),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 50 + b"\r\n{}",
    ],
)
async def test_garbage_is_an_error_of_ours(data: bytes) -> None:
    """Whatever a server sends in place of HTTP: an error of our tree, and the next call works."""
    async with (
        Server([Raw(data), Raw(data), OK]) as server,
        make_client(server.url, retry=ONCE, max_concurrency=1) as client,
    ):
        with pytest.raises((primepods.TransportError, primepods.ProtocolError)):
            await client.request("GET", PATH)
        while len(server.requests) < 2:
            with pytest.raises((primepods.TransportError, primepods.ProtocolError)):
                await client.request("GET", PATH)
        assert await client.request("GET", PATH) == {"ok": True}


@pytest.mark.anyio
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


@pytest.mark.anyio
@pytest.mark.parametrize("own", [True, False])
async def test_closing_ends_what_is_under_way(*, own: bool) -> None:
    """Calls in flight, in the queue and in a pause end with `ClientClosedError`; none of them hangs."""
    clock = ManualClock()

    def answer(request: Received) -> Answer:
        return Reply(503) if request.path == "/pause" else Hang()

    async with Server(answer) as server, aiohttp.ClientSession() as session:
        client = make_client(
            server.url, clock=clock, max_concurrency=2, session=None if own else session, timeout=60
        )
        pausing = asyncio.create_task(client.request("GET", "/pause"))
        await settle()
        assert clock.sleeps
        # Not even where nothing would be tried again is this a failure of the network.
        once = client.with_options(retry=ONCE)
        flying = [asyncio.create_task(once.request(method, "/hang")) for method in ("GET", "POST")]
        await settle()
        queued = asyncio.create_task(client.request("GET", "/hang"))
        await settle()
        if own:
            await client.aclose()
            await settle()
            assert pausing.done()
        else:
            await session.close()
            await clock.advance(60)
        results = await asyncio.gather(pausing, *flying, queued, return_exceptions=True)
        await client.aclose()
    assert [type(result) for result in results] == [primepods.ClientClosedError] * 4
    what = "This client" if own else "The aiohttp session that this client was given"
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
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(first())
        asyncio.run(second())
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_a_client_is_closed_in_a_loop_that_it_never_knew() -> None:
    """`aclose` works in another loop than the one that opened the connections, once that has ended."""

    async def use() -> primepods.AsyncClient:
        async with Server(default=OK) as server:
            client = make_client(server.url)
            await client.request("GET", PATH)
            return client

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = asyncio.run(use())
        asyncio.run(client.aclose())
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    with pytest.raises(primepods.ClientClosedError):
        asyncio.run(client.request("GET", PATH))


def test_a_client_is_closed_after_a_loop_was_thrown_away() -> None:
    """With a call between two attempts in it, which will never be woken: nothing breaks."""
    loop = asyncio.new_event_loop()

    async def begin() -> tuple[primepods.AsyncClient, asyncio.Task[Any]]:
        client = make_client(refused_url(), retry=RetryPolicy(base_delay=30, jitter=False))
        task = asyncio.ensure_future(client.request("GET", PATH))
        await settle()
        return client, task

    client, task = loop.run_until_complete(begin())
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    asyncio.run(client.aclose())
    assert not task.done()


@pytest.mark.anyio
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


@pytest.mark.anyio
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
        async with (
            Server(script[kind], default=OK) as server,
            aiohttp.ClientSession() as session,
            make_client(
                server.url, clock=clock, max_concurrency=1, session=None if own else session
            ) as client,
        ):
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
    assert cancelled > 10


@pytest.mark.anyio
async def test_a_cancelled_place_in_the_queue_is_given_up() -> None:
    """Who is cancelled while waiting for a slot takes none, also when that happens just as it comes."""
    event = asyncio.Event()
    async with (
        Server([Held(event, OK)], default=OK) as server,
        make_client(server.url, max_concurrency=1) as client,
    ):
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


@pytest.mark.anyio
async def test_a_callers_own_timeout_is_the_callers() -> None:
    """`asyncio.timeout` around a call ends it as a plain `TimeoutError` of the caller's, not one of ours."""
    async with Server([Hang()], default=OK) as server, make_client(server.url, max_concurrency=1) as client:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.02):
                await client.request("GET", PATH)
        assert type(caught.value) is TimeoutError
        assert await client.request("GET", PATH) == {"ok": True}


@pytest.mark.anyio
async def test_a_host_that_does_not_exist_has_received_nothing() -> None:
    """A failed look-up of the name is a `TransportError`, tried again also for a POST."""

    class NoNames(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
            raise OSError(None, f"no such name: {host}")

        async def close(self) -> None:
            pass

    clock = ManualClock(auto=True)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=NoNames())) as session,
        make_client("https://api.example.test", clock=clock, session=session) as client,
    ):
        with pytest.raises(primepods.TransportError, match=r"api\.example\.test") as caught:
            await client.request("POST", PATH)
    assert caught.value.attempts == 5
    assert not caught.value.maybe_received


@pytest.mark.anyio
async def test_time_spent_on_looking_up_a_host_sends_nothing() -> None:
    """A timeout before the connection is there: a POST is repeated, and arrives once; a 404 is a 404."""
    waiting = asyncio.Event()

    class SlowNames(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
            await waiting.wait()
            return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=2, proto=0, flags=0)]

        async def close(self) -> None:
            pass

    def answer(request: Received) -> Answer:
        return reply({"detail": "no such pod"}, 404) if request.method == "DELETE" else OK

    for method in ("POST", "DELETE"):
        clock = ManualClock()
        waiting.clear()
        async with (
            Server(answer) as server,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=SlowNames())) as session,
            make_client(
                server.url.replace("127.0.0.1", "slow.localhost"), clock=clock, session=session, timeout=3
            ) as client,
        ):
            call = asyncio.create_task(client.request(method, PATH))
            await clock.advance(3)
            assert clock.sleeps
            waiting.set()
            await clock.advance(1)
            if method == "POST":
                assert await call == {"ok": True}
            else:
                with pytest.raises(primepods.NotFoundError) as caught:
                    await call
                assert not caught.value.maybe_acted
            assert len(server.requests) == 1


@pytest.mark.anyio
async def test_https_to_a_port_that_speaks_http_says_so() -> None:
    """It is no matter of certificates, and does not pass."""
    async with (
        blurting(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (place, _),
        make_client(f"https://{place}") as client,
    ):
        with pytest.raises(primepods.TransportError, match="does not speak TLS there") as caught:
            await client.request("POST", PATH)
    error = caught.value
    assert "ertificate" not in str(error)
    assert (error.attempts, error.transient, error.maybe_received) == (1, False, False)


@pytest.mark.anyio
async def test_a_handshake_that_is_cut_off_may_work_the_next_time() -> None:
    """A server that hangs up in it has received nothing, and may be about to restart."""
    clock = ManualClock(auto=True)
    async with blurting() as (place, heard), make_client(f"https://{place}", clock=clock) as client:
        with pytest.raises(primepods.TransportError) as caught:
            await client.request("POST", PATH)
    assert caught.value.attempts == len(heard) == 5
    assert not caught.value.maybe_received


@pytest.mark.anyio
async def test_connecting_has_a_limit_of_its_own() -> None:
    """Where no connection comes about in 10 s, the message says so and nothing was received."""

    async def slow(request: aiohttp.ClientRequest, _: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        msg = f"Connection timeout to host {request.url}"
        raise aiohttp.ConnectionTimeoutError(msg)

    clock = ManualClock(auto=True)
    async with (
        aiohttp.ClientSession(middlewares=[slow]) as session,
        make_client(refused_url(), clock=clock, session=session, timeout=60) as client,
    ):
        with pytest.raises(primepods.RequestTimeoutError, match="no connection within 10 s") as caught:
            await client.request("POST", PATH)
    assert caught.value.attempts == 5
    assert caught.value.limit == "timeout"
    assert not caught.value.maybe_received
    assert "60 s" not in str(caught.value)


@pytest.mark.anyio
async def test_the_environments_proxy_is_used_and_sees_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS goes through the proxy that the environment names: a CONNECT with the host, and nothing else."""
    clock = ManualClock(auto=True)
    async with Server(default=Reply(407, b"no entry", headers={"Proxy-Authenticate": "Basic"})) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//joe:pass@"))
        async with make_client("https://api.example.test", clock=clock, retry=ONCE) as client:
            with pytest.raises(primepods.TransportError, match="the proxy refused: 407") as caught:
                await client.request("GET", PATH)
            assert "pass" not in str(caught.value)
            assert not caught.value.maybe_received
    (request,) = proxy.requests
    assert (request.method, request.target) == ("CONNECT", "api.example.test:443")
    assert request.headers["proxy-authorization"].startswith("Basic ")
    assert KEY.encode() not in request.raw_head
    assert b"Bearer" not in request.raw_head


@pytest.mark.anyio
async def test_a_proxy_that_is_gone_is_a_transport_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses connections has received nothing."""
    monkeypatch.setenv("ALL_PROXY", refused_url())
    clock = ManualClock(auto=True)
    async with make_client("https://api.example.test", clock=clock) as client:
        with pytest.raises(primepods.TransportError, match="Cannot connect") as caught:
            await client.request("POST", PATH)
    assert caught.value.attempts == 5
    assert not caught.value.maybe_received


@pytest.mark.anyio
async def test_cookies_are_not_kept() -> None:
    """Our own session keeps no cookies: a gateway's stickiness must not tie a thousand calls together."""
    async with (
        Server([reply({"n": 1}, headers={"Set-Cookie": "a=b"}), OK]) as server,
        make_client(server.url) as client,
    ):
        await client.request("GET", PATH)
        await client.request("GET", PATH)
    assert "cookie" not in server.requests[1].headers


@pytest.mark.anyio
async def test_a_user_agent_stands_before_ours() -> None:
    """The caller's product is named first, ours behind it."""
    async with Server([OK]) as server, make_client(server.url, user_agent="fleet/2.1") as client:
        await client.request("GET", PATH)
    assert (
        server.requests[0]
        .headers["user-agent"]
        .startswith(f"fleet/2.1 primepods/{primepods.__version__} aiohttp/")
    )


@pytest.mark.anyio
async def test_a_timeout_that_is_not_ours_is_not_called_ours() -> None:
    """A `TimeoutError` from below, such as a middleware's own, says nothing about our limits."""

    async def impatient(_: aiohttp.ClientRequest, __: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        msg = "the tenant's quota service"
        raise TimeoutError(msg)

    async with (
        aiohttp.ClientSession(middlewares=[impatient]) as session,
        make_client(refused_url(), session=session, retry=ONCE) as client,
    ):
        with pytest.raises(primepods.TransportError, match="quota service") as caught:
            await client.request("GET", PATH)
    assert not isinstance(caught.value, primepods.RequestTimeoutError)


@pytest.mark.anyio
async def test_no_task_is_left() -> None:
    """After calls of every outcome no task of ours is alive."""
    clock = ManualClock(auto=True)
    before = asyncio.all_tasks()
    script = [OK, Reset(), Reset(), Reply(503), OK, Hang(), OK]
    async with Server(script, default=OK) as server:
        existing = asyncio.all_tasks()
        async with make_client(server.url, clock=clock) as client:
            for _ in range(3):
                await client.request("GET", PATH)
            tasks = {task for task in asyncio.all_tasks() - existing if "_serve" not in repr(task)}
            assert tasks == set()
    await settle()
    assert asyncio.all_tasks() == before
