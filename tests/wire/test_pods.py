"""Every operation on pods: the request that it is, and what becomes of each answer."""

from collections.abc import Awaitable, Callable

import pytest

import primepods
from primepods import AsyncClient
from tests.support.client import make_client, serve
from tests.support.server import Answer, Reply, Server, reply

POD = {
    "id": "my_pod_id",
    "gpuName": "H100_80GB",
    "gpuCount": 8,
    "priceHr": 3.52,
    "providerType": "primecompute",
}

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


# Answers.


async def test_get_fills_in_an_id_that_the_answer_lacks() -> None:
    """One pod was asked for: then its id is known. A list row without one is nobody's."""
    bare = {name: value for name, value in POD.items() if name != "id"}
    async with serve([reply(bare), reply(EMPTY | {"data": [POD, bare]})]) as (_server, client):
        assert (await client.pods.get("my_pod_id")).id == "my_pod_id"
        with pytest.raises(primepods.ProtocolError, match=r"data\[1\]\.id") as caught:
            await client.pods.page()
    assert caught.value.path == "data[1].id"


# History and logs.


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
