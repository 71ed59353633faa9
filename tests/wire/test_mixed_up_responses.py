"""Connections on which responses come twice, late, or for other requests: nothing is taken for another's."""

import asyncio
import json
from collections.abc import Callable
from typing import ClassVar

import aiohttp
import attrs
import pytest

import primepods
from primepods import RetryPolicy
from tests.support.client import make_client
from tests.support.clock import ManualClock, settle
from tests.support.eventually import eventually
from tests.support.server import Answer, Received, Server


@attrs.define
class Sent(Answer):
    """A response on a connection that is kept, and what else comes on it."""

    response: bytes

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Send it, and what else comes."""
        writer.write(self.response)
        await writer.drain()
        return True


class Twice(Sent):
    """Once more at once."""

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Send it twice."""
        writer.write(self.response)
        return await super().send(writer, reader)


class Later(Sent):
    """Once more when the connection is idle."""

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Send it, and again a moment later."""
        asyncio.get_running_loop().call_later(0.01, writer.write, self.response)
        return await super().send(writer, reader)


class Behind(Sent):
    """The first response of a connection comes once more before the second."""

    delayed: ClassVar[dict[asyncio.StreamWriter, bytes]] = {}

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Send what was delayed, and then this."""
        is_first = writer not in self.delayed
        writer.write(self.delayed.get(writer, b""))
        self.delayed[writer] = self.response if is_first else b""
        return await super().send(writer, reader)


class Api:
    """As much of the API as deletions need, with pods that stay ACTIVE until they are deleted."""

    def __init__(self, send: Callable[[bytes], Answer]) -> None:
        self.states = {f"p{n}": "ACTIVE" for n in range(4)}
        self._send = send

    def __call__(self, request: Received) -> Answer:
        """Answer a request."""
        pod_id = request.path.rpartition("/")[2]
        status, body = 200, {"id": pod_id, "status": self.states.get(pod_id)}
        if pod_id not in self.states:
            status, body = 404, {"detail": "Pod not found"}
        elif request.method == "DELETE":
            self.states[pod_id] = "DELETING"
            body = {"status": "DELETING"}
        data = json.dumps(body).encode()
        return self._send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(data), data))


async def rest() -> None:
    """Let what comes later arrive."""
    await asyncio.sleep(0.03)
    # A busy loop runs both timers at once: let what was written arrive.
    await settle()


@pytest.mark.parametrize("send", [Twice, Later, Behind])
async def test_what_comes_twice_deletes_no_other_pod(send: type[Sent]) -> None:
    """One pod's response is not another's proof, in whichever moment it comes."""
    api = Api(send)
    async with Server(api) as server, make_client(server.url, clock=ManualClock(auto=True)) as client:
        for pod_id in ("p0", "p1", "missing", "p2"):
            try:
                state = await client.pods.delete(pod_id)
            except primepods.NotFoundError:
                assert pod_id == "missing"
            except primepods.ProtocolError:
                # Told; a later attempt finds out.
                assert send is Behind
            else:
                assert state == api.states[pod_id] == "DELETING"
            await rest()


@pytest.mark.parametrize("keep_alive", [15.0, None])
@pytest.mark.parametrize("send", [Twice, Later])
async def test_a_late_response_is_for_no_later_request(send: type[Sent], keep_alive: float | None) -> None:
    """A connection on which something came that nobody has asked for is not used again."""
    async with (
        Server(Api(send)) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(keepalive_timeout=keep_alive)) as session,
        make_client(server.url, session=session, retry=RetryPolicy(attempts=1)) as client,
    ):
        for pod_id in ("p0", "p1", "p2", "p3"):
            assert (await client.request("GET", f"/api/v1/pods/{pod_id}"))["id"] == pod_id
            await rest()


async def test_a_late_response_behind_an_expired_connection_is_for_no_later_request() -> None:
    """A connection that was idle for too long is passed over: what counts is the next one."""
    # aiohttp measures it by the real clock.
    keep_alive = 0.6
    released, held = asyncio.Event(), asyncio.Event()

    class Held(Later):
        async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
            held.set()
            await released.wait()
            return await super().send(writer, reader)

    def send(response: bytes) -> Answer:
        return Held(response) if b'"p1"' in response else Sent(response)

    async def get(pod_id: str) -> None:
        assert (await client.request("GET", f"/api/v1/pods/{pod_id}"))["id"] == pod_id

    async with (
        Server(Api(send)) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(keepalive_timeout=keep_alive)) as session,
        make_client(server.url, session=session, retry=RetryPolicy(attempts=1)) as client,
    ):
        other = asyncio.create_task(get("p1"))
        await eventually(held.is_set)
        # Every `keep_alive` seconds, aiohttp closes expired connections: let one expire between two times.
        await get("p0")
        await asyncio.sleep(0.5 * keep_alive)
        await get("p0")
        await asyncio.sleep(0.75 * keep_alive)
        released.set()
        await other
        await asyncio.sleep(0.5 * keep_alive)
        await get("p2")
