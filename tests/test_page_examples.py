"""The API's page `Managing Pods`: each of its examples, verbatim, and our call for it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import attrs
import pytest

import primepods
from tests.fixtures import document, page_examples
from tests.support.server import Received, Reply, Server, reply

pytestmark = pytest.mark.anyio

Call = Callable[[primepods.AsyncClient], Awaitable[Any]]
IDS: Final = ("my_pod_id", "my_first_pod_id", "my_second_pod_id")
DEFAULTS: Final = [("offset", "0"), ("limit", "100")]
"""What the page says of a list request that does not name them."""


@attrs.frozen
class Curl:
    """The request that one of the page's commands makes."""

    method: str
    url: str
    headers: dict[str, str]

    @classmethod
    def read(cls, command: str) -> Curl:
        """Read a command as the shell would, were it quoted as it is meant."""
        program, *words = shlex.split(command.replace("\\\n", ""))
        assert program == "curl"
        options = list(zip(words[::2], words[1::2], strict=True))
        assert {name for name, _ in options} <= {"--request", "--url", "--header"}
        headers = [value.split(": ", 1) for name, value in options if name == "--header"]
        found = dict(options)
        return cls(found["--request"], found["--url"], {name.lower(): value for name, value in headers})

    @property
    def asked(self) -> tuple[str, str, list[tuple[str, str]]]:
        """Method, path without the slash at its end, and query."""
        parts = urlsplit(self.url)
        return self.method, parts.path.rstrip("/"), parse_qsl(parts.query)


COMMANDS: Final = page_examples("bash")
CALLS: Final[list[Call]] = [
    lambda client: client.pods.page(),
    lambda client: client.pods.page(offset=0, limit=10),
    lambda client: client.pods.get("my_pod_id"),
    lambda client: client.pods.statuses(["my_first_pod_id", "my_second_pod_id"]),
    lambda client: client.pods.delete("my_pod_id"),
]


def answer(request: Received) -> Reply:
    """What the page says that the API answers."""
    if request.method == "DELETE":
        return reply({"status": "TERMINATED"})
    if request.path == "/api/v1/pods/my_pod_id":
        return reply({**document("pods_page")["data"][0], "id": "my_pod_id", "status": "TERMINATED"})
    if "status" in request.path:
        return reply({"data": [json.loads(page_examples("json")[1])]})
    page = document("pods_page")
    return reply(page if request.path == "/api/v1/pods/" else page["data"][0])


@pytest.mark.parametrize("index", range(len(COMMANDS)))
async def test_our_call_makes_the_request_of_the_command(index: int) -> None:
    """Once, with the same method, path, query and key; and the iterator begins with the same request.

    The page's response to DELETE names no pod, so that the pod is looked at after it.
    """
    assert len(COMMANDS) == len(CALLS) == 5
    curl = Curl.read(COMMANDS[index])
    assert urlsplit(curl.url).netloc == "api.primeintellect.ai"
    assert list(curl.headers) == ["authorization"]
    key = curl.headers["authorization"].removeprefix("Bearer ")
    calls = [CALLS[index]]
    if index == 0:
        calls.append(lambda client: anext(aiter(client.pods.list())))
    if index == 3:
        calls.append(lambda client: client.pods.statuses(iter(IDS[1:])))
    for call in calls:
        async with Server(answer) as server, primepods.AsyncClient(key, base_url=server.url) as client:
            await call(client)
        request, *looks = server.requests
        assert [look.method for look in looks] == ["GET"] * (request.method == "DELETE")
        method, path, query = curl.asked
        assert (request.method, request.path.rstrip("/")) == (method, path)
        assert request.query == (DEFAULTS if index == 0 else query)
        assert request.headers["authorization"] == curl.headers["authorization"] == f"Bearer {key}"
        assert request.body == b""
