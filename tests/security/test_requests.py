"""What a caller passes: it is data, and never becomes another request, another header or another path."""

import json
import re
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import primepods
from primepods import AsyncClient, Client
from tests.support.client import KEY, make_client, serve
from tests.support.server import Received, Server, reply

HEADERS = {"host", "authorization", "accept", "accept-encoding", "user-agent"}
BREAKS = ["\r", "\n", "\r\n", "\x00", "\r\nX-Evil: 1", "\r\n\r\nGET /evil HTTP/1.1\r\n", "\x85", "\u2028"]
POD: dict[str, Any] = {"gpuName": "x", "gpuCount": 1, "priceHr": 1.0, "providerType": "x"}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def check_head(request: Received, *, more: frozenset[str] = frozenset()) -> None:
    """One request line and the headers that we send; not a line more."""
    head, end = request.raw_head.split(b"\r\n\r\n", 1)
    assert end == b""
    lines = head.split(b"\r\n")
    assert re.fullmatch(rb"[A-Z]+ [!-~]+ HTTP/1\.1", lines[0])
    assert {line.partition(b":")[0].decode().lower() for line in lines[1:]} == HEADERS | more
    assert not re.search(rb"[\r\n\x00]", b"".join(lines))


@given(pod_id=TEXT | st.text(alphabet="./\\%2eEfF?#;&=status", max_size=9))
@example(pod_id="%2e%2e%2fssh_keys")
@example(pod_id="..%00")
async def test_an_id_reaches_that_pod_or_nothing(pod_id: str) -> None:
    """Either it is refused, or one request goes out whose path is that id and no other."""
    async with serve(lambda request: reply({"id": pod_id, **POD})) as (server, client):
        try:
            await client.pods.get(pod_id)
        except ValueError:
            assert server.requests == []
            return
    (request,) = server.requests
    assert unquote(request.target).removeprefix("/api/v1/pods/") == pod_id
    assert request.target.count("/") == 4
    assert "?" not in request.target
    check_head(request)


@given(ids=st.lists(TEXT, min_size=1, max_size=5, unique=True))
async def test_ids_in_a_query_stay_apart(ids: list[str]) -> None:
    """The same of many at once: the server reads the ids that were passed, and no other parameter."""
    async with serve(
        lambda request: reply({"data": [{"podId": one} for one in request.values("pod_ids")]})
    ) as (server, client):
        try:
            found = await client.pods.statuses(ids)
        except ValueError:
            assert server.requests == []
            return
    (request,) = server.requests
    assert request.query == [("pod_ids", one) for one in ids]
    assert list(found) == ids
    check_head(request)


@given(params=st.dictionaries(TEXT, TEXT | st.lists(TEXT, max_size=3), max_size=4), body=TEXT)
async def test_parameters_and_bodies_are_data(params: dict[str, Any], body: str) -> None:
    """Any text in a query or in JSON, line ends and NUL included, arrives as that text."""
    async with Server(default=reply({})) as server, make_client(server.url) as client:
        await client.request("POST", "/api/v1/things", params=params, json={"name": body})
    (request,) = server.requests
    pairs = [
        (name, one)
        for name, value in params.items()
        for one in (value if isinstance(value, list) else [value])
    ]
    assert request.query == pairs
    assert json.loads(request.body) == {"name": body}
    check_head(request, more=frozenset({"content-type", "content-length"}))


@pytest.mark.parametrize("kind", [AsyncClient, Client])
@pytest.mark.parametrize("name", ["api_key", "team_id", "user_agent", "base_url"])
@pytest.mark.parametrize("text", BREAKS)
def test_no_line_end_gets_into_a_header(name: str, text: str, kind: type[AsyncClient | Client]) -> None:
    """Refused when the client is built, wherever in the value it stands but at its ends."""
    given_options = {"api_key": KEY, "base_url": "https://api.example.test", name: f"https://a{text}b"}
    with pytest.raises((primepods.ConfigError, ValueError)) as caught:
        kind(**given_options)  # type: ignore[arg-type]  # wrong on purpose
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["PRIME_API_KEY", "PRIME_TEAM_ID", "PRIME_API_BASE_URL", "PRIME_CONTEXT"])
@pytest.mark.parametrize("text", [one for one in BREAKS if "\x00" not in one])
def test_nor_from_the_environment(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same of what a variable says; the environment itself holds no NUL."""
    monkeypatch.setenv("PRIME_API_KEY", KEY)
    monkeypatch.setenv(name, f"a{text}b")
    if name == "PRIME_CONTEXT":
        monkeypatch.delenv("PRIME_API_KEY")
    with pytest.raises(primepods.ConfigError) as caught:
        AsyncClient()
    assert str(caught.value).isprintable()
