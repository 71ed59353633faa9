"""Every operation on pods: the request that it is, and what becomes of each answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import primepods
from primepods import AsyncClient, InstallationState, PodState, RetryPolicy
from primepods.emulator import Emulator
from tests.fixtures import document
from tests.support.client import KEY, make_client
from tests.support.server import (
    Answer,
    Reply,
    Server,
    reply,
)

pytestmark = pytest.mark.anyio

POD = {
    "id": "my_pod_id",
    "gpuName": "H100_80GB",
    "gpuCount": 8,
    "priceHr": 3.52,
    "providerType": "primecompute",
}
GONE = reply({"detail": "Pod not found"}, 404)
DELETING = reply({"status": "DELETING"})
ONCE = RetryPolicy(attempts=1)

Call = Callable[[AsyncClient], Awaitable[object]]
EMPTY = {"total_count": 0, "offset": 0, "limit": 100, "data": []}


REQUESTS: dict[str, tuple[Call, str]] = {
    "page": (lambda client: client.pods.page(offset=20, limit=7), "GET /api/v1/pods/?offset=20&limit=7"),
    "get": (lambda client: client.pods.get("a-1_B"), "GET /api/v1/pods/a-1_B"),
    "get, encoded": (
        lambda client: client.pods.get("a%2Fb?c#d&ä"),
        "GET /api/v1/pods/a%252Fb%3Fc%23d%26%C3%A4",
    ),
    "status": (lambda client: client.pods.status("a&b=c"), "GET /api/v1/pods/status?pod_ids=a%26b%3Dc"),
    "delete": (lambda client: client.pods.delete("a"), "DELETE /api/v1/pods/a"),
    "history page": (
        lambda client: client.pods.history_page(),
        "GET /api/v1/pods/history?offset=0&limit=100&sort_by=terminatedAt&sort_order=desc",
    ),
    "history page, sorted": (
        lambda client: client.pods.history_page(offset=5, limit=1_000, sort_by="createdAt", sort_order="asc"),
        "GET /api/v1/pods/history?offset=5&limit=1000&sort_by=createdAt&sort_order=asc",
    ),
    "logs": (lambda client: client.pods.logs("a"), "GET /api/v1/pods/a/log?tail=100"),
    "logs, tail": (lambda client: client.pods.logs("a", tail=1), "GET /api/v1/pods/a/log?tail=1"),
    "logs, all": (lambda client: client.pods.logs("a", tail=None), "GET /api/v1/pods/a/log"),
}


@pytest.mark.parametrize(("call", "target"), REQUESTS.values(), ids=REQUESTS.keys())
async def test_each_operation_is_one_request(call: Call, target: str) -> None:
    """Method, path and query of every operation, encoded as they must be."""
    data = POD | EMPTY | {"id": None, "status": "ACTIVE"}
    if target.startswith("GET /api/v1/pods/status"):
        data = {"data": [{"podId": "a&b=c", "providerType": "x", "status": "ACTIVE"}]}
    if target.startswith("DELETE"):
        data = {"status": "DELETING", "id": "a"}
    async with Server(default=reply(data)) as server, make_client(server.url) as client:
        await call(client)
    assert server.targets == [target]
    assert server.requests[0].body == b""
    assert "content-type" not in server.requests[0].headers


BAD_CALLS: list[tuple[str, dict[str, Any]]] = [
    *[
        (method, {"offset": value})
        for method in ("page", "history_page")
        for value in (-1, 1.0, "0", True, 2**31)
    ],
    *[
        (method, {"limit": value})
        for method in ("page", "history_page")
        for value in (0, 1_001, None, True, "5")
    ],
    ("history_page", {"sort_by": "created_at"}),
    ("history_page", {"sort_order": "descending"}),
    ("history", {"sort_by": None}),
    ("history", {"sort_order": "ASC"}),
    *[("logs", {"pod_id": "a", "tail": value}) for value in (0, -1, 1.5, "5", True, 2**31)],
]


@pytest.mark.parametrize(("method", "arguments"), BAD_CALLS)
async def test_numbers_and_words_out_of_range_are_refused(method: str, arguments: dict[str, Any]) -> None:
    """Nothing is sent; the message names the parameter and the value."""
    name, value = list(arguments.items())[-1]
    async with Server() as server, make_client(server.url) as client:

        async def call() -> None:
            await getattr(client.pods, method)(**arguments)

        with pytest.raises((ValueError, TypeError), match=name) as caught:
            await call()
        assert repr(value) in str(caught.value)
        assert server.connections == 0


# Answers.


async def test_a_page_is_a_snapshot() -> None:
    """`Page` has what the API says of it, can be iterated and measured; a null list is an empty one."""
    listing = document("pods_page")
    async with (
        Server([reply(listing), reply(EMPTY | {"data": None})]) as server,
        make_client(server.url) as client,
    ):
        page = await client.pods.page()
        empty = await client.pods.page()
    assert [pod.id for pod in page] == [row["id"] for row in listing["data"]]
    assert len(page) == len(listing["data"])
    assert (page.total_count, page.offset, page.limit) == tuple(
        listing[k] for k in ("total_count", "offset", "limit")
    )
    assert (len(empty), empty.data) == (0, ())


async def test_get_fills_in_an_id_that_the_answer_lacks() -> None:
    """One pod was asked for: then its id is known. A list row without one is nobody's."""
    bare = {name: value for name, value in POD.items() if name != "id"}
    async with (
        Server([reply(bare), reply(EMPTY | {"data": [POD, bare]})]) as server,
        make_client(server.url) as client,
    ):
        assert (await client.pods.get("my_pod_id")).id == "my_pod_id"
        with pytest.raises(primepods.ProtocolError, match=r"data\[1\]\.id") as caught:
            await client.pods.page()
    assert caught.value.path == "data[1].id"


@pytest.mark.parametrize("value", [None, [], "text", 5, {"data": "x"}, [POD]])
async def test_a_wrong_shape_is_a_protocol_error(value: object) -> None:
    """JSON that is no page, pod or record is an error that names the request, and it is not sent again."""
    calls: list[Call] = [
        lambda client: client.pods.page(),
        lambda client: client.pods.get("a"),
        lambda client: client.pods.history_page(),
    ]
    for call in calls:
        async with Server(default=reply(value)) as server, make_client(server.url) as client:
            with pytest.raises(primepods.ProtocolError, match="GET /api/v1/pods"):
                await call(client)
        assert len(server.requests) == 1


# History and logs.


async def test_history_records() -> None:
    """Rows of every kind, with their times, prices and what they lack."""
    async with Server([reply(document("history_page"))]) as server, make_client(server.url) as client:
        page = await client.pods.history_page()
    first, second = page
    assert (first.type, first.total_billed_price, first.gpu_name) == ("Instance", 4.75, "H100_80GB")
    assert first.created_at.utcoffset() is not None
    assert first.terminated_at is not None
    assert (second.type, second.terminated_at, second.gpu_count) == ("Sandbox", None, 0)


LOGS: dict[str, tuple[Answer, str]] = {
    "JSON": (reply({"data": ["one", "two"]}), "one\ntwo"),
    "plain text": (Reply(200, b"one\ntwo", headers={"Content-Type": "text/plain"}), "one\ntwo"),
    "204": (Reply(204), ""),
}


@pytest.mark.parametrize(("answer", "text"), LOGS.values(), ids=LOGS.keys())
async def test_a_log_is_text(answer: Answer, text: str) -> None:
    """Whatever JSON the API wraps it in, or none."""
    async with Server([answer]) as server, make_client(server.url) as client:
        assert await client.pods.logs("a") == text
    assert len(server.requests) == 1


# Against the emulator.


async def test_a_pods_life_over_the_wire() -> None:
    """Listed, looked at, deleted, found in the history with what it cost: with real requests throughout."""
    async with (
        Emulator(pods=3, seed=1, boot_seconds=0, delete_seconds=0, history=2) as emu,
        make_client(emu.url, api_key=emu.api_key) as client,
    ):
        page = await client.pods.page(limit=2)
        assert (page.total_count, len(page), page.limit) == (3, 2, 2)
        pod = await client.pods.get(page.data[0].id)
        assert pod == page.data[0]
        status = await client.pods.status(pod.id)
        assert (status.pod_id, status.status, status.ssh, status.cost_per_hr) == (
            pod.id,
            pod.status,
            pod.ssh,
            pod.price_hr,
        )
        assert status.installation_status == InstallationState.FINISHED
        assert await client.pods.logs(pod.id, tail=1)
        assert await client.pods.delete(pod.id) == PodState.TERMINATED
        for call in (client.pods.get, client.pods.status, client.pods.logs, client.pods.delete):
            with pytest.raises(primepods.NotFoundError, match=re.escape(pod.id)):
                await call(pod.id)
        records = [record async for record in client.pods.history(page_size=2)]
        assert records[0].id == pod.id
        assert len(records) == 3
        assert {entry.status for entry in emu.requests} == {200, 404}
        assert KEY not in repr(list(emu.requests))
