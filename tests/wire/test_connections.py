"""Finding a host, connecting, TLS and proxies: what is said when one of them fails."""

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

import primepods
from primepods import RetryPolicy
from tests.support.client import KEY, make_client, serve
from tests.support.clock import ManualClock
from tests.support.server import Answer, Raw, Received, Server, blurting, refused_url, reply

PATH = "/api/v1/things"
OK = reply({"ok": True})
ONCE = RetryPolicy(attempts=1)


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


CLOSE_NOTIFY = b"\x15\x03\x03\x00\x02\x01\x00"
"""TLS for "I close this connection"."""


async def test_https_to_a_port_that_speaks_http_says_so() -> None:
    """It is no matter of certificates, and does not pass."""
    async with (
        blurting(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (place, _),
        make_client(f"https://{place}") as client,
    ):
        with pytest.raises(primepods.TransportError, match="TLS handshake failed") as caught:
            await client.request("POST", PATH)
    error = caught.value
    assert "ertificate" not in str(error)
    assert (error.attempts, error.transient, error.maybe_received) == (1, False, False)


@pytest.mark.parametrize("farewell", [b"", CLOSE_NOTIFY], ids=["without a word", "in words"])
async def test_a_handshake_that_is_cut_off_may_work_the_next_time(farewell: bytes) -> None:
    """A server that hangs up in it has received nothing, and may be about to restart."""
    clock = ManualClock(auto=True)
    async with blurting(farewell) as (place, heard), make_client(f"https://{place}", clock=clock) as client:
        with pytest.raises(primepods.TransportError) as caught:
            await client.request("POST", PATH)
    assert caught.value.attempts == len(heard) == 5
    assert not caught.value.maybe_received


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


async def test_the_environments_proxy_is_used_and_sees_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS goes through the proxy that the environment names: a CONNECT with the host, and nothing else."""
    clock = ManualClock(auto=True)
    refusal = b"HTTP/1.1 407 no entry for joe:pass\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
    async with Server(default=Raw(refusal)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//joe:pass@"))
        async with make_client("https://api.example.test", clock=clock, retry=ONCE) as client:
            with pytest.raises(primepods.TransportError, match=r"refused: 407 Proxy .*password") as caught:
                await client.request("GET", PATH)
            assert "joe:pass" not in str(caught.value)
            assert not caught.value.maybe_received
    (request,) = proxy.requests
    assert (request.method, request.target) == ("CONNECT", "api.example.test:443")
    assert request.headers["proxy-authorization"].startswith("Basic ")
    assert KEY.encode() not in request.raw_head
    assert b"Bearer" not in request.raw_head


async def test_a_proxy_that_is_gone_is_a_transport_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses connections has received nothing."""
    monkeypatch.setenv("ALL_PROXY", refused_url())
    clock = ManualClock(auto=True)
    async with make_client("https://api.example.test", clock=clock) as client:
        with pytest.raises(primepods.TransportError, match="Cannot connect") as caught:
            await client.request("POST", PATH)
    assert caught.value.attempts == 5
    assert not caught.value.maybe_received


async def test_cookies_are_not_kept() -> None:
    """Our own session keeps no cookies: a gateway's stickiness must not tie a thousand calls together."""
    async with serve([reply({"n": 1}, headers={"Set-Cookie": "a=b"}), OK]) as (server, client):
        await client.request("GET", PATH)
        await client.request("GET", PATH)
    assert "cookie" not in server.requests[1].headers


async def test_a_user_agent_stands_before_ours() -> None:
    """The caller's product is named first, ours behind it."""
    async with Server([OK]) as server, make_client(server.url, user_agent="fleet/2.1") as client:
        await client.request("GET", PATH)
    assert (
        server.requests[0]
        .headers["user-agent"]
        .startswith(f"fleet/2.1 primepods/{primepods.__version__} aiohttp/")
    )


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
