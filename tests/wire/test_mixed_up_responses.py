"""Connections on which responses come twice, late, or for other requests: nothing is taken for another's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

import primepods
from primepods import RetryPolicy
from tests.support.client import make_client
from tests.support.clock import ManualClock, settle
from tests.support.eventually import eventually

pytestmark = pytest.mark.anyio

Send = Callable[[asyncio.StreamWriter, bytes, int], None]


class Api:
    """As much of the API as deletions need, with pods that stay ACTIVE until they are deleted."""

    def __init__(self) -> None:
        self.states = {f"p{n}": "ACTIVE" for n in range(4)}
        self.requests: list[str] = []

    def answer(self, method: str, path: str) -> tuple[int, object]:
        """Status and JSON for a request."""
        self.requests.append(f"{method} {path}")
        pod_id = path.rpartition("/")[2]
        if path.startswith("/api/v1/pods/status"):
            ids = [pair.partition("=")[2] for pair in path.partition("?")[2].split("&")]
            rows = [{"podId": one, "providerType": "x", "status": self.states[one]} for one in ids]
            return 200, {"data": rows}
        if pod_id not in self.states:
            return 404, {"detail": "Pod not found"}
        if method == "DELETE":
            self.states[pod_id] = "DELETING"
            return 200, {"status": "DELETING"}
        return 200, {"id": pod_id, "status": self.states[pod_id]}


@asynccontextmanager
async def served(api: Api, send: Send) -> AsyncIterator[str]:
    """Serve over plain sockets, which keep all connections; ``send`` does what it likes with responses."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        number = 0
        while head := await read_head(reader):
            method, path, _ = head.split(" ", 2)
            status, body = api.answer(method, path)
            data = json.dumps(body).encode()
            send(writer, b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(data), data), number)
            number += 1

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        for writer in writers:
            writer.transport.abort()
        server.close()
        await server.wait_closed()


async def read_head(reader: asyncio.StreamReader) -> str:
    """The request line, once the head has come; empty at the end of the connection."""
    try:
        return (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0].decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return ""


def twice(writer: asyncio.StreamWriter, response: bytes, number: int) -> None:
    """Send the response, and once more at once."""
    writer.write(response * 2)


def once_more_later(writer: asyncio.StreamWriter, response: bytes, number: int) -> None:
    """Send the response, and once more when the connection is idle."""
    writer.write(response)
    asyncio.get_running_loop().call_later(0.01, writer.write, response)


def behind_the_next_request(writer: asyncio.StreamWriter, response: bytes, number: int) -> None:
    """Send the first response of a connection once more before the second."""
    delayed = getattr(writer, "first_response", b"")
    writer.write(delayed + response)
    writer.first_response = response if number == 0 else b""  # type: ignore[attr-defined]  # kept there for the next connection


@pytest.mark.parametrize("send", [twice, once_more_later, behind_the_next_request])
async def test_what_comes_twice_deletes_no_other_pod(send: Send) -> None:
    """One pod's response is not another's proof, in whichever moment it comes."""
    api = Api()
    async with served(api, send) as url, make_client(url, clock=ManualClock(auto=True)) as client:
        for pod_id in ("p0", "p1", "missing", "p2"):
            try:
                state = await client.pods.delete(pod_id)
            except primepods.NotFoundError:
                assert pod_id == "missing"
            except primepods.ProtocolError:
                # Told; a later attempt finds out.
                assert send is behind_the_next_request
            else:
                assert state == api.states[pod_id] == "DELETING"
            await asyncio.sleep(0.03)
            # A busy loop runs both timers at once: let what was written arrive.
            await settle()


@pytest.mark.parametrize("keep_alive", [15.0, None])
@pytest.mark.parametrize("send", [twice, once_more_later])
async def test_a_late_response_is_for_no_later_request(send: Send, keep_alive: float | None) -> None:
    """A connection on which something came that nobody has asked for is not used again."""
    api = Api()
    async with (
        served(api, send) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(keepalive_timeout=keep_alive)) as session,
        make_client(url, session=session, retry=RetryPolicy(attempts=1)) as client,
    ):
        for pod_id in ("p0", "p1", "p2", "p3"):
            row = await client.request("GET", f"/api/v1/pods/{pod_id}")
            assert row["id"] == pod_id
            await asyncio.sleep(0.03)
            # A busy loop runs both timers at once: let what was written arrive.
            await settle()
    await settle()


async def test_a_late_response_behind_an_expired_connection_is_for_no_later_request() -> None:
    """A connection that was idle for too long is passed over: what counts is the next one."""
    api = Api()
    # aiohttp measures it by the real clock.
    keep_alive = 0.6
    held: list[Callable[[], None]] = []

    def send(writer: asyncio.StreamWriter, response: bytes, number: int) -> None:
        if b'"p1"' in response:
            held.append(lambda: once_more_later(writer, response, number))
        else:
            writer.write(response)

    async def get(pod_id: str) -> None:
        assert (await client.request("GET", f"/api/v1/pods/{pod_id}"))["id"] == pod_id

    connector = aiohttp.TCPConnector(keepalive_timeout=keep_alive)
    async with (
        served(api, send) as url,
        aiohttp.ClientSession(connector=connector) as session,
        make_client(url, session=session, retry=RetryPolicy(attempts=1)) as client,
    ):
        other = asyncio.create_task(get("p1"))
        await eventually(lambda: bool(held))
        # Every `keep_alive` seconds, aiohttp closes expired connections: let one expire between two times.
        await get("p0")
        await asyncio.sleep(0.5 * keep_alive)
        await get("p0")
        await asyncio.sleep(0.75 * keep_alive)
        held[0]()
        await other
        await asyncio.sleep(0.5 * keep_alive)
        await get("p2")
