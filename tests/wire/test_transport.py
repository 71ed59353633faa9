"""Connections: when they are opened, whose they are, how many, what comes over them, how they end."""

import asyncio
import gzip
import warnings
from pathlib import Path

import aiohttp
import pytest

import primepods
from primepods import RetryPolicy
from tests.support.client import KEY, make_client, serve
from tests.support.clock import ManualClock, settle
from tests.support.server import Answer, Held, Received, Reply, Server, reply

PATH = "/api/v1/things"
OK = reply({"ok": True})
ONCE = RetryPolicy(attempts=1)


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


async def test_a_chunk_that_is_garbage_is_an_error_of_ours() -> None:
    """Also where aiohttp has closed the connection before the body is read, as behind a slow middleware."""
    clock = ManualClock(auto=True)
    garbage = Reply(
        body=b"1\r\n{\r\nzz\r\n", headers={"Transfer-Encoding": "chunked"}, length=-1, drip=0.1, clock=clock
    )

    async def slow(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        response = await handler(request)
        await clock.sleep(10)
        return response

    async with serve(default=garbage, clock=clock, given={"middlewares": [slow]}) as (_server, client):
        with pytest.raises(primepods.ProtocolError, match="cut short or garbled"):
            await client.request("GET", PATH)


async def test_a_session_with_credentials_of_its_own_is_refused() -> None:
    """`auth` of a session would go out in the key's place: that is said at construction."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        session = aiohttp.ClientSession(auth=aiohttp.BasicAuth("me", "secret"))
    async with session:
        with pytest.raises(primepods.ConfigError, match="auth"):
            primepods.AsyncClient(KEY, session=session)


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
    given = {"trace_configs": [trace], "middlewares": [through]}
    async with serve(default=OK, given=given) as (server, client):
        await client.request("GET", PATH)
    assert seen == [f"start GET {PATH}", "middleware", "end 200"]
    assert server.requests[0].headers["traceparent"] == "00-1-2-01"
    assert server.requests[0].headers["x-middle"] == "1"


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

    async with serve(default=OK, given={"middlewares": [through]}, max_concurrency=1) as (_server, client):
        for _ in range(3):
            with pytest.raises(OddError):
                await client.request("GET", PATH)
        broken = False
        assert await client.request("GET", PATH) == {"ok": True}


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


async def test_a_call_that_pauses_makes_room_for_others() -> None:
    """The pause before a retry holds no slot."""
    clock = ManualClock()
    async with serve([Reply(503), OK, OK], clock=clock, max_concurrency=1) as (_server, client):
        first = asyncio.create_task(client.request("GET", PATH))
        await settle()
        assert await client.request("GET", PATH) == {"ok": True}
        assert not first.done()
        await clock.advance(1)
        assert await first == {"ok": True}


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
