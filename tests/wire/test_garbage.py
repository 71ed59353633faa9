"""An error is freed with its last reference: no cycle keeps it, and what was received, in memory."""

import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import aiohttp
import pytest

import primepods
from primepods import AsyncClient, RetryPolicy
from primepods._decoding.fields import DecodeError
from tests.renting.api import spec
from tests.support.client import make_client
from tests.support.clock import ManualClock
from tests.support.server import Answer, Hang, Reply, Reset, Server, reply

KINDS = (primepods.PrimePodsError, DecodeError, aiohttp.ClientError, KeyError)
ANSWERS: dict[str, Answer] = {
    "400": reply({"detail": "no"}, 400),
    "401": reply({"detail": "no"}, 401),
    "500": reply({"detail": "no"}, 500),
    "no JSON": Reply(200, b"{"),
    "cut": Reply(200, b'{"data": [', length=1_000),
    "reset": Reset(),
    "never": Hang(),
    "a row without an id": reply({"data": [{"id": None, "podId": None}], "total_count": 1}),
}


async def iterate(client: AsyncClient) -> None:
    """List all pods."""
    async for _ in client.pods.list():
        pass


CALLS: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
    "request": lambda client: client.request("GET", "/x"),
    "get": lambda client: client.pods.get("a"),
    "page": lambda client: client.pods.page(),
    "list": iterate,
    "status": lambda client: client.pods.status("a"),
    "statuses": lambda client: client.pods.statuses(["a", "b", "c"]),
    "delete": lambda client: client.pods.delete("a"),
    "delete_many": lambda client: client.pods.delete_many(["a", "b"]),
}

# One for each way through the code.
QUICK = ("get", "list", "statuses")


@contextmanager
def garbage_of_the_block() -> Iterator[list[object]]:
    """Give, after the block, what only a garbage collection frees of what was made in it."""
    found: list[object] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CALLS]
)
async def test_a_failed_call_leaves_no_cycle(name: str) -> None:
    """Whatever fails, and however often it was tried: nothing of it waits for the garbage collector."""
    clock = ManualClock(auto=True)
    retry = RetryPolicy(attempts=2)
    with garbage_of_the_block() as garbage:
        for answer in ANSWERS.values():
            async with (
                Server(default=answer) as server,
                make_client(server.url, clock=clock, retry=retry) as client,
            ):
                with suppress(primepods.PrimePodsError):
                    await CALLS[name](client)
    assert [repr(item)[:100] for item in garbage if isinstance(item, KINDS)] == []


async def test_a_refused_order_leaves_no_cycle() -> None:
    """Nor does one that proves that no pod was made."""
    async with Server(default=ANSWERS["400"]) as server, make_client(server.url) as client:
        with garbage_of_the_block() as garbage, suppress(primepods.PrimePodsError):
            await client.pods.create(spec())
    assert [repr(item)[:100] for item in garbage if isinstance(item, KINDS)] == []
