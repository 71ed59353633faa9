"""What is sent is what is counted; what must not be repeated goes over a connection of its own."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

import primepods
from primepods import RetryPolicy
from tests.renting.api import pod_row, spec
from tests.support.client import make_client
from tests.support.clock import ManualClock
from tests.support.server import Answer, Close, Raw, Received, Reset, Server, reply

PATH = "/api/v1/things"
OK = reply({"ok": True})
ONCE = RetryPolicy(attempts=1)
LOST: dict[str, Answer] = {
    "reset": Reset(),
    "closed": Close(),
    "cut head": Raw(b"HTTP/1.1 200 OK\r\nContent-"),
}


@asynccontextmanager
async def clients(url: str, kind: str, *, retry: RetryPolicy) -> AsyncIterator[primepods.AsyncClient]:
    """A client with its own sessions, or with a caller's."""
    async with aiohttp.ClientSession() as session:
        given = {"own": None, "caller's": session}[kind]
        async with make_client(url, clock=ManualClock(auto=True), session=given, retry=retry) as client:
            yield client


def closing_idle_connections(answer: Callable[[Received], Answer]) -> Callable[[Received], Answer]:
    """Answer one request a connection; a second one meets what a server does that has just closed it."""
    served: set[int] = set()

    def script(request: Received) -> Answer:
        if request.connection in served:
            return Close()
        served.add(request.connection)
        return answer(request)

    return script


def fine(_: Received) -> Answer:
    """Answer any request."""
    return OK


@pytest.mark.parametrize("kind", ["own", "caller's"])
@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
@pytest.mark.parametrize(
    ("method", "attempts", "sent"),
    [("GET", 1, 1), ("GET", 3, 3), ("DELETE", 3, 3), *((name, 3, 1) for name in ("POST", "PUT", "PATCH"))],
)
async def test_attempts_bound_what_is_sent(
    *, kind: str, lost: Answer, method: str, attempts: int, sent: int
) -> None:
    """A server that hangs up on each request gets as many as the policy says; of a PUT or POST one."""
    policy = RetryPolicy(attempts=attempts, base_delay=0)
    async with Server(default=lost) as server, clients(server.url, kind, retry=policy) as client:
        with pytest.raises(primepods.TransportError) as caught:
            await client.request(method, PATH)
    assert len(server.requests) == caught.value.attempts == sent
    assert caught.value.maybe_received


@pytest.mark.parametrize("kind", ["own", "caller's"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_connection_that_died_idle_is_replaced_uncounted(*, kind: str, method: str) -> None:
    """A server that closes idle connections costs a request that may be repeated no attempt."""
    async with (
        Server(closing_idle_connections(fine)) as server,
        clients(server.url, kind, retry=ONCE) as client,
    ):
        for _ in range(50):
            await client.request(method, PATH)
    assert server.connections == 50


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
async def test_a_connection_is_replaced_once_and_only_if_nothing_came(lost: Answer) -> None:
    """Behind a replaced connection nothing is free, and a response that has begun is an attempt."""
    async with Server([OK], default=lost) as server, clients(server.url, "own", retry=ONCE) as client:
        await client.request("GET", PATH)
        with pytest.raises(primepods.TransportError) as caught:
            await client.request("GET", PATH)
    assert caught.value.attempts == 1
    assert len(server.requests) == (2 if lost is LOST["cut head"] else 3)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_what_must_not_be_repeated_has_a_fresh_connection(method: str) -> None:
    """Requests between others that keep connections alive: none of them meets one that was just closed."""
    async with (
        Server(closing_idle_connections(fine)) as server,
        clients(server.url, "own", retry=ONCE) as client,
    ):
        for _ in range(20):
            await client.request("GET", PATH)
            assert await client.request(method, PATH, json={"name": "x"}) == {"ok": True}
    assert [request.method for request in server.requests].count(method) == 20


async def test_no_order_is_lost_on_an_idle_connection() -> None:
    """150 pods from a server that closes its idle connections: none of the orders is uncertain."""

    def order(request: Received) -> Answer:
        return reply(pod_row(json.loads(request.body)["pod"]["name"], created=None))

    async with (
        Server(closing_idle_connections(order)) as server,
        clients(server.url, "own", retry=ONCE) as client,
    ):
        for _ in range(150):
            await client.pods.create(spec())
    assert len(server.requests) == 150
